"""Off-policy values: the quality that snapshots and fixed policies would have had on the logged decisions.

All policies are evaluated on the same decisions. A snapshot's prediction for a prompt that it was trained on is
out-of-fold: made with that prompt's scores hidden. Scores are calibrated by the ledger as it was when the latest of the
snapshots was trained: a later one is calibrated by what the champion's decisions expect, which is in question here.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.errors import InvalidInput
from agent.evaluation.logged import logged_decisions
from agent.evaluation.value import PolicyValues, policy_values
from agent.feedback.state import feedback_state
from agent.snapshot import Snapshot
from store.database import Database
from store.feedback import FeedbackLog
from store.snapshots import SnapshotStore


def snapshot_values(
    database: Database,
    log: FeedbackLog,
    versions: Sequence[int] = (),
    *,
    always: Sequence[str] = (),
    since: int = 0,
) -> PolicyValues:
    """Estimate the values of snapshots and policies on the logged decisions.

    Parameters
    ----------
    versions
        Of the snapshots; none for the champion and its predecessor.
    always
        Models, each as a policy that always chooses it.
    since
        Position of the feedback log after which rows are read.

    Raises
    ------
    InvalidInput
        Where there is no such snapshot or model, or the snapshots read embeddings of different encoders.
    """
    store = SnapshotStore(database)
    snapshots = _snapshots(store, versions)
    encoder = snapshots[0].encoder
    if other := [s.version for s in snapshots if s.encoder != encoder]:
        raise InvalidInput(
            f"snapshot {other[0]} reads the embeddings of another encoder than snapshot {snapshots[0].version}; "
            "compare snapshots of one encoder only",
            param="version",
        )
    upto = log.head()
    ledger = feedback_state(max(snapshots, key=lambda s: s.position), ()).ledger
    decisions = logged_decisions(log.between(since, upto), ledger, encoder).explored()
    return policy_values(decisions, snapshots, always, since=since, upto=upto)


def _snapshots(store: SnapshotStore, versions: Sequence[int]) -> list[Snapshot]:
    """Those of ``versions``; without any the champion and, where it has the same encoder, its predecessor."""
    if versions:
        return [store.load(version) for version in dict.fromkeys(versions)]
    rows = {row.version: row for row in store.list()}
    champion = next((row for row in rows.values() if row.status == "champion"), None)
    if champion is None:
        raise InvalidInput("there is no champion yet; `thalweg refresh` makes one", param="version")
    before = rows.get(champion.parent or 0)
    both = [champion] if before is None or before.encoder != champion.encoder else [champion, before]
    return [store.load(row.version) for row in both]
