"""The live index: the prompts that a snapshot was trained on and those scored since, each with the scores of models on it.

What is nearest to a prompt among the snapshot's prompts votes on its task and enters its estimate (`agent.estimate`); what is
nearest among those scored since gives its *neighbourhood*, whose scores move its estimate between refreshes
(`agent.online.effects`); and both are shown as evidence.

A prompt scored since the snapshot belongs to the neighbourhood of the most similar prompt, if that is similar enough, as its
decision found it or else as it is when the prompt is scored; if none is, it founds one. The number of such prompts is
bounded; the snapshot's own are kept. When the bound is reached, a new prompt replaces one of the task with the most prompts,
so that many prompts of one task replace none of a rare one. Each task's prompts are a reservoir, a uniform sample of all it
had (algorithm R, Vitter 1985), drawn by hashes of prompt ids as random keys of which the lowest are kept (bottom-k, Cohen and
Kaplan 2007): the sample stays uniform as its size changes, a prompt scored often is drawn once, and there is no random state
to replicate.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.encoding.similarity import Representation
from agent.index.neighbours import NeighbourIndex, Neighbours, hash64
from agent.types import Evidence, Vector

NEAR = 0.5
"""Least similarity to a prompt of a neighbourhood at which another belongs to it."""

RATINGS = 100
"""Ratings held of a prompt at a time, the latest."""

_MIN_WEIGHT = 1e-6


class _Rating(NamedTuple):
    """A calibrated score of ``model``; it ``replaces`` the snapshot's where it revises a rating that the snapshot knows."""

    model: str
    value: float
    weight: float
    replaces: bool


class PromptIndex:
    """Prompts and the scores of models on them.

    Parameters
    ----------
    representation, trained
        Of the snapshot's prompts: how prompts are transformed, and n of them, which are searched by whoever asks
        (`agent.estimate.Estimator.estimate`).
    ids, models, scores
        Of the snapshot: n prompt ids, names, and (n, m) scores with NaN where not observed.
    capacity
        Most prompts scored since the snapshot that are held at a time. Each task may have ``capacity`` divided by the
        number of tasks, and what others leave.
    """

    def __init__(
        self,
        representation: Representation,
        ids: Sequence[str],
        models: Sequence[str],
        scores: NDArray[np.floating],
        capacity: int,
    ) -> None:
        self._trained_ids, self._models, self._trained_scores = ids, tuple(models), scores
        self._trained_row = {prompt: row for row, prompt in enumerate(ids)}
        self._capacity = max(capacity, 1)
        self._index = NeighbourIndex(
            representation, np.zeros((0, len(representation.search)), np.float32), self._capacity
        )
        self.ids: list[str] = []
        self._slots: dict[str, int] = {}
        self._neighbourhoods: list[int] = []  # by slot
        self._n_prompts: Counter[int] = Counter()  # of each neighbourhood
        self._ratings: list[dict[int, _Rating]] = []  # by slot: hash of the rating -> what it adds
        self._reservoirs: dict[int, list[tuple[int, int]]] = {}  # task -> heap of (-key, slot): the next to go first

    def __len__(self) -> int:
        """Prompts scored since the snapshot that are held."""
        return len(self._slots)

    def digest(self) -> str:
        """A hash of prompts and scores; the HNSW index follows from them and their order."""
        ratings = [sorted(held.items()) for held in self._ratings]
        digest = hashlib.sha256(repr((self.ids, self._neighbourhoods, ratings, self._reservoirs)).encode())
        return digest.hexdigest()

    def trained_scores(self, prompt: str) -> NDArray[np.floating] | None:
        """(m,) the snapshot's scores of a prompt, NaN where not observed; None where the snapshot does not index it."""
        row = self._trained_row.get(prompt)
        return None if row is None else self._trained_scores[row]

    def nearest(self, point: Vector, k: int) -> Neighbours:
        """The ``k`` prompts scored since the snapshot most similar to one at ``point`` (w,): their slots, (1, <= k)."""
        return self._index.find(point[None], k)

    def neighbourhood(self, nearest: Neighbours) -> int | None:
        """That of a prompt whose `nearest` these are: that of the most similar, where their similarity is `NEAR` or more."""
        if not nearest.rows.shape[1] or nearest.similarity[0, 0] < NEAR:
            return None
        return self._neighbourhoods[int(nearest.rows[0, 0])]

    def known_neighbourhood(self, prompt: str, found: int | None) -> int | None:
        """That of a ``prompt`` where no search is needed: its own if it is held, else the one ``found`` for it earlier, if any
        of that one's prompts still is; None where neither is so."""
        slot = self._slots.get(prompt)
        if slot is not None:
            return self._neighbourhoods[slot]
        return found if found in self._n_prompts else None

    def learn_one(
        self,
        prompt: str,
        point: Vector,
        task: int,
        model: str,
        value: float,
        weight: float,
        *,
        neighbourhood: int,
        rating: tuple[str, ...],
        revises: bool = False,
    ) -> None:
        """Add a calibrated score of ``model`` on ``prompt``; several ratings of one pair are averaged by weight.

        A new prompt is added while there is room, and later if the reservoir of its ``task`` draws it.

        Parameters
        ----------
        point
            (w,) the prompt, transformed.
        value, weight
            See `agent.observations.CalibratedScore`.
        neighbourhood
            The prompt's.
        rating
            Identifies who rated which answer; the same again replaces what it added before.
        revises
            Whether there was such a rating before: where none is held, it is in the snapshot's score.
        """
        slot = self._slots.get(prompt)
        if slot is None:
            slot = self._admit(prompt, point, task, neighbourhood)
        if slot is not None:
            held, key = self._ratings[slot], hash64(repr(rating))
            replaces = held[key].replaces if key in held else revises
            held[key] = _Rating(model, value, max(weight, _MIN_WEIGHT), replaces)
            if len(held) > RATINGS:
                del held[next(iter(held))]

    def evidence(self, nearest: Neighbours, trained: Neighbours, k: int) -> tuple[Evidence, ...]:
        """The ``k`` prompts most similar to one, with their scores; of those since the snapshot its `nearest`, of the
        snapshot's own ``trained``, (1, >= k) each where there are as many."""
        close = dict(zip((self._trained_ids[row] for row in trained.rows[0, :k]), trained.similarity[0].tolist()))
        close |= {self.ids[slot]: near for slot, near in zip(nearest.rows[0], nearest.similarity[0].tolist())}
        ranked = sorted(close.items(), key=lambda item: -item[1])[:k]
        return tuple(Evidence(prompt, near, self.scores(prompt)) for prompt, near in ranked)

    def scores(self, prompt: str) -> dict[str, float]:
        """Mean score in [0, 1] of each model that was scored on a prompt, the snapshot's scores included."""
        row, slot = self._trained_row.get(prompt), self._slots.get(prompt)
        ratings = [] if slot is None else list(self._ratings[slot].values())
        replaced = {rating.model for rating in ratings if rating.replaces}
        sums: dict[str, tuple[float, float]] = {}
        if row is not None:
            of_snapshot = zip(self._models, self._trained_scores[row].tolist())
            sums = {m: (score, 1.0) for m, score in of_snapshot if score == score and m not in replaced}  # NaN != NaN
        for model, value, weight, _ in ratings:
            total, count = sums.get(model, (0.0, 0.0))
            sums[model] = total + weight * value, count + weight
        return {model: min(max(total / count, 0.0), 1.0) for model, (total, count) in sums.items()}

    def _admit(self, prompt: str, point: Vector, task: int, neighbourhood: int) -> int | None:
        """The slot of a new prompt; None where its own task has the most prompts and does not draw it."""
        key, reservoir = hash64(prompt), self._reservoirs.setdefault(task, [])
        if len(self._slots) < self._capacity:
            slot = len(self._slots)
            self.ids.append(prompt)
            self._neighbourhoods.append(neighbourhood)
            self._ratings.append({})
        else:
            # the new prompt counts, and of equal tasks its own gives way, or two tasks would replace each other's for ever
            largest = max(self._reservoirs, key=lambda t: (len(self._reservoirs[t]) + (t == task), t == task, t))
            if largest == task and (not reservoir or key > -reservoir[0][0]):
                return None
            slot = heapq.heappop(self._reservoirs[largest])[1]
            del self._slots[self.ids[slot]]
            self._leave(self._neighbourhoods[slot])
            self.ids[slot], self._neighbourhoods[slot], self._ratings[slot] = prompt, neighbourhood, {}
        heapq.heappush(reservoir, (-key, slot))
        self._slots[prompt] = slot
        self._n_prompts[neighbourhood] += 1
        self._index.put(slot, point)
        return slot

    def _leave(self, neighbourhood: int) -> None:
        """One of its prompts is no longer held."""
        self._n_prompts[neighbourhood] -= 1
        if not self._n_prompts[neighbourhood]:
            del self._n_prompts[neighbourhood]
