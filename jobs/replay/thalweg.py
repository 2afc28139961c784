"""Thalweg itself in a replay: the router that serves, its log in memory, and the refresh when it is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from agent.fit import fit
from agent.gate import GateReport
from agent.router import Router
from agent.snapshot import Snapshot
from agent.types import Examples, Observation, RouteRequest
from jobs.gather import held_out, join, latest, take
from jobs.replay.policy import Event, News, Pick, Prompt, Start
from jobs.trial import try_out


@dataclass(frozen=True, slots=True)
class ThalwegConfig:
    """How Thalweg is run.

    Parameters
    ----------
    tradeoff
        0 = cheapest, 1 = best quality.
    explore, learn
        False: the frozen offline router.
    refresh_rows
        New feedback rows that call a refresh.
    hold_out
        Share of prompts that only the gate sees.
    """

    tradeoff: float = 1.0
    explore: bool = True
    learn: bool = True
    refresh_rows: int = 200
    hold_out: float = 0.15


@dataclass(slots=True)
class _Heard:
    """The feedback log, and the prompts in it."""

    log: list[Observation] = field(default_factory=list)
    prompts: dict[str, Prompt] = field(default_factory=dict)


class Thalweg:
    """Drives `agent.router.Router` as a replica does, and `refresh` as the timetable does, without their database.

    Parameters
    ----------
    start
        What is known. Warm prompts are imported evaluations: a first refresh is trained on them. Without any, the
        first snapshot is that of a fresh installation.
    config
        See `ThalwegConfig`.
    """

    def __init__(self, start: Start, config: ThalwegConfig = ThalwegConfig()) -> None:
        self._start = start
        self._config = config
        self._rng = np.random.default_rng(start.seed)
        self._request = RouteRequest(turns=(), cost_quality_tradeoff=config.tradeoff, explore=config.explore)
        self._heard = _Heard()
        self._evaluations = _evaluations(start)
        self._cards = [start.cards[m] for m in start.models]
        self._read = 0
        self.news: list[News] = []
        first = fit(self._training(), encoder=start.encoder, seed=start.seed)
        self._serve(first.published(1))

    @property
    def tasks(self) -> int:
        """Discovered tasks."""
        return len(self._router.snapshot.tasks)

    def set_models(self, models: Sequence[str]) -> None:
        """As when models are added to or removed from the pool."""
        self._cards = [self._start.cards[m] for m in models]
        self._router.set_models(self._cards)

    def choose(self, prompt: Prompt, allowed: Sequence[str] | None) -> Pick:
        """Route as the server does."""
        request = self._request
        if allowed is not None:
            request = RouteRequest(
                (), cost_quality_tradeoff=request.cost_quality_tradeoff, explore=request.explore,
                candidates=tuple(allowed),
            )  # fmt: skip
        decision = self._router.route(prompt.encoded, request, self._rng)
        chosen = decision.chosen
        return Pick(decision.model, decision.explored, chosen.propensity, chosen.quality, decision.task.id)

    def learn_one(self, event: Event) -> None:
        """Append to the log, follow it, and refresh where that is due."""
        if not self._config.learn:
            return
        pick, log = event.pick, self._heard.log
        log.append(
            Observation(
                seq=len(log) + 1, decision_id=f"step-{event.step}", prompt_id=event.prompt.id, model=pick.model,
                score=event.score, source=event.source, rater=event.rater, encoded=event.prompt.encoded,
                propensity=pick.propensity,
            )
        )  # fmt: skip
        self._heard.prompts[event.prompt.id] = event.prompt
        before = self._drift_count()
        self._router.learn_one(log[-1])
        if self._drift_count() > before:
            self.news.append(News("drift", pick.model))
        if len(log) - self._read >= self._config.refresh_rows:
            self._refresh()

    def _refresh(self) -> None:
        """Train a challenger on all that was heard; let it serve where the gate promotes it."""
        self._read = len(self._heard.log)
        champion = self._router.snapshot
        challenger = fit(
            self._training(), encoder=self._start.encoder, champion=champion, position=self._read,
            seed=self._start.seed,
        )  # fmt: skip
        verdict = self._try_out(champion, challenger)
        self.news.append(News("promoted" if verdict.promote else "rejected", verdict.reason))
        if verdict.promote:
            self._serve(challenger.published(champion.version + 1))

    def _try_out(self, champion: Snapshot, challenger: Snapshot) -> GateReport:
        since = self._heard.log[champion.position :]
        kept = held_out([o.prompt_id for o in since], self._config.hold_out)
        return try_out(
            champion,
            challenger,
            take(self._evaluations, held_out(self._evaluations.ids, self._config.hold_out)),
            latest([o for o, keep in zip(since, kept) if keep]),
            seed=self._start.seed,
        )

    def _serve(self, snapshot: Snapshot) -> None:
        """A router of ``snapshot``, brought to the head of the log."""
        self._router = Router(snapshot, self._cards)
        for observation in self._heard.log[snapshot.position :]:
            self._router.learn_one(observation)

    def _training(self) -> Examples:
        feedback = self._feedback()
        return join(
            [
                self._start.install,
                take(self._evaluations, ~held_out(self._evaluations.ids, self._config.hold_out)),
                take(feedback, ~held_out(feedback.ids, self._config.hold_out)),
            ]
        )

    def _feedback(self) -> Examples:
        """What the log says of each prompt and model; several scores of one pair are averaged."""
        heard: dict[str, dict[str, list[float]]] = {}
        for o in latest(self._heard.log):
            heard.setdefault(o.prompt_id, {}).setdefault(o.model, []).append(o.score)
        scores = np.full((len(heard), len(self._start.columns)), np.nan)
        for i, by_model in enumerate(heard.values()):
            for model, said in by_model.items():
                scores[i, self._start.columns.index(model)] = np.mean(said)
        return _examples([self._heard.prompts[name] for name in heard], scores, self._start.columns)

    def _drift_count(self) -> int:
        return sum(self._router.drifts().values())


def _evaluations(start: Start) -> Examples:
    return _examples(start.prompts, start.scores, start.columns)


def _examples(prompts: Sequence[Prompt], scores: np.ndarray, columns: Sequence[str]) -> Examples:
    """Prompts with scores as `fit` reads them; models without any score are left out."""
    seen = np.isfinite(scores).any(axis=0)
    return Examples(
        ids=tuple(p.id for p in prompts),
        embeddings=np.array([p.encoded.embedding for p in prompts], np.float32),
        features=np.array([p.encoded.features for p in prompts], np.float32),
        scores=scores[:, seen],
        models=tuple(m for m, s in zip(columns, seen) if s),
        texts=tuple(p.text for p in prompts),
    )
