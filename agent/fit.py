"""Training: from prompts with scores to a snapshot.

Reads like the paper's figure: represent, graph, communities, task means, trunk, general heads, task heads, aggregation.
Whatever must adapt to the data is chosen here from the training data alone, each prompt left out of its own estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent import evolve
from agent.assemble import Parts, assemble
from agent.assign import evidence_weight
from agent.bank import learn_openness
from agent.blocks import learn_blocks
from agent.candidates import candidate_set
from agent.config import FitConfig
from agent.errors import InvalidInput
from agent.estimate import Estimator
from agent.experts import train_experts
from agent.graph import prompt_graph, smooth_scores, spread
from agent.heads import train_general
from agent.means import overall_means
from agent.nearby import Nearby, Neighbourhood
from agent.snapshot import Snapshot
from agent.spend import price_penalties, train_costs
from agent.stack import weigh
from agent.tasks import Discovery, discover
from agent.trunk import learn_trunk
from agent.types import Examples

Array = NDArray[np.float64]


def fit(
    examples: Examples,
    *,
    encoder: str,
    config: FitConfig = FitConfig(),
    champion: Snapshot | None = None,
    position: int = 0,
    seed: int = 0,
    ledger: Mapping[str, Any] | None = None,
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
    ledger
        State of the feedback ledger at ``position``, from which a router of this snapshot goes on; None: a new one.
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
    scores, models = examples.scores, len(examples.models)
    overall, expected = overall_means(scores, examples.prior)

    report("graph", 0.0)
    blocks = learn_blocks(examples.embeddings, examples.features, int((~np.isnan(scores)).any(axis=1).sum()))
    x = blocks.transform(examples.embeddings, examples.features)
    hood = Nearby(blocks, x).find(x, config.neighbours, own=True)
    prior = overall if examples.prior is None else np.where(np.isnan(examples.prior), expected, examples.prior)
    nearest = hood.first(config.edges)
    smoothed = smooth_scores(scores, hood.first(config.smoothing), prior)
    graph = prompt_graph(nearest, smoothed, config.preference)

    report("tasks", 0.3)
    found = discover(graph, hood.first(config.voters), examples, config.resolutions, config.smallest_task, seed)
    labels = found.primary.labels
    lineage = descend(labels, examples, champion)

    report("heads", 0.5)
    penalties = price_penalties(examples.costs, models)
    trunk = learn_trunk(x, blocks, config.landmarks, np.random.default_rng(seed))
    general = train_general(trunk, scores, found.estimate, penalties)
    chosen = task_candidates(found, scores)
    experts = train_experts(trunk, scores - general.held_out, labels, chosen)
    heads = general.held_out + experts.held_out

    report("aggregation", 0.9)
    near = evidence(hood, scores, found.estimate, config)
    weights = weigh((found.estimate, heads, near), overall, scores, penalties)
    costs = train_costs(trunk, examples.costs)
    openness = learn_openness(labels, found.primary.means.mean, scores, examples.prior)
    parts = Parts(blocks, found, trunk, general, experts, chosen, overall, weights, costs, openness)
    unused = max([*lineage.ids, -1 if champion is None else int(champion.meta["next_task"]) - 1]) + 1
    return assemble(
        examples, parts, lineage, config, encoder=encoder, position=position, unused=unused, seed=seed, ledger=ledger
    )


def descend(labels: NDArray[np.int64], examples: Examples, champion: Snapshot | None) -> evolve.Lineage:
    """Stable ids of the communities, continued from the champion's where there is one that reads the same features."""
    if champion is None or champion.meta["features"] != examples.features.shape[1]:
        return evolve.match(labels, np.full(len(labels), -1), (), 0)
    guess = Estimator(champion).estimate_batch(examples.embeddings, examples.features)
    old = np.array([t.id for t in champion.tasks])
    assigned = np.where(guess.known, old[guess.task_probs.argmax(axis=1)], -1)
    return evolve.match(labels, assigned, [int(i) for i in old], int(champion.meta["next_task"]))


def task_candidates(found: Discovery, scores: Array) -> list[tuple[int, ...]]:
    """The candidate models of each task; a prompt without scores prefers what stage 1 expects of it."""
    means, labels = found.primary.means, found.primary.labels
    seen = ~np.isnan(scores)
    preferred = np.where(seen.any(axis=1, keepdims=True), np.where(seen, scores, -1.0), found.estimate)
    favourite = (preferred + 1e-3 * found.estimate).argmax(axis=1)
    return [candidate_set(favourite[labels == t], means.mean[t], means.stderr[t]) for t in range(found.primary.tasks)]


def evidence(hood: Neighbourhood, scores: Array, base: Array, config: FitConfig) -> Array:
    """(n, m) kernel-weighted scores of each prompt's neighbours, beside ``base`` (n, m) by `evidence_strength`."""
    seen = ~np.isnan(scores)
    reach = spread(hood.rows, evidence_weight(hood.similarity, config.evidence_power))
    total, count = reach @ np.where(seen, scores, 0.0), reach @ seen.astype(np.float64)
    out: Array = (total + config.evidence_strength * base) / (count + config.evidence_strength)
    return out
