"""How little known a model may be and still lead: caution, by which the utility of a little-known model is lowered.

A model of which little is known beside the others counts with the lower bound of its overall quality. Where the others are
proven by scores, a model that is not does not lead at all, whatever its published figures say: it is explored first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.online.prior import PUBLISHED_OVERALL_SD
from agent.types import Array

_BEHIND = 0.1
"""By how much, in utility, an unproven model counts as behind the best of the others, so that chance seldom chooses it."""


@dataclass(frozen=True, slots=True)
class CautionConfig:
    """When little is known of a model.

    Parameters
    ----------
    z
        Standard errors of its overall quality by which an unknown model's utility is lowered.
    proven
        Scores after which a model counts as proven, and its utility is no longer lowered.
    """

    z: float = 1.645
    proven: float = 8.0


def unproven(n_scores: Array, added: NDArray[np.bool_], config: CautionConfig = CautionConfig()) -> NDArray[np.bool_]:
    """(K,) models that lack scores beside models that have enough: most others, at least two, or any where it was added.

    Parameters
    ----------
    n_scores
        (K,) scores of the eligible models, those of the snapshot included.
    added
        (K,) models that the snapshot does not know.

    Examples
    --------
    >>> unproven(np.array([90.0, 0.0, 0.0]), np.array([False, False, True])).tolist()
    [False, False, True]
    >>> unproven(np.array([90.0, 60.0, 0.0]), np.zeros(3, bool)).tolist()
    [False, False, True]
    """
    proven = n_scores >= config.proven
    others = proven.sum() - proven.astype(int)
    most = (others >= 2) & (2 * others > len(proven) - 1)
    out: NDArray[np.bool_] = ~proven & (most | added) & proven.any()
    return out


def uncertainty_caution(sd: Array, n_scores: Array, config: CautionConfig = CautionConfig()) -> Array:
    """(K,) by how much the bound of a model's overall quality lies lower than that of published figures or the best known.

    Parameters
    ----------
    sd
        (K,) standard deviation of each eligible model's overall quality.
    n_scores
        (K,) scores, those of the snapshot included.

    Examples
    --------
    >>> sd = np.array([0.03, 0.1, 0.3])  # a model with many scores, one with published figures, one without either
    >>> uncertainty_caution(sd, np.array([400.0, 0.0, 0.0])).round(3).tolist()
    [0.0, 0.0, 0.329]
    >>> uncertainty_caution(np.array([0.3, 0.3]), np.zeros(2)).tolist()  # nothing is known of any
    [0.0, 0.0]
    """
    excess = np.maximum(sd - max(float(sd.min()), PUBLISHED_OVERALL_SD), 0.0)
    out: Array = config.z * excess * np.maximum(1.0 - n_scores / config.proven, 0.0)
    return out


def caution(utility: Array, uncertain: Array, held_back: NDArray[np.bool_]) -> Array:
    """(K,) what is subtracted from ``utility`` (K,) before the leader is chosen; 0 for models that are known.

    Parameters
    ----------
    uncertain, held_back
        (K,) of `uncertainty_caution` and of `unproven`.
    """
    if not held_back.any():
        return uncertain
    lead = float((utility - uncertain)[~held_back].max())
    out: Array = np.where(held_back, np.maximum(uncertain, utility - lead + _BEHIND), uncertain)
    return out
