"""The shared trunk of stage 2: features in which a linear head is a kernel machine.

A prompt's similarities to some hundred landmark prompts, rotated so that the features of the training prompts are
orthogonal (Nystroem; Williams & Seeger 2001). The layer is learned once from the prompts and frozen; every head, general or
of a task, reads it. A trained MLP in its place weighed nothing in the stack on any data set (docs/log.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.encoding.similarity import Blocks, Matrix, eigh, kernel
from agent.types import Array

_JITTER = 1e-6
_LEAST_POWER = 1e-6


@dataclass(frozen=True, slots=True)
class Trunk:
    """The trunk, with what it makes of the training prompts.

    Parameters
    ----------
    landmarks
        (l, w) rows of the joined blocks.
    weight
        (l, r) from similarities to features, strongest feature first.
    power
        (r,) sum of squares of each feature over the training prompts.
    basis
        (n, r) the training prompts' features, scaled to orthonormal columns.
    """

    landmarks: Matrix
    weight: Array
    power: Array
    basis: Array


def fit_trunk(x: Matrix, blocks: Blocks, landmarks: int, rng: np.random.Generator) -> Trunk:
    """Fit the trunk to the joined blocks ``x`` (n, w); at most ``landmarks`` of the prompts become landmarks."""
    n = len(x)
    chosen = np.sort(rng.permutation(n)[: min(landmarks, n)])
    close = kernel(x, x[chosen], blocks)  # (n, l)
    power, vectors = eigh(close[chosen].astype(np.float64) + _JITTER * np.eye(len(chosen)))
    whiten = vectors / np.sqrt(np.maximum(power, _JITTER))
    features = close @ whiten
    power, vectors = eigh(features.T @ features)
    keep = power > _LEAST_POWER * power[0]
    weight, power = whiten @ vectors[:, keep], power[keep]
    return Trunk(x[chosen], weight, power, (close @ weight) / np.sqrt(power))
