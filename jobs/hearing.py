"""What feedback is worth at a position of the log: the champion's ledger, and all that was said since."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from agent.ledger import Ledger, Truth
from agent.snapshot import Snapshot
from agent.types import Examples, Observation
from store.feedback import FeedbackLog

_PAGE = 1000


def hear(champion: Snapshot | None, rows: Iterable[Observation], truth: Truth | None = None) -> Ledger:
    """The champion's ledger (a new one where there is none) after ``rows``, which follow its position."""
    ledger = Ledger.from_state(champion.meta.get("ledger") if champion else None, truth=truth)
    for row in rows:
        ledger.hear(row)
    return ledger


def rows_since(log: FeedbackLog, since: int, upto: int) -> list[Observation]:
    """The rows that follow position ``since``, up to position ``upto``, in order."""
    found: list[Observation] = []
    while page := log.tail(found[-1].seq if found else since, _PAGE):
        found += [o for o in page if o.seq <= upto]
        if page[-1].seq >= upto:
            break
    return found


def evaluated(evaluations: Examples) -> Truth:
    """Looks up what a model scored on an evaluated prompt."""
    row = {name: i for i, name in enumerate(evaluations.ids)}
    column = {name: j for j, name in enumerate(evaluations.models)}

    def truth(prompt_id: str, model: str) -> float | None:
        i, j = row.get(prompt_id), column.get(model)
        score = np.nan if i is None or j is None else float(evaluations.scores[i, j])
        return None if np.isnan(score) else score

    return truth
