"""Which models a task keeps in play: the fewest top models that cover it.

A task's candidate set is the shortest prefix of its models, best mean first, such that on more than ``coverage`` of its
prompts the prompt's preferred model is among them (arXiv 2603.19415, sec. 3.2). Evidence may be thin, so a model whose
mean lies within its standard error of the set's worst stays in too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COVERAGE = 0.8


def candidate_set(
    preferred: NDArray[np.int64], mean: NDArray[np.float64], stderr: NDArray[np.float64], coverage: float = COVERAGE
) -> tuple[int, ...]:
    """Columns of the candidate models, best mean first.

    Parameters
    ----------
    preferred
        (prompts of the task,) column of the model that each prompt prefers.
    mean, stderr
        (m,) of the task.
    coverage
        Share of prompts, in (0, 1], that must be exceeded.

    Examples
    --------
    >>> candidate_set(np.array([0, 0, 0, 1]), np.array([0.9, 0.5, 0.1]), np.zeros(3), coverage=0.7)
    (0,)
    >>> candidate_set(np.array([0, 0, 0, 1]), np.array([0.9, 0.5, 0.1]), np.zeros(3), coverage=0.8)
    (0, 1)
    """
    order = np.argsort(-mean, kind="stable")
    share = np.bincount(preferred, minlength=len(mean))[order].cumsum() / max(len(preferred), 1)
    enough = np.flatnonzero(share > coverage)
    count = int(enough[0]) + 1 if len(enough) else len(mean)
    worst = order[count - 1]
    floor = mean[worst] - stderr[worst]
    return tuple(int(m) for i, m in enumerate(order) if i < count or mean[m] + stderr[m] >= floor)
