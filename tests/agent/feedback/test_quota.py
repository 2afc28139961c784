"""Quotas by hand: shares, caps, recovery."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from agent.feedback.quota import QuotaConfig, WeightQuota
from agent.observations import Observation
from agent.types import Encoded

CONFIG = QuotaConfig(rater=4.0, judge=10.0, key=8.0, recovery=100)
ROW = Observation(
    0, "d", "p", "m", 1.0, "user", "ann", Encoded(np.zeros(4, np.float32), np.zeros(2, np.float32), 9), task=3
)


def test_a_rater_counts_by_what_is_left_of_each_quota() -> None:
    quota, keyed = WeightQuota(CONFIG), replace(ROW, key="partner")
    assert quota.remaining(keyed) == 1.0
    quota.consume(keyed, 1.0)
    assert quota.remaining(ROW) == pytest.approx(3 / 4) and quota.remaining(keyed) == pytest.approx(3 / 4 * 7 / 8)
    assert quota.remaining(replace(ROW, rater="", key="partner")) == pytest.approx(7 / 8)
    quota.consume(keyed, 5.0)
    assert quota.remaining(ROW) == quota.remaining(keyed) == 0.0


def test_raters_sources_tasks_and_nameless_ratings_do_not_share() -> None:
    quota = WeightQuota(CONFIG)
    quota.consume(ROW, 2.0)
    for other in ({"rater": "bob"}, {"source": "judge"}, {"task": 4}, {"rater": ""}, {"rater": "", "key": "partner"}):
        assert quota.remaining(replace(ROW, **other)) == 1.0
    judge = replace(ROW, source="judge")
    quota.consume(judge, 5.0)
    assert quota.remaining(judge) == pytest.approx(0.5)


def test_a_trusted_key_has_no_cap() -> None:
    quota, trusted = WeightQuota(CONFIG), replace(ROW, rater="", key="bootstrap")
    quota.consume(trusted, 100.0)
    assert quota.remaining(trusted) == 1.0 and quota.state() == []


def test_what_was_used_recovers_with_the_rows_of_the_log() -> None:
    quota = WeightQuota(CONFIG)
    quota.consume(ROW, 2.0)
    later = replace(ROW, seq=50)
    assert quota.remaining(later) == pytest.approx(1.0 - 0.5 * math.exp(-0.5))
    quota.consume(later, 1.0)
    assert quota.remaining(later) == pytest.approx(1.0 - (2.0 * math.exp(-0.5) + 1.0) / 4.0)


def test_weight_can_be_given_back_but_not_more_than_was_used() -> None:
    quota = WeightQuota(CONFIG)
    quota.consume(ROW, 2.0)
    quota.consume(ROW, -0.5)
    assert quota.remaining(ROW) == pytest.approx(1.0 - 1.5 / 4.0)
    quota.consume(ROW, -5.0)
    assert quota.remaining(ROW) == 1.0


def test_a_restored_quota_is_the_same() -> None:
    quota, restored = WeightQuota(CONFIG), WeightQuota(CONFIG)
    quota.consume(replace(ROW, key="partner"), 2.0)
    quota.consume(replace(ROW, seq=7, task=4), 1.0)
    restored.restore(json.loads(json.dumps(quota.state())))
    assert restored.used == quota.used and len(quota.used["user", "ann"]) == 2
