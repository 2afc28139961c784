"""The report on judges: how far each agrees with what answers are known to be worth, what it likes, and what it cost.

An answer's worth is known by a true score in the feedback log (source ``evaluation``, of a reference say), else by an imported
evaluation of its model on its prompt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from sqlalchemy import func, select

from agent.evaluation.agreement import Agreement, BothOrders, Figure, JudgedAnswer, agreement
from agent.feedback.reports import ModelOffset, RaterReport
from agent.types import ModelCard
from store.database import Database
from store.pool.models import ModelPool
from store.tables import DecisionTable, EvaluationTable, FeedbackTable, JoinCallTable
from store.verdicts import ALONE, ORDERS, pair_score, read_grade, read_verdict, taken_apart
from store.views import View


class JudgeView(View):
    """One judge; figures have 95 % intervals and are null where nothing is known, see `agent.evaluation.agreement`."""

    judge: str
    family: str
    scores: int
    known: int
    correlation: Figure | None
    bias: Figure | None
    pairwise: Figure | None
    own_family: Figure | None
    position: Figure | None
    same_order: Figure | None
    weight: float | None
    offset: float | None
    models: tuple[ModelOffset, ...]
    calls: int
    usd: float
    verdicts: int
    unreadable: int
    findings: list[str]


def family(card: ModelCard) -> str:
    """A model's family; of one whose card names none, its vendor."""
    return card.family or card.name.partition("/")[0]


def read_judges(database: Database, raters: Sequence[RaterReport]) -> list[JudgeView]:
    """Every judge that has scored an answer or was asked to, by name; ``raters`` as the ledger reports them."""
    families = {m.card.name: family(m.card) for m in ModelPool(database).list(include_removed=True)}
    scored, numbers = _answers(database, families)
    calls = _calls(database)
    learned = {report.rater: report for report in raters if report.source == "judge"}
    found = []
    for judge in sorted({*numbers, *calls}):
        spent, known = calls.get(judge, _Calls()), scored.get(judge, [])
        figures: Agreement = agreement(known, spent.pairs)
        report = learned.get(judge)
        found.append(
            JudgeView(
                judge=judge, family=_family(judge, families), scores=numbers.get(judge, 0), known=len(known),
                correlation=figures.correlation, bias=figures.bias, pairwise=figures.pairwise,
                own_family=figures.own_family, position=figures.position, same_order=figures.same_order,
                weight=report.weight if report else None, offset=report.offset if report else None,
                models=report.models if report else (), calls=spent.calls, usd=spent.usd, verdicts=spent.verdicts,
                unreadable=spent.unreadable, findings=figures.findings,
            )
        )  # fmt: skip
    return found


def _family(name: str, families: Mapping[str, str]) -> str:
    return families.get(name) or family(ModelCard(name))


def _answers(database: Database, families: Mapping[str, str]) -> tuple[dict[str, list[JudgedAnswer]], dict[str, int]]:
    """judge -> its scores of answers of known worth; and judge -> the number of all of its scores."""
    f, d, e = FeedbackTable, DecisionTable, EvaluationTable
    rows = (
        select(f.decision_id, f.source, f.rater, f.score, d.prompt_id, d.model)
        .join(d, d.id == f.decision_id)
        .where(f.source.in_(("judge", "evaluation")), f.other.is_(None), f.failed.is_(None))
        .order_by(f.seq)
    )
    judged = select(d.prompt_id).join(f, f.decision_id == d.id).where(f.source == "judge")
    evaluated: dict[tuple[str, str], list[float]] = defaultdict(list)
    given: dict[tuple[str, str], tuple[float, str, str]] = {}  # (judge, decision) -> score, prompt, model
    true: dict[str, float] = {}
    with database.session() as session:
        for decision, source, rater, score, prompt, model in session.execute(rows):
            if source == "evaluation":
                true[decision] = score
            else:
                given[rater, decision] = score, prompt, model  # the latest counts
        for prompt, scores in session.execute(select(e.prompt_id, e.scores).where(e.prompt_id.in_(judged))):
            for model, score in scores.items():
                evaluated[prompt, model].append(score)
    found: dict[str, list[JudgedAnswer]] = defaultdict(list)
    numbers: dict[str, int] = defaultdict(int)
    for (judge, decision), (score, prompt, model) in given.items():
        numbers[judge] += 1
        if decision in true or (prompt, model) in evaluated:
            truth = true[decision] if decision in true else fmean(evaluated[prompt, model])
            own = _family(judge, families) == _family(model, families)
            found[judge].append(JudgedAnswer(prompt, score, truth, own))
    return found, numbers


class _Calls:
    """Calls to one judge."""

    def __init__(self) -> None:
        self.calls = self.verdicts = self.unreadable = 0
        self.usd = 0.0
        self.pairs: list[BothOrders] = []


def _calls(database: Database) -> dict[str, _Calls]:
    """judge -> its calls."""
    t = JoinCallTable
    cost = func.coalesce(t.cost_usd, t.reserved_usd)
    query = select(t.join, t.subject, t.model, t.state, t.answer, cost).where(t.role == "judge").order_by(t.id)
    found: dict[str, _Calls] = defaultdict(_Calls)
    first: dict[tuple[int | None, str], str] = {}  # (join, pair) -> what was replied in the first order
    with database.session() as session:
        for join, subject, judge, state, answer, usd in session.execute(query):
            of = found[judge]
            of.calls += 1
            of.usd += usd
            if state != "done" or answer is None:
                continue
            of.verdicts += 1
            mark, reply = taken_apart(answer)
            if subject.endswith(f" {ALONE}"):
                of.unreadable += read_grade(reply, mark) is None
                continue
            of.unreadable += read_verdict(reply, mark) is None
            if subject.endswith(ORDERS[0]):
                first[join, subject.removesuffix(ORDERS[0])] = answer
            else:
                other = first.pop((join, subject.removesuffix(ORDERS[1])), None)
                of.pairs += [] if other is None else _pair(other, answer)
    return found


def _pair(ours_first: str, theirs_first: str) -> list[BothOrders]:
    """The pair, where both replies can be read."""
    one, two = (read_verdict(reply, mark) for mark, reply in map(taken_apart, (ours_first, theirs_first)))
    if one is None or two is None:
        return []
    turned = {"first": "second", "second": "first", "tie": "tie"}
    return [BothOrders(pair_score(one, two).position_bias, one.better == turned[two.better])]
