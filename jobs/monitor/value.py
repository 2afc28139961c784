"""What snapshots and simple policies would have earned on the decisions that were logged, with confidence intervals.

A snapshot never profits from what it was trained on: of a prompt that its training saw, it says what training said with
that prompt's scores hidden. All policies are judged on the same decisions, or they could not be compared.

Words are worth what was known of their sources and raters when the latest of the snapshots was trained. What came later
would calibrate them by what the champion's decisions expected, which is in question here.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.errors import InvalidInput
from agent.evaluation.logged import logged_decisions
from agent.evaluation.value import PolicyValues, predict_one
from agent.feedback.state import learn_one
from agent.snapshot import Snapshot
from store.database import Database
from store.feedback import FeedbackLog
from store.snapshots import SnapshotStore


def value(
    database: Database,
    log: FeedbackLog,
    versions: Sequence[int] = (),
    *,
    always: Sequence[str] = (),
    since: int = 0,
) -> PolicyValues:
    """Judge snapshots and policies on logged decisions.

    Parameters
    ----------
    versions
        Which snapshots; none for the champion and the one before it.
    always
        Models, each as a policy of its own.
    since
        Only what was said after this position of the log.

    Raises
    ------
    InvalidInput
        Where there is no such snapshot or model, or snapshots read the embeddings of different encoders.
    """
    store = SnapshotStore(database)
    judged = _snapshots(store, versions)
    encoder = judged[0].encoder
    if other := [s.version for s in judged if s.encoder != encoder]:
        raise InvalidInput(
            f"snapshot {other[0]} reads the embeddings of another encoder than snapshot {judged[0].version}; "
            "they cannot be judged on the same decisions",
            param="version",
        )
    upto = log.head()
    rows = log.between(since, upto)
    ledger = learn_one(max(judged, key=lambda s: s.position), ()).ledger
    found = logged_decisions(rows, ledger, encoder).explored()
    return predict_one(found, judged, always, since=since, upto=upto)


def _snapshots(store: SnapshotStore, versions: Sequence[int]) -> list[Snapshot]:
    """Those named; else the champion and, where it reads the same embeddings, the champion that it replaced."""
    if versions:
        return [store.load(version) for version in dict.fromkeys(versions)]
    rows = {row.version: row for row in store.list()}
    champion = next((row for row in rows.values() if row.status == "champion"), None)
    if champion is None:
        raise InvalidInput("there is no champion yet; `thalweg refresh` makes one", param="version")
    before = rows.get(champion.parent or 0)
    both = [champion] if before is None or before.encoder != champion.encoder else [champion, before]
    return [store.load(row.version) for row in both]
