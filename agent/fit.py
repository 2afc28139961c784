"""Training: from prompts with scores to a snapshot.

Reads like the paper's figure: represent, graph, communities, task means, trunk, general heads, task heads, aggregation.
Whatever must adapt to the data is chosen here from the training data alone, each prompt left out of its own estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.build import FitResult, assemble
from agent.choice.shrinkage import fit_shrinkage
from agent.encoding.similarity import fit_blocks
from agent.errors import InvalidInput
from agent.estimate import Estimator
from agent.examples import Examples, Scores
from agent.experts.candidates import candidate_set
from agent.experts.cost_model import cost_penalties, fit_cost_model
from agent.experts.general_heads import fit_general_heads
from agent.experts.stack import combine, fit_stack
from agent.experts.task_heads import fit_task_heads
from agent.experts.trunk import Trunk, fit_trunk
from agent.index.neighbours import NeighbourIndex, neighbour_means
from agent.online.prior import fit_prior
from agent.snapshot import Snapshot
from agent.tasks import lineage as evolve
from agent.tasks.discover import Discovery, DiscoveryConfig, discover
from agent.types import Array

FEWEST_LANDMARKS = 300
"""Of the trunk, where there are as many prompts."""


@dataclass(frozen=True, slots=True)
class FitConfig:
    """One configuration for all data.

    Parameters
    ----------
    discovery
        How tasks are found.
    neighbours
        Neighbours whose scores enter an estimate.
    evidence_power, evidence_strength
        A neighbour weighs similarity to this power; the task means weigh like this many scores beside them.
    landmarks
        Width of the trunk, at most.
    memory
        Most prompts that the snapshot remembers.
    """

    discovery: DiscoveryConfig = field(default_factory=DiscoveryConfig)
    neighbours: int = 50
    evidence_power: float = 4.0
    evidence_strength: float = 10.0
    landmarks: int = 1000
    memory: int = 50_000


def fit(
    examples: Examples,
    *,
    encoder: str,
    config: FitConfig = FitConfig(),
    champion: Snapshot | None = None,
    position: int = 0,
    seed: int = 0,
    carried: Mapping[str, Any] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Snapshot:
    """Train a snapshot.

    Parameters
    ----------
    examples
        At least two prompts and one model.
    encoder
        Fingerprint of the encoder that made the embeddings.
    config
        How.
    champion
        The snapshot whose tasks live on; None starts afresh.
    position
        Sequence number of the last feedback row that ``examples`` hold.
    seed
        Equal inputs and seeds give equal snapshots.
    carried
        States at ``position`` from which a router of this snapshot goes on, ``ledger`` and ``drift_detectors``; where one is
        missing, it begins anew.
    progress
        Told (stage, share done).

    Raises
    ------
    InvalidInput
        Where there is nothing to learn from.
    """
    if len(examples) < 2 or not examples.models:
        raise InvalidInput(
            f"training needs at least two prompts and one model, got {len(examples)} and {len(examples.models)}"
        )
    report = progress or (lambda stage, share: None)
    scores, models = Scores.of(examples), len(examples.models)

    report("graph", 0.0)
    blocks = fit_blocks(examples.embeddings, examples.features, int(scores.seen.any(axis=1).sum()))
    x = blocks.transform(examples.embeddings, examples.features)
    hood = NeighbourIndex(blocks, x).find(x, config.neighbours, own=True)

    report("tasks", 0.3)
    found = discover(hood, examples, scores, config.discovery, seed)
    labels = found.primary.labels
    lineage = descend(labels, examples, champion)

    report("heads", 0.5)
    penalties = cost_penalties(examples.costs, models)
    enough = int(scores.score_weight.sum() / models)  # prompts that all scores would fill
    trunk = fit_trunk(x, blocks, min(config.landmarks, max(enough // 2, FEWEST_LANDMARKS)), np.random.default_rng(seed))
    general = fit_general_heads(trunk, scores, found.estimate, penalties)
    if not scores.complete:
        general = replace(general, oof=cross_fitted(trunk, scores, found, penalties))
    chosen = task_candidates(found, scores)
    experts = fit_task_heads(trunk, scores, general.oof, labels, chosen)
    heads = general.oof + experts.oof

    report("aggregation", 0.9)
    near = neighbour_means(hood, scores, found.estimate, config.evidence_power, config.evidence_strength)
    blind = (found.estimate, heads, near)  # none of them saw a prompt's own scores
    weights = fit_stack(blind, scores, found.primary.means.variances, penalties)
    costs = fit_cost_model(trunk, examples.costs)
    prior = fit_prior(labels, found.primary.means.mean, examples.scores, examples.prior)
    oof = np.clip(combine(weights, blind), 0.0, 1.0)
    shrinkage = fit_shrinkage(oof, found.primary.means.overall, scores)
    parts = FitResult(blocks, found, trunk, general, experts, chosen, weights, oof, shrinkage, costs, prior)
    unused = max([*lineage.ids, -1 if champion is None else int(champion.meta["next_task"]) - 1]) + 1
    return assemble(
        examples,
        parts,
        lineage,
        asdict(config),
        encoder=encoder,
        position=position,
        unused=unused,
        seed=seed,
        carried=carried,
    )


def descend(labels: NDArray[np.int64], examples: Examples, champion: Snapshot | None) -> evolve.Lineage:
    """Stable ids of the communities, continued from the champion's where there is one that reads the same features."""
    if champion is None or champion.meta["features"] != examples.features.shape[1]:
        return evolve.match(labels, np.full(len(labels), -1), (), 0)
    guess = Estimator(champion).estimate_batch(examples.embeddings, examples.features)
    old = np.array([t.id for t in champion.tasks])
    assigned = np.where(guess.known, old[guess.task_probs.argmax(axis=1)], -1)
    return evolve.match(labels, assigned, [int(i) for i in old], int(champion.meta["next_task"]))


def cross_fitted(trunk: Trunk, scores: Scores, found: Discovery, penalties: list[Array]) -> Array:
    """(n, m) the general heads' estimates of each prompt with its scores hidden from stage 1 too.

    Where scores are missing, stage 1 stands in for them, and would tell the heads of the very scores they are judged by.
    """
    out = np.zeros_like(found.estimate)
    for hidden, expected in found.folds:
        out[hidden] = fit_general_heads(trunk, scores.without(hidden), expected, penalties).oof[hidden]
    return out


def task_candidates(found: Discovery, scores: Scores) -> list[tuple[int, ...]]:
    """The candidate models of each task; a prompt without scores prefers what stage 1 expects of it."""
    means, labels = found.primary.means, found.primary.labels
    preferred = np.where(
        scores.seen.any(axis=1, keepdims=True), np.where(scores.seen, scores.value, -1.0), found.estimate
    )
    favourite = (preferred + 1e-3 * found.estimate).argmax(axis=1)
    return [candidate_set(favourite[labels == t], means.mean[t], means.stderr[t]) for t in range(found.primary.tasks)]
