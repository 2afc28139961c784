"""The candidate models of a task: the fewest top models that cover it (arXiv 2603.19415, sec. 3.2).

That is the shortest prefix of the models, best mean first, that holds the preferred model of more than ``coverage`` of the
task's prompts; and, since means err, any model whose mean lies within standard errors of the prefix's worst.
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
        (prompts of the task,) column of the model that does best on each prompt.
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
