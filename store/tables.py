"""The database schema, one class per table.

Change a table together with a new file in ``store/migrations/versions``; a test compares the two.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, LargeBinary, MetaData, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from agent.types import Vector
from store.columns import Candidates, CompressedFloat32s, Float32s, PackedJson, SafeText, Serial, UtcDateTime

Safe = Annotated[str, mapped_column(SafeText)]
Json = Annotated[Any, mapped_column(JSON(none_as_null=True))]
PromptId = Annotated[str, mapped_column(String(64))]
DecisionId = Annotated[str, mapped_column(SafeText)]
Key = Annotated[int, mapped_column(Serial, primary_key=True, autoincrement=True)]


class Base(DeclarativeBase):
    """Base of the tables. Every constraint has a name, by which migrations refer to it on any database."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime,
        bytes: LargeBinary,
        int: Serial,
        str: Text,
        Vector: Float32s,
    }


def _where(name: str, column: str, where: str, *, unique: bool = False) -> Index:
    """An index of the rows ``where`` a condition holds."""
    return Index(name, column, unique=unique, sqlite_where=text(where), postgresql_where=text(where))


def _one(name: str, column: str, where: str) -> Index:
    """An index that allows each value of ``column`` once among the rows ``where`` a condition holds."""
    return _where(name, column, where, unique=True)


class ModelTable(Base):
    """A model of the pool: ``base`` as the pool file has it, overridden by ``patch``, the changes by API and CLI."""

    __tablename__ = "models"

    name: Mapped[Safe] = mapped_column(primary_key=True)
    base: Mapped[Json | None]
    patch: Mapped[Json | None]
    added: Mapped[bool]
    removed: Mapped[bool]
    revision: Mapped[int]
    updated_at: Mapped[datetime]


class JoinTable(Base):
    """A model's way into the pool, see `store.joins.Join`; a model's latest row counts."""

    __tablename__ = "joins"
    __table_args__ = (Index(None, "model", "id"), {"sqlite_autoincrement": True})

    id: Mapped[Key]
    model: Mapped[Safe]
    state: Mapped[str]
    reason: Mapped[Safe]
    found: Mapped[Json]
    started_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class JoinEventTable(Base):
    """That a join came into a state, when and why."""

    __tablename__ = "join_events"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[Key]
    join: Mapped[int] = mapped_column(ForeignKey("joins.id"), index=True)
    state: Mapped[str]
    reason: Mapped[Safe]
    at: Mapped[datetime]


class JoinCallTable(Base):
    """A call that a join makes, or (without one) the judging of live answers, see `store.join_calls.JoinCall`."""

    __tablename__ = "join_calls"
    __table_args__ = (
        Index("one_call_a_subject", "join", "role", "subject", unique=True),
        Index(
            "one_live_call_a_subject", "role", "subject", unique=True,
            sqlite_where=text('"join" IS NULL'), postgresql_where=text('"join" IS NULL'),
        ),
        {"sqlite_autoincrement": True},
    )  # fmt: skip

    id: Mapped[Key]
    join: Mapped[int | None] = mapped_column(ForeignKey("joins.id"))
    role: Mapped[str]
    subject: Mapped[Safe]
    model: Mapped[Safe]
    state: Mapped[str]
    reserved_usd: Mapped[float]
    cost_usd: Mapped[float | None]
    input_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    latency_ms: Mapped[float | None]
    answer: Mapped[Safe | None]
    error: Mapped[Safe | None]
    decision_id: Mapped[Safe | None]
    booked_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class KeptAnswerTable(Base):
    """A model's answer to a request, kept until it is judged, see `store.kept_answers.KeptAnswers`."""

    __tablename__ = "kept_answers"

    decision_id: Mapped[DecisionId] = mapped_column(ForeignKey("decisions.id"), primary_key=True)
    answer: Mapped[Safe]
    shadow: Mapped[bool]
    kept_at: Mapped[datetime] = mapped_column(index=True)


class PromptTable(Base):
    """A prompt as one encoder encoded it; ``id`` is the hash of encoder and content, so that each is encoded once."""

    __tablename__ = "prompts"

    id: Mapped[PromptId] = mapped_column(primary_key=True)
    encoder: Mapped[Safe]
    text: Mapped[Safe | None]
    embedding: Mapped[Vector] = mapped_column(Float32s)
    features: Mapped[Vector] = mapped_column(CompressedFloat32s)
    tokens: Mapped[int]
    coverage: Mapped[float]
    created_at: Mapped[datetime]


class DecisionTable(Base):
    """A decision of the router: all that was known when a request's model was chosen.

    ``trial_choice`` is what the two snapshots of the running ``trial`` chose, see `agent.types.TrialChoice`; null where
    they did not differ, or no coin was tossed. ``tasks`` are pairs of a task's id and the probability that the prompt
    belongs to it, ``neighbourhood`` is the position in the feedback log of the row that founded its; null in rows of earlier
    versions.
    """

    __tablename__ = "decisions"
    __table_args__ = (_where("ix_decisions_trial", "trial", "trial IS NOT NULL"),)

    id: Mapped[DecisionId] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(index=True)
    kind: Mapped[str]
    prompt_id: Mapped[PromptId] = mapped_column(ForeignKey("prompts.id"), index=True)
    model: Mapped[Safe]
    requested_model: Mapped[Safe]
    key: Mapped[Safe | None]
    session: Mapped[Safe | None]
    cost_quality_tradeoff: Mapped[float]
    snapshot: Mapped[int]
    position: Mapped[int]
    propensity: Mapped[float]
    explored: Mapped[bool]
    task: Mapped[int]
    task_name: Mapped[Safe]
    task_probability: Mapped[float]
    candidates: Mapped[Any] = mapped_column(Candidates)
    evidence: Mapped[Any] = mapped_column(PackedJson)
    why: Mapped[Safe]
    trial: Mapped[int | None]
    trial_choice: Mapped[Json | None]
    tasks: Mapped[Json | None]
    neighbourhood: Mapped[int | None]


class OutcomeTable(Base):
    """How the call that followed a decision ended."""

    __tablename__ = "outcomes"

    decision_id: Mapped[DecisionId] = mapped_column(ForeignKey("decisions.id"), primary_key=True)
    status: Mapped[str]
    latency_ms: Mapped[float | None]
    input_tokens: Mapped[int | None]
    output_tokens: Mapped[int | None]
    cost_usd: Mapped[float | None]
    error: Mapped[Safe | None]
    finished_at: Mapped[datetime]


class OutcomeLogTable(Base):
    """The outcome log, see `store.outcomes`: append-only, read in the order of ``seq``, which is also the order of commits."""

    __tablename__ = "outcome_log"
    __table_args__ = (Index(None, "model", "seq"), {"sqlite_autoincrement": True})

    seq: Mapped[Key]
    model: Mapped[Safe]
    task: Mapped[int]
    status: Mapped[str]
    output_tokens: Mapped[int | None]
    latency_ms: Mapped[float | None]
    cost_usd: Mapped[float | None]
    snapshot_cost: Mapped[float | None]
    input_tokens: Mapped[int | None]
    encoder_tokens: Mapped[int | None]


class FeedbackTable(Base):
    """The feedback log: append-only, read in the order of ``seq``, which is also the order of commits.

    ``other`` is the model that the answer was compared with (null: a score), ``key`` the name of the API key that posted it.
    ``failed`` is how the call had failed when the row was written (null: it had not), of which nothing is learned.
    """

    __tablename__ = "feedback"
    __table_args__ = (
        CheckConstraint("score >= 0 AND score <= 1", name="score_range"),
        Index(None, "decision_id", "source", "rater", "seq"),
        {"sqlite_autoincrement": True},
    )

    seq: Mapped[Key]
    decision_id: Mapped[DecisionId] = mapped_column(ForeignKey("decisions.id"))
    score: Mapped[float]
    source: Mapped[str]
    rater: Mapped[Safe]
    comment: Mapped[Safe]
    thumb: Mapped[str | None]
    idempotency_key: Mapped[Safe | None] = mapped_column(unique=True)
    revises: Mapped[float | None]
    created_at: Mapped[datetime]
    other: Mapped[Safe | None]
    key: Mapped[Safe | None]
    failed: Mapped[str | None]


class SetAsideTable(Base):
    """A row of the feedback log from which nothing is learned, and why; ``snapshot`` is the one whose router set it aside."""

    __tablename__ = "set_aside"

    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    reason: Mapped[Safe]
    snapshot: Mapped[int]
    set_aside_at: Mapped[datetime]


class EvaluationTable(Base):
    """An imported evaluation: what each model scored (and cost) on one prompt; ``id`` is the hash of its content."""

    __tablename__ = "evaluations"

    id: Mapped[PromptId] = mapped_column(primary_key=True)
    dataset: Mapped[Safe]
    split: Mapped[Safe]
    prompt_id: Mapped[PromptId] = mapped_column(ForeignKey("prompts.id"), index=True)
    source: Mapped[Safe]
    task: Mapped[Safe | None]
    scores: Mapped[Json]
    costs: Mapped[Json]
    reference: Mapped[Json | None]
    created_at: Mapped[datetime]


class SnapshotTable(Base):
    """A published snapshot without its heads: at most one champion, and one challenger on trial. Archived: without weights."""

    __tablename__ = "snapshots"
    __table_args__ = (
        _one("one_champion", "status", "status = 'champion'"),
        _one("one_on_trial", "status", "status = 'trial'"),
        {"sqlite_autoincrement": True},
    )

    version: Mapped[Key]
    status: Mapped[str]
    position: Mapped[int]
    parent: Mapped[int | None] = mapped_column(ForeignKey("snapshots.version"))
    encoder: Mapped[Safe]
    meta: Mapped[Json]
    tensors: Mapped[bytes]
    sha256: Mapped[str] = mapped_column(String(64))
    tasks: Mapped[int]
    heads: Mapped[int]
    report: Mapped[Json]
    reason: Mapped[Safe | None]
    created_by: Mapped[Safe]
    created_at: Mapped[datetime]
    promoted_at: Mapped[datetime | None]
    archived_at: Mapped[datetime | None]


class TrialTable(Base):
    """A trial of one snapshot beside the champion, see `store.trials.TrialRow`. The index allows at most one that runs."""

    __tablename__ = "trials"
    __table_args__ = (
        _one("one_running_trial", "state", "state = 'running'"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[Key]
    kind: Mapped[str]
    champion: Mapped[int] = mapped_column(ForeignKey("snapshots.version"))
    challenger: Mapped[int] = mapped_column(ForeignKey("snapshots.version"))
    state: Mapped[str]
    plan: Mapped[Json]
    position: Mapped[int]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    reason: Mapped[Safe]
    report: Mapped[Json]


class HeadTable(Base):
    """A head of a snapshot as safetensors; ``task`` is `agent.snapshot.GENERAL` for a general head."""

    __tablename__ = "heads"

    snapshot: Mapped[int] = mapped_column(ForeignKey("snapshots.version"), primary_key=True)
    task: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    model: Mapped[Safe] = mapped_column(primary_key=True)
    tensors: Mapped[bytes]
    sha256: Mapped[str] = mapped_column(String(64))


class TaskTable(Base):
    """A task that a champion has had, see `store.lineage.TaskRow`."""

    __tablename__ = "tasks"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[Safe]
    spawned_in: Mapped[int] = mapped_column(ForeignKey("snapshots.version"))
    parents: Mapped[Json]
    successor: Mapped[int | None]
    retired_in: Mapped[int | None] = mapped_column(ForeignKey("snapshots.version"))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class TaskEventTable(Base):
    """A `agent.snapshot.LineageEvent` of a published snapshot, promoted or not."""

    __tablename__ = "task_events"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[Key]
    snapshot: Mapped[int] = mapped_column(ForeignKey("snapshots.version"), index=True)
    kind: Mapped[str]
    task: Mapped[int] = mapped_column(index=True)
    parents: Mapped[Json]
    figures: Mapped[Json]


class DriftTable(Base):
    """A silent change of a model, see `agent.observations.Drift`; ``snapshot`` is the one whose estimates it contradicts, null
    of other kinds than quality, whose rows are those of the outcome log."""

    __tablename__ = "drifts"

    model: Mapped[Safe] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    since: Mapped[int]
    shift: Mapped[float]
    detector: Mapped[str]
    snapshot: Mapped[int | None] = mapped_column(ForeignKey("snapshots.version"))
    detected_at: Mapped[datetime]


class JobRunTable(Base):
    """A run of a job. The indexes allow at most one queued and one running run of a job."""

    __tablename__ = "job_runs"
    __table_args__ = (
        _one("one_queued_run_a_job", "job", "state = 'queued'"),
        _one("one_running_run_a_job", "job", "state = 'running'"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[Key]
    job: Mapped[Safe]
    params: Mapped[Json]
    state: Mapped[str]
    requested_by: Mapped[Safe]
    requested_at: Mapped[datetime]
    worker: Mapped[Safe | None]
    started_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    result: Mapped[Json | None]
    reason: Mapped[Safe | None]
