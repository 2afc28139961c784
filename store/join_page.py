"""The page of a join's report: one HTML document that needs nothing else, and holds no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from store.join_report import Effect, Example, Interval, JoinReport

_SHOWN = 600
"""Characters shown of a text."""

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}"
    "h1{margin-bottom:.2rem}h2{margin-top:2rem}.scroll{overflow-x:auto}"
    "table{border-collapse:collapse;min-width:50%}"
    "td,th{border-bottom:1px solid #8884;padding:.3rem .8rem .3rem 0;text-align:left;vertical-align:top}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}"
    ".state{padding:.1rem .6rem;border-radius:1rem;background:#8883;font-weight:600}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#8881;padding:.6rem;margin:.2rem 0}"
    "details{margin:.6rem 0}summary{cursor:pointer}"
)


def to_html(r: JoinReport) -> str:
    """The page."""
    parts = [
        f"<h1>{escape(r.model)}</h1><p><span class=state>{r.state}</span> {escape(r.reason)}</p>",
        f"<p>Joined {r.joined_at:%Y-%m-%d %H:%M} UTC. Its joining made {sum(s.calls for s in r.spending)} calls "
        f"for ${r.usd:.4f}.</p>",
        _effect(r),
        _table(
            "Against whom", ["rival", "#prompts", "#its score", "#rival's", "#difference", "#95 %"],
            [(c.rival, c.prompts, f"{c.quality:.2f}", f"{c.rival_quality:.2f}", f"{c.difference:+.2f}",
              _between(c.interval, "+.2f")) for c in r.comparisons],
        ),
        *(_examples(title, found) for title, found in (("Won", r.won), ("Lost", r.lost))),
        "<h2>Not sure</h2><ul>" + "".join(f"<li>{escape(line)}</li>" for line in r.unsure) + "</ul>",
        _table("Spent", ["on", "#calls", "#USD"], [(s.role, s.calls, f"{s.usd:.4f}") for s in r.spending]),
        _table(
            "By task", ["task", "#share", "#quality", "#95 %", "best other", "#its quality", "#net gap", "#better with"],
            [(s.name, f"{s.share:.1%}", f"{s.quality:.2f}", _between(s.interval, ".2f"), s.rival,
              f"{s.rival_quality:.2f}", f"{s.gap:+.2f}", f"{s.chance:.0%}") for s in r.standings],
        ),
        _table("Check", ["what", "found"], [(name, _found(value)) for name, value in (r.check or {}).items()]),
        _table("Steps", ["when (UTC)", "state", "why"],
               [(f"{s.at:%Y-%m-%d %H:%M:%S}", s.state, s.reason) for s in r.steps]),
    ]  # fmt: skip
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(r.model)} joins</title><style>{_STYLE}</style>"
    )
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>"


def _effect(r: JoinReport) -> str:
    """Predicted beside realised."""
    rows: list[tuple[str, str, str, str]] = []
    p, e = r.predicted, r.realised
    if p is not None:
        rows.append(("predicted", f"{p.share:.1%}", f"{p.quality:+.4f}", f"{p.usd * 1000:+.3f}"))
    if e is not None:
        rows.append(
            ("realised", f"{e.share:.1%}", _with(e.quality, e.quality_interval, "+.4f"),
             _with(_thousand(e.usd), _thousands(e.usd_interval), "+.3f"))
        )  # fmt: skip
    columns = ["effect", "#share of requests", "#quality a request", "#USD per 1,000 requests"]
    return _table("Effect", columns, rows) + ("" if e is None else f"<p>{escape(assumptions(e))}</p>")


def assumptions(e: Effect) -> str:
    """What realised figures rest on, in words."""
    off = (
        "" if e.others_error is None else f" (where these answered, scores differed from that by {e.others_error:+.3f})"
    )
    return (
        f"Realised since {e.since:%Y-%m-%d %H:%M} UTC, by {e.requests:,} requests, of which {e.scored:,} were scored. It is "
        "beside what the best of the others would have done, by the router's estimate of that at the time, corrected where "
        f"chance chose; it assumes that these estimates are right on average{off}, and that scored requests are like others."
    )


def _thousand(value: float | None) -> float | None:
    return None if value is None else 1000.0 * value


def _thousands(interval: Interval | None) -> Interval | None:
    return None if interval is None else (1000.0 * interval[0], 1000.0 * interval[1])


def _with(value: float | None, interval: Interval | None, form: str) -> str:
    if value is None:
        return "not known"
    return f"{value:{form}}" + ("" if interval is None else f" ({_between(interval, form)})")


def _between(interval: Interval | None, form: str) -> str:
    return "-" if interval is None else f"{interval[0]:{form}} to {interval[1]:{form}}"


def _found(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A column whose name begins with # is of numbers."""
    if not rows:
        return ""
    kinds = [" class=n" if name.startswith("#") else "" for name in columns]
    head = "".join(f"<th{kind}>{escape(name.removeprefix('#'))}</th>" for kind, name in zip(kinds, columns))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{escape(str(cell))}</td>" for kind, cell in zip(kinds, row)) + "</tr>"
        for row in rows
    )
    return f"<h2>{escape(title)}</h2><div class=scroll><table><tr>{head}</tr>{body}</table></div>"


def _examples(title: str, found: Sequence[Example]) -> str:
    out = []
    for e in found:
        texts = (("prompt", e.prompt), ("its answer", e.answer), (f"answer of {e.rival}", e.rival_answer))
        shown = "".join(f"<p>{escape(what)}</p><pre>{escape(_short(text))}</pre>" for what, text in texts)
        summary = f"{e.score:.2f} against {e.rival_score:.2f} of {escape(e.rival)}"
        out.append(f"<details><summary>{summary}</summary>{shown}<p>Judged: {escape(e.reason)}</p></details>")
    return f"<h2>{title}</h2>{''.join(out)}" if out else ""


def _short(text: str | None) -> str:
    if text is None:
        return "(not known)"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
