"""What clients see of a decision (headers, the ``thalweg`` object, the whole explanation) and of a drift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from agent.choice.explain import why_not
from agent.types import Candidate, Decision
from store.drifts import FoundDrift


@dataclass(frozen=True, slots=True)
class Routed:
    """A decision under the id that clients know it by."""

    id: str
    decision: Decision


def headers(routed: Routed) -> dict[str, str]:
    """The headers of every routed answer; the task is its id, since names may hold any script."""
    decision = routed.decision
    return {
        "x-thalweg-model": decision.model.encode("ascii", "replace").decode(),
        "x-thalweg-decision-id": routed.id,
        "x-thalweg-task": str(decision.task.id),
        "x-thalweg-snapshot": str(decision.snapshot),
    }


def summary(routed: Routed) -> dict[str, Any]:
    """The ``thalweg`` object of an answer."""
    decision, chosen = routed.decision, routed.decision.chosen
    return {
        "decision_id": routed.id,
        "model": decision.model,
        "task": {"id": decision.task.id, "name": decision.task.name, "probability": decision.task.probability},
        "snapshot": decision.snapshot,
        "quality": chosen.quality,
        "cost": chosen.cost,
        "propensity": chosen.propensity,
        "explored": decision.explored,
        "why": decision.why,
    }


def full(routed: Routed) -> dict[str, Any]:
    """Everything that was known when the model was chosen, and of every other one why it was not."""
    decision = routed.decision
    return summary(routed) | {
        "position": decision.position,
        "tokens": decision.encoded.tokens,
        "coverage": decision.encoded.coverage,
        "candidates": [_candidate(c, decision) for c in decision.candidates],
        "evidence": [
            {"prompt_id": e.prompt_id, "similarity": e.similarity, "scores": dict(e.scores)} for e in decision.evidence
        ],
    }


def drift(found: FoundDrift) -> dict[str, Any]:
    """A silent change of a model, with a sentence on it."""
    return asdict(found.drift) | {"snapshot": found.snapshot, "detected_at": found.detected_at, "why": found.why}


def _candidate(candidate: Candidate, decision: Decision) -> Mapping[str, Any]:
    return {
        "model": candidate.model,
        "quality": candidate.quality,
        "stderr": candidate.stderr,
        "cost": candidate.cost,
        "utility": candidate.utility,
        "propensity": candidate.propensity,
        "parts": dict(candidate.parts),
        "excluded": candidate.excluded,
        "why_not": why_not(candidate, decision),
    }
