"""Prompts and the scores of models on them, in an HNSW index over embeddings that a running router adds to.

The number of prompts is bounded. When it is reached, a new prompt replaces one of the task with the most prompts, so that
many prompts of one task replace none of a rare one. Each task's prompts are a reservoir, a uniform sample of all it had
(algorithm R, Vitter 1985), drawn by hashes of prompt ids as random keys of which the lowest are kept (bottom-k, Cohen and
Kaplan 2007): the sample stays uniform as its size changes, a prompt scored often is drawn once, and there is no random
state to replicate.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agent.index.neighbours import build_index, hash64, nearest
from agent.types import Evidence, Vector


class PromptIndex:
    """Prompts and their scores, one slot a prompt.

    Parameters
    ----------
    ids, embeddings, scores, tasks
        What a snapshot indexes: n prompt ids, (n, d) unit vectors, (n, m) scores with NaN where not observed, n task ids.
    capacity
        Most prompts held at a time. Each task may have ``capacity`` divided by the number of tasks, and what others leave.

    Examples
    --------
    >>> index = PromptIndex(("a",), np.eye(2, dtype=np.float32)[:1], np.array([[1.0]]), (0,), capacity=2)
    >>> index.learn_one("b", np.eye(2, dtype=np.float32)[1], 7, 0, 0.5, rating=("decision", "user", "rater"))
    >>> labels, similarity = index.search(np.eye(2, dtype=np.float32)[1], 1)
    >>> index.ids[labels[0]]
    'b'
    """

    def __init__(
        self,
        ids: tuple[str, ...],
        embeddings: NDArray[np.float32],
        scores: NDArray[np.float64],
        tasks: Sequence[int],
        capacity: int,
    ) -> None:
        capacity = max(capacity, len(ids), 1)
        self.ids = list(ids)
        self.scores = np.full((capacity, scores.shape[1]), np.nan)  # (capacity, models)
        self.scores[: len(ids)] = scores
        self._slots = {prompt: slot for slot, prompt in enumerate(ids)}
        self._capacity = capacity
        self._from_snapshot = ~np.isnan(self.scores)  # (capacity, models)
        self._ratings: dict[int, set[int]] = {}  # slot -> hashes of the ratings in its sums
        self._sums: dict[int, dict[int, tuple[float, float]]] = {}  # slot -> model -> total, count
        self._reservoirs: dict[int, list[tuple[int, int]]] = {}  # task -> heap of (-key, slot): the next to go first
        for slot, (prompt, task) in enumerate(zip(ids, tasks, strict=True)):
            self._reservoirs.setdefault(task, []).append((-hash64(prompt), slot))
        for reservoir in self._reservoirs.values():
            heapq.heapify(reservoir)
        self._index = build_index(embeddings, capacity)

    def __len__(self) -> int:
        return len(self._slots)

    def search(self, embedding: Vector, k: int) -> tuple[NDArray[np.int64], Vector]:
        """Slots and cosine similarities of the ``k`` nearest prompts, nearest first."""
        labels, similarity = nearest(self._index, embedding[None], k)
        return labels[0], similarity[0]

    def digest(self) -> str:
        """A hash of prompts and scores; the HNSW index follows from them and their order."""
        ratings = [(slot, sorted(held)) for slot, held in self._ratings.items()]
        digest = hashlib.sha256(repr((self.ids, self._sums, ratings, self._reservoirs)).encode())
        digest.update(self.scores.tobytes())
        return digest.hexdigest()

    def learn_one(
        self,
        prompt: str,
        embedding: Vector,
        task: int,
        model: int,
        score: float,
        *,
        rating: tuple[str, ...],
        revises: float | None = None,
    ) -> None:
        """Add the ``score`` of ``model`` (column) on ``prompt``; several ratings of one pair are averaged.

        A new prompt is added while there is room, and later if the reservoir of its ``task`` draws it.

        Parameters
        ----------
        rating
            Identifies who rated which answer.
        revises
            The score that the same rating had before; it is taken back if it is held. None for a first score.
        """
        slot = self._slots.get(prompt)
        if slot is None:
            slot = self._admit(prompt, embedding, task)
        if slot is None:
            return
        sums, ratings = self._sums.setdefault(slot, {}), self._ratings.setdefault(slot, set())
        from_snapshot, key = self._from_snapshot[slot, model], hash64(repr(rating))
        total, count = sums.get(model, (float(self.scores[slot, model]), 1.0) if from_snapshot else (0.0, 0.0))
        if revises is not None and (key in ratings or from_snapshot):
            total, count = total - revises, count - 1.0
        ratings.add(key)
        total, count = sums[model] = total + score, count + 1.0
        self.scores[slot, model] = min(max(total / count, 0.0), 1.0)

    def evidence(self, slots: NDArray[np.int64], similarity: Vector, models: tuple[str, ...]) -> tuple[Evidence, ...]:
        """The prompts of ``slots`` with their scores by model name."""
        return tuple(Evidence(self.ids[s], float(c), self._observed(s, models)) for s, c in zip(slots, similarity))

    def _observed(self, slot: int, models: tuple[str, ...]) -> Mapping[str, float]:
        scores = zip(models, self.scores[slot].tolist())
        return {model: score for model, score in scores if score == score}  # NaN, not observed, equals nothing

    def _admit(self, prompt: str, embedding: Vector, task: int) -> int | None:
        """The slot of a new prompt; None where its own task has the most prompts and does not draw it."""
        key, reservoir = hash64(prompt), self._reservoirs.setdefault(task, [])
        if len(self._slots) < self._capacity:
            slot = len(self._slots)
            self.ids.append(prompt)
        else:
            # the new prompt counts, and of equal tasks its own gives way, or two tasks would replace each other's for ever
            largest = max(self._reservoirs, key=lambda t: (len(self._reservoirs[t]) + (t == task), t == task, t))
            if largest == task and (not reservoir or key > -reservoir[0][0]):
                return None
            slot = heapq.heappop(self._reservoirs[largest])[1]
            del self._slots[self.ids[slot]]
            self._sums.pop(slot, None)
            self._ratings.pop(slot, None)
            self._from_snapshot[slot] = False
            self.ids[slot] = prompt
            self.scores[slot] = np.nan
        heapq.heappush(reservoir, (-key, slot))
        self._slots[prompt] = slot
        self._index.add_items(embedding[None], np.array([slot]))  # an existing label is overwritten
        return slot
