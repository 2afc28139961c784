"""Drift of a model's calls: has the length, time or failure of its answers changed? A test of a stream's last values.

River's Page-Hinkley test (Page 1954) runs over the values of a window, anew each time, so that its answer is a function of
these values and not of when a replica began to look. Where it finds a change, the most likely split of the window dates it:
of normal values (Worsley 1979), of failures as coins.
"""

from __future__ import annotations

import zlib

import numpy as np
from river import drift
from scipy.special import entr

from agent.types import Array

_THRESHOLD = 25.0
"""Of the sum of deviations from the mean, in standard deviations."""

_ALLOWANCE = 0.25
"""Standard deviations by which each value may deviate."""

_LEAST_SD = 0.25
"""Values that vary less are tested as if they varied so much: a change by a few percent is none."""

_CLIP_SD = 4.0
"""Standard deviations at which a value is clipped: no single one is an alarm."""

_LEAST_SIDE = 4
"""Fewest values on each side of a dated change."""

MIN_VALUES = 30
"""Fewest values that are tested."""

_TEST_EVERY = 8
"""One row of the log in so many, by a hash of its position, is followed by a test, which takes half a millisecond."""


def is_tested(seq: int) -> bool:
    """Whether the streams that row ``seq`` of the log entered are tested then: the same rows on every replica."""
    return zlib.crc32(seq.to_bytes(8, "little")) % _TEST_EVERY == 0


def find_change(values: Array, *, binary: bool = False) -> tuple[int, float] | None:
    """Index of the first value after a change, and the mean after it less that before; None where there is no change.

    Parameters
    ----------
    values
        (n,) in order: natural logarithms of counts or times; ``binary``: 0 or 1.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> calls = rng.normal(6.0, 0.5, 260)
    >>> find_change(calls) is None
    True
    >>> at, shift = find_change(calls + 0.7 * (np.arange(260) >= 200))
    >>> abs(at - 200) < 8, round(shift, 1)
    (True, 0.7)
    """
    n = len(values)
    if n < MIN_VALUES:
        return None
    standard = np.clip((values - values.mean()) / max(float(values.std()), _LEAST_SD), -_CLIP_SD, _CLIP_SD)
    test = drift.PageHinkley(min_instances=MIN_VALUES, delta=_ALLOWANCE, threshold=_THRESHOLD)
    for value in standard.tolist():
        test.update(value)
        if test.drift_detected:
            break
    else:
        return None
    before = np.arange(_LEAST_SIDE, n - _LEAST_SIDE + 1)  # values before each split
    value = values if binary else standard
    sums = value.cumsum()[before - 1]
    mean_before, mean_after = sums / before, (value.sum() - sums) / (n - before)
    if binary:
        likelihood = -before * _entropy(mean_before) - (n - before) * _entropy(mean_after)
    else:
        likelihood = (mean_after - mean_before) ** 2 * before * (n - before)
    at = int(before[likelihood.argmax()])
    return at, float(values[at:].mean() - values[:at].mean())


def _entropy(p: Array) -> Array:
    """In nats, of a coin."""
    out: Array = entr(p) + entr(np.maximum(1.0 - p, 0.0))
    return out
