"""The JSON form of decisions, tasks, models, feedback and drifts, the same for HTTP and the command line.

Each view is a pydantic model with a class method ``of`` that builds it from values of `agent` and `store`, such as
``DecisionView.of(decision)`` or ``TaskView.of_all(snapshot, rows)``. HTTP routes return views; the command line prints
`to_json` of a view or of a list of them. `Run`, `SnapshotRow`, `Outcome`, `Receipt`, `SourceReport` and `RaterReport` are
their own JSON form: routes and `to_json` take them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Self

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field

from agent.choice.explain import why_not
from agent.observations import DriftKind
from agent.snapshot import Snapshot, TaskInfo
from agent.types import CallForecast, Candidate, Decision, Evidence, Part, Source, TaskAssignment, TrialChoice
from store.decisions import DecisionRecord, Outcome
from store.drifts import FoundDrift
from store.feedback import FeedbackRow, Thumb
from store.joins import Join, JoinEvent, JoinState
from store.lineage import TaskEvent, TaskRow
from store.pool.file import PoolModel, Provider


def to_json(value: Any) -> str:
    """``value`` as indented JSON: views, dataclasses, lists and dicts of them; null stands for NaN and infinity."""
    return pydantic_core.to_json(value, indent=2, inf_nan_mode="null").decode()


class View(BaseModel):
    """Base of the views."""

    model_config = ConfigDict(frozen=True)


THERE_FROM_THE_START = "it was in the pool from the start"


class DecisionSummary(View):
    """A decision in short: the ``thalweg`` object of an answer. Quality in [0, 1], cost in USD."""

    decision_id: str | None = Field(description="null where the decision was not recorded")
    model: str
    task: TaskAssignment
    snapshot: int
    quality: float
    cost: float
    propensity: float
    explored: bool
    why: str

    @classmethod
    def of(cls, decision: Decision, id: str | None = None) -> Self:
        """The view of ``decision``, recorded under ``id``."""
        return cls(**_summary(decision, id))


class CandidateView(View):
    """A model as a decision ranked it, see `agent.types.Candidate`."""

    model: str
    quality: float
    stderr: float
    cost: float
    utility: float
    propensity: float
    parts: dict[str, Part] = Field(description="quality is the sum of weight * estimate")
    shrinkage: float
    cost_penalty: float
    caution: float = Field(description="by how much little knowledge of the model lowers its utility")
    cost_upper: float = Field(description="USD that nine of ten such requests stay within; 0: not known")
    snapshot_cost: float = Field(description="USD by the snapshot's own cost model; 0: it knows none")
    excluded: str | None = Field(description="why the model could not be chosen")
    why_not: str | None = Field(description="why the model was not chosen")
    unavailable_reason: str | None = Field(description="what the model lacks to be called; null where not known")

    @classmethod
    def of(cls, candidate: Candidate, decision: Decision, unavailable_reason: str | None = None) -> Self:
        """The view of a candidate of ``decision``."""
        why = why_not(candidate, decision)
        return cls(**_attributes(candidate), why_not=why, unavailable_reason=unavailable_reason)


class EvidenceView(View):
    """A prompt of the index near the request's: cosine similarity, and each model's score on it."""

    prompt_id: str
    similarity: float
    scores: dict[str, float]
    text: str | None = Field(description="null where it is not known")

    @classmethod
    def of(cls, evidence: Evidence, text: str | None = None) -> Self:
        """The view of ``evidence``."""
        return cls(**_attributes(evidence), text=text)


class DecisionView(DecisionSummary):
    """A decision with all that was known when it was made; candidates by utility, the excluded ones last."""

    position: int = Field(description="last row of the feedback log that the router had learned from")
    trial: TrialChoice | None = Field(
        description="the choices that a coin decided between; null: no trial had a part in it"
    )
    tokens: int = Field(description="length of the conversation")
    coverage: float = Field(description="share of its tokens that the encoder read")
    candidates: list[CandidateView]
    evidence: list[EvidenceView]

    @classmethod
    def of(
        cls,
        decision: Decision,
        id: str | None = None,
        unavailable_reasons: Mapping[str, str] = {},
        texts: Mapping[str, str] = {},
        **others: Any,
    ) -> Self:
        """The view of ``decision``; maps of models to what they lack, and of prompt ids to texts, as far as known."""
        candidates = [CandidateView.of(c, decision, unavailable_reasons.get(c.model)) for c in decision.candidates]
        evidence = [EvidenceView.of(e, texts.get(e.prompt_id)) for e in decision.evidence]
        encoded = {"tokens": decision.encoded.tokens, "coverage": decision.encoded.coverage}
        return cls(**_summary(decision, id) | encoded | {"candidates": candidates, "evidence": evidence} | others)


class FeedbackView(View):
    """A row of the feedback log; ``revises`` is the score that it replaced."""

    seq: int
    created_at: datetime
    decision_id: str
    model: str
    score: float
    other: str | None = Field(description="the model that the answer was compared with; null for a score")
    source: Source
    rater: str
    comment: str
    thumb: Thumb | None
    idempotency_key: str | None
    key: str = Field(description="name of the API key that posted it")
    revises: float | None

    @classmethod
    def of(cls, row: FeedbackRow) -> Self:
        """The view of ``row``."""
        return cls(**_attributes(row) | _attributes(row.event))


class RecordedDecisionView(DecisionView):
    """A decision of the log: also the request that it answered, what came of the call, and its feedback, latest first."""

    created_at: datetime
    kind: Literal["chat", "route", "probe", "shadow"]
    requested_model: str
    cost_quality_tradeoff: float
    session: str | None
    key: str | None
    prompt: str | None
    outcome: Outcome | None
    feedback: list[FeedbackView]

    @classmethod
    def of_record(cls, record: DecisionRecord, outcome: Outcome | None, feedback: Sequence[FeedbackRow]) -> Self:
        """The view of ``record``."""
        rows = [FeedbackView.of(row) for row in feedback]
        return cls.of(outcome=outcome, feedback=rows, **_attributes(record))


class DriftView(View):
    """A model that has changed silently, see `agent.observations.Drift`; ``snapshot`` is the one that it proved wrong, of
    quality only."""

    model: str
    position: int
    since: int
    shift: float
    detector: str
    kind: DriftKind
    snapshot: int | None
    detected_at: datetime
    why: str

    @classmethod
    def of(cls, found: FoundDrift) -> Self:
        """The view of ``found``."""
        return cls(**_attributes(found) | _attributes(found.drift), why=found.why)


class ModelView(View):
    """A model of the pool, with the fields that OpenAI's clients read; prices in USD per million tokens."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str
    available: bool
    unavailable_reason: str | None
    removed: bool
    state: JoinState = Field(description="how far its joining the pool has come")
    state_reason: str
    drift: DriftView | None = Field(description="its last silent change since the serving snapshot was trained")
    family: str
    price_input: float | None = Field(description="null: not known")
    price_output: float | None
    context: int | None
    capabilities: list[str]
    priors: dict[str, float]
    output_tokens: int | None = Field(description="expected length of an answer, as the card has it")
    replaces: str | None = Field(description="the model whose estimates it inherits until a snapshot knows it")
    calls: CallForecast | None = Field(description="what the outcomes of its calls say of the next one")
    provider: Provider

    @classmethod
    def of(
        cls,
        model: PoolModel,
        unavailable_reason: str | None,
        drift: FoundDrift | None = None,
        calls: CallForecast | None = None,
    ) -> Self:
        """The view of ``model``; ``unavailable_reason`` is None where it can be called."""
        card = model.card
        own = {
            "id": card.name,
            "owned_by": card.family or model.provider.kind,
            "capabilities": sorted(card.capabilities),
        }
        state = {"available": unavailable_reason is None, "unavailable_reason": unavailable_reason}
        join = model.join
        state |= {"state": model.state}
        state |= {"state_reason": THERE_FROM_THE_START if join is None else join.reason}
        return cls(
            **_attributes(card) | _attributes(model) | own | state | dict.fromkeys(model.unknown),
            drift=None if drift is None else DriftView.of(drift),
            calls=calls,
        )


class ReplacementView(View):
    """A model that replaces another, and what that means for both, in sentences."""

    model: ModelView
    replaced: str
    consequences: list[str]


class ChangeView(View):
    """A change with its 95 % interval, from ``n`` decisions; null where it is not known."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


class SuggestionView(View):
    """What leaving a model out of the pool would change, a request, see `agent.evaluation.leave_out`."""

    model: str
    advice: Literal["keep", "leave out", "not sure"]
    why: str
    share: float = Field(description="of the requests, that it gets")
    alone: int = Field(description="requests that nothing else could take")
    tasks: list[str] = Field(description="that need it")
    quality: ChangeView = Field(description="of the mean score, doubly robust, by the scored decisions")
    quality_expected: ChangeView = Field(description="the same by the estimates of all decisions")
    cost_usd: ChangeView = Field(description="of the expected cost")


class SuggestionsView(View):
    """The models of the pool, those with the smallest share first, and the decisions that all rests on."""

    decisions: int
    scored: int
    models: list[SuggestionView]


class JoinEventView(View):
    """That a model that joins came into a state, when and why."""

    state: JoinState
    reason: str
    at: datetime


class ModelDetail(ModelView):
    """A model with the steps by which it came into the pool; none where it was there from the start."""

    joined_at: datetime | None
    steps: list[JoinEventView]
    found: dict[str, Any] = Field(description="what checks, probes and trial have found, by kind")

    @classmethod
    def of_join(cls, model: ModelView, join: Join | None, events: Sequence[JoinEvent]) -> Self:
        """The view of a model and its join."""
        return cls(
            **{name: getattr(model, name) for name in ModelView.model_fields},
            joined_at=None if join is None else join.started_at,
            steps=[JoinEventView(**_attributes(event)) for event in events],
            found={} if join is None else dict(join.found),
        )


class QualityView(View):
    """Mean score of a model on a task, shrunken toward the others', and the number of scores behind it."""

    model: str
    mean: float
    n_scores: float


class TaskView(View):
    """A task by the snapshots and times of its life; null from ``size`` on where the snapshot does not have it."""

    id: int
    name: str
    spawned_in: int
    spawned_at: datetime
    parents: list[int]
    successor: int | None = Field(description="the task that took its prompts when it was retired")
    retired_in: int | None
    retired_at: datetime | None
    size: int | None = Field(default=None, description="number of training prompts")
    candidates: list[str] | None = None
    experts: list[str] | None = Field(default=None, description="models with a head of this task's own")
    quality: list[QualityView] | None = Field(default=None, description="by mean, the best first")

    @classmethod
    def of(cls, row: TaskRow, task: TaskInfo | None, experts: Sequence[str] = (), **others: Any) -> Self:
        """The view of a task; ``task`` and ``experts`` are what the snapshot has of it."""
        found = others | {
            "id": row.id,
            "name": row.name if task is None else task.name,
            "spawned_in": row.spawned_in,
            "spawned_at": row.created_at,
            "parents": row.parents,
            "successor": row.successor,
            "retired_in": row.retired_in,
            "retired_at": row.retired_at,
        }
        if task is not None:
            means = sorted(task.means.items(), key=lambda item: item[1][0], reverse=True)
            quality = [QualityView(model=model, mean=mean, n_scores=count) for model, (mean, count) in means]
            found |= {"size": task.size, "candidates": task.candidates, "experts": experts, "quality": quality}
        return cls(**found)

    @classmethod
    def of_all(cls, snapshot: Snapshot, rows: Sequence[TaskRow], *, retired: bool = False) -> list[Self]:
        """The tasks of ``snapshot``, the largest first; then, where ``retired``, those of ``rows`` that were retired."""
        by_id, experts = {row.id: row for row in rows}, _experts(snapshot)
        tasks = sorted(snapshot.tasks, key=lambda task: task.size, reverse=True)
        found = [cls.of(by_id.pop(task.id), task, experts.get(task.id, ())) for task in tasks]
        gone = [row for row in by_id.values() if retired and row.retired_in is not None]
        return found + [cls.of(row, None) for row in gone]


class TaskEventView(View):
    """What became of a task in a snapshot, and why; it counts only where that snapshot was ever promoted."""

    snapshot: int
    at: datetime
    promoted: bool
    kind: Literal["spawn", "keep", "merge", "retire"]
    parents: list[int]
    figures: dict[str, float]
    why: str

    @classmethod
    def of(cls, found: TaskEvent) -> Self:
        """The view of ``found``."""
        return cls(**_attributes(found) | _attributes(found.event), why=found.why)


class MedoidView(View):
    """One of a task's most central prompts; its text is null where it is not known."""

    prompt_id: str
    text: str | None


class TaskDetail(TaskView):
    """A task with its most central prompts and what became of it, snapshot by snapshot."""

    snapshot: int = Field(description="the snapshot that was asked")
    medoids: list[MedoidView] | None
    lineage: list[TaskEventView]

    @classmethod
    def of_row(
        cls, row: TaskRow, snapshot: Snapshot, events: Sequence[TaskEvent], texts: Mapping[str, str] = {}
    ) -> Self:
        """The view of a task, whether ``snapshot`` has it or not; ``texts`` maps prompt ids to texts."""
        task = next((task for task in snapshot.tasks if task.id == row.id), None)
        return cls.of(
            row,
            task,
            _experts(snapshot).get(row.id, ()),
            snapshot=snapshot.version,
            medoids=None if task is None else [MedoidView(prompt_id=id, text=texts.get(id)) for id in task.medoids],
            lineage=[TaskEventView.of(event) for event in events],
        )


class PromotionView(View):
    """The snapshot that was made the champion, and why."""

    version: int
    status: Literal["champion"] = "champion"
    reason: str


def _attributes(value: Any) -> dict[str, Any]:
    """The fields of a dataclass by name; a view ignores those that it does not have."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _summary(decision: Decision, id: str | None) -> dict[str, Any]:
    chosen = _attributes(decision.chosen)
    return (
        _attributes(decision) | {name: chosen[name] for name in ("quality", "cost", "propensity")} | {"decision_id": id}
    )


def _experts(snapshot: Snapshot) -> dict[int, list[str]]:
    """task id -> the models with a head of the task's own."""
    found: dict[int, list[str]] = {}
    for head in snapshot.heads:
        found.setdefault(head.task, []).append(head.model)
    return found
