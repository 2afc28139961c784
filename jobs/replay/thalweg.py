"""Thalweg itself in a replay: the router that serves, its log in memory, and a refresh when one is due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.choice.limiter import ExplorationLimiter
from agent.evaluation.challenger import RefreshData, train_challenger
from agent.evaluation.refresh_rule import RECENT, RefreshSignals, refresh_reason
from agent.examples import Examples, join
from agent.feedback.ledger import Ledger
from agent.feedback.state import evaluated, fresh, latest, learn_one
from agent.online.drift import drift_adjustment
from agent.router import Router
from agent.snapshot import Snapshot
from agent.types import UNKNOWN_TASK, Array, Drift, Observation, RouteRequest
from jobs.replay.policy import Event, News, Pick, Prompt, Start

KEY = "replay"
"""All prompts come with one API key, whose exploration is capped as the server caps it."""

DUE_EVERY = 10
"""Rows of the log between two looks at whether a refresh is due; the timetable looks every few seconds."""


@dataclass(frozen=True, slots=True)
class ThalwegConfig:
    """How Thalweg is run.

    Parameters
    ----------
    tradeoff
        0 = cheapest, 1 = best quality.
    learn
        False: the frozen offline router, which neither explores nor hears.
    """

    tradeoff: float = 1.0
    learn: bool = True


class Thalweg:
    """Drives `Router` as a replica does and `train_challenger` as a refresh does, without their database.

    Parameters
    ----------
    start
        What is known. Warm prompts are imported evaluations, and the first snapshot is trained on them; without any,
        it is that of a fresh installation.
    config
        See `ThalwegConfig`.
    """

    def __init__(self, start: Start, config: ThalwegConfig = ThalwegConfig()) -> None:
        self.news: list[News] = []
        self._start = start
        self._config = config
        self._rng = np.random.default_rng(start.seed)
        self._limiter = ExplorationLimiter()
        self._request = RouteRequest((), cost_quality_tradeoff=config.tradeoff, explore=config.learn)
        self._cards = [start.cards[m] for m in start.models]
        self._evaluations = examples(start.prompts, start.scores, start.columns)
        self._log: list[Observation] = []
        self._prompts: dict[str, Prompt] = {}
        self._drifts: list[Drift] = []
        self._read = 0  # rows of the log that the last refresh read
        self._recent: list[tuple[Prompt, int]] = []  # prompts since then, each with its task
        self._serve(train_challenger(self._known(None), None, encoder=start.encoder, seed=start.seed).snapshot)

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
        explore = self._request.explore and self._limiter.may_explore(KEY)
        request = replace(self._request, candidates=None if allowed is None else tuple(allowed), explore=explore)
        decision = self._router.route(prompt.encoded, request, self._rng)
        self._limiter.count(KEY, explored=decision.explored)
        chosen = decision.chosen
        self._recent.append((prompt, decision.task.id))
        return Pick(
            decision.model, decision.explored, chosen.propensity, chosen.quality, decision.task.id, decision.candidates
        )

    def learn_one(self, event: Event) -> None:
        """Append to the log, follow it, and refresh where that is due."""
        if not self._config.learn:
            return
        row = Observation(
            seq=len(self._log) + 1, decision_id=f"step-{event.step}", prompt_id=event.prompt.id,
            model=event.pick.model, score=event.score, source=event.source, rater=event.rater,
            encoded=event.prompt.encoded, propensity=event.pick.propensity, expected=event.pick.expected,
            task=event.pick.task,
            actions=tuple(c.action for c in event.pick.candidates if c.excluded is None),
            encoder=self._start.encoder,
        )  # fmt: skip
        self._log.append(row)
        self._prompts[row.prompt_id] = event.prompt
        before = self._router.drifts()
        self._router.learn_one(row)
        new = self._router.drifts()[len(before) :]
        self._drifts += new
        self.news += [News("drift", drift.model) for drift in new]
        if len(self._log) % DUE_EVERY == 0 and refresh_reason(self._standing()) is not None:
            self._refresh()

    def _standing(self) -> RefreshSignals:
        """What has come in since the last refresh."""
        recent = self._recent[-RECENT:]
        return RefreshSignals(
            scores=int(self._router.snapshot.meta["scores"]),
            feedback=len(self._log) - self._read,
            decisions=len(recent),
            outliers=tuple(prompt.encoded.embedding for prompt, task in recent if task == UNKNOWN_TASK),
            drifted={
                drift.model: sum(row.model == drift.model for row in self._log[drift.since - 1 :])
                for drift in self._drifts
                if drift.position > self._read
            },
            newcomers=Counter(
                row.model for row in self._log[self._read :] if row.model not in self._router.snapshot.models
            ),
        )

    def _refresh(self) -> None:
        """Train a challenger on all that was heard; it serves where the gate promotes it."""
        champion = self._router.snapshot
        self._read, self._recent = len(self._log), []
        found = train_challenger(self._known(champion), champion, encoder=self._start.encoder, seed=self._start.seed)
        self.news.append(News("promoted" if found.verdict.promote else "rejected", found.verdict.reason))
        if found.verdict.promote:
            self._serve(found.snapshot)

    def _serve(self, snapshot: Snapshot) -> None:
        """A router of ``snapshot``, brought to the head of the log."""
        self._router = Router(snapshot, self._cards)
        for row in self._log[snapshot.position :]:
            self._router.learn_one(row)

    def _known(self, champion: Snapshot | None) -> RefreshData:
        """What `jobs.refresh.gather.gather` would read from a store."""
        since = self._log[champion.position if champion else 0 :]
        hearing = learn_one(champion, since, evaluated(self._evaluations))
        evaluations = aged(self._evaluations, self._drifts)
        return RefreshData(
            training=join(
                [
                    columns(self._start.install, [card.name for card in self._cards]),
                    evaluations,
                    self._heard(hearing.ledger),
                ]
            ),
            evaluations=evaluations,
            observations=fresh(since, self._drifts),
            position=len(self._log),
            carried=hearing.state(),
        )

    def _heard(self, ledger: Ledger) -> Examples:
        """What the log says of each prompt and model, as `store.examples.feedback_examples` reads it."""
        means = ledger.mean_scores(latest(self._log), self._drifts)
        ids = list(dict.fromkeys(prompt for prompt, _ in means))
        row, column = {name: i for i, name in enumerate(ids)}, {m: j for j, m in enumerate(self._start.columns)}
        scores, weights = np.full((len(ids), len(column)), np.nan), np.zeros((len(ids), len(column)))
        for (prompt, model), word in means.items():
            scores[row[prompt], column[model]], weights[row[prompt], column[model]] = word.value, word.weight
        return examples([self._prompts[name] for name in ids], scores, self._start.columns, weights)


def examples(prompts: Sequence[Prompt], scores: Array, models: Sequence[str], weights: Array | None = None) -> Examples:
    """Prompts with their (n, m) scores as training reads them; models without any score are left out."""
    seen = [j for j in range(len(models)) if np.isfinite(scores[:, j]).any()]
    return Examples(
        ids=tuple(p.id for p in prompts),
        embeddings=np.array([p.encoded.embedding for p in prompts], np.float32),
        features=np.array([p.encoded.features for p in prompts], np.float32),
        scores=scores[:, seen],
        models=tuple(models[j] for j in seen),
        texts=tuple(p.text for p in prompts),
        weights=None if weights is None else weights[:, seen],
    )


def columns(given: Examples, models: Sequence[str]) -> Examples:
    """The examples of these models alone."""
    at = [given.models.index(m) for m in models]
    prior = None if given.prior is None else given.prior[:, at]
    return replace(given, models=tuple(models), scores=given.scores[:, at], prior=prior)


def aged(evaluations: Examples, drifts: Sequence[Drift]) -> Examples:
    """Evaluations as they count now: those of a model that has changed since are moved by as much, and count for little."""
    scores, weights = evaluations.scores.copy(), evaluations.score_weight
    for column, model in enumerate(evaluations.models):
        shift, counts = drift_adjustment(model, -1, drifts)
        scores[:, column] = np.clip(scores[:, column] + shift, 0.0, 1.0)
        weights[:, column] *= counts
    return replace(evaluations, scores=scores, weights=weights) if drifts else evaluations
