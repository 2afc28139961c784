"""The shared trunk of stage 2: features of a prompt in which linear heads are kernel machines.

A prompt's similarities to some hundred landmark prompts, rotated so that the training prompts' features are orthogonal
(Nystroem; Williams & Seeger 2001). It is fitted to the prompts alone and then frozen; all heads and the cost model read it. A
trained MLP in its place got no weight in the stack on any data set (docs/log.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.encoding.similarity import Matrix, Representation, eigh, kernel
from agent.types import Array

_JITTER = 1e-6
_LEAST_POWER = 1e-6


@dataclass(frozen=True, slots=True)
class Trunk:
    """The trunk, with the features of the training prompts.

    ``landmarks`` (l, w) are prompts as `Representation.transform` gives them, ``weight`` (l, r) leads from similarities to
    features, strongest first, ``power`` (r,) is each feature's sum of squares over the training prompts, and ``basis`` (n, r)
    their features scaled to orthonormal columns.
    """

    landmarks: Matrix
    weight: Array
    power: Array
    basis: Array


def fit_trunk(x: Matrix, representation: Representation, landmarks: int, rng: np.random.Generator) -> Trunk:
    """Fit the trunk to transformed prompts ``x`` (n, w), of which at most ``landmarks`` are drawn as landmarks."""
    n = len(x)
    drawn = np.sort(rng.permutation(n)[: min(landmarks, n)])
    close = kernel(x, x[drawn], representation)  # (n, l)
    power, vectors = eigh(close[drawn].astype(np.float64) + _JITTER * np.eye(len(drawn)))
    whiten = vectors / np.sqrt(np.maximum(power, _JITTER))
    features = close @ whiten
    power, vectors = eigh(features.T @ features)
    keep = power > _LEAST_POWER * power[0]
    weight, power = whiten @ vectors[:, keep], power[keep]
    return Trunk(x[drawn], weight, power, (close @ weight) / np.sqrt(power))
