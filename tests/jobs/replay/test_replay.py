"""`replay`: the stream and what is revealed of it, how Thalweg follows changes, measures, reports and refusals."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from agent.errors import InvalidInput
from agent.snapshot import GENERAL
from jobs.cli.app import app
from jobs.replay.data import ReplayData, load
from jobs.replay.harness import Trace, run, run_fixed
from jobs.replay.measures import (
    compare_spend,
    drift_delay,
    false_alarms,
    follow_steps,
    join_figures,
    loss,
    moving,
    regret,
)
from jobs.replay.plots import draw
from jobs.replay.policies import COST_SETTINGS, POLICIES, factory
from jobs.replay.policy import Feedback, PolicyChoice, PolicyEvent, ProbeResult, Prompt, Start
from jobs.replay.report import render, to_json
from jobs.replay.run import Replay, replay
from jobs.replay.scenario import Change, Noise, Scenario, parse
from jobs.replay.stream import RATERS, Stream
from jobs.replay.thalweg import ABLATIONS, Thalweg
from store.encoders.cache import CachedEncoder
from tests.jobs.made import COSTS, MODELS, WordEncoder, records, write

pytestmark = pytest.mark.usefixtures("few_seed_prompts")


def play(folder: Path, n: int, *policies: str, scenario: Scenario = Scenario(), **options: Any) -> Replay:
    """A replay of ``n`` made-up prompts."""
    files = [str(write(folder / "stream.jsonl.gz", records(n)))]
    encoder = CachedEncoder(WordEncoder(), folder / "cache")
    return replay(files, encoder=encoder, scenario=scenario, policies=policies, **options)


def stream_of(folder: Path, n: int = 60, scenario: Scenario = Scenario(), seed: int = 0, **options: Any) -> Stream:
    return Stream(data_of(folder, records(n), scenario, **options), scenario, seed)


def data_of(folder: Path, rows: list[dict[str, Any]], scenario: Scenario = Scenario(), **options: Any) -> ReplayData:
    files = [str(write(folder / "stream.jsonl", rows))]
    return load(files, encoder=CachedEncoder(WordEncoder(), folder / "cache"), scenario=scenario, **options)


class Recorder:
    """A policy that chooses the first model of the pool, and records its start, pools and feedback."""

    tasks = 1

    def __init__(self, start: Start) -> None:
        self.start = start
        self.feedback: list[Feedback] = []
        self.events: list[PolicyEvent] = []
        self.pools: list[tuple[str, ...]] = []
        self.costs: list[float] = []

    def set_models(self, models: Any) -> None:
        self.pools.append(tuple(models))

    def choose(self, prompt: Prompt, allowed: Any) -> PolicyChoice:
        return PolicyChoice(allowed[0] if allowed is not None else self.pools[-1][0])

    def learn_one(self, feedback: Feedback) -> None:
        self.feedback.append(feedback)

    def learn_outcome(self, prompt: Prompt, choice: PolicyChoice, cost: float) -> None:
        self.costs.append(cost)


def recorded(stream: Stream) -> tuple[Recorder, Trace]:
    """The last policy that a run built, and the run's trace."""
    built: list[Recorder] = []

    def factory(start: Start) -> Recorder:
        built.append(Recorder(start))
        return built[-1]

    trace = run(stream, factory)
    return built[-1], trace


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    """Every policy; the model `chef` joins."""
    scenario = parse(join=["chef@60"])
    return play(tmp_path_factory.mktemp("warm"), 260, scenario=scenario, warm="60", seeds=2, steps=200)


def test_the_report_holds_every_documented_key(warm: Replay) -> None:
    report = to_json(warm)
    json.dumps(report, allow_nan=False)
    assert (report["steps"], report["warm"], report["seeds"]) == (200, 60, 2)
    assert set(report["policies"]) >= set(POLICIES) - {"ParetoBandit"}
    for row in report["policies"].values():
        for key in ("mean_quality", "last_third", "regret", "cost"):
            assert set(row[key]) == {"mean", "std"}
            assert row[key]["mean"] >= 0
        assert len(row["adoption_steps"]["chef"]) == 2
    assert report["policies"]["thalweg"]["reference"]["mean"] > 0
    assert all(t["decide_us"]["mean"] >= 0 for t in report["timing"].values())
    assert render("made", report)


def test_thalweg_adopts_the_model_that_joins(warm: Replay) -> None:
    rows = to_json(warm)["policies"]
    assert all(steps is not None for steps in rows["thalweg"]["adoption_steps"]["chef"])
    assert rows["thalweg"]["traffic"]["chef"] > 0.1
    assert rows["frozen"]["traffic"]["chef"] < rows["thalweg"]["traffic"]["chef"]
    assert rows["thalweg"]["mean_quality"]["mean"] > rows["best fixed"]["mean_quality"]["mean"] + 0.2
    for trace in warm.traces["thalweg"]:
        assert not (trace.model[:60] == warm.models.index("chef")).any()


def test_a_join_is_measured_beside_runs_that_always_and_never_have_the_model(warm: Replay) -> None:
    models, change = warm.models, warm.scenario.joins[0]
    join = to_json(warm)["policies"]["thalweg"]["join"]
    assert set(join) == {"gain_share_200", "gain_share_500", "adoption_steps", "traffic_share_300", "seeds"}
    assert join["traffic_share_300"] is None, "the stream ends 140 steps after the join"
    assert join["adoption_steps"] == np.mean([row["adoption_steps"] for row in join["seeds"]["chef"]])
    for trace, never in zip(warm.traces["thalweg"], warm.unjoined["thalweg"]):
        assert not (never.model == models.index("chef")).any()
        assert trace.model[: change.step].tolist() == never.model[: change.step].tolist()
    gains = [
        sum(t.quality[60:].sum() - n.quality[60:].sum() for t, n in zip(runs["thalweg"], warm.unjoined["thalweg"]))
        for runs in (warm.traces, warm.references)
    ]
    assert join["gain_share_200"] == pytest.approx(gains[0] / gains[1])
    assert gains[1] > 20


def test_a_model_that_brings_nothing_has_no_share_of_a_gain() -> None:
    n, joins = 600, (Change("a", 100),)
    same = Trace(np.zeros(n, np.int64), np.zeros(n), np.ones(n), np.zeros(n), np.ones(n), np.ones(n, np.int64))
    found = join_figures([same], [same], [same], joins, ["a", "b"])
    assert (found["gain_share_200"], found["gain_share_500"], found["adoption_steps"]) == (None, None, None)
    assert found["traffic_share_300"] == 1.0


def test_a_model_that_joins_answers_probes_of_the_past_which_a_judge_scores(tmp_path: Path) -> None:
    scenario = parse(join=["chef@60"], probes=25)
    stream = stream_of(tmp_path, 240, scenario, warm="90")
    chef = stream.models.index("chef")
    policy = Thalweg(stream.start())
    policy.set_models(stream.pools()[60])
    known, asked = stream.known(60, "chef"), list[Prompt]()
    assert len(known) == 90 + 60 and stream.prompt(60).id not in known

    def ask(prompt: Prompt) -> ProbeResult:
        asked.append(prompt)
        return stream.probed("chef", prompt)

    policy.probe("chef", known, 25, ask)
    rows = policy._log
    assert [row.prompt_id for row in rows] == [prompt.id for prompt in asked] and len({p.id for p in asked}) == 25
    assert {(row.source, row.model, row.propensity) for row in rows} == {("judge", "chef", 1.0)}
    assert all(np.isnan(row.expected) for row in rows), "a guess of a new model must not calibrate the judge"
    by_id = {prompt.id: row for row, prompt in enumerate(stream.data.prompts)}
    assert [row.score for row in rows] == [stream.data.table.scores[by_id[row.prompt_id], chef] for row in rows]
    with_probes, without = (
        run(stream_of(tmp_path, 240, replace(scenario, probes=n), warm="90"), Thalweg) for n in (25, 0)
    )
    first = [(trace.model[60:80] == chef).mean() for trace in (with_probes, without)]
    assert first[0] > first[1], "what probes tell is used at once"


def test_probes_need_a_join() -> None:
    with pytest.raises(InvalidInput, match="--probes 5"):
        parse(probes=5)


def test_pictures_are_drawn(warm: Replay, tmp_path: Path) -> None:
    drawn = draw(warm, tmp_path / "plots", "made")
    assert [p.name for p in drawn] == ["regret.png", "quality.png", "traffic.png", "tasks.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in drawn)


def test_thalweg_abandons_a_model_that_fails_and_the_frozen_router_does_not(tmp_path: Path) -> None:
    """Over four shuffles, since one of them may have it explored again near its end."""
    scenario = parse(degrade=["chef@60:1.0"])
    data = data_of(tmp_path, records(600), scenario, warm="90")
    chef = data.table.models.index("chef")
    left, asked = [], []
    earned: list[float] = []
    for seed in range(4):
        thalweg, frozen = (run(Stream(data, scenario, seed), factory(name)) for name in ("thalweg", "frozen"))
        left.append((thalweg.model[-60:] == chef).mean())
        asked.append((frozen.model[-60:] == chef).mean())
        failed = np.flatnonzero(frozen.model == chef)
        failed = failed[failed >= 390]
        assert not frozen.quality[failed].any()
        earned.extend(thalweg.quality[failed])
    assert np.mean(asked) > 0.2 and np.mean(left) <= 0.1
    # Where the frozen router still asks the failed model it scores 0; any other model scores .25 there on average.
    assert np.mean(earned) >= 0.25 / 2
    informed = run(Stream(data, scenario.reference(), 0), factory("frozen"))
    assert (informed.model[:60] == chef).any()
    assert not (informed.model[60:] == chef).any()


def test_equal_seeds_give_equal_figures_in_one_process_or_two(tmp_path: Path) -> None:
    one, two = (to_json(play(tmp_path, 70, "thalweg", "Thompson", warm="30", workers=workers)) for workers in (1, 2))
    del one["timing"], two["timing"]
    assert one == two


def test_only_the_chosen_models_score_is_revealed(tmp_path: Path) -> None:
    stream = stream_of(tmp_path, warm="20")
    policy, trace = recorded(stream)
    assert len(policy.start.prompts) == 20
    assert np.isfinite(policy.start.scores).all()
    assert not {p.id for p in policy.start.prompts} & {e.prompt.id for e in policy.feedback}
    assert [e.score for e in policy.feedback] == trace.quality.tolist()
    assert trace.quality.tolist() == stream.truth[:, 0].tolist()
    assert regret(trace)[-1] == pytest.approx((stream.truth.max(axis=1) - trace.quality).sum())


def test_a_seed_gives_one_shuffle_in_every_scenario(tmp_path: Path) -> None:
    scenario = parse(join=["maths@5"], noise=["bias"], delay=3)
    plain, perturbed = stream_of(tmp_path), stream_of(tmp_path, scenario=scenario)
    assert plain.rows.tolist() == perturbed.rows.tolist()
    assert plain.rows.tolist() != stream_of(tmp_path, seed=1).rows.tolist()


def test_a_warm_file_is_known_and_never_routed(tmp_path: Path) -> None:
    before = write(tmp_path / "before.jsonl", records(12, seed=5))
    stream = stream_of(tmp_path, 30, warm=str(before))
    assert (len(stream.start().prompts), len(stream)) == (12, 30)


def test_models_come_and_go_at_their_step(tmp_path: Path) -> None:
    stream = stream_of(tmp_path, scenario=parse(join=["chef@10"], leave=["cheap@20"]), warm="20")
    policy, _ = recorded(stream)
    assert policy.pools == [
        ("cheap", "maths", "scholar"),
        ("cheap", "chef", "maths", "scholar"),
        ("chef", "maths", "scholar"),
    ]
    assert np.isnan(policy.start.scores[:, stream.models.index("chef")]).all()


def test_a_weak_model_is_made_up_joins_late_and_never_joins_the_reference(tmp_path: Path) -> None:
    scenario = parse(join_weak="10:0.3")
    stream = stream_of(tmp_path, 600, scenario, warm="20")
    *others, weak = stream.models
    known = stream.truth[:, :-1].mean(axis=1)
    assert weak == "weak" and others == sorted(MODELS) and set(stream.truth[:, -1]) == {0.0, 1.0}
    assert stream.truth[:, -1].mean() == pytest.approx(np.maximum(known - 0.3, 0.0).mean(), abs=0.05)
    assert stream.costs[0, -1] == np.median(stream.costs[0, :-1])
    policy, _ = recorded(stream)
    assert policy.pools == [tuple(others), tuple(stream.models)]
    reference, _ = recorded(Stream(stream.data, scenario.reference(), 0))
    assert reference.pools == [tuple(others)] and reference.start.columns == policy.start.columns
    assert scenario.perturbed and not scenario.reference().perturbed


def test_feedback_has_the_given_rate_and_delay(tmp_path: Path) -> None:
    policy, trace = recorded(stream_of(tmp_path, 600, parse(feedback_rate=0.25, delay=50)))
    assert 100 < len(policy.feedback) < 200
    assert set(trace.learned[:, 0] - trace.learned[:, 1]) == {50}


def test_a_degraded_model_scores_less_from_its_step_on(tmp_path: Path) -> None:
    plain = stream_of(tmp_path)
    stream = stream_of(tmp_path, scenario=parse(degrade=["chef@30:0.4"]))
    chef = stream.models.index("chef")
    assert stream.truth[:30].tolist() == plain.truth[:30].tolist()
    assert stream.truth[30:, chef].tolist() == np.maximum(plain.truth[30:, chef] - 0.4, 0.0).tolist()


def test_a_change_is_announced_to_the_reference_in_its_own_history(tmp_path: Path) -> None:
    scenario = parse(degrade=["chef@30:0.4"], leave=["cheap@0"])
    data = data_of(tmp_path, records(70), scenario, warm="10")
    stream = Stream(data, scenario.reference(), 0)
    policy, trace = recorded(stream)  # always chooses chef
    assert [e.score for e in policy.feedback[:30]] == np.maximum(trace.quality[:30] - 0.4, 0.0).tolist()
    assert [e.score for e in policy.feedback[30:]] == trace.quality[30:].tolist()
    before = Stream(data, scenario, 0).start().scores[:, stream.models.index("chef")]
    assert policy.start.scores[:, stream.models.index("chef")].tolist() == np.maximum(before - 0.4, 0.0).tolist()


def noisy_feedback(folder: Path, *noise: str, n: int = 600) -> tuple[list[Feedback], Stream, Trace]:
    stream = stream_of(folder, n, parse(noise=noise))
    policy, trace = recorded(stream)
    return policy.feedback, stream, trace


def test_a_judge_is_biased_and_users_thumbs_are_flipped(tmp_path: Path) -> None:
    given, _, trace = noisy_feedback(tmp_path, "bias")
    judged = [(e, trace.quality[e.step]) for e in given if e.source == "judge"]
    thumbs = [(e, trace.quality[e.step]) for e in given if e.source == "user"]
    assert 240 < len(judged) < 360
    assert all(e.score == pytest.approx(max(truth - 0.2, 0.0)) for e, truth in judged)
    assert 0.1 < np.mean([e.score != (truth >= 0.5) for e, truth in thumbs]) < 0.3


def test_malicious_raters_score_the_worst_model_1_and_others_0(tmp_path: Path) -> None:
    given, stream, trace = noisy_feedback(tmp_path, "malicious:0.2")
    wrong = {e.rater for e in given if e.score != trace.quality[e.step]}
    assert len({e.rater for e in given}) == RATERS
    assert wrong <= {f"user-{i}" for i in range(10)}
    malicious = [e for e in given if e.rater in {f"user-{i}" for i in range(10)}]
    assert all(e.score == (e.choice.model == stream.worst()) for e in malicious)


def test_noise_is_parsed_from_presets_lists_and_repeated_options() -> None:
    assert parse(noise=["bias"]).noise == parse(noise=["judge:-0.2", "flip:0.2"]).noise == Noise(-0.2, 0.2)
    assert parse(noise=["flip:0.1,malicious"]).noise == Noise(None, 0.1, 0.1)


def trace_of(model: list[int], quality: list[float] | None = None, **options: Any) -> Trace:
    n = len(model)
    values = np.array(quality if quality is not None else np.zeros(n))
    blank = np.zeros(n)
    return Trace(np.array(model), blank, values, blank, np.ones(n), np.zeros(n, np.int64), **options)


def test_adoption_is_half_of_the_reference_runs_share() -> None:
    change = Change("b", 200)
    reference = trace_of([i % 2 for i in range(600)])  # half of the traffic
    late = trace_of([0] * 400 + [i % 2 for i in range(200)])
    assert follow_steps(late, reference, change, ("a", "b")) == pytest.approx(200 + 50, abs=2)
    assert follow_steps(trace_of([0] * 600), reference, change, ("a", "b")) is None


def test_losses_are_taken_after_the_event() -> None:
    scenario = Scenario(joins=(Change("b", 100),))
    ours = trace_of([0] * 1500, [0.0] * 400 + [0.5] * 1000 + [0.0] * 100)
    reference = trace_of([0] * 1500, [1.0] * 1500)
    assert loss(ours, reference, scenario) == 0.5
    assert loss(ours, reference, Scenario(joins=(Change("b", 1300),))) is None
    assert loss(ours, reference, Scenario()) == pytest.approx(1 - 500 / 1500)


def test_drift_is_counted_in_the_models_own_scores_after_the_change() -> None:
    model = [i % 2 for i in range(100)]
    learned = np.array([(i + 5, i) for i in range(95)])
    drifts = ((20, PolicyEvent("drift", "b")), (80, PolicyEvent("drift", "b")))
    trace = trace_of(model, learned=learned, events=drifts)
    assert drift_delay(trace, Change("b", 50), ("a", "b")) == len([i for i in range(50, 76) if i % 2])
    assert drift_delay(trace, Change("a", 50), ("a", "b")) is None


def test_alarms_of_other_models_or_before_the_change_are_false() -> None:
    events = [(20, "b"), (49, "b"), (50, "b"), (80, "a"), (90, "b")]
    trace = trace_of([0] * 100, events=tuple((at, PolicyEvent("drift", model)) for at, model in events))
    assert false_alarms(trace, [Change("b", 50)]) == 3
    assert false_alarms(trace, [Change("b", 50), Change("a", 80)]) == 2
    assert false_alarms(trace_of([0], events=((0, PolicyEvent("promoted", "b")),)), []) == 0


def test_moving_means_begin_with_fewer_values() -> None:
    assert moving(np.array([2.0, 4.0, 6.0, 8.0]), 2).tolist() == [2.0, 3.0, 5.0, 7.0]


def test_equal_spend_is_interpolated_between_the_points_of_the_frontier() -> None:
    ours = np.array([[1.0, 0.5], [3.0, 0.9], [2.0, 0.4]])
    theirs = np.array([[2.0, 0.6], [4.0, 0.8]])
    found = compare_spend(ours, theirs)
    assert {"cost": 2.0, "ours": pytest.approx(0.7), "theirs": 0.6} in found["at_equal_spend"]
    assert {"cost": 1.0, "ours": 0.5, "theirs": None} in found["at_equal_spend"]
    assert {"quality": 0.6, "ours": pytest.approx(1.5), "theirs": 2.0} in found["at_equal_quality"]
    assert {"quality": 0.9, "ours": 3.0, "theirs": None} in found["at_equal_quality"]


def test_cost_falls_with_the_cost_setting_and_quality_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = COST_SETTINGS["thalweg"]
    assert settings[0] == 1.0
    assert list(settings) == sorted(settings, reverse=True)
    monkeypatch.setitem(COST_SETTINGS, "thalweg", (settings[0], settings[-1]))
    best, cheapest = to_json(play(tmp_path, 90, "thalweg", warm="60", spend=True))["spend"]["thalweg"]
    assert (best["setting"], cheapest["setting"]) == (1.0, 0.0)
    assert cheapest["cost"] == pytest.approx(COSTS["cheap"] * 1.05, rel=0.5)
    assert best["cost"] > 5 * cheapest["cost"]
    assert best["quality"] > cheapest["quality"]


def test_thompson_sampling_spends_less_the_more_costs_weigh_and_is_compared_at_equal_spend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, settings in (("thalweg", (1.0, 0.0)), ("Thompson", (0.0, 1.0))):
        monkeypatch.setitem(COST_SETTINGS, name, settings)
    spend = to_json(play(tmp_path, 120, "thalweg", "Thompson", warm="60", spend=True))["spend"]
    free, dear = spend["Thompson"]
    assert dear["cost"] < 0.5 * free["cost"]
    assert {"cost", "ours", "theirs"} == set(spend["comparisons"]["Thompson"]["at_equal_spend"][0])


def test_an_ablation_runs_without_each_part_and_says_what_it_is_worth(tmp_path: Path) -> None:
    report = to_json(play(tmp_path, 90, "thalweg", warm="60", seeds=2, ablate=True))
    assert set(report["ablation"]) == set(ABLATIONS)
    for part, worth in report["ablation"].items():
        means = [report["policies"][name]["mean_quality"]["mean"] for name in ("thalweg", f"thalweg without {part}")]
        assert worth["mean"] == pytest.approx(means[0] - means[1]) and worth["stderr"] >= 0.0
    assert to_json(play(tmp_path, 90, "thalweg", warm="60"))["ablation"] is None


def test_each_part_that_is_left_out_is_left_out(tmp_path: Path) -> None:
    start = stream_of(tmp_path, warm="40").start()
    whole = Thalweg(start)
    assert whole._router.snapshot.tensors["stack"].min() >= 0.0 and whole._router.config.neighbourhoods
    index, heads, river = (Thalweg(start, without=part) for part in ("live index", "heads", "River"))
    assert index._router.snapshot.tensors["stack"][2] == 0.0 and not index._router.config.neighbourhoods
    assert heads._router.snapshot.tensors["stack"][1] == 0.0
    assert all(head.task == GENERAL for head in Thalweg(start, without="task heads")._router.snapshot.heads)
    prompt = stream_of(tmp_path, warm="40").prompt(0)
    for policy, learned in ((whole, 1), (river, 0)):
        policy.learn_outcome(prompt, policy.choose(prompt, None), 0.01)
        assert policy._outcomes.position == learned


def test_prices_are_fitted_to_the_costs(tmp_path: Path) -> None:
    cards = data_of(tmp_path, records(60)).cards
    for name, cost in COSTS.items():
        card = cards[name]
        assert (10 * card.price_input + 350 * card.price_output) / 1e6 == pytest.approx(cost * 1.05, rel=0.1)


def test_true_costs_reach_every_policy_and_ours_expects_them(tmp_path: Path) -> None:
    stream = Stream(data_of(tmp_path, records(60)), Scenario(), 0)
    policy, trace = recorded(stream)
    assert policy.costs == trace.cost.tolist() and len(policy.costs) == 60
    built: list[Thalweg] = []

    def factory(start: Start) -> Thalweg:
        built.append(Thalweg(start))
        return built[-1]

    run(stream, factory)
    known = built[0]._outcomes
    assert known.position == 60 and sum(known.forecast(c).n_calls for c in stream.data.cards.values()) == 60


def test_a_prompt_is_routed_among_its_scored_models(tmp_path: Path) -> None:
    rows = records(40)
    for row in rows:
        del row["scores"]["cheap"]  # the first of the pool
    rows[0]["scores"]["cheap"] = 1.0
    rows.append({"prompt": "lone", "source": "s", "scores": {"chef": 1.0}})
    data = data_of(tmp_path, rows, parse(leave=["chef@3"]))
    assert "1 prompts without a score of a model that never joins or leaves are left out" in data.notes
    policy, trace = recorded(Stream(data, parse(leave=["chef@3"]), 0))
    assert np.isfinite(trace.quality).all()
    assert np.isfinite(run_fixed(Stream(data, Scenario(), 0)).quality).all()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"join": ["chef"]}, "--join chef: write MODEL@STEP"),
        ({"join": ["chef@x"]}, "write MODEL@STEP"),
        ({"leave": ["chef@3:0.2"]}, "--leave chef@3:0.2: write MODEL@STEP"),
        ({"degrade": ["chef@3"]}, "write MODEL@STEP:DELTA"),
        ({"degrade": ["chef@3:1.5"]}, "above 0 and at most 1"),
        ({"degrade": ["chef@3:much"]}, "above 0 and at most 1"),
        ({"join_weak": "2000"}, "--join-weak 2000: write STEP:BELOW"),
        ({"join_weak": "20:1.5"}, "BELOW is above 0 and at most 1"),
        ({"noise": ["loud"]}, "write judge:BIAS"),
        ({"noise": ["flip:2"]}, "--noise flip:2"),
        ({"feedback_rate": 1.2}, "--feedback-rate 1.2: give a share from 0 to 1"),
        ({"delay": -1}, "--delay -1"),
    ],
)
def test_malformed_options_are_refused(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        parse(**given)


@pytest.mark.parametrize(
    ("scenario", "options", "complaint"),
    [
        ({"join": ["chefs@3"]}, {}, "did you mean 'chef'"),
        ({"degrade": ["novel@3:0.1"]}, {}, "the data hold cheap, chef, maths, scholar"),
        ({"leave": ["chef@30"]}, {}, "the stream has steps 0 to 29"),
        ({"leave": ["chef@20"]}, {"warm": "10"}, "the stream has steps 0 to 19"),
        ({"leave": [f"{m}@3" for m in MODELS]}, {}, "at least one model must stay in the pool throughout"),
        ({}, {"warm": "30"}, "--warm 30: the stream holds 30 prompts"),
        ({}, {"steps": 0}, "--steps 0"),
        ({}, {"seeds": 0}, "--seeds 0"),
        ({}, {"workers": 0}, "--workers 0"),
    ],
)
def test_options_that_do_not_fit_the_data_are_refused(
    tmp_path: Path, scenario: dict[str, Any], options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        play(tmp_path, 30, "best fixed", scenario=parse(**scenario), **options)


def test_replays_that_cannot_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such policy; there are thalweg, best fixed"):
        play(tmp_path, 30, "worst fixed")
    with pytest.raises(InvalidInput, match="no such file"):
        replay([str(tmp_path / "*.jsonl")], encoder=CachedEncoder(WordEncoder(), tmp_path))
    free = [{k: v for k, v in row.items() if k != "costs"} for row in records(9)]
    with pytest.raises(InvalidInput, match="the data hold no costs"):
        replay(
            [str(write(tmp_path / "free.jsonl", free))],
            encoder=CachedEncoder(WordEncoder(), tmp_path), policies=["thalweg"], spend=True,
        )  # fmt: skip


def test_without_its_package_paretobandit_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pareto_bandit", None)
    result = play(tmp_path, 30, "best fixed", "ParetoBandit")
    assert list(result.traces) == ["best fixed"]
    assert "pip install 'thalweg[bench]'" in result.notes[0]


def test_the_command(home: Path, word_encoder: WordEncoder, tmp_path: Path) -> None:
    stream = write(tmp_path / "stream.jsonl.gz", records(60))
    out = tmp_path / "figures" / "out.json"
    arguments = ["replay", "--stream", str(stream), "--warm", "30", "--policies", "best fixed, Thompson"]
    done = CliRunner().invoke(app, [*arguments, "--json", str(out), "--plots", str(tmp_path / "plots")])
    assert done.exit_code == 0, done.output
    assert "Thompson" in done.stdout
    assert list(json.loads(out.read_text())["policies"]) == ["best fixed", "Thompson"]
    assert (tmp_path / "plots" / "regret.png").exists()
    piped = CliRunner().invoke(app, [*arguments, "--json", "-"])
    assert json.loads(piped.stdout)["steps"] == 30
    refused = CliRunner().invoke(app, [*arguments, "--leave", "chef"])
    assert refused.exit_code == 2
    assert "--leave chef: write MODEL@STEP" in refused.stderr
