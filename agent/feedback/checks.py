"""Whether a row of the feedback log can be learned: values that would spoil sums, or that no arithmetic takes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.observations import Observation
from agent.types import Vector


def defect(row: Observation, dimension: int | None = None, n_features: int | None = None) -> str | None:
    """What is wrong with the row; None where nothing is.

    ``dimension`` and ``n_features`` are the lengths that its prompt's embedding and features must have; None for any.
    """
    try:
        return _defect(row, dimension, n_features)
    except Exception as error:  # of any kind, from a value of a wrong type
        return f"{type(error).__name__} while it was checked: {error}"


def _defect(row: Observation, dimension: int | None, n_features: int | None) -> str | None:
    if not 0.0 <= row.score <= 1.0:
        return f"its score is {row.score}, which is not in [0, 1]"
    if row.revises is not None and not 0.0 <= row.revises <= 1.0:
        return f"it revises a score of {row.revises}, which is not in [0, 1]"
    for what, expected in (("model", row.expected), ("other", row.expected_other)):
        if not (math.isnan(expected) or 0.0 <= expected <= 1.0):
            return f"its decision expected {expected} of the {what}, which is not in [0, 1]"
    if row.other is not None and row.other == row.model:
        return f"it compares {row.model} with itself"
    if row.estimate is not None and not all(0.0 <= p <= 1.0 for p in row.estimate.tasks.values()):
        return (
            f"its decision found it in tasks with probabilities {dict(row.estimate.tasks)}, which are not all in [0, 1]"
        )
    embedding, features = row.encoded.embedding, row.encoded.features
    return _vector_defect(embedding, "embedding", dimension) or _vector_defect(features, "features", n_features)


def _vector_defect(vector: Vector, what: str, length: int | None) -> str | None:
    """What is wrong with one of a prompt's vectors, which must be finite."""
    if vector.ndim != 1 or (length is not None and len(vector) != length):
        return f"its prompt's {what} has shape {vector.shape}" + (f", not ({length},)" if length is not None else "")
    if not np.isfinite(np.dot(vector, vector)):
        return f"its prompt's {what} holds values that are not finite"
    return None


def readable(vectors: Sequence[Vector]) -> NDArray[np.bool_]:
    """(n,) which of the vectors are finite and as long as most are."""
    lengths = Counter(vector.shape for vector in vectors)
    common = lengths.most_common(1)[0][0] if lengths else ()
    return np.array([v.shape == common and bool(np.isfinite(v).all()) for v in vectors], np.bool_)
