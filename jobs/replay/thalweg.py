"""Thalweg as a policy: the router of the server, a feedback log in memory, a refresh when the refresh rule asks for one, and
the trials and hold-backs that follow."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.choice.limiter import ExplorationLimiter
from agent.choice.probing import select_probes
from agent.evaluation.challenger import RefreshData, comparable, train_challenger
from agent.evaluation.refresh_rule import RECENT, RefreshSignals, refresh_reason
from agent.evaluation.trial import HOLD_BACK, TRIAL, TrialConfig, judge_trial, trial_evidence
from agent.examples import Examples, join
from agent.feedback.ledger import Ledger
from agent.feedback.state import evaluated_scores, feedback_state, latest_ratings, since_last_drift
from agent.fit import FitConfig
from agent.observations import CallOutcome, Drift, Observation
from agent.online.drift import drift_adjustment
from agent.online.outcomes import OutcomeStatistics
from agent.router import Router, RouterConfig
from agent.snapshot import Snapshot
from agent.trial import Trial, TrialKind, route_on_trial
from agent.types import UNKNOWN_TASK, Array, Decision, RouteRequest
from jobs.evaluate.costs import implied_tokens
from jobs.evaluate.twostage import FIT_ABLATIONS
from jobs.replay.policy import Feedback, PolicyChoice, PolicyEvent, ProbeResult, Prompt, Start

KEY = "replay"
"""The API key of every prompt; its exploration is limited as the server limits it."""

PROBE = "probe"
"""The judge's name of a model's probes."""

DUE_EVERY = 10
"""Rows of the log between two checks of the refresh rule and of a trial; the server checks both every few seconds."""


INDEX, RIVER = "live index", "River"

ABLATIONS: dict[str, FitConfig] = {**FIT_ABLATIONS, RIVER: FitConfig()}
"""Parts that can be left out, each with how it is trained then; also without the live index (`INDEX`) prompts are assigned to
tasks by it, but no scores of prompts close by count, neither the snapshot's nor those since. Without River costs are not
learned from outcomes of calls."""


@dataclass(slots=True)
class Experiment:
    """A trial or hold-back under way: the other router, and what was spent so far.

    Parameters
    ----------
    trial, config
        As routing and test need it.
    rival
        The challenger, or the predecessor.
    ledger
        Calibrates scores, as it was at the start.
    since
        Rows of the log before.
    decisions, expected_regret
        See `agent.evaluation.trial.TrialEvidence`.
    """

    trial: Trial
    config: TrialConfig
    rival: Router
    ledger: Ledger
    since: int
    decisions: int = 0
    expected_regret: float = 0.0

    def count(self, decision: Decision) -> None:
        """Account for a decision."""
        if decision.trial is not None:
            self.decisions += 1
            self.expected_regret += decision.trial.expected_regret


class Thalweg:
    """Drives `Router` as a replica does and `train_challenger` as a refresh does, without their database.

    Parameters
    ----------
    start
        Warm prompts are imported evaluations, and the first snapshot is trained on them; without any, it is that of a
        fresh installation.
    tradeoff
        ``cost_quality_tradeoff`` of every request: 0 = cheapest, 1 = best quality.
    learn
        False: the frozen offline router, which neither explores nor learns.
    without
        A part of `ABLATIONS` that is left out.
    """

    def __init__(self, start: Start, *, tradeoff: float = 1.0, learn: bool = True, without: str | None = None) -> None:
        self.events: list[PolicyEvent] = []
        self._start = start
        self._router: Router
        self._learn = learn
        self._fit_config = FitConfig() if without is None else ABLATIONS[without]
        self._router_config = RouterConfig(neighbourhoods=without != INDEX)
        self._learns_outcomes = learn and without != RIVER
        self._rng = np.random.default_rng(start.seed)
        self._limiter = ExplorationLimiter()
        self._request = RouteRequest((), cost_quality_tradeoff=tradeoff, explore=learn)
        self._cards = [start.cards[m] for m in start.models]
        self._evaluations = examples(start.prompts, start.scores, start.columns, costs=start.costs)
        self._outcomes = OutcomeStatistics()
        self._log: list[Observation] = []
        self._prompts: dict[str, Prompt] = {}
        self._costs: dict[tuple[str, str], float] = {}  # (prompt, model) -> USD of the last call
        self._drifts: list[Drift] = []
        self._read = 0  # rows of the log that the last refresh read
        self._known = 0  # scored prompts that it was trained on
        self._recent: list[tuple[Prompt, int]] = []  # prompts since then, each with its task
        self._read_outliers = 0  # those before, since the champion was trained
        self._versions = 0
        self._trials = 0
        self._experiment: Experiment | None = None
        # by champion, most scored prompts of what was tried beside it or failed in its place
        self._tried: dict[int, int] = {}
        self._refresh(None)
        self.events.clear()  # the first snapshot is not a promotion

    @property
    def tasks(self) -> int:
        return len(self._router.snapshot.tasks)

    def set_models(self, models: Sequence[str]) -> None:
        present = {card.name: card for card in self._cards}
        self._cards = [present.get(m) or replace(self._start.cards[m], on_trial=True) for m in models]
        for router in self._routers():
            router.set_models(self._cards)

    def _routers(self) -> list[Router]:
        return [self._router] if self._experiment is None else [self._router, self._experiment.rival]

    def choose(self, prompt: Prompt, allowed: Sequence[str] | None) -> PolicyChoice:
        """Route as the server does."""
        explore = self._request.explore and self._limiter.may_explore(KEY)
        affordable = self._limiter.affordable(self._router.n_scores(), self._router.position)
        candidates = None if allowed is None else tuple(allowed)
        request = replace(self._request, candidates=candidates, explore=explore, affordable=affordable)
        found = self._experiment
        if found is None:
            decision = self._router.route(prompt.encoded, request, self._rng)
        else:
            decision = route_on_trial(self._router, found.rival, found.trial, prompt.encoded, request, self._rng)
            found.count(decision)
        self._limiter.count(KEY, decision)
        self._recent.append((prompt, decision.task.id))
        return _choice(decision)

    def learn_one(self, feedback: Feedback) -> None:
        """Append to the log, learn the row, and refresh where that is due."""
        if not self._learn:
            return
        self._append(feedback, f"step-{feedback.step}")
        if len(self._log) % DUE_EVERY == 0:
            self._after()

    def probe(
        self, model: str, prompts: Mapping[str, Prompt], count: int, ask: Callable[[Prompt], ProbeResult]
    ) -> None:
        """As `jobs.onboard` does: each probe is a request for this model, its answer scored by a judge."""
        if not self._learn:
            return
        request = RouteRequest((), candidates=(model,), explore=False)
        for name in select_probes(self._router.snapshot, prompts, count):
            prompt = prompts[name]
            choice = _choice(self._router.route(prompt.encoded, request, self._rng))
            result = ask(prompt)
            if not math.isnan(result.cost):
                self.learn_outcome(prompt, choice, result.cost)
            self._append(Feedback(0, prompt, choice, result.score, "judge", PROBE), f"probe-{model}-{name}")
        self._after()

    def _append(self, feedback: Feedback, decision_id: str) -> None:
        """Add a row to the log, and learn it."""
        choice = feedback.choice
        row = Observation(
            seq=len(self._log) + 1, decision_id=decision_id, prompt_id=feedback.prompt.id,
            model=choice.model, score=feedback.score, source=feedback.source, rater=feedback.rater,
            encoded=feedback.prompt.encoded, propensity=choice.propensity, expected=choice.expected, task=choice.task,
            actions=tuple(c.action for c in choice.candidates if c.excluded is None), encoder=self._start.encoder,
            trial=choice.trial, estimate=choice.estimate,
        )  # fmt: skip
        self._log.append(row)
        self._prompts[row.prompt_id] = feedback.prompt
        before = self._router.drifts()
        for router in self._routers():
            router.learn_one(row)
        new = self._router.drifts()[len(before) :]
        self._drifts += new
        self.events += [PolicyEvent("drift", drift.model) for drift in new]

    def _after(self) -> None:
        """What the server's timetable does every few seconds."""
        self._judge()
        if refresh_reason(self._signals()) is not None:
            self._refresh(self._router.snapshot)

    def learn_outcome(self, prompt: Prompt, choice: PolicyChoice, cost: float) -> None:
        """As the outcome log has it; the length of the answer is what the cost says at the card's price."""
        if not self._learns_outcomes:
            return
        self._costs[prompt.id, choice.model] = cost
        chosen = next(c for c in choice.candidates if c.model == choice.model)
        row = CallOutcome(
            self._outcomes.position + 1, choice.model, choice.task, "ok",
            output_tokens=implied_tokens(self._start.cards[choice.model], prompt.encoded.tokens, cost),
            cost_usd=cost, snapshot_cost=chosen.snapshot_cost or None,
        )  # fmt: skip
        self._outcomes.learn_many([row])

    def _signals(self) -> RefreshSignals:
        recent = self._recent[-RECENT:]
        return RefreshSignals(
            known=max(self._known, self._router.snapshot.n_scored),
            feedback=len(self._log) - self._read,
            decisions=len(recent),
            outliers=tuple(prompt.encoded.embedding for prompt, task in recent if task == UNKNOWN_TASK),
            drifted={
                drift.model: sum(row.model == drift.model for row in self._log[drift.since - 1 :])
                for drift in self._drifts
                if drift.position > self._read
            },
            newcomers=self._newcomers(self._log[self._read :]),
            read_outliers=self._read_outliers,
            read_newcomers=self._newcomers(self._log[self._router.snapshot.position : self._read]),
        )

    def _newcomers(self, rows: Sequence[Observation]) -> Counter[str]:
        """Models that the champion does not know, each with its number of ``rows``."""
        return Counter(row.model for row in rows if row.model not in self._router.snapshot.models)

    def _refresh(self, champion: Snapshot | None) -> None:
        """Train a challenger on everything learned, and do with it what the gate says, as `jobs.refresh` does."""
        self._read_outliers += sum(task == UNKNOWN_TASK for _, task in self._recent[-RECENT:])
        self._read, self._recent = len(self._log), []
        version = 0 if champion is None else champion.version
        tried = self._tried.get(version, 0)
        found = train_challenger(
            self._data(champion), champion, encoder=self._start.encoder, seed=self._start.seed, outgrow=tried,
            config=self._fit_config,
        )  # fmt: skip
        self._versions += 1
        self._known = found.snapshot.n_scored
        verdict, snapshot = found.verdict, found.snapshot.with_version(self._versions)
        if verdict.outcome == "reject":
            self.events.append(PolicyEvent("rejected", verdict.reason))
        elif verdict.outcome == "promote":
            predecessor = None if comparable(champion, self._start.encoder) is None else self._router
            self._router, self._experiment, self._read_outliers = self._started(snapshot), None, 0
            self.events.append(PolicyEvent("promoted", verdict.reason))
            self._hold_back(predecessor)
        elif self._experiment is not None or tried:
            why = "this champion is tested already" if self._experiment else "it does not outgrow what was tried"
            self.events.append(PolicyEvent("rejected", f"not tried, because {why}; {verdict.reason}"))
        else:
            self._tried[version] = snapshot.n_scored
            self._begin("trial", self._started(snapshot), TRIAL)
            self.events.append(PolicyEvent("on trial", verdict.reason))

    def _started(self, snapshot: Snapshot) -> Router:
        """A router that has learned what was logged since ``snapshot`` was trained."""
        router = Router(snapshot, self._cards, config=self._router_config, outcomes=self._outcomes)
        for row in self._log[snapshot.position :]:
            router.learn_one(row)
        return router

    def _begin(self, kind: TrialKind, rival: Router, config: TrialConfig) -> None:
        self._trials += 1
        snapshot = self._router.snapshot
        trial = Trial(self._trials, kind, snapshot.version, rival.snapshot.version, config.share)
        self._experiment = Experiment(trial, config, rival, feedback_state(snapshot, ()).ledger, len(self._log))

    def _hold_back(self, predecessor: Router | None) -> None:
        """Test the champion against the one before, where that can be read."""
        if predecessor is not None:
            self._begin("hold-back", predecessor, HOLD_BACK)
            self.events.append(PolicyEvent("held back", f"against snapshot {predecessor.snapshot.version}"))

    def _judge(self) -> None:
        """End the experiment that is under way, where its test says so."""
        found = self._experiment
        if found is None:
            return
        rows = self._log[found.since :]
        evidence = trial_evidence(
            rows, found.trial.id, found.ledger, decisions=found.decisions, expected_regret=found.expected_regret
        )
        report = judge_trial(found.trial.kind, evidence, found.config)
        if report.verdict == "continue":
            return
        self._experiment = None
        held = found.trial.kind == "hold-back"
        if report.verdict == "promote":
            if held:
                most = self._tried.get(found.trial.challenger, 0)
                self._tried[found.trial.challenger] = max(most, self._router.snapshot.n_scored)
            before = self._router
            self._router, self._read_outliers = found.rival, 0
            self.events.append(PolicyEvent("demoted" if held else "promoted", report.reason))
            if not held:
                self._hold_back(before)
        elif held:
            self.events.append(PolicyEvent("kept", report.reason))
        else:
            self.events.append(PolicyEvent("rejected" if report.verdict == "reject" else "let go", report.reason))

    def _data(self, champion: Snapshot | None) -> RefreshData:
        """What `jobs.refresh.run.read_refresh_data` reads from a store."""
        since = self._log[champion.position if champion else 0 :]
        state = feedback_state(champion, since, evaluated_scores(self._evaluations))
        evaluations = adjusted(self._evaluations, self._drifts)
        return RefreshData(
            training=join([self._install(), evaluations, self._feedback_examples(state.ledger)]),
            evaluations=evaluations,
            observations=since_last_drift(since, self._drifts),
            position=len(self._log),
            carried=state.state(),
        )

    def _install(self) -> Examples:
        """The examples of a fresh installation of the present pool."""
        install, names = self._start.install, tuple(card.name for card in self._cards)
        at = [install.models.index(name) for name in names]
        prior = None if install.prior is None else install.prior[:, at]
        return replace(install, models=names, scores=install.scores[:, at], prior=prior)

    def _feedback_examples(self, ledger: Ledger) -> Examples:
        """What `store.examples.feedback_examples` reads from a store."""
        means = ledger.mean_scores(latest_ratings(self._log), self._drifts)
        ids = list(dict.fromkeys(prompt for prompt, _ in means))
        row, column = {name: i for i, name in enumerate(ids)}, {m: j for j, m in enumerate(self._start.columns)}
        scores, weights = np.full((len(ids), len(column)), np.nan), np.zeros((len(ids), len(column)))
        for (prompt, model), mean in means.items():
            scores[row[prompt], column[model]], weights[row[prompt], column[model]] = mean.value, mean.weight
        costs = np.array([self._costs.get((name, m), np.nan) for name in ids for m in column]).reshape(scores.shape)
        return examples([self._prompts[name] for name in ids], scores, self._start.columns, weights, costs)


def _choice(decision: Decision) -> PolicyChoice:
    chosen = decision.chosen
    return PolicyChoice(
        decision.model, decision.explored, chosen.propensity, chosen.expected, decision.task.id,
        decision.candidates, decision.trial, decision.estimate,
    )  # fmt: skip


def examples(
    prompts: Sequence[Prompt],
    scores: Array,
    models: Sequence[str],
    weights: Array | None = None,
    costs: Array | None = None,
) -> Examples:
    """Examples of prompts with their (n, m) scores, weights and costs; models without any score are left out."""
    seen = [j for j in range(len(models)) if np.isfinite(scores[:, j]).any()]
    return Examples(
        ids=tuple(p.id for p in prompts),
        embeddings=np.array([p.encoded.embedding for p in prompts], np.float32),
        features=np.array([p.encoded.features for p in prompts], np.float32),
        scores=scores[:, seen],
        models=tuple(models[j] for j in seen),
        texts=tuple(p.text for p in prompts),
        weights=None if weights is None else weights[:, seen],
        costs=None if costs is None or np.isnan(costs[:, seen]).all() else costs[:, seen],
    )


def adjusted(evaluations: Examples, drifts: Sequence[Drift]) -> Examples:
    """``evaluations`` with the scores of models that drifted since shifted and down-weighted, as `store.evaluations` does."""
    scores, weights = evaluations.scores.copy(), evaluations.score_weight
    for column, model in enumerate(evaluations.models):
        shift, weight = drift_adjustment(model, -1, drifts)
        scores[:, column] = np.clip(scores[:, column] + shift, 0.0, 1.0)
        weights[:, column] *= weight
    return replace(evaluations, scores=scores, weights=weights) if drifts else evaluations
