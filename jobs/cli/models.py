"""`thalweg models`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.console import Json, confirm, context, show, table, when

if TYPE_CHECKING:
    from rich.console import RenderableType

    from jobs.context import JobContext
    from store.pool.file import PoolModel
    from store.views import ChangeView, ModelDetail, ModelView

app = typer.Typer(help="The pool of models. What is changed here overrides the pool file and survives restarts.",
                  no_args_is_help=True)  # fmt: skip

Name = Annotated[str, typer.Argument(help="As clients write it, vendor/model.")]
PriceInput = Annotated[float | None, typer.Option(min=0, help="USD per million input tokens.")]
PriceOutput = Annotated[float | None, typer.Option(min=0, help="USD per million output tokens.")]
ContextTokens = Annotated[int | None, typer.Option("--context", min=1, help="Longest request plus answer, in tokens.")]
Family = Annotated[str | None, typer.Option(help="Models of one family resemble one another.")]
Capability = Annotated[list[str] | None, typer.Option(help="tools, vision or json; may be repeated.")]
Prior = Annotated[list[str] | None, typer.Option(help="axis=0..1, a published figure; may be repeated.")]
BaseUrl = Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint, up to /v1.")]
OutputTokens = Annotated[int | None, typer.Option(min=1, help="Expected length of an answer, thinking included.")]
KeyEnv = Annotated[str | None, typer.Option(help="Name of the variable that holds the endpoint's key.")]
Upstream = Annotated[str | None, typer.Option(help="The endpoint's own id of the model.")]


@app.command("list")
def list_models(
    removed: Annotated[bool, typer.Option(help="Removed models too.")] = False, as_json: Json = False
) -> None:
    """The models of the pool, and what each lacks to be called."""
    from store.views import ModelView

    with context() as ctx:
        found = [ModelView.of(model, reason) for model, reason in ctx.models(include_removed=removed)]
    show(found, as_json, lambda: table(
        "",
        {"model": "left", "family": "left", "$ in": "right", "$ out": "right", "context": "right", "can": "left",
         "prior": "right", "state": "left"},
        [
            (
                m.id, m.family, *_figures(m), " ".join(m.capabilities),
                f"{sum(m.priors.values()) / len(m.priors):.2f}" if m.priors else "-",
                "removed" if m.removed else m.unavailable_reason or ("ready" if m.state == "adopted" else m.state),
            )
            for m in found
        ],
        "the pool is empty",
    ))  # fmt: skip


@app.command("show")
def show_model(name: Name, as_json: Json = False) -> None:
    """A model, and the steps by which it came into the pool."""
    from store.joins import JoinStore
    from store.views import ModelDetail, ModelView

    with context() as ctx:
        model = ctx.pool.get(name)
        events = [] if model.join is None else JoinStore(ctx.database).events(model.join.id)
        view = ModelView.of(model, ctx.unavailable_reason(model))
    found = ModelDetail.of_join(view, model.join, events)
    show(found, as_json, lambda: _shown(found))


@app.command("report")
def report(
    name: Name,
    html: Annotated[Path | None, typer.Option(help="Write the page to this file.")] = None,
    as_json: Json = False,
) -> None:
    """How a model joined: where it won and lost against whom, what it cost, what is not sure."""
    from agent.errors import InvalidInput
    from store.join_page import to_html
    from store.join_report import read_report

    with context() as ctx:
        join = ctx.pool.get(name).join
        if join is None:
            raise InvalidInput(f"{name} was in the pool from the start, and has no report", param="name")
        found = read_report(ctx.database, join)
    if html is not None:
        html.write_text(to_html(found), encoding="utf-8")
    columns = {"against": "left", "prompts": "right", "its score": "right", "theirs": "right", "95 %": "left"}
    rows = [
        (c.rival, str(c.prompts), f"{c.quality:.2f}", f"{c.rival_quality:.2f}",
         "-" if c.interval is None else f"{c.interval[0]:+.2f} to {c.interval[1]:+.2f}")
        for c in found.comparisons
    ]  # fmt: skip
    show(found, as_json, lambda: table(
        f"{found.model}: {found.state}, {found.reason}; ${found.usd:.4f} spent", columns, rows, "no probes were judged",
    ))  # fmt: skip


@app.command("suggest")
def suggest(as_json: Json = False) -> None:
    """Which models no task needs, and what leaving each out would save or cost a request, by the logs."""
    from store.decisions import DecisionLog
    from store.suggestions import suggestions

    with context() as ctx:
        found = suggestions(ctx.database, DecisionLog(ctx.database, ctx.writer), ctx.feedback)
    columns = {
        "model": "left", "": "left", "share": "right", "quality": "left", "$ per 1,000": "left", "why": "left",
    }  # fmt: skip
    rows = [
        (m.model, m.advice, f"{m.share:.1%}", _interval(m.quality, 1.0, 4), _interval(m.cost_usd, 1e3, 3),
         m.why + (f": {', '.join(m.tasks)}" if m.tasks else ""))
        for m in found.models
    ]  # fmt: skip
    title = f"without it, by {found.decisions} decisions, {found.scored} of them scored"
    show(found, as_json, lambda: table(title, columns, rows, "the pool is empty"))


def _interval(change: ChangeView, factor: float, digits: int) -> str:
    if change.mean is None or change.low is None or change.high is None:
        return "-"
    mean, low, high = (f"{factor * value:+.{digits}f}" for value in (change.mean, change.low, change.high))
    return f"{mean} ({low} to {high})"


def _shown(m: ModelDetail) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    price_in, price_out, tokens = _figures(m)
    lines = [
        f"{m.id}: {m.state}, {m.state_reason}",
        f"$ {price_in} in, {price_out} out, per million tokens; context {tokens}; "
        f"can: {' '.join(m.capabilities) or 'chat'}; at {m.provider.base_url or m.provider.kind}",
    ]
    if m.unavailable_reason:
        lines.append(f"no request is sent to it: {m.unavailable_reason}")
    columns = {"when": "left", "state": "left", "why": "left"}
    steps = [(when(step.at), step.state, step.reason) for step in m.steps]
    return Group(*(Text(line) for line in lines), table("", columns, steps, "it was in the pool from the start"))


def _figures(m: ModelView) -> tuple[str, str, str]:
    """Prices and context length; ? where not known."""
    price_in, price_out = ("?" if price is None else f"{price:g}" for price in (m.price_input, m.price_output))
    return price_in, price_out, "?" if m.context is None else f"{m.context:,}"


@app.command("add")
def add(
    name: Name,
    price_input: PriceInput = None,
    price_output: PriceOutput = None,
    context_tokens: ContextTokens = None,
    family: Family = "",
    capability: Capability = None,
    prior: Prior = None,
    base_url: BaseUrl = None,
    api_key_env: KeyEnv = None,
    upstream: Upstream = None,
    output_tokens: OutputTokens = None,
    check: Annotated[bool, typer.Option(help="Check it before requests are routed to it.")] = True,
    as_json: Json = False,
) -> None:
    """Add a model behind an OpenAI-compatible endpoint, or bring a removed one back.

    Prices and context length that are left out are those published for the endpoint, where they are known. A running server's
    jobs check the model, and requests are routed to it then.
    """
    from agent.errors import InvalidInput
    from agent.types import ModelCard
    from store.pool.file import Provider, pool_model

    if not base_url:
        raise InvalidInput(
            "--base-url is missing; give the endpoint, such as https://api.openai.com/v1", param="base_url"
        )
    given = _given(price_input=price_input, price_output=price_output, context=context_tokens)
    card = ModelCard(
        name=name,
        family=family or "",
        capabilities=frozenset(capability or ()),
        priors=_priors(prior),
        output_tokens=output_tokens,
        **given,
    )
    provider = Provider("openai", base_url, api_key_env, upstream)
    with context() as ctx:
        ctx.pool.add(pool_model(card, provider, given=given, now=ctx.clock()), check=check)
        _confirm(ctx, "added", ctx.pool.get(name), as_json)


@app.command("set")
def change(
    name: Name,
    price_input: PriceInput = None,
    price_output: PriceOutput = None,
    context_tokens: ContextTokens = None,
    family: Family = None,
    capability: Capability = None,
    prior: Prior = None,
    base_url: BaseUrl = None,
    api_key_env: KeyEnv = None,
    upstream: Upstream = None,
    output_tokens: OutputTokens = None,
    as_json: Json = False,
) -> None:
    """Change what is given of a model; the rest stays."""
    from dataclasses import replace

    from agent.errors import InvalidInput

    patch = _given(
        price_input=price_input, price_output=price_output, context=context_tokens, family=family,
        capabilities=capability, priors=_priors(prior) if prior else None, output_tokens=output_tokens,
    )  # fmt: skip
    endpoint = _given(base_url=base_url, api_key_env=api_key_env, model=upstream)
    if not patch and not endpoint:
        raise InvalidInput("nothing to change; see `thalweg models set --help`", param="options")
    with context() as ctx:
        if endpoint:
            patch["provider"] = replace(ctx.pool.get(name).provider, **endpoint)
        _confirm(ctx, "changed", ctx.pool.update(name, **patch), as_json)


@app.command("replace")
def replace_by(
    old: Annotated[str, typer.Argument(help="The model that leaves.")],
    new: Annotated[str, typer.Argument(help="The model that takes its place; in the pool already, or joining it.")],
    price_input: PriceInput = None,
    price_output: PriceOutput = None,
    context_tokens: ContextTokens = None,
    family: Family = None,
    capability: Capability = None,
    prior: Prior = None,
    base_url: BaseUrl = None,
    api_key_env: KeyEnv = None,
    upstream: Upstream = None,
    output_tokens: OutputTokens = None,
    check: Annotated[bool, typer.Option(help="Check it before requests are routed to it.")] = True,
    as_json: Json = False,
) -> None:
    """Let another model, a new version say, take the place of one: it begins with that one's estimates.

    Of a model that joins, endpoint, key and family are the old one's where they are left out, prices and context are those
    published for the endpoint. The old one serves until the new one has passed its check.
    """
    from dataclasses import replace

    from store.pool.replace import consequences, id_at_endpoint, replace_model
    from store.views import ModelView, ReplacementView

    given = _given(
        price_input=price_input, price_output=price_output, context=context_tokens, family=family,
        capabilities=frozenset(capability) if capability else None, priors=_priors(prior) if prior else None,
        output_tokens=output_tokens,
    )  # fmt: skip
    endpoint = _given(base_url=base_url, api_key_env=api_key_env, model=upstream)
    with context() as ctx:
        if endpoint:
            known = ctx.pool.get(old)
            same = {"kind": "openai", "model": id_at_endpoint(known, new)}
            given["provider"] = replace(known.provider, **same | endpoint)
        before, model = replace_model(ctx.pool, old, new, given, check=check, now=ctx.clock())
        view = ModelView.of(model, ctx.unavailable_reason(model))
    found = consequences(before, model)
    shown = ReplacementView(model=view, replaced=old, consequences=found)
    confirm(shown, as_json, "; ".join([f"{new} replaces {old}", *found]))


@app.command("remove")
def remove(name: Name, as_json: Json = False) -> None:
    """Take a model out of the pool; it gets no further request."""
    with context() as ctx:
        model = ctx.pool.get(name)
        ctx.pool.remove(name)
        _confirm(ctx, "removed", model, as_json)


def _priors(given: list[str] | None) -> dict[str, float]:
    from agent.errors import InvalidInput

    priors = {}
    for one in given or ():
        axis, _, figure = one.partition("=")
        try:
            priors[axis] = float(figure)
        except ValueError as error:
            raise InvalidInput(f"--prior {one}: write axis=0.8", param="prior") from error
    return priors


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _confirm(ctx: JobContext, done: str, model: PoolModel, as_json: bool) -> None:
    from store.views import ModelView

    confirm(ModelView.of(model, ctx.unavailable_reason(model)), as_json, f"{done} {model.card.name}")
