"""The router: embed, assign, estimate, aggregate, choose; and learn from every score."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent.choice.explain import exclusions, explain
from agent.choice.exploration import ArmPosterior, ChoiceConfig, add_knowledge_gradient, inverse_gap_weights
from agent.choice.shrinkage import shrink_to_mean
from agent.choice.utility import cost_weight, expected_costs
from agent.errors import NoCandidate
from agent.estimate import Estimates, Estimator
from agent.feedback.ledger import CalibratedScore, Ledger
from agent.index.prompts import PromptIndex
from agent.online.drift import innovation
from agent.online.estimator import OnlineConfig, OnlineEstimator, ResidualObservation
from agent.online.prior import LEVEL_SD, Prior, noise_variance
from agent.snapshot import Snapshot, TaskInfo
from agent.types import (
    Array,
    Candidate,
    Decision,
    Drift,
    Encoded,
    Evidence,
    ModelCard,
    Observation,
    RouteRequest,
)

_LEAST_WEIGHT = 1e-6


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """How a router behaves, beyond what its snapshot holds.

    Parameters
    ----------
    online, choice
        How feedback is believed, and how much is explored.
    neighbours
        Remembered prompts shown as evidence.
    memory
        Most prompts remembered at a time, see `agent.index.prompts.PromptIndex`.
    """

    online: OnlineConfig = field(default_factory=OnlineConfig)
    choice: ChoiceConfig = field(default_factory=ChoiceConfig)
    neighbours: int = 5
    memory: int = 50_000


@dataclass(frozen=True, slots=True)
class PoolPosterior:
    """What is known of K models for one prompt.

    Parameters
    ----------
    quality, stderr
        (K,) expected, in [0, 1], and its standard error.
    overall, everywhere
        (K,) expected over all tasks, and (K, K) the covariance of what is open there.
    spread
        (K,) variance of a model from task to task.
    here
        (K, K) the covariance of what is open on the prompt's task.
    pulls_left
        (K,) scores that a model which nobody knows still lacks of its welcome.
    under_sampled
        (K,) which models are still tried task by task.
    evidence
        Scores that stand behind its task.
    parts
        What each quality is made of.
    """

    quality: Array
    stderr: Array
    overall: Array
    everywhere: Array
    spread: Array
    here: Array
    pulls_left: Array
    under_sampled: NDArray[np.bool_]
    evidence: float
    parts: list[Mapping[str, float]]


class Router:
    """Chooses a model for each prompt, and changes its mind when told that it was wrong.

    Parameters
    ----------
    snapshot
        What was learned offline.
    models
        The pool.
    config
        See `RouterConfig`.

    Notes
    -----
    The state is a function of the snapshot and of the observations given to `learn_one`, in order. One thread may route
    while another learns.
    """

    def __init__(
        self, snapshot: Snapshot, models: Sequence[ModelCard], *, config: RouterConfig = RouterConfig()
    ) -> None:
        self.snapshot = snapshot
        self.config = config
        self.position = snapshot.position
        self._estimator = Estimator(snapshot)
        self._online = OnlineEstimator(
            snapshot.models,
            [task.id for task in snapshot.tasks],
            Prior(
                snapshot.tensors["task_covariance"],
                snapshot.tensors["overall_covariance"],
                snapshot.tensors["task_n_scores"],
                snapshot.tensors["task_mean"],
            ),
            config.online,
            snapshot.meta.get("drift_detectors"),
        )
        self.ledger = Ledger.from_state(snapshot.meta.get("ledger"), n_evaluated=snapshot.evaluated)
        self._column = {name: i for i, name in enumerate(snapshot.models)}
        self._scored = snapshot.tensors["task_n_scores"].max(axis=1)  # (T,)
        self._memory = PromptIndex(
            tuple(snapshot.meta["memory"]),
            snapshot.tensors["memory_embeddings"].astype(np.float32),
            snapshot.tensors["memory_scores"].astype(np.float64),
            [self._estimator.tasks[t].id for t in snapshot.tensors["memory_task"]],
            config.memory,
        )
        self._lock = threading.Lock()
        self._cards: tuple[ModelCard, ...] = ()
        self.set_models(models)

    def set_models(self, models: Sequence[ModelCard]) -> None:
        """Replace the pool; what was learned of a model is kept for its return."""
        with self._lock:
            self._cards = tuple(models)

    @property
    def models(self) -> tuple[ModelCard, ...]:
        """The pool."""
        return self._cards

    def tasks(self) -> tuple[TaskInfo, ...]:
        """The discovered tasks."""
        return self._estimator.tasks

    def drifts(self) -> tuple[Drift, ...]:
        """Silent changes found since the snapshot, in the order of the log."""
        with self._lock:
            return self._online.drifts()

    def digest(self) -> str:
        """A hash of everything learned since the snapshot: equal on replicas that read the same log."""
        with self._lock:
            ledger = json.dumps(self.ledger.state(), sort_keys=True)
            learned = f"{self.position} {ledger} {self._online.digest()} {self._memory.digest()}"
            return hashlib.sha256(learned.encode()).hexdigest()

    def route(self, encoded: Encoded, request: RouteRequest, rng: np.random.Generator) -> Decision:
        """Choose a model.

        Parameters
        ----------
        encoded
            The prompt, by the snapshot's own encoder.
        request
            What the caller needs and would pay.
        rng
            Draws the choice where there is something to explore.

        Raises
        ------
        UnknownModel
            Where ``request.candidates`` names a model that the pool does not hold.
        NoCandidate
            Where no model can take the request; the message says why for each.
        """
        with self._lock:
            cards = self._cards
            excluded = exclusions(cards, encoded, request)
            estimates = self._estimator.estimate(encoded)
            view = self._posterior(cards, estimates)
            guess = self._estimator.guess(estimates)
            evidence = self._evidence(encoded)
            position = self.position
        cost = expected_costs(cards, encoded.tokens, request)
        for i in range(len(cards)):
            if excluded[i] is None and request.max_cost is not None and cost[i] > request.max_cost:
                excluded[i] = f"expected cost of ${cost[i]:.6f} is above max_cost"
        eligible = np.flatnonzero([e is None for e in excluded])
        if not len(eligible):
            reasons = "; ".join(f"{card.name}: {why}" for card, why in zip(cards, excluded)) or "the pool is empty"
            raise NoCandidate(f"no model of the pool can take this request ({reasons})")
        price = cost_weight(request.cost_quality_tradeoff, float(cost.max()))
        shrunk = shrink_to_mean(view.quality, view.overall, self._estimator.shrinkage, price * float(cost.mean()))
        utility = shrunk - price * cost
        propensity = np.zeros(len(cards))
        propensity[eligible] = self._propensities(view, utility, eligible, price * cost, explore=request.explore)
        best = int(eligible[utility[eligible].argmax()])
        picked = int(rng.choice(len(cards), p=propensity)) if request.explore else best
        shrunk_by = shrunk - view.quality
        order = sorted(range(len(cards)), key=lambda i: (excluded[i] is not None, -utility[i], cards[i].name))
        ranked = tuple(
            Candidate(
                model=cards[i].name, quality=float(view.quality[i]), stderr=float(view.stderr[i]), cost=float(cost[i]),
                utility=float(utility[i]), propensity=float(propensity[i]),
                parts={**view.parts[i], "shrinkage": float(shrunk_by[i])}, excluded=excluded[i],
            )
            for i in order
        )  # fmt: skip
        return Decision(
            model=cards[picked].name, candidates=ranked, task=guess, evidence=evidence, snapshot=self.snapshot.version,
            position=position, encoded=encoded, explored=picked != best,
            why=explain(ranked, cards[picked].name, guess, price),
        )  # fmt: skip

    def _propensities(
        self, view: PoolPosterior, utility: Array, eligible: NDArray[np.int64], cost_penalty: Array, *, explore: bool
    ) -> Array:
        """Choice probabilities of the ``eligible`` cards; ``cost_penalty`` is each card's cost in units of quality."""
        utility = utility[eligible]
        if not explore:
            greedy: Array = np.eye(len(eligible))[int(utility.argmax())]
            return greedy
        choice, block = self.config.choice, np.ix_(eligible, eligible)
        outlook = ArmPosterior(
            (view.overall - cost_penalty)[eligible],
            view.everywhere[block],
            noise_variance(view.quality[eligible]) + view.spread[eligible],
        )
        near = ArmPosterior(utility, view.here[block], noise_variance(view.quality[eligible]))
        index = add_knowledge_gradient(
            utility, outlook, view.pulls_left[eligible], choice, near, view.under_sampled[eligible]
        )
        return inverse_gap_weights(index, choice.gamma + choice.gamma_growth * view.evidence, choice.cap)

    def learn_one(self, observation: Observation) -> None:
        """Take the next row of the feedback log in; rows at or before `position` were learned already and are skipped."""
        with self._lock:
            if observation.seq <= self.position:
                return
            score = self.ledger.learn_one(observation)
            estimates = self._estimator.estimate(observation.encoded)
            self._online.learn_one(self._residual_observation(observation, score, estimates))
            column = self._column.get(observation.model)
            if column is not None and observation.other is None:
                prompt, embedding = observation.prompt_id, observation.encoded.embedding
                task = self._estimator.guess(estimates).id
                if observation.revises is not None:
                    self._memory.learn_one(prompt, embedding, task, column, observation.revises, weight=-1.0)
                self._memory.learn_one(prompt, embedding, task, column, observation.score)
            self.position = observation.seq

    def _residual_observation(
        self, observation: Observation, score: CalibratedScore, estimates: Estimates
    ) -> ResidualObservation:
        """What ``observation`` teaches beyond the snapshot, as the ledger heard it."""
        tasks, weight = self._task_probabilities(estimates), max(score.weight, _LEAST_WEIGHT)
        coefficients = {observation.model: 1.0}
        if observation.other is not None:
            coefficients[observation.other] = -1.0
        predicted = np.array([self._predicted(model, estimates) for model in coefficients])
        expected = observation.expected
        if np.isnan(expected):
            expected = float(predicted[0] + self._online.predict_one((observation.model,), tasks).mean[0])
        return ResidualObservation(
            seq=observation.seq,
            key=(observation.decision_id, observation.source, observation.rater, observation.other),
            coefficients=coefficients,
            tasks=tasks,
            residual=score.value - float(predicted @ list(coefficients.values())),
            variance=float(noise_variance(predicted).sum()) / weight,
            innovation=None if observation.other is not None else innovation(score.value, expected, weight),
        )

    def _posterior(self, cards: Sequence[ModelCard], estimates: Estimates) -> PoolPosterior:
        """Everything that the choice among ``cards`` depends on, cost apart."""
        names = [card.name for card in cards]
        columns = [self._column.get(name) for name in names]
        tasks = self._task_probabilities(estimates)
        here, everywhere = self._online.predict_one(names, tasks), self._online.level(names)
        known = self.snapshot.tensors["overall"]
        overall = np.array([known.mean() if c is None else known[c] for c in columns])
        predicted = np.array([self._predicted(name, estimates) for name in names])
        # as far as a newcomer's level is still open, its published figures stand for it
        told = np.array([published(card, p) - p if c is None else 0.0 for card, c, p in zip(cards, columns, predicted)])
        told *= np.diag(everywhere.covariance) / LEVEL_SD**2
        parts: list[Mapping[str, float]] = [
            {"prior": float(predicted[i] + told[i]), "online": float(here.mean[i])}
            if c is None
            else {
                "task": float(estimates.stage1[0, c]),
                "head": float(estimates.stage2[0, c]),
                "online": float(here.mean[i]),
            }
            for i, c in enumerate(columns)
        ]
        lacking = [
            0.0 if card.priors else max(self.config.choice.initial_pulls - self._online.scores_of(card.name), 0.0)
            for card in cards
        ]
        under_sampled = self.config.choice.under_sampled * len(self._estimator.tasks)
        behind = float(estimates.task_probs[0] @ self._scored)
        return PoolPosterior(
            quality=np.clip(predicted + told + here.mean, 0.0, 1.0),
            stderr=np.sqrt(np.diag(here.covariance)),
            overall=overall + told + everywhere.mean,
            everywhere=everywhere.covariance,
            spread=self._online.spread(names),
            here=here.covariance,
            pulls_left=np.array(lacking),
            under_sampled=np.array([self._online.scores_of(name) < under_sampled for name in names]),
            evidence=behind + self._online.count(tasks),
            parts=parts,
        )

    def _predicted(self, model: str, estimates: Estimates) -> float:
        """The snapshot's estimate; the mean of all where it does not know the model: no pool, so replicas agree."""
        column = self._column.get(model)
        return float(estimates.quality[0].mean() if column is None else estimates.quality[0, column])

    def _task_probabilities(self, estimates: Estimates) -> dict[int, float]:
        """task id -> probability, for tasks that matter; a prompt far from every task teaches none of them."""
        probs = estimates.task_probs[0]
        if not estimates.known[0]:
            return {}
        least = self.config.online.least_share
        return {self._estimator.tasks[t].id: float(probs[t]) for t in np.flatnonzero(probs >= least)}

    def _evidence(self, encoded: Encoded) -> tuple[Evidence, ...]:
        slots, similarity = self._memory.search(encoded.embedding, self.config.neighbours)
        return self._memory.evidence(slots, similarity, self.snapshot.models)


def published(card: ModelCard, otherwise: float) -> float:
    """What a newcomer's published figures make expect of it; ``otherwise`` where it has none."""
    return float(np.mean(list(card.priors.values()))) if card.priors else otherwise
