"""Which models of the pool no task needs, from the logs: what leaving each out would save or cost."""

from __future__ import annotations

from agent.errors import InvalidInput
from agent.evaluation.leave_out import MIN_SCORED, TOLERANCE, Loss, choices, losses
from agent.evaluation.logged import logged_decisions
from agent.evaluation.off_policy import Value
from agent.feedback.state import feedback_state
from store.database import Database
from store.decisions import DecisionLog
from store.feedback import FeedbackLog
from store.pool.file import PoolModel
from store.pool.models import ModelPool
from store.snapshots import SnapshotStore
from store.views import ChangeView, SuggestionsView, SuggestionView

DECISIONS, FEEDBACK = 5_000, 20_000
"""The latest rows that are read of each log."""


def suggestions(database: Database, decisions: DecisionLog, feedback: FeedbackLog) -> SuggestionsView:
    """What leaving out each model of the pool would change.

    Raises
    ------
    InvalidInput
        Where there is no champion yet.
    SnapshotCorrupt
        Where it cannot be read.
    """
    store = SnapshotStore(database)
    version = store.champion_version()
    if version is None:
        raise InvalidInput("there is no champion yet; `thalweg refresh` makes one", param="version")
    champion = store.load(version)
    decided = choices(decisions.choices(DECISIONS))
    head = feedback.head()
    rows = feedback.between(max(head - FEEDBACK, 0), head)
    scored = logged_decisions(rows, feedback_state(champion, ()).ledger, champion.encoder)
    pool = {model.card.name: model for model in ModelPool(database).list()}
    names = {task.id: task.name for task in champion.tasks}
    found = [_view(loss, pool[loss.model], names) for loss in losses(decided, scored, list(pool))]
    return SuggestionsView(decisions=len(decided.task), scored=len(scored), models=found)


def _view(loss: Loss, model: PoolModel, names: dict[int, str]) -> SuggestionView:
    advice, why = loss.advice, ""
    tasks = [names.get(task, f"task {task}" if task >= 0 else "prompts far from every task") for task in loss.tasks]
    if model.state not in ("adopted", "declined"):
        advice, why = "not sure", f"it is {model.state}: its joining the pool has not ended"
    elif model.unrouted_reason is not None:
        why = f"no request is sent to it: {model.unrouted_reason}"
    elif loss.alone:
        why = f"nothing else could take {loss.alone} of the requests"
    elif tasks:
        why = f"needed by {len(tasks)} {'task' if len(tasks) == 1 else 'tasks'}"
    elif advice == "leave out":
        why = f"no task loses more than {TOLERANCE:g} of utility without it, nor all requests as much of quality"
    elif loss.quality.n < MIN_SCORED:
        why = f"only {loss.quality.n} decisions were scored, of at least {MIN_SCORED}"
    else:
        worst = -loss.quality.interval()[0]
        why = f"no task needs it by the estimates, but its scores do not rule out a loss of quality of {worst:.3f}"
    return SuggestionView(
        model=loss.model, advice=advice, why=why, share=loss.share, alone=loss.alone, tasks=tasks,
        quality=_change(loss.quality), quality_expected=_change(loss.quality_expected), cost_usd=_change(loss.cost),
    )  # fmt: skip


def _change(value: Value) -> ChangeView:
    low, high = value.interval()
    known = value.stderr < float("inf")
    return ChangeView(
        mean=value.mean if known else None, low=low if known else None, high=high if known else None, n=value.n
    )
