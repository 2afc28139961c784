"""The router: assigns an embedded prompt to tasks, estimates each model's quality, aggregates that with what was learned
since the snapshot, and chooses a model; and learns from every row of the feedback log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from agent.choice.choose import PoolPosterior, choose
from agent.choice.explain import exclusions, explain
from agent.choice.exploration import ChoiceConfig
from agent.choice.utility import expected_costs
from agent.errors import NoCandidate
from agent.estimate import Estimates, Estimator
from agent.feedback.reports import RaterReport, SourceReport
from agent.learner import Learner
from agent.observations import Drift, Observation, SetAside
from agent.online.estimator import OnlineConfig
from agent.online.inheritance import OVERALL_VARIANCE, PROMPT_VARIANCE, inherit
from agent.online.outcomes import OutcomeStatistics
from agent.online.prior import OVERALL_SD
from agent.snapshot import Snapshot, TaskInfo
from agent.types import SNAPSHOT_PARTS, Array, Candidate, Decision, Encoded, ModelCard, Part, RouteRequest

_MIN_CLIPPING = 1e-9
"""What differs by less is rounding."""


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """Settings of a router beside what its snapshot holds.

    Parameters
    ----------
    online, choice
        How fast it learns from feedback, and how much it explores.
    neighbours
        Number of remembered prompts that a decision shows as evidence.
    neighbourhoods
        Whether the scores of prompts close by count for more than those of the task; for ablations.
    memory
        Most prompts scored since the snapshot that are remembered, see `agent.index.prompts.PromptIndex`.
    """

    online: OnlineConfig = field(default_factory=OnlineConfig)
    choice: ChoiceConfig = field(default_factory=ChoiceConfig)
    neighbours: int = 5
    neighbourhoods: bool = True
    memory: int = 20_000


class Router:
    """Chooses a model for each prompt, and learns from feedback.

    Parameters
    ----------
    snapshot
        What was learned offline.
    models
        The pool.
    config
        See `RouterConfig`.
    outcomes
        What is known of the models' calls, which routers may share; nothing where None.

    Notes
    -----
    The state is a function of the snapshot and of the observations given to `learn_one`, in order, and that of `outcomes` of
    the outcome log. Any method may be called while another thread learns.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        models: Sequence[ModelCard],
        *,
        config: RouterConfig = RouterConfig(),
        outcomes: OutcomeStatistics | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.config = config
        self.outcomes = OutcomeStatistics() if outcomes is None else outcomes
        self._estimator = Estimator(snapshot)
        self._learner = Learner(self._estimator, config.online, config.memory, config.neighbourhoods)
        self._ledger, self._online, self._memory = self._learner.ledger, self._learner.online, self._learner.memory
        self._lock = self._learner.lock
        self._column = {name: i for i, name in enumerate(snapshot.models)}
        self._task_n_scores = snapshot.tensors["task_n_scores"].max(axis=1)  # (T,)
        self._cards: tuple[ModelCard, ...] = ()
        self.set_models(models)

    def set_models(self, models: Sequence[ModelCard]) -> None:
        """Replace the pool; what was learned about a removed model is kept."""
        with self._lock:
            self._cards = tuple(models)

    @property
    def position(self) -> int:
        """Of the last row of the feedback log that was learned or set aside."""
        return self._learner.position

    @property
    def n_set_aside(self) -> int:
        """Rows since the snapshot that were set aside."""
        return self._learner.n_set_aside

    @property
    def models(self) -> tuple[ModelCard, ...]:
        """The pool."""
        return self._cards

    def tasks(self) -> tuple[TaskInfo, ...]:
        """The discovered tasks."""
        return self._estimator.tasks

    def sources(self) -> tuple[SourceReport, ...]:
        """What is known of each feedback source."""
        with self._lock:
            return self._ledger.sources()

    def raters(self, limit: int | None = None) -> tuple[RaterReport, ...]:
        """What is known of at most ``limit`` named raters, the least reliable first."""
        with self._lock:
            return self._ledger.raters(limit)

    def drifts(self) -> tuple[Drift, ...]:
        """Silent changes found since the snapshot, in the order of the log."""
        with self._lock:
            return self._online.drifts()

    def n_scores(self) -> dict[str, float]:
        """Scores of each model of the pool, those of the snapshot included."""
        with self._lock:
            return {card.name: self._online.model_n_scores(card.name) for card in self._cards}

    def digest(self) -> str:
        """A hash of everything learned since the snapshot: equal on replicas that read the same log."""
        return self._learner.digest()

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
        with self._learner.reading():
            return self._route(encoded, request, rng)

    def _route(self, encoded: Encoded, request: RouteRequest, rng: np.random.Generator) -> Decision:
        cards = self._cards
        located = self._estimator.locate(encoded.embedding[None], encoded.features[None])
        estimates = self._estimator.estimate_located(located)  # assign, estimate
        task = self._estimator.assign_task(estimates)
        by_snapshot = self._estimator.costs(estimates, [card.name for card in cards])
        forecasts = [self.outcomes.forecast(card, task.id) for card in cards]
        costs = expected_costs(cards, encoded.tokens, request, forecasts, *by_snapshot)
        excluded = exclusions(cards, costs, forecasts, encoded, request)
        cost, snapshot_cost = costs.mean, np.nan_to_num(by_snapshot[0])
        tasks = self._estimator.likely_tasks(estimates, self.config.online.min_task_probability)
        with self._lock:
            position = self.position
            nearest = self._memory.nearest(located.points[0], self.config.neighbours)
            neighbourhood = self._learner.neighbourhood(nearest)
            posterior = self._posterior(cards, cost, estimates, tasks, neighbourhood)  # aggregate
            evidence = self._memory.evidence(nearest, located.nearest, self.config.neighbours)
        eligible = np.flatnonzero([reason is None for reason in excluded])
        if not len(eligible):
            reasons = "; ".join(f"{card.name}: {why}" for card, why in zip(cards, excluded)) or "the pool is empty"
            raise NoCandidate(f"no model of the pool can take this request ({reasons})")
        choice = choose(posterior, eligible, request, self._estimator.shrinkage, self.config.choice)
        utility, propensity = choice.utility, choice.propensity
        stderr = np.sqrt(np.diag(posterior.covariance))
        best = int(eligible[utility[eligible].argmax()])
        chosen = int(rng.choice(len(cards), p=propensity)) if request.explore else best
        ranking = sorted(range(len(cards)), key=lambda i: (excluded[i] is not None, -utility[i], cards[i].name))
        candidates = tuple(
            Candidate(
                model=cards[i].name, quality=float(posterior.quality[i]), stderr=float(stderr[i]),
                cost=float(cost[i]), utility=float(utility[i]), propensity=float(propensity[i]),
                parts=posterior.parts[i], excluded=excluded[i], shrinkage=float(choice.shrinkage[i]),
                cost_penalty=float(choice.cost_penalty[i]), caution=float(choice.caution[i]),
                cost_upper=float(costs.upper[i]), snapshot_cost=float(snapshot_cost[i]),
            )
            for i in ranking
        )  # fmt: skip
        return Decision(
            model=cards[chosen].name, candidates=candidates, task=task, evidence=evidence,
            snapshot=self.snapshot.version, position=position, encoded=encoded, explored=chosen != best,
            why=explain(candidates, cards[chosen].name, task), tasks=tasks, neighbourhood=neighbourhood,
        )  # fmt: skip

    def learn_one(self, observation: Observation) -> SetAside | None:
        """Learn from the next row of the feedback log, see `learn_many`; the row where it was set aside."""
        return next(iter(self.learn_many([observation])), None)

    def learn_many(self, rows: Sequence[Observation | SetAside]) -> list[SetAside]:
        """Learn from the next rows of the feedback log, in order; returns those that were set aside.

        A row that cannot be learned, or that raises while it is, is set aside: it changes nothing but `position`, which moves
        past it. Rows at or before `position` are skipped, as learned already. What is learned does not depend on how the
        log is cut into pages. One thread may learn at a time.
        """
        return self._learner.learn_many(rows)

    def _posterior(
        self,
        cards: Sequence[ModelCard],
        cost: Array,
        estimates: Estimates,
        tasks: Mapping[int, float],
        neighbourhood: int | None,
    ) -> PoolPosterior:
        """The snapshot's estimates of ``cards`` joined with what was learned since."""
        names = [card.name for card in cards]
        columns = [self._column.get(name) for name in names]
        on_task, overall = self._online.predict_one(names, tasks, neighbourhood), self._online.overall(names)
        known = self.snapshot.tensors["overall"]
        predicted = np.array([self._estimator.predicted(name, estimates) for name in names])
        expected = np.array([known.mean() if c is None else known[c] for c in columns])
        # published figures count for a newcomer as far as its overall effect is still unknown
        unknown = np.diag(overall.covariance) / OVERALL_SD**2
        given = {
            i: ("prior", Part(published(card), float(unknown[i])))
            for i, (card, column) in enumerate(zip(cards, columns))
            if column is None and card.priors
        }
        shift = {i: part.weight * (part.estimate - predicted[i]) for i, (_, part) in given.items()}
        heirs = np.array([c is None and self._knows(card.replaces) for card, c in zip(cards, columns)], bool)
        if heirs.any():
            old = [str(card.replaces) for card, heir in zip(cards, heirs) if heir]
            quality_before, overall_before = self._predecessors(old, estimates, tasks, neighbourhood)
            before = self._online.prior_variance(names, tasks)
            on_task, weight = inherit(on_task, heirs, before, PROMPT_VARIANCE)
            overall, overall_weight = inherit(overall, heirs, np.full(len(names), OVERALL_SD**2), OVERALL_VARIANCE)
            for i, q, o in zip(np.flatnonzero(heirs).tolist(), quality_before, overall_before):
                given[i] = "inherited", Part(float(q), float(weight[i]))
                shift[i] = overall_weight[i] * (o - expected[i])
        prior = np.zeros(len(cards))
        for i, (_, part) in given.items():
            prior[i] = part.weight * (part.estimate - predicted[i])
            expected[i] += shift[i]
        quality = np.clip(predicted + prior + on_task.mean, 0.0, 1.0)
        choice, n_scores = self.config.choice, [self._online.model_n_scores(name) for name in names]
        few = choice.under_sampled * len(self._estimator.tasks)
        return PoolPosterior(
            names=names,
            cost=cost,
            quality=quality,
            covariance=on_task.covariance,
            overall=expected + overall.mean,
            overall_covariance=overall.covariance,
            task_variance=self._online.task_variance(names),
            pulls_left=np.array([choice.pulls_left(i in given, n) for i, n in enumerate(n_scores)]),
            under_sampled=np.array([n < few for n in n_scores]),
            n_scores=np.array(n_scores),
            added=np.array([c is None for c in columns]),
            heirs=heirs,
            on_trial=np.array([card.on_trial for card in cards]),
            task_n_scores=float(estimates.task_probabilities[0] @ self._task_n_scores)
            + self._online.task_n_scores(tasks),
            parts=self._parts(cards, estimates, predicted, given, on_task.mean, quality),
        )

    def _predecessors(
        self, models: Sequence[str], estimates: Estimates, tasks: Mapping[int, float], neighbourhood: int | None
    ) -> tuple[Array, Array]:
        """Quality of replaced models on the prompt, in [0, 1], and over all tasks; (n,) both."""
        known = self.snapshot.tensors["overall"]
        quality = np.array([self._estimator.predicted(name, estimates) for name in models])
        overall = np.array([known[self._column[m]] if m in self._column else known.mean() for m in models])
        learned = self._online.predict_one(models, tasks, neighbourhood).mean
        return np.clip(quality + learned, 0.0, 1.0), overall + self._online.overall(models).mean

    def _knows(self, model: str | None) -> bool:
        """Whether the snapshot knows the model, or it was scored since."""
        return model is not None and (model in self._column or self._online.model_n_scores(model) > 0.0)

    def _parts(
        self,
        cards: Sequence[ModelCard],
        estimates: Estimates,
        predicted: Array,
        given: Mapping[int, tuple[str, Part]],
        online: Array,
        quality: Array,
    ) -> list[dict[str, Part]]:
        """By card, what its ``quality`` is the sum of, see `Candidate`; all arrays (K,), ``given`` by card, of some."""
        stages = zip(*(e[0].tolist() for e in (estimates.stage1, estimates.stage2, estimates.neighbours)))
        weights, known = self.snapshot.tensors["stack"].tolist(), list(stages)
        found = []
        for i, (card, *of) in enumerate(zip(cards, predicted.tolist(), online.tolist(), quality.tolist())):
            mean, correction, total = of
            column = self._column.get(card.name)
            if column is None:
                parts = dict([given[i]] if i in given else [])
                parts["snapshot_mean"] = Part(mean, 1.0 - sum(part.weight for part in parts.values()))
            else:
                parts = dict(zip(SNAPSHOT_PARTS, map(Part, known[column], weights)))
            parts["online"] = Part(correction, 1.0)
            clipping = total - sum(part.weight * part.estimate for part in parts.values())
            if abs(clipping) >= _MIN_CLIPPING:
                parts["clipping"] = Part(clipping, 1.0)
            found.append(parts)
        return found


def published(card: ModelCard) -> float:
    """Mean of the card's published figures, of which it has some."""
    return float(np.mean(list(card.priors.values())))
