"""The ledger calibrates sources, finds unreliable raters, and caps everybody's weight."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest

from agent.feedback.ledger import Ledger, LedgerConfig
from agent.feedback.quota import QuotaConfig
from agent.feedback.raters import MODELS, RaterReliability
from agent.feedback.reports import RaterReport, SourceReport
from agent.observations import CalibratedScore, Observation
from agent.types import Encoded, Source

PROMPT = Encoded(np.zeros(4, np.float32), np.zeros(2, np.float32), 9)

Rate = Callable[[np.random.Generator, str, float], Iterable[tuple[Source, str, float]]]
"""Ratings of one answer: (rng, model, outcome) -> (source, rater, score)."""


def scored_row(seq: int, score: float, **fields: object) -> Observation:
    """A row on a decision of its own."""
    row = Observation(seq, f"d{seq}", f"p{seq}", "m0", score, "user", "", PROMPT, expected=0.6, task=1)
    return replace(row, **fields)  # type: ignore[arg-type]


def log(rate: Rate, decisions: int = 3000, seed: int = 0) -> list[Observation]:
    """A log about 0/1 outcomes of models of which the decisions expected what is true; m5 is the worst."""
    rng = np.random.default_rng(seed)
    quality = np.clip(0.55 + 0.2 * rng.standard_normal((20, 6)) - [0.0, 0.0, 0.0, 0.0, 0.0, 0.3], 0.05, 0.95)
    rows: list[Observation] = []
    for d in range(decisions):
        task, model = int(rng.integers(20)), int(rng.integers(6))
        expected = float(quality[task, model])
        for source, rater, score in rate(rng, f"m{model}", float(rng.random() < expected)):
            rows.append(
                scored_row(len(rows) + 1, score, decision_id=f"d{d}", prompt_id=f"p{d}", model=f"m{model}", source=source,
                     rater=rater, expected=expected, task=task)
            )  # fmt: skip
    return rows


def learned(rows: Iterable[Observation], ledger: Ledger | None = None) -> tuple[Ledger, list[CalibratedScore]]:
    ledger = ledger or Ledger()
    return ledger, [ledger.learn_one(row) for row in rows]


def source(ledger: Ledger, name: str, kind: str = "score") -> SourceReport:
    return next(report for report in ledger.sources() if (report.source, report.kind) == (name, kind))


@pytest.mark.parametrize(("optimism", "least", "most"), [(0.0, -0.09, -0.05), (0.08, -0.02, 0.02)])
def test_users_do_not_seem_harsh_where_the_model_that_leads_was_known_to_be_overrated(
    optimism: float, least: float, most: float
) -> None:
    rows = [replace(row, expected=row.expected + 0.08) for row in log(lambda rng, model, truth: [("user", "", truth)])]
    ledger, _ = learned(rows, Ledger(optimism=optimism))
    user = source(ledger, "user")
    assert least < user.bias + (user.slope - 1.0) * 0.6 < most


def reliabilities(ledger: Ledger, start: str) -> list[float]:
    return [report.weight for report in ledger.raters() if report.rater.startswith(start)]


def harsh(rng: np.random.Generator, model: str, outcome: float) -> list[tuple[Source, str, float]]:
    return [("judge", "gpt", max(outcome - 0.2, 0.0))]


def careless(rng: np.random.Generator, model: str, outcome: float) -> list[tuple[Source, str, float]]:
    return [("user", f"u{rng.integers(100)}", outcome if rng.random() > 0.2 else 1.0 - outcome)]


def clean(rng: np.random.Generator, model: str, outcome: float) -> list[tuple[Source, str, float]]:
    return [("user", f"u{rng.integers(100)}", outcome)]


FAMILIAR = LedgerConfig(first_weight=1.0)
"""Where every source counts as known, so that only the caps and the calibration are seen."""


def test_the_first_rating_of_anybody_counts_like_a_noisy_one_and_many_almost_like_evaluations() -> None:
    for who in ({"source": "judge", "rater": "gpt"}, {"source": "user", "rater": "ann"}, {"source": "implicit"}):
        first = Ledger().learn_one(scored_row(1, 0.9, **who))
        assert first.value == pytest.approx(0.9) and 0.23 < first.weight <= 0.25
        assert Ledger(FAMILIAR).learn_one(scored_row(1, 0.9, **who)).weight > 0.94
    ledger = Ledger()
    weights = [ledger.learn_one(scored_row(seq, seq % 2)).weight for seq in range(1, 200)]
    assert weights[10] > 0.5 and weights[-1] > 0.8


def test_clean_feedback_stays_as_it_is() -> None:
    rows = log(clean)
    ledger, _ = learned(rows)
    user = source(ledger, "user")
    assert abs(user.bias) < 0.05 and abs(user.slope - 1.0) < 0.05 and user.weight > 0.95
    assert min(reliabilities(ledger, "u")) > 0.75 and np.median(reliabilities(ledger, "u")) > 0.98


def test_a_biased_judge_is_corrected() -> None:
    rows = log(harsh)
    ledger, ratings = learned(rows)
    judge = source(ledger, "judge")
    assert judge.bias + judge.slope * 0.6 == pytest.approx(0.8 * 0.6, abs=0.03)
    late = slice(-1000, None)
    calibrated = np.mean([w.value for w in ratings[late]])
    expected = np.mean([row.expected for row in rows[late]])
    raw = np.mean([row.score for row in rows[late]])
    assert abs(calibrated - expected) < 0.03 < abs(raw - expected)


def test_careless_users_weigh_less_than_a_sure_judge() -> None:
    ledger, _ = learned(log(lambda *a: [*careless(*a), *harsh(*a)]))
    user, judge = source(ledger, "user"), source(ledger, "judge")
    assert user.weight < 0.5 and judge.weight > 0.8


def test_sources_calibrate_each_other_where_decisions_knew_nothing() -> None:
    rows = [replace(row, expected=0.55) for row in log(lambda *a: [*careless(*a), *harsh(*a)])]
    ledger, _ = learned(rows)
    assert source(ledger, "user").slope < 0.85  # alone it would seem accurate


def test_a_source_that_always_gives_the_same_score_weighs_little() -> None:
    rows = [scored_row(seq, 1.0, expected=0.2 + 0.6 * (seq % 2)) for seq in range(1, 3000)]
    for truth in (None, lambda prompt, model: float(int(prompt[1:]) % 2)):
        _, ratings = learned(rows, Ledger(evaluated_score=truth))
        assert ratings[-1].weight < 0.25 and 0.4 < ratings[-1].value < 0.8
    later = replace(rows[0], seq=4000, decision_id="later", score=0.0)
    assert abs(learned([*rows, later], Ledger(evaluated_score=truth))[1][-1].value) < 4.0


def test_evaluations_calibrate_what_decisions_and_sources_cannot() -> None:
    rows = log(careless)
    # the decisions knew nothing, and one answer in five is scored wrongly; only evaluations show it
    rows = [replace(row, expected=0.55) for row in rows]
    outcomes = {row.prompt_id: float(np.random.default_rng(row.seq).random() < 0.5) for row in rows}
    flip = np.random.default_rng(1)
    rows = [
        replace(row, score=outcomes[row.prompt_id] if flip.random() > 0.2 else 1 - outcomes[row.prompt_id])
        for row in rows
    ]
    informed, _ = learned(rows, Ledger(evaluated_score=lambda prompt, model: outcomes[prompt]))
    uninformed, _ = learned(rows)
    assert source(informed, "user").slope == pytest.approx(0.6, abs=0.04)
    assert source(informed, "user").bias == pytest.approx(0.2, abs=0.04)
    assert source(uninformed, "user").slope > 0.85


def test_raters_who_praise_the_worst_and_damn_the_rest_lose_their_weight() -> None:
    def rate(rng: np.random.Generator, model: str, outcome: float) -> list[tuple[Source, str, float]]:
        who = int(rng.integers(50))
        return [("user", f"bad{who}", float(model == "m5")) if who < 5 else ("user", f"ok{who}", outcome)]

    ledger, _ = learned(log(rate))
    assert max(reliabilities(ledger, "bad")) < 0.1
    assert min(reliabilities(ledger, "ok")) > 0.75
    assert [r.rater[:3] for r in ledger.raters(5)] == ["bad"] * 5


def test_a_rater_who_contradicts_everyone_on_the_same_answers_loses_weight() -> None:
    def rate(rng: np.random.Generator, model: str, outcome: float) -> list[tuple[Source, str, float]]:
        return [("user", "ann", outcome), ("user", "bob", outcome), ("user", "contrary", 1.0 - outcome)]

    rows = [replace(row, expected=0.5) for row in log(rate, 300)]  # the decisions knew nothing
    ledger, _ = learned(rows)
    weight = {report.rater: report.weight for report in ledger.raters()}
    assert weight["contrary"] < 0.05 and min(weight["ann"], weight["bob"]) > 0.95


def test_a_lenient_rater_is_corrected_not_punished() -> None:
    def rate(rng: np.random.Generator, model: str, outcome: float) -> list[tuple[Source, str, float]]:
        soft = rng.random() < 0.1
        return [("user", "soft" if soft else f"ok{rng.integers(20)}", min(0.25 + outcome, 1.0) if soft else outcome)]

    rows = log(rate)
    ledger, ratings = learned(rows)
    soft = next(report for report in ledger.raters() if report.rater == "soft")
    assert soft.weight > 0.9 and soft.offset > 0.05
    late = [(w.value, row) for w, row in zip(ratings, rows, strict=True) if row.rater == "soft"][100:]
    excess = np.mean([row.score - row.expected for _, row in late])
    assert abs(np.mean([score - row.expected for score, row in late])) < 0.5 * excess


def test_graded_scores_are_calibrated_as_thumbs_are() -> None:
    def rate(rng: np.random.Generator, model: str, outcome: float) -> list[tuple[Source, str, float]]:
        return [("judge", "gpt", float(np.clip(0.2 + 0.5 * outcome + 0.05 * rng.standard_normal(), 0, 1)))]

    ledger, _ = learned(log(rate))
    judge = source(ledger, "judge")
    assert judge.bias + judge.slope * 0.6 == pytest.approx(0.5, abs=0.03) and judge.weight > 0.5


def test_a_comparison_reads_as_a_difference_of_qualities() -> None:
    rng = np.random.default_rng(0)
    ledger = Ledger()
    scores, gaps = [], []
    for seq in range(1, 3001):
        mine, other = rng.uniform(0.1, 0.9, 2)
        better = float(rng.random() < mine) - float(rng.random() < other)
        flipped = better if rng.random() > 0.2 else -better
        row = scored_row(
            seq, (1.0 + flipped) / 2.0, expected=mine, other="m1", expected_other=other, rater=f"u{seq % 30}"
        )
        rating = ledger.learn_one(row)
        scores.append(rating.value)
        gaps.append(mine - other)
    affine = source(ledger, "user", "comparison")
    assert affine.slope < 0.9 and abs(affine.bias) < 0.05
    assert min(scores) < -1.0 and max(scores) > 1.0  # unbiased rather than clipped
    assert np.polyfit(gaps[1000:], scores[1000:], 1)[0] > 0.65
    assert not [r for r in ledger.sources() if r.kind == "score"]
    assert 1.0 < affine.noise < 1.3


def test_a_score_without_expectation_still_counts() -> None:
    ledger = Ledger(FAMILIAR)
    ratings = [ledger.learn_one(scored_row(seq, 0.7, expected=math.nan, rater="ann")) for seq in range(1, 5)]
    assert all(w.value == pytest.approx(0.7) and w.weight > 0.75 for w in ratings)
    json.dumps(ledger.state(), allow_nan=False)


def test_a_revision_leaves_what_the_last_rating_alone_would_have_left() -> None:
    others = log(lambda *a: [*careless(*a), *harsh(*a)], 40)
    first = scored_row(1000, 1.0, decision_id="d3", rater="ann", task=others[6].task)
    second = replace(first, seq=1001, score=0.0, revises=1.0)
    revised, _ = learned([*others, first, second])
    direct, _ = learned([*others, replace(second, revises=None)])
    for one, two in zip(revised.sources(), direct.sources(), strict=True):
        assert one.n_ratings == two.n_ratings
        assert (one.bias, one.slope, one.noise) == pytest.approx((two.bias, two.slope, two.noise), abs=1e-6)
    ann, ann_direct = (next(r for r in ledger.raters() if r.rater == "ann") for ledger in (revised, direct))
    assert (ann.n_ratings, ann.weight, ann.offset) == pytest.approx((1, ann_direct.weight, ann_direct.offset), abs=1e-6)


def test_a_revision_takes_the_place_of_its_own_weight_alone() -> None:
    ledger = Ledger()
    rows = [
        scored_row(seq, 0.6, decision_id="d", rater=rater, key="k") for seq, rater in enumerate(("ann", "bob", "cy"))
    ]
    weights = [ledger.learn_one(row).weight for row in rows]
    weights[1] = ledger.learn_one(replace(rows[1], seq=3, score=0.5, revises=0.6)).weight
    [[_, used, *_]] = ledger.state()["decisions"]
    assert used == pytest.approx(sum(weights))
    by_name = {name: tasks[0][1] for _, name, tasks in ledger.state()["quota"]}
    assert by_name == pytest.approx({**dict(zip(("ann", "bob", "cy"), weights)), "k": sum(weights)}, rel=1e-3)


def test_a_nameless_rating_is_a_whole_sample_of_its_source() -> None:
    ledger = Ledger()
    ledger.learn_one(scored_row(1, 0.9))
    assert ledger.state()["sources"][0][-1]["decision"][0] == 1.0


def test_a_rater_who_only_compared_has_no_offset() -> None:
    ledger = Ledger()
    ledger.learn_one(scored_row(1, 1.0, rater="ann", other="m1", expected_other=0.4))
    assert [(r.n_ratings, r.offset) for r in ledger.raters()] == [(1, 0.0)]


def test_revising_over_and_over_weighs_no_more_than_once() -> None:
    ledger = Ledger(FAMILIAR)
    ratings = [
        ledger.learn_one(
            scored_row(seq, seq % 2, decision_id="d", rater="ann", revises=None if seq == 1 else (seq + 1) % 2)
        )
        for seq in range(1, 200)
    ]
    assert ratings[-1].weight == pytest.approx(ratings[0].weight, abs=0.06)
    assert ledger.raters()[0].n_ratings == source(ledger, "user").n_ratings == 1


@pytest.mark.parametrize(
    ("config", "decisions"), [(LedgerConfig(decisions=1), ["d", "later"]), (LedgerConfig(ratings=1), ["d", "d"])]
)
def test_a_revision_of_a_rating_that_is_no_longer_held_consumes_no_second_weight(
    config: LedgerConfig, decisions: list[str]
) -> None:
    """Of ann's, whose decision, or whose rating of it, is not held."""
    raters = ["ann", "bob"] if config.decisions == 1 else ["bob", "ann"]
    ledger, _ = learned(
        [scored_row(n, 0.9, decision_id=decisions[n], rater=raters[n], key="partner") for n in range(2)], Ledger(config)
    )
    before = ledger.state()
    for seq in range(2, 30):
        ledger.learn_one(scored_row(seq, 0.1, decision_id="d", rater="ann", key="partner", revises=0.9))
    after = ledger.state()
    for name in ("quota", "sources"):
        assert after[name] == before[name]
    assert sum(used for _, used, *_ in after["decisions"]) <= sum(used for _, used, *_ in before["decisions"])
    assert sorted(after["raters"]) == sorted(before["raters"])


# --- poisoning


def test_all_feedback_on_one_decision_weighs_at_most_its_cap() -> None:
    ledger = Ledger()
    total = sum(
        ledger.learn_one(scored_row(seq, 0.0, decision_id="d", rater=f"sock{seq}")).weight for seq in range(1, 2001)
    )
    assert total <= LedgerConfig().decision_cap


def test_a_rater_weighs_at_most_their_cap_on_a_task_and_has_another_on_others() -> None:
    ledger, config = Ledger(), LedgerConfig()
    rng = np.random.default_rng(0)
    flood = [scored_row(seq, float(rng.random() < 0.6), rater="ann", task=4) for seq in range(1, 3001)]
    weights = [ledger.learn_one(row).weight for row in flood]
    assert 0.9 * config.quota.rater < sum(weights[:200]) <= config.quota.rater * (1 + 200 / config.quota.recovery)
    assert sum(weights) <= config.quota.rater * (1 + len(flood) / config.quota.recovery)
    assert ledger.learn_one(scored_row(3001, 1.0, rater="ann", task=5)).weight > 0.8
    assert ledger.learn_one(scored_row(3002, 1.0, rater="bob", task=4)).weight > 0.8
    back = ledger.learn_one(scored_row(3003 + 5 * config.quota.recovery, 1.0, rater="ann", task=4)).weight
    assert back > 0.8


def test_who_rates_for_ever_on_tasks_that_come_and_go_holds_only_those_of_late() -> None:
    config = LedgerConfig(quota=QuotaConfig(recovery=10), decisions=50)
    rows = [scored_row(seq, 0.6, rater="ann", key="partner", task=seq // 2) for seq in range(1, 2001)]
    ledger, _ = learned(rows, Ledger(config))
    held = {name: [task for task, *_ in tasks] for _, name, tasks in ledger.state()["quota"]}
    assert held.keys() == {"ann", "partner"}
    for tasks in held.values():
        assert 20 < len(tasks) < 100 and tasks[-1] == 1000
    again = Ledger.from_state(json.loads(json.dumps(ledger.state())), config)
    later = [replace(row, seq=row.seq + 2000, decision_id=f"later{row.seq}") for row in rows[:300]]
    assert [again.learn_one(row) for row in later] == [ledger.learn_one(row) for row in later]
    assert again.state() == ledger.state()


def test_means_are_capped_by_rater_and_key_as_ratings_are() -> None:
    flood = [scored_row(seq, 1.0, rater="ann", prompt_id=f"p{seq}") for seq in range(200)]
    weights = [mean.weight for mean in Ledger(FAMILIAR).mean_scores(flood).values()]
    cap = LedgerConfig().quota.rater
    assert weights[0] > 0.9 and weights == sorted(weights, reverse=True)
    assert 0.8 * cap < sum(weights) <= cap * (1 + len(flood) / LedgerConfig().quota.recovery)
    keyed = [replace(row, rater=f"sock{row.seq}", key="partner") for row in flood]
    assert 100.0 < sum(mean.weight for mean in Ledger(FAMILIAR).mean_scores(keyed).values()) < 150.0


def test_made_up_names_share_the_cap_of_the_key_that_posts_them() -> None:
    ledger, config = Ledger(), LedgerConfig()
    rows = [scored_row(seq, 0.0, rater=f"sock{seq}", key="partner") for seq in range(1, 3001)]
    total = sum(ledger.learn_one(row).weight for row in rows)
    assert total <= config.quota.key * (1 + len(rows) / config.quota.recovery)
    assert ledger.learn_one(scored_row(3001, 0.0, rater="ann", key="bootstrap")).weight > 0.5


def test_a_group_of_spammers_moves_a_task_by_no_more_than_its_caps() -> None:
    """Ten spammers flood one (task, model) with 1 where the truth is 0.3; they rate as much as 40 honest raters."""
    rng = np.random.default_rng(0)
    ledger, config = Ledger(), LedgerConfig()
    total, sums, spam_weight = 0.0, 0.0, 0.0
    for seq in range(1, 4001):
        spam = seq % 2 == 0
        score = 1.0 if spam else float(rng.random() < 0.3)
        rater = f"spam{rng.integers(10)}" if spam else f"ok{rng.integers(40)}"
        rating = ledger.learn_one(scored_row(seq, score, rater=rater, expected=0.3))
        total, sums, spam_weight = (
            total + rating.weight,
            sums + rating.weight * rating.value,
            spam_weight + spam * rating.weight,
        )
    assert spam_weight <= 10 * config.quota.rater * (1 + 4000 / config.quota.recovery)
    assert spam_weight < 0.15 * total
    assert abs(sums / total - 0.3) < 0.08  # the plain mean is 0.65


# --- a function of the log


def mixed(count: int = 600) -> list[Observation]:
    """Every kind of row: three sources, revisions, comparisons, unknown expectations, keys."""
    rows = log(lambda *a: [*careless(*a), *harsh(*a)], count // 3)
    extra = []
    for i, row in enumerate(rows):
        if i % 5 == 0:
            extra.append(replace(row, score=1.0 - row.score, revises=row.score))
        if i % 7 == 0:
            extra.append(replace(row, source="user", other="m9", expected_other=0.4, key="partner"))
        if i % 11 == 0:
            extra.append(replace(row, source="implicit", rater="", expected=math.nan))
    return [replace(row, seq=seq) for seq, row in enumerate([*rows, *extra], 1)]


def test_replay_is_bit_for_bit_the_same() -> None:
    (one, first), (two, second) = learned(mixed()), learned(mixed())
    assert first == second and one.state() == two.state()


@pytest.mark.parametrize("config", [LedgerConfig(), LedgerConfig(decisions=20, raters=10, ratings=1)])
def test_a_ledger_restored_half_way_goes_on_as_the_first_would_have(config: LedgerConfig) -> None:
    rows = mixed()
    whole, ratings = learned(rows, Ledger(config))
    half, before = learned(rows[:300], Ledger(config))
    state = half.state()
    half.learn_one(rows[300])  # the state is a copy
    kept = json.loads(json.dumps(state, allow_nan=False))
    restored, after = learned(rows[300:], Ledger.from_state(kept, config))
    assert before + after == ratings
    assert json.dumps(restored.state()) == json.dumps(whole.state())
    assert restored.sources() == whole.sources() and restored.raters() == whole.raters()


def test_no_state_is_a_new_ledger() -> None:
    assert Ledger.from_state(None).state() == Ledger().state()


def test_memory_is_bounded() -> None:
    config = LedgerConfig(decisions=50, raters=20)
    ledger, ratings = learned(mixed(), Ledger(config))
    state = ledger.state()
    assert len(state["decisions"]) == 50 and len(state["raters"]) == 20 and len(state["quota"]) <= 22
    assert all(math.isfinite(w.value) and 0.0 <= w.weight <= 1.0 for w in ratings)


def test_predict_one_is_what_learn_one_would_give_and_learns_nothing() -> None:
    ledger, _ = learned(log(lambda *a: [*careless(*a), *harsh(*a)], 500))
    before = json.dumps(ledger.state())
    predicted = ledger.predict_one("judge", "gpt", 0.4, "m0")
    assert json.dumps(ledger.state()) == before
    live = ledger.learn_one(scored_row(10_000, 0.4, source="judge", rater="gpt", task=99))
    assert (predicted.value, predicted.weight) == pytest.approx((live.value, live.weight))
    assert ledger.predict_one("implicit", "", 0.4) == CalibratedScore(0.4, 0.25)


def test_a_true_score_counts_as_it_is_and_calibrates_the_others_of_its_answer() -> None:
    """The router expects too much of every answer, so that by its estimates alone the fair judge would seem harsh."""
    rng = np.random.default_rng(0)
    rows: list[Observation] = []
    for d in range(300):
        worth = 0.9 if rng.random() < 0.4 else 0.3
        known = {"decision_id": f"d{d}", "prompt_id": f"p{d}", "expected": 0.8, "task": d % 20}
        given: list[tuple[str, str, float]] = [("judge", "fair", worth), ("judge", "harsh", worth - 0.2)]
        given.insert(int(rng.integers(3)), ("evaluation", "reference", worth))
        rows += [
            scored_row(len(rows) + i + 1, score, source=source, rater=rater, **known)
            for i, (source, rater, score) in enumerate(given)
        ]
    ledger, scores = learned(rows)
    truths = [score for row, score in zip(rows, scores, strict=True) if row.source == "evaluation"]
    assert {score.value for score in truths} == {0.3, 0.9}
    assert ledger.predict_one("evaluation", "reference", 0.3) == CalibratedScore(0.3, 1.0)
    assert (source(ledger, "evaluation").bias, source(ledger, "evaluation").weight) == (0.0, 1.0)
    fair, strict = (ledger.predict_one("judge", rater, score).value for rater, score in (("fair", 0.9), ("harsh", 0.7)))
    assert fair == pytest.approx(0.9, abs=0.04) and strict == pytest.approx(0.9, abs=0.04)
    without, _ = learned(row for row in rows if row.source != "evaluation")
    assert abs(without.predict_one("judge", "fair", 0.9).value - 0.9) > 0.08, "else the test shows nothing"
    again = Ledger.from_state(json.loads(json.dumps(ledger.state())))
    revised = replace(rows[-1], seq=10_000, revises=rows[-1].score)
    assert again.learn_one(revised) == ledger.learn_one(revised)


def judged(known: str, liked: float = 0.2, better: float = 0.0, decisions: int = 1500) -> list[Observation]:
    """Answers of six models, two of them acme's, scored by a fair judge, a harsh one and acme's own, which likes its family.

    What they are worth is also told by a reference on one in three, by users' thumbs on all, or by nobody (``known``); acme's
    models are ``better`` than the decisions expect.
    """
    rng = np.random.default_rng(1)
    models = ["acme/a", "acme/b", "c", "d", "e", "f"]
    rows: list[Observation] = []
    for d in range(decisions):
        model, chance = models[d % 6], float(rng.uniform(0.3, 0.7))
        own = model.startswith("acme/")
        worth = 0.8 if rng.random() < chance + better * own else 0.2
        given: list[tuple[str, str, float]] = [
            ("judge", "fair", worth), ("judge", "harsh", worth - 0.2), ("judge", "acme/judge", worth + liked * own),
        ]  # fmt: skip
        if known == "reference" and rng.random() < 1 / 3:
            given.append(("evaluation", "reference", worth))
        if known == "users":
            given.append(("user", f"u{rng.integers(50)}", float(worth > 0.5)))
        rows += [
            scored_row(len(rows) + i + 1, score, decision_id=f"d{d}", prompt_id=f"p{d}", model=model, source=source,
                       rater=rater, expected=0.2 + 0.6 * chance, task=d % 20)
            for i, (source, rater, score) in enumerate(given)
        ]  # fmt: skip
    return rows


def rater(ledger: Ledger, name: str) -> RaterReport:
    return next(report for report in ledger.raters() if report.rater == name)


@pytest.mark.parametrize("known", ["reference", "users"])
def test_a_harsh_judge_and_one_that_flatters_its_own_family_are_found(known: str) -> None:
    ledger, _ = learned(judged(known))
    bias = source(ledger, "judge").bias - (1.0 - source(ledger, "judge").slope) * 0.5
    assert bias + rater(ledger, "harsh").offset == pytest.approx(-0.2, abs=0.05)
    liking = {found.model: found.offset for found in rater(ledger, "acme/judge").models}
    family = np.mean([liking["acme/a"], liking["acme/b"]]) - np.mean([liking[model] for model in "cdef"])
    assert family == pytest.approx(0.2, abs=0.05) and {m.model for m in rater(ledger, "acme/judge").models[:2]} == {
        "acme/a", "acme/b",
    }  # fmt: skip
    assert max(abs(found.offset) for found in rater(ledger, "fair").models) < 0.02
    scores = {
        (name, model): ledger.predict_one("judge", name, said, model).value
        for name, model, said in (("acme/judge", "acme/a", 1.0), ("acme/judge", "c", 0.8), ("harsh", "c", 0.6))
    }
    assert all(value == pytest.approx(0.8, abs=0.03) for value in scores.values()), "what they mean is the same"


def test_a_model_that_got_better_is_not_taken_for_one_that_is_liked() -> None:
    unverified, _ = learned(judged("nobody", liked=0.0, better=0.2))
    assert all(report.models == () for report in unverified.raters()), "nobody knows which of the two it is"
    verified, _ = learned(judged("reference", liked=0.0, better=0.2))
    assert max(abs(found.offset) for report in verified.raters() for found in report.models) < 0.05
    assert verified.predict_one("judge", "fair", 0.8, "acme/a").value == pytest.approx(0.8, abs=0.05)


def test_offsets_by_model_are_restored_revised_and_held_of_few_models() -> None:
    rows = judged("reference", decisions=120)
    ledger, _ = learned(rows)
    restored = Ledger.from_state(json.loads(json.dumps(ledger.state())))
    assert restored.raters() == ledger.raters() and rater(restored, "acme/judge").models
    old = ledger.state()
    old["raters"] = [held[:5] for held in old["raters"]]
    old["decisions"] = [held[:3] for held in old["decisions"]]
    assert Ledger.from_state(old).predict_one("judge", "fair", 0.5, "c").weight > 0.5, "a state of an earlier version"
    last = next(row for row in reversed(rows) if row.source == "evaluation")
    judge = next(row for row in rows if row.decision_id == last.decision_id and row.rater == "acme/judge")
    changed = replace(judge, seq=10_000, score=0.0, revises=judge.score)
    ledger.learn_one(changed)
    back = replace(judge, seq=10_001, revises=0.0)
    ledger.learn_one(back)
    for before, after in zip(rater(restored, "acme/judge").models, rater(ledger, "acme/judge").models, strict=True):
        assert before.model == after.model
        assert (before.weight, before.offset) == pytest.approx((after.weight, after.offset), abs=1e-6)
    many = RaterReliability()
    for i in range(MODELS + 9):
        many.update_model(f"m{i}", 0.5, 0.5, 1.0)
    assert len(many.models) == MODELS and "m0" not in many.models
    many.update_model("m9", 0.5, 0.5, -1.0)
    assert "m9" not in many.models
