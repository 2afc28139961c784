"""The router on a small world whose truth is known."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.choice.explain import why_not
from agent.choice.exploration import ChoiceConfig
from agent.choice.limiter import ExplorationLimiter
from agent.encoding import features as text
from agent.errors import InvalidInput, NoCandidate, UnknownModel
from agent.observations import CallOutcome, Observation
from agent.online.outcomes import OutcomeStatistics
from agent.router import Router, RouterConfig
from agent.snapshot import Snapshot
from agent.types import UNKNOWN_TASK, Candidate, Decision, Encoded, ModelCard, RouteRequest, Turn
from tests.agent import clusters
from tests.agent.clusters import CARDS, KINDS, MODELS, TALENT, encoded, observed


@pytest.fixture(scope="session")
def snapshot() -> Snapshot:
    return clusters.snapshot()


@pytest.fixture
def router(snapshot: Snapshot) -> Router:
    return Router(snapshot, CARDS)


@pytest.fixture
def incautious(snapshot: Snapshot) -> Snapshot:
    """One whose choices take the estimates as they are."""
    return replace(snapshot, meta={**snapshot.meta, "fitted": {**snapshot.meta["fitted"], "shrinkage": 0.0}})


def request(**fields: object) -> RouteRequest:
    """The greedy best, unless ``fields`` say otherwise."""
    greedy: dict[str, object] = {"explore": False, "cost_quality_tradeoff": 1.0}
    return RouteRequest((Turn("user", "hello"),), **(greedy | fields))  # type: ignore[arg-type]


def route(router: Router, prompt: Encoded, seed: int = 0, **fields: object) -> Decision:
    return router.route(prompt, request(**fields), np.random.default_rng(seed))


def best_by_kind(router: Router) -> dict[str, str]:
    return {kind: route(router, encoded(kind, 500)).model for kind in KINDS}


def excluded(decision: Decision) -> dict[str, str]:
    return {c.model: c.excluded for c in decision.candidates if c.excluded is not None}


# --- what is chosen


def test_each_kind_goes_to_its_talent(router: Router) -> None:
    assert best_by_kind(router) == TALENT


def test_estimates_are_near_the_truth_and_in_range(router: Router) -> None:
    for kind in KINDS:
        for candidate in route(router, encoded(kind, 501)).candidates:
            assert candidate.quality == pytest.approx(clusters.truth(kind, candidate.model), abs=0.1)
            assert 0.0 <= candidate.quality <= 1.0 and 0.0 < candidate.stderr < 1.0 and candidate.cost > 0.0


def test_the_decision_says_what_it_rests_on(router: Router, snapshot: Snapshot) -> None:
    decision = route(router, encoded("code", 502))
    assert (decision.snapshot, decision.position) == (snapshot.version, snapshot.position) == (7, 100)
    assert decision.task.id in {task.id for task in router.tasks()} and decision.task.probability > 0.5
    assert decision.chosen is decision.candidates[0] and not decision.explored
    similar = [e.similarity for e in decision.evidence]
    assert len(similar) == 5 and similar == sorted(similar, reverse=True) and similar[0] > 0.8
    assert all(set(e.scores) == set(MODELS) for e in decision.evidence)
    assert decision.why.startswith(f"{decision.model} is best") and f"task {decision.task.id}" in decision.why


def test_kinds_are_told_apart_and_a_prompt_unlike_all_is_unknown(router: Router) -> None:
    tasks = [route(router, encoded(kind, 503)).task.id for kind in KINDS]
    assert len(set(tasks)) == len(KINDS) and UNKNOWN_TASK not in tasks
    decision = route(router, clusters.far())
    assert decision.task.id == UNKNOWN_TASK and "unlike every task" in decision.why


def test_candidates_are_ranked_by_utility_and_the_excluded_come_last(router: Router) -> None:
    decision = route(router, encoded("sums", 504), requires=frozenset({"tools"}), cost_quality_tradeoff=0.5)
    usable = [c for c in decision.candidates if c.excluded is None]
    assert decision.candidates[: len(usable)] == tuple(usable) and {c.model for c in usable} == {"v/alpha", "v/beta"}
    assert [c.utility for c in usable] == sorted((c.utility for c in usable), reverse=True)
    assert all(c.propensity == 0.0 for c in decision.candidates[len(usable) :])


def test_a_tradeoff_of_zero_takes_the_cheapest_and_of_one_the_best(incautious: Snapshot) -> None:
    router = Router(incautious, CARDS)
    for kind in KINDS:
        cheapest = route(router, encoded(kind, 505), cost_quality_tradeoff=0.0)
        assert cheapest.model == "v/tiny" == min(cheapest.candidates, key=lambda c: c.cost).model
        best = route(router, encoded(kind, 505), cost_quality_tradeoff=1.0)
        assert best.model == max(best.candidates, key=lambda c: c.quality).model
        assert all(c.utility == c.quality for c in best.candidates)


def test_a_higher_tradeoff_never_takes_a_worse_or_cheaper_model(router: Router) -> None:
    chosen = [route(router, encoded("poems", 506), cost_quality_tradeoff=t / 20).chosen for t in range(21)]
    assert [c.quality for c in chosen] == sorted(c.quality for c in chosen)
    assert [c.cost for c in chosen] == sorted(c.cost for c in chosen)
    assert len({c.model for c in chosen}) > 1


def test_cost_is_list_price_of_the_prompt_and_a_typical_or_shorter_answer(router: Router) -> None:
    def cost(output: int | None) -> float:
        decision = route(router, encoded("code", tokens=1000), output_tokens=output, candidates=("v/alpha",))
        return decision.chosen.cost

    assert cost(100) == pytest.approx((1000 * 5 + 100 * 15) / 1e6)
    assert cost(None) == cost(30_000) == pytest.approx((1000 * 5 + 350 * 15) / 1e6)


def thought(tokens: int, calls: int = 60) -> OutcomeStatistics:
    """Outcomes of v/gamma, whose answers are so long."""
    known = OutcomeStatistics()
    known.learn_many([CallOutcome(n, "v/gamma", 0, "ok", output_tokens=tokens) for n in range(1, calls + 1)])
    return known


def test_a_model_that_thinks_is_chosen_by_what_it_really_costs(snapshot: Snapshot) -> None:
    """v/gamma is best at code, at the list price of v/beta."""
    cold, warm = Router(snapshot, CARDS), Router(snapshot, CARDS, outcomes=thought(9_000))
    before, after = (route(r, encoded("code", 500), cost_quality_tradeoff=0.4) for r in (cold, warm))
    dear = next(c for c in after.candidates if c.model == "v/gamma")
    assert before.model == "v/gamma" != after.model
    assert dear.cost > 10 * before.chosen.cost and dear.quality == before.chosen.quality
    assert route(warm, encoded("code", 500)).model == "v/gamma", "where quality alone counts, cost does not"


def test_max_cost_excludes_a_model_that_thinks_by_what_nine_of_ten_calls_stay_within(snapshot: Snapshot) -> None:
    router = Router(snapshot, CARDS, outcomes=thought(9_000))
    limit = route(Router(snapshot, CARDS), encoded("code", 500)).chosen.cost_upper * 1.01
    decision = route(router, encoded("code", 500), max_cost=limit)
    assert decision.model != "v/gamma" and "one such call in ten" in excluded(decision)["v/gamma"]


def test_a_deadline_excludes_the_slow_and_nobody_whose_time_is_not_known(snapshot: Snapshot) -> None:
    known = OutcomeStatistics()
    slow = [CallOutcome(n, "v/gamma", 0, "ok", latency_ms=4000.0) for n in range(1, 21)]
    known.learn_many([*slow, *(CallOutcome(n, "v/beta", 0, "ok", latency_ms=90_000.0) for n in range(21, 25))])
    router = Router(snapshot, CARDS, outcomes=known)
    decision = route(router, encoded("code", 500), deadline_s=3.5)
    sentence = "one call in ten takes longer than 4.00 s, which is above deadline_s (3.5 s); the mean is 4.00 s"
    assert excluded(decision) == {"v/gamma": sentence} and decision.model != "v/gamma"
    assert route(router, encoded("code", 500), deadline_s=4.0).model == "v/gamma"


def test_a_prompt_costs_what_the_provider_counts(snapshot: Snapshot) -> None:
    known = OutcomeStatistics()
    rows = [CallOutcome(n, "v/gamma", 0, "ok", input_tokens=300, encoder_tokens=100) for n in range(1, 91)]
    known.learn_many(rows)
    one, other = (
        {c.model: c.cost for c in route(Router(snapshot, CARDS, outcomes=of), encoded("code", 500)).candidates}
        for of in (None, known)
    )
    card = next(card for card in CARDS if card.name == "v/gamma")
    assert other["v/gamma"] - one["v/gamma"] == pytest.approx(
        1.8 * encoded("code", 500).tokens * card.price_input / 1e6
    )
    assert other["v/beta"] == one["v/beta"]


def test_a_snapshot_that_knows_costs_decides_by_them() -> None:
    router = Router(clusters.costly("v/alpha", 0.5), CARDS)
    found = {c.model: c for c in route(router, encoded("rivers", 500)).candidates}
    assert found["v/alpha"].cost == found["v/alpha"].snapshot_cost == pytest.approx(0.5, rel=0.05)
    assert found["v/beta"].snapshot_cost == 0.0 and found["v/beta"].cost < 0.01
    assert route(router, encoded("rivers", 500), cost_quality_tradeoff=0.3).model != "v/alpha"
    known = OutcomeStatistics()
    known.learn_many([CallOutcome(n, "v/alpha", 0, "ok", cost_usd=0.1, snapshot_cost=0.5) for n in range(1, 300)])
    corrected = route(Router(router.snapshot, CARDS, outcomes=known), encoded("rivers", 500)).chosen
    assert corrected.snapshot_cost == found["v/alpha"].snapshot_cost and 0.1 < corrected.cost < 0.2


# --- exploration


def test_without_exploring_the_best_has_propensity_one(router: Router) -> None:
    decision = route(router, encoded("code", 507), explore=False, cost_quality_tradeoff=0.8)
    assert [c.propensity for c in decision.candidates] == [1.0, 0.0, 0.0, 0.0]
    assert decision.model == decision.candidates[0].model and not decision.explored


def test_propensities_are_the_shares_in_which_models_are_chosen(snapshot: Snapshot) -> None:
    router = Router(
        snapshot, CARDS, config=RouterConfig(choice=ChoiceConfig(gamma=5.0, gamma_growth=0.0, cap=0.6, horizon=0.0))
    )
    rng = np.random.default_rng(1)
    wanted = request(explore=True, requires=frozenset({"tools"}))
    decisions = [router.route(encoded("rivers", 508), wanted, rng) for _ in range(600)]
    told = {c.model: c.propensity for c in decisions[0].candidates}
    assert sum(told.values()) == pytest.approx(1.0) and told["v/tiny"] == told["v/gamma"] == 0.0
    for model, propensity in told.items():
        share = np.mean([d.model == model for d in decisions])
        assert abs(share - propensity) <= 4 * np.sqrt(propensity * (1 - propensity) / len(decisions))
    assert all(d.explored == (d.model != "v/alpha") for d in decisions) and any(d.explored for d in decisions)
    assert all("explored with propensity" in d.why for d in decisions if d.explored)


def test_equal_seeds_choose_equally(snapshot: Snapshot) -> None:
    config = RouterConfig(choice=ChoiceConfig(gamma=0.0, cap=1.0))
    runs = []
    for _ in range(2):
        router, rng = Router(snapshot, CARDS, config=config), np.random.default_rng(5)
        runs.append([router.route(encoded(k, 509), request(explore=True), rng).model for k in KINDS * 5])
    assert runs[0] == runs[1] and len(set(runs[0])) > 1


def test_no_more_than_the_cap_is_explored_and_evidence_lowers_it(incautious: Snapshot) -> None:
    router = Router(
        incautious, CARDS, config=RouterConfig(choice=ChoiceConfig(gamma=0.0, gamma_growth=0.4, cap=0.3, horizon=0.0))
    )

    def explored() -> float:
        return 1.0 - max(c.propensity for c in route(router, encoded("code", 510), explore=True).candidates)

    assert explored() == pytest.approx(0.3)
    for seq in range(101, 131):
        router.learn_one(observed(seq, "code", "v/gamma", 0.9))
    assert 0.0 < explored() < 0.25


# --- who cannot be chosen


def test_a_short_context_is_no_candidate_and_says_what_was_needed(router: Router) -> None:
    decision = route(router, encoded("code", tokens=3900), cost_quality_tradeoff=0.0)
    assert excluded(decision) == {"v/tiny": "context of 4,000 tokens is shorter than the 4,250 needed"}
    assert excluded(route(router, encoded("code", tokens=3900), output_tokens=100)) == {}
    assert "v/tiny" in excluded(route(router, encoded("code", tokens=3900), output_tokens=101))


@pytest.mark.parametrize(("needs", "able"), [({"tools"}, {"v/alpha", "v/beta"}), ({"tools", "vision"}, {"v/alpha"})])
def test_only_models_with_the_capabilities_are_candidates(router: Router, needs: set[str], able: set[str]) -> None:
    decision = route(router, encoded("code", 511), requires=frozenset(needs))
    assert decision.model in able and set(excluded(decision)) == set(MODELS) - able
    assert all(why.startswith("lacks ") for why in excluded(decision).values())


def test_what_is_lacking_is_named(router: Router) -> None:
    wanted = frozenset({"tools", "vision"})
    assert excluded(route(router, encoded("code", 511), requires=wanted))["v/tiny"] == "lacks tools, vision"
    assert excluded(route(router, encoded("code", 511), requires=wanted))["v/beta"] == "lacks vision"


def test_max_cost_excludes_the_dear(router: Router) -> None:
    everything = {c.model: c.cost_upper for c in route(router, encoded("rivers", 512)).candidates}
    limit = everything["v/beta"]
    decision = route(router, encoded("rivers", 512), max_cost=limit)
    assert set(excluded(decision)) == {"v/alpha"} and decision.chosen.cost < decision.chosen.cost_upper <= limit
    assert "above max_cost" in excluded(decision)["v/alpha"]


def test_an_unavailable_model_is_ranked_only_on_demand(snapshot: Snapshot) -> None:
    router = Router(snapshot, [replace(card, available=card.name != "v/gamma") for card in CARDS])
    decision = route(router, encoded("code", 513))
    assert excluded(decision) == {"v/gamma": "unavailable"} and decision.model != "v/gamma"
    assert route(router, encoded("code", 513), include_unavailable=True).model == "v/gamma"


def test_where_nobody_can_the_error_says_why_for_each(router: Router) -> None:
    with pytest.raises(NoCandidate) as told:
        route(router, encoded("code", tokens=200_000), requires=frozenset({"vision"}), candidates=("v/alpha", "v/beta"))
    assert "v/alpha: context of 128,000 tokens" in told.value.message
    assert "v/beta: lacks vision" in told.value.message
    assert "v/gamma: not among the request's candidates" in told.value.message


def test_nobody_is_cheap_enough(router: Router) -> None:
    with pytest.raises(NoCandidate, match=r"v/tiny: one such call in ten .* more than \$0\.000\d+, .* above max_cost"):
        route(router, encoded("code", 514), max_cost=0.0)


def test_an_empty_pool_says_so(snapshot: Snapshot) -> None:
    with pytest.raises(NoCandidate, match="the pool is empty"):
        route(Router(snapshot, ()), encoded("code", 515))


def test_an_unknown_candidate_is_named_with_the_nearest_name(router: Router) -> None:
    with pytest.raises(UnknownModel, match="did you mean 'v/gamma'") as told:
        route(router, encoded("code", 516), candidates=("v/alpha", "v/gama"))
    assert told.value.param == "thalweg.candidates[1]"
    with pytest.raises(UnknownModel) as told:
        route(router, encoded("code", 516), candidates=("zzz",))
    assert "did you mean" not in told.value.message


@pytest.mark.parametrize("tradeoff", [-0.01, 1.01, float("nan")])
def test_a_tradeoff_out_of_range_is_refused_by_name(router: Router, tradeoff: float) -> None:
    with pytest.raises(InvalidInput, match="cost_quality_tradeoff") as told:
        route(router, encoded("code", 517), cost_quality_tradeoff=tradeoff)
    assert told.value.param == "thalweg.cost_quality_tradeoff"


# --- learning


def test_twenty_down_votes_move_one_task_and_leave_the_others(router: Router) -> None:
    before = best_by_kind(router)
    for seq in range(101, 121):
        router.learn_one(observed(seq, "rivers", "v/alpha", 0.0))
    after = best_by_kind(router)
    assert after["rivers"] != before["rivers"]
    assert {k: m for k, m in after.items() if k != "rivers"} == {k: m for k, m in before.items() if k != "rivers"}
    assert route(router, encoded("rivers", 518)).position == 120


def test_one_voice_moves_a_fresh_pool_a_little_and_many_move_it_far() -> None:
    """As many raters of one decision as one: the first thumb of a source that nothing has calibrated is noisy."""

    def moved(rows: list[Observation]) -> tuple[float, float]:
        fresh = Router(clusters.untrained(published=True), CARDS)

        def quality(kind: str) -> float:
            return {c.model: c.quality for c in route(fresh, encoded(kind, 531)).candidates}["v/alpha"]

        before = [quality(kind) for kind in KINDS]
        for row in rows:
            fresh.learn_one(replace(row, expected=0.95))
        there, *elsewhere = np.array(before) - [quality(kind) for kind in KINDS]
        return float(there), float(max(elsewhere))

    one = observed(101, "rivers", "v/alpha", 0.0)
    there, elsewhere = moved([one])
    assert 0.02 < there <= 0.08 and 0.0 < elsewhere <= 0.02
    crowd = [replace(one, seq=101 + i, rater=f"r{i}") for i in range(30)]
    assert moved(crowd)[0] < 0.3, "thirty raters of one answer are one answer"
    alone = [replace(observed(101 + i, "rivers", "v/alpha", 0.0), rater="r") for i in range(30)]
    assert moved(alone)[0] > 0.4, "one rater teaches by many decisions"
    assert moved([observed(101 + i, "rivers", "v/alpha", 0.0) for i in range(30)])[0] > moved(alone)[0]


def inside(side: int, seed: int) -> Encoded:
    """A prompt of one of two kinds inside one task: that of the prompts far from every trained one."""
    one = encoded("rivers", seed)
    embedding = 0.5 * one.embedding + np.eye(clusters.DIMENSION, dtype=np.float32)[10 + side]
    words = ("Tell me about rivers please.", "Which streams of Asia are longest? List ten with lengths in km:\n1.\n2.")
    features = text.features((Turn("user", words[side]),))
    return replace(one, embedding=embedding / np.linalg.norm(embedding), features=features)


@pytest.mark.parametrize("local", [True, False])
def test_votes_on_one_kind_of_prompt_inside_a_task_move_that_and_leave_the_rest_of_it(
    snapshot: Snapshot, local: bool
) -> None:
    router = Router(snapshot, CARDS, config=RouterConfig(neighbourhoods=local))

    def alpha(side: int) -> tuple[str, int, float]:
        found = route(router, inside(side, 540))
        return found.model, found.task.id, next(c.quality for c in found.candidates if c.model == "v/alpha")

    before = [alpha(side) for side in (0, 1)]
    assert {(model, task) for model, task, _ in before} == {("v/alpha", before[0][1])}, "one task, one model"
    for seq in range(101, 121):
        router.learn_one(replace(observed(seq, "rivers", "v/alpha", 0.0), encoded=inside(0, seq)))
    close, away = alpha(0), alpha(1)
    fallen = [was[2] - now[2] for was, now in zip(before, (close, away))]
    assert close[0] != "v/alpha" and fallen[0] > 0.7
    assert away[0] == "v/alpha" and fallen[1] < 0.35 * fallen[0] if local else fallen[1] > 0.9 * fallen[0]


def test_up_votes_bring_a_model_back(router: Router) -> None:
    for seq in range(101, 121):
        router.learn_one(observed(seq, "code", "v/gamma", 0.0))
    assert route(router, encoded("code", 519)).model != "v/gamma"
    for seq in range(121, 201):
        router.learn_one(observed(seq, "code", "v/gamma", 1.0))
    assert route(router, encoded("code", 519)).model == "v/gamma"


def test_scores_shrink_the_standard_error(router: Router) -> None:
    def stderr(kind: str) -> float:
        return {c.model: c.stderr for c in route(router, encoded(kind, 520)).candidates}["v/beta"]

    router.learn_one(observed(101, "code", "v/beta", 0.55))
    early = stderr("code")
    for seq in range(102, 160):
        router.learn_one(observed(seq, "code", "v/beta", 0.55))
    assert stderr("code") < 0.7 * early


def test_a_scored_prompt_is_remembered_as_evidence(router: Router) -> None:
    router.learn_one(observed(101, "code", "v/tiny", 0.25, prompt=600))
    nearest = route(router, encoded("code", 1600)).evidence[0]
    assert (nearest.prompt_id, nearest.scores) == ("code-600", {"v/tiny": 0.25})
    assert nearest.similarity == pytest.approx(1.0, abs=1e-3)


def test_the_evidence_holds_the_last_word_only(router: Router) -> None:
    first = observed(101, "code", "v/tiny", 0.25, prompt=600)
    router.learn_one(first)
    router.learn_one(replace(first, seq=102, score=1.0, revises=0.25))
    assert route(router, encoded("code", 1600)).evidence[0].scores == {"v/tiny": 1.0}


def test_a_full_memory_gives_up_a_prompt_of_the_largest_task_for_one_of_a_smaller(snapshot: Snapshot) -> None:
    full = Router(snapshot, CARDS, config=RouterConfig(memory=2))
    for seq in range(101, 141):
        full.learn_one(observed(seq, "code", "v/tiny", 0.25, prompt=600 + seq))
    full.learn_one(replace(observed(141, "code", "v/tiny", 0.5, prompt=999), encoded=clusters.far()))
    assert route(full, clusters.far()).evidence[0].prompt_id == "code-999"  # no task has fewer than the unknown


def test_the_digest_tells_memories_apart(snapshot: Snapshot) -> None:
    roomy, full, again = (Router(snapshot, CARDS, config=RouterConfig(memory=n)) for n in (50_000, 1, 1))
    for seq in range(101, 141):
        for each in (roomy, full, again):
            each.learn_one(observed(seq, "code", "v/tiny", 0.25, prompt=600 + seq))
    assert full.digest() == again.digest() != roomy.digest()


def test_a_score_far_from_every_task_moves_the_tasks_only_a_little(router: Router) -> None:
    def quality(prompt: Encoded) -> float:
        return next(c.quality for c in route(router, prompt).candidates if c.model == "v/gamma")

    prompts = [clusters.far(), *(encoded(kind, 521) for kind in KINDS)]
    before = [quality(prompt) for prompt in prompts]
    for seq in range(101, 111):
        router.learn_one(replace(observed(seq, "code", "v/gamma", 0.0), encoded=clusters.far()))
    there, *elsewhere = np.array([quality(prompt) for prompt in prompts]) - before
    assert there < -0.2 and max(np.abs(elsewhere)) < 0.1


# --- models that come and go


def test_a_newcomer_has_its_published_prior_and_leads_once_scores_speak_for_it(snapshot: Snapshot) -> None:
    newcomer = ModelCard("n/new", "n", 1.0, 2.0, 128_000, priors={"code": 0.99, "math": 0.97})
    router = Router(snapshot, [*CARDS, newcomer])
    decision = route(router, encoded("code", 522))
    shown = next(c for c in decision.candidates if c.model == "n/new")
    assert shown.quality == pytest.approx(0.98) and decision.model == "v/gamma" and shown.caution > 0.05
    assert shown.stderr > 0.3 and (shown.parts["prior"].estimate, shown.parts["prior"].weight) == (0.98, 1.0)
    assert (why_not(shown, decision) or "").startswith("too little is known of it to lead")
    for seq in range(101, 109):
        router.learn_one(observed(seq, "code", "n/new", 1.0))
    decision = route(router, encoded("code", 522))
    assert decision.model == "n/new" and decision.chosen.caution == 0.0


def traffic(router: Router, requests: int = 200, **fields: object) -> Counter[str]:
    """How often each model is chosen where requests may be explored and nobody scores."""
    limiter, rng, chosen = ExplorationLimiter(), np.random.default_rng(0), Counter[str]()
    for n in range(requests):
        affordable = limiter.affordable(router.n_scores(), router.position)
        wanted = request(explore=limiter.may_explore("k"), affordable=affordable, **fields)
        decision = router.route(encoded(KINDS[n % 4], 600 + n), wanted, rng)
        limiter.count("k", decision)
        chosen[decision.model] += 1
    return chosen


NEWCOMER = ModelCard("n/new", "n", 1.0, 2.0, 128_000)


def test_a_newcomer_that_nobody_scores_gets_a_small_share_for_a_while(snapshot: Snapshot) -> None:
    router = Router(snapshot, [*CARDS, NEWCOMER])
    chosen = traffic(router, 400, cost_quality_tradeoff=0.8)
    assert 0 < chosen["n/new"] <= 0.05 * 400


@pytest.mark.parametrize(
    ("card", "tradeoff"),
    [
        (NEWCOMER, 0.0),
        (replace(NEWCOMER, price_input=25_000.0, price_output=75_000.0), 0.8),
        (replace(NEWCOMER, price_input=25_000.0, price_output=75_000.0), 0.05),
    ],
)
def test_a_newcomer_is_not_explored_where_it_costs_more_than_it_could_teach(
    snapshot: Snapshot, card: ModelCard, tradeoff: float
) -> None:
    before = traffic(Router(snapshot, CARDS), cost_quality_tradeoff=tradeoff)
    after = traffic(Router(snapshot, [*CARDS, card]), cost_quality_tradeoff=tradeoff)
    assert after["n/new"] == 0 and after == before


@pytest.mark.parametrize("tradeoff", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("priors", [{}, {"code": 1.0, "math": 1.0}])
def test_one_call_moves_little_traffic_even_to_a_free_model_of_perfect_figures(
    snapshot: Snapshot, priors: dict[str, float], tradeoff: float
) -> None:
    free = ModelCard("n/new", "n", 0.0, 0.0, 128_000, priors=priors)
    assert traffic(Router(snapshot, [*CARDS, free]), 400, cost_quality_tradeoff=tradeoff)["n/new"] <= 0.05 * 400


def test_a_pool_of_which_nothing_is_known_is_tried_whole() -> None:
    fresh = Router(clusters.untrained(), CARDS)
    chosen = traffic(fresh, 200, cost_quality_tradeoff=0.8)
    assert set(chosen) == set(MODELS) and min(chosen.values()) >= 3 and max(chosen.values()) > 100


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    price=st.floats(0.0, 1e6),
    tradeoff=st.floats(0.0, 1.0),
    why=st.sampled_from(["unavailable", "requires", "max_cost", "candidates", "context"]),
    priors=st.sampled_from([{}, {"code": 1.0}]),
    explore=st.booleans(),
    name=st.sampled_from(["a/first", "z/last", "v/alpha"]),
)
def test_a_model_that_cannot_be_chosen_changes_nothing(
    snapshot: Snapshot, price: float, tradeoff: float, why: str, priors: dict[str, float], explore: bool, name: str
) -> None:
    """Neither one that was added nor one that the snapshot knows."""
    cards = [card for card in CARDS if card.name != name]
    cannot = ModelCard(
        name, "n", price, price, 100 if why == "context" else 128_000,
        frozenset() if why == "requires" else frozenset({"tools"}), priors, available=why != "unavailable",
    )  # fmt: skip
    fields: dict[str, object] = {"explore": explore, "cost_quality_tradeoff": tradeoff}
    if why == "requires":
        fields["requires"] = frozenset({"tools"})
    if why == "max_cost":
        cannot, fields["max_cost"] = replace(cannot, price_input=1e9), 1.0
    if why == "candidates":
        fields["candidates"] = tuple(card.name for card in cards)
    for at in (0, len(cards)):
        pools = [*cards[:at], cannot, *cards[at:]], cards
        with_it, without = (
            Router(snapshot, pool).route(encoded("sums", 540), request(**fields), np.random.default_rng(0))
            for pool in pools
        )
        assert excluded(with_it).pop(name)
        assert with_it.model == without.model and with_it.explored == without.explored
        eligible = [c for c in with_it.candidates if c.excluded is None]
        assert eligible == [c for c in without.candidates if c.excluded is None]


def heir_of(old: str, snapshot: Snapshot) -> Router:
    """A router after ``old`` of price (3, 9) was replaced by ``n/new``."""
    left = [card for card in CARDS if card.name != old]
    return Router(snapshot, [*left, ModelCard("n/new", "n", 3.0, 9.0, 32_000, replaces=old)])


def test_a_successor_begins_with_its_predecessors_estimates_and_wider_errors_and_leads_where_that_led(
    snapshot: Snapshot,
) -> None:
    router, before = heir_of("v/beta", snapshot), Router(snapshot, CARDS)
    for kind in KINDS:
        new, old = candidate(router, kind, "n/new"), candidate(before, kind, "v/beta")
        assert new.quality == pytest.approx(old.quality, abs=1e-6) and new.stderr > 1.2 * old.stderr
    assert route(router, encoded("sums", 500)).model == "n/new" and candidate(router, "sums", "n/new").caution > 0.01
    others = {kind: model for kind, model in best_by_kind(router).items() if kind != "sums"}
    assert others == {kind: model for kind, model in TALENT.items() if kind != "sums"}


def test_a_successor_inherits_what_was_learned_of_its_predecessor_since_the_snapshot(snapshot: Snapshot) -> None:
    router, without = heir_of("v/beta", snapshot), heir_of("v/none", snapshot)
    for each in (router, without):
        for seq in range(101, 141):
            each.learn_one(observed(seq, "sums", "v/beta", 0.2))
    assert candidate(router, "sums", "n/new").quality < 0.5
    assert candidate(router, "code", "n/new").quality == pytest.approx(clusters.truth("code", "v/beta"), abs=0.15)
    parts = candidate(without, "sums", "n/new").parts
    assert "inherited" not in parts, "of a model that nobody knows nothing is inherited"


def test_a_successors_own_scores_soon_count_for_more_than_what_it_inherits(snapshot: Snapshot) -> None:
    router, weights = heir_of("v/beta", snapshot), []
    for seq in range(101, 141):
        weights.append(candidate(router, "sums", "n/new").parts["inherited"].weight)
        router.learn_one(observed(seq, "sums", "n/new", 0.3))
    assert weights[0] == pytest.approx(1.0) and 0.5 < weights[8] < 0.8 and weights[-1] < 0.35
    assert weights == sorted(weights, reverse=True)
    assert weights[1] > 0.95, "the first score of a source weighs a quarter; that a score came changes nothing else"
    assert candidate(router, "sums", "n/new").quality < 0.45
    assert candidate(router, "code", "n/new").parts["inherited"].weight > 0.4, "it was never scored on code"
    assert router.digest() == learned_alone(snapshot), "what is learned does not depend on the pool"


def learned_alone(snapshot: Snapshot) -> str:
    """The digest of a router whose pool knows no successor."""
    router = Router(snapshot, CARDS)
    for seq in range(101, 141):
        router.learn_one(observed(seq, "sums", "n/new", 0.3))
    return router.digest()


def candidate(router: Router, kind: str, model: str) -> Candidate:
    return next(c for c in route(router, encoded(kind, 500)).candidates if c.model == model)


def test_a_score_on_a_prompt_counts_by_what_the_others_are_known_to_do_on_it(snapshot: Snapshot) -> None:
    """A new model's success where all others failed counts for more than one where all succeeded."""
    ids, found = snapshot.meta["indexed_prompts"][:8], {}
    for others in (0.0, 1.0):
        scores = snapshot.tensors["indexed_scores"].copy()
        scores[:8] = others
        router = Router(replace(snapshot, tensors={**snapshot.tensors, "indexed_scores": scores}), [*CARDS, NEWCOMER])
        for seq, name in enumerate(ids, 101):
            router.learn_one(replace(observed(seq, "code", "n/new", 1.0), prompt_id=name))
        decision = route(router, encoded("code", 523))
        found[others] = next(c.quality for c in decision.candidates if c.model == "n/new")
    assert found[0.0] > found[1.0] + 0.1


def test_a_newcomer_without_figures_is_taken_for_the_mean_of_the_pool(snapshot: Snapshot) -> None:
    router = Router(snapshot, [*CARDS, ModelCard("n/new", "n", 1.0, 2.0, 128_000)])
    decision = route(router, encoded("code", 523))
    quality = {c.model: c.quality for c in decision.candidates}
    assert quality["n/new"] == pytest.approx(np.mean([quality[m] for m in MODELS]), abs=0.01)


def test_a_newcomer_learns_from_its_scores(snapshot: Snapshot) -> None:
    router = Router(snapshot, [*CARDS, ModelCard("n/new", "n", 1.0, 2.0, 128_000, priors={"code": 0.5})])
    assert route(router, encoded("code", 524)).model == "v/gamma"
    for seq in range(101, 161):
        router.learn_one(observed(seq, "code", "n/new", 1.0))
    assert route(router, encoded("code", 524)).model == "n/new"


def test_a_model_that_leaves_is_masked_and_what_was_learned_awaits_its_return(router: Router) -> None:
    for seq in range(101, 121):
        router.learn_one(observed(seq, "code", "v/gamma", 0.0))
    before = route(router, encoded("code", 525))
    router.set_models([card for card in CARDS if card.name != "v/gamma"])
    away = route(router, encoded("code", 525))
    assert {c.model for c in away.candidates} == set(MODELS) - {"v/gamma"} and len(router.models) == 3
    router.set_models(CARDS)
    assert route(router, encoded("code", 525)).candidates == before.candidates


def test_the_order_of_the_pool_does_not_matter(snapshot: Snapshot) -> None:
    there, back = Router(snapshot, CARDS), Router(snapshot, CARDS[::-1])
    for kind in KINDS:
        left, right = route(there, encoded(kind, 526)), route(back, encoded(kind, 526))
        assert (left.model, left.candidates) == (right.model, right.candidates)


def test_a_model_whose_scores_fall_silently_is_reported_as_drifted(router: Router) -> None:
    rng = np.random.default_rng(3)
    for seq in range(101, 301):
        router.learn_one(observed(seq, "code", "v/gamma", float(np.clip(rng.normal(0.9, 0.05), 0, 1)), prompt=seq % 20))
    assert router.drifts() == ()
    for seq in range(301, 501):
        router.learn_one(observed(seq, "code", "v/gamma", float(np.clip(rng.normal(0.2, 0.05), 0, 1)), prompt=seq % 20))
    (drift,) = router.drifts()
    assert drift.model == "v/gamma" and 295 <= drift.since <= drift.position <= 321 and drift.shift < -0.4
    assert route(router, encoded("code", 527)).model != "v/gamma"


def test_one_thread_routes_while_another_learns(router: Router) -> None:
    stop = threading.Event()
    failed: list[BaseException] = []

    def learn() -> None:
        try:
            for seq in range(101, 301):
                router.learn_one(observed(seq, KINDS[seq % 4], MODELS[seq % 3], 0.5))
        except BaseException as error:
            failed.append(error)
        finally:
            stop.set()

    learner = threading.Thread(target=learn)
    learner.start()
    positions = []
    while not stop.is_set():
        decision = route(router, encoded("code", 528), explore=True)
        assert sum(c.propensity for c in decision.candidates) == pytest.approx(1.0)
        positions.append(decision.position)
    learner.join()
    assert failed == [] and positions == sorted(positions) and router.position == 300


def test_what_was_learned_can_be_read_while_another_thread_learns(router: Router) -> None:
    """Every row brings a new source and a new rater: an unlocked reader meets dictionaries that change, or half a row."""
    stop = threading.Event()
    failed: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                raters, sources = router.raters(), router.sources()
                assert len(raters) <= len(sources) <= router.position - 100
                assert len(router.digest()) == 64 and router.drifts() == () and len(router.tasks()) == len(KINDS)
        except BaseException as error:
            failed.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for seq in range(101, 201):
        row = observed(seq, KINDS[seq % 4], MODELS[seq % 3], 0.5)
        router.learn_one(replace(row, source=f"s{seq}"))  # type: ignore[arg-type]
    stop.set()
    for reader in readers:
        reader.join()
    assert failed == [] and len(router.raters()) == len(router.sources()) == 100 and len(router.raters(limit=7)) == 7


@pytest.mark.parametrize("seed", range(6))
def test_parts_add_up_to_the_quality_and_its_terms_to_the_utility(snapshot: Snapshot, seed: int) -> None:
    """For known models and newcomers with and without published figures, before and after feedback and drift."""
    rng = np.random.default_rng(seed)
    tensors = {**snapshot.tensors, "stack": rng.dirichlet(np.ones(3))}
    newcomers = (
        ModelCard("n/figures", "n", 1.0, 2.0, 128_000, priors={"code": 0.99}),
        ModelCard("n/none", "n", 0.5, 1.0),
    )
    router = Router(replace(snapshot, tensors=tensors), [*CARDS, *newcomers])
    names: set[str] = set()
    for seq in range(101, 341):
        kind, model = KINDS[rng.integers(4)], router.models[rng.integers(6)].name
        if seq % 4:  # scores of v/gamma that fall
            kind, model, score = "code", "v/gamma", float(np.clip(rng.normal(0.9 if seq < 280 else 0.1, 0.05), 0, 1))
        else:
            score = float(rng.random() < 0.9)
        router.learn_one(observed(seq, kind, model, score))
        prompt = clusters.far() if rng.random() < 0.1 else encoded(kind, seq)
        decision = route(router, prompt, seed=seq, explore=True, cost_quality_tradeoff=float(rng.random()))
        for c in decision.candidates:
            assert sum(part.weight * part.estimate for part in c.parts.values()) == pytest.approx(c.quality, abs=1e-8)
            assert c.quality + c.shrinkage - c.cost_penalty - c.caution == c.utility
            weights = [part.weight for name, part in c.parts.items() if name not in ("online", "clipping")]
            assert sum(weights) == pytest.approx(1.0) and min(weights) >= 0.0
            assert ("clipping" in c.parts) <= (c.quality in (0.0, 1.0))
            names |= set(c.parts)
    assert names == {"task", "head", "neighbours", "prior", "snapshot_mean", "online", "clipping"}
    assert router.drifts()


def test_the_price_of_exploring_is_what_the_propensities_give_up(snapshot: Snapshot) -> None:
    router = Router(snapshot, CARDS)
    assert route(router, encoded("code", 530), explore=False).exploration_regret == 0.0
    decision = route(router, encoded("code", 530), explore=True)
    best = max(c.utility for c in decision.candidates)
    price = sum(c.propensity * (best - c.utility) for c in decision.candidates)
    assert decision.exploration_regret == pytest.approx(price) and 0.0 < price < 0.05
