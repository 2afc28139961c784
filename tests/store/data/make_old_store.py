# mypy: ignore-errors
"""Makes `old_store.sql.gz`, a small store as commit 4c91bbd left it; `tests/store/test_old_store.py` opens it.

Run it in a checkout of that commit, whose modules it imports:
``PYTHONPATH=. python <here>/make_old_store.py old_store.sql.gz``. The prompts, scores and ratings are made up, and of
every tensor of a snapshot only the first two rows are kept: its format, 3, is not read any more.
"""

from __future__ import annotations

import gzip
import sqlite3
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path


def main(out: str) -> None:
    """Write the dump."""
    import hashlib

    import numpy as np
    from jobs.importer import load, store_file
    from safetensors.numpy import load as load_tensors
    from safetensors.numpy import save
    from store.models import ModelPool

    from agent.router import Router
    from agent.types import Drift, ModelCard, RouteRequest, Turn
    from jobs.refresh import refresh
    from jobs.settings import JobSettings
    from store.database import Database
    from store.decisions import DecisionLog, DecisionRecord, Outcome
    from store.drifts import DriftStore
    from store.feedback import FeedbackEvent, FeedbackLog
    from store.pool import PoolFile
    from store.runs import JobRuns
    from store.snapshots import SnapshotStore
    from store.writer import GroupCommitter
    from tests.jobs.made import COSTS, MODELS, WordEncoder, live, records, write

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        settings = JobSettings.from_env({"THALWEG_HOME": folder})
        database, encoder = Database.open(settings.store.database_url), WordEncoder()
        writer, snapshots, runs = GroupCommitter(database), SnapshotStore(database), JobRuns(database)
        decisions, log = DecisionLog(database, writer), FeedbackLog(database, writer)

        pool = home / "pool.yaml"
        upstream = 'provider: {kind: openai, base_url: "http://127.0.0.1:9/v1", model: x}, context: 8192'
        cost = {name: 1e3 * COSTS[name] for name in MODELS}
        lines = [f"  - {{name: {n}, {upstream}, price: {{input: {c}, output: {c}}}}}" for n, c in cost.items()]
        pool.write_text("\n".join(["version: 1", "models:", *lines, ""]))
        ModelPool(database).sync(PoolFile.load(pool))

        rows = records(60)
        store_file(load(write(home / "made.jsonl", rows), "made", "train"), database, encoder)
        first = refresh(database, settings, encoder=encoder)

        snapshot = snapshots.load(first.version)
        cards = [ModelCard(name, price_input=c, price_output=c) for name, c in cost.items()]
        router, rng = Router(snapshot, [*cards, ModelCard("absent", available=False)]), np.random.default_rng(0)
        for i, row in enumerate(records(12, seed=3)):
            turns = (Turn("user", row["prompt"]),)
            decision = router.route(encoder.encode([turns])[0], RouteRequest(turns, cost_quality_tradeoff=0.7), rng)
            decisions.append(
                DecisionRecord(
                    id=f"routed{i}", created_at=datetime.now(UTC), decision=decision, encoder=encoder.fingerprint,
                    prompt=row["prompt"], key="bootstrap", session="s", tradeoff=0.7,
                )
            ).result()  # fmt: skip
            if i < 3:
                status = ("ok", "error", "timeout")[i]
                decisions.complete(f"routed{i}", Outcome(status=status, latency_ms=20.0, cost_usd=0.001)).result()
            other = next(c.model for c in decision.candidates if c.model not in (decision.model, "absent"))
            score = row["scores"][decision.model]
            events = [
                FeedbackEvent(f"routed{i}", 0.8 * score + 0.1, "user", "ann", "made up", f"key{i}", key="bootstrap"),
                FeedbackEvent(f"routed{i}", score, "user", "bob", thumb="up" if score else "down"),
                FeedbackEvent(f"routed{i}", score, "judge"),
            ]
            if i % 3 == 0:
                events.append(FeedbackEvent(f"routed{i}", 1.0, "user", "ann", other=other))
                events.append(FeedbackEvent(f"routed{i}", 0.4, "user", "bob"))  # revises
            log.append(events).result()
        assert not refresh(database, settings, encoder=encoder).promoted
        live(database, snapshot, records(24, seed=5))
        better = snapshots.publish(
            replace(snapshot, position=log.head()), status="champion", created_by="refresh",
            report={"promoted": True, "reason": "better", "gate": {"pooled": {"mean": 0.04, "stderr": 0.01, "n": 90}}},
        )  # fmt: skip
        reason = f"rolled back by itself: snapshot {better.version} is worse live by 0.0500 +- 0.0100"
        found = {"mean": -0.05, "stderr": 0.01, "upper": -0.03, "decisions": 240}
        report = {"reason": reason, "heir": first.version, "live": found, "promised": {"reason": "better"}}
        assert snapshots.depose(better.version, first.version, reason, report)
        DriftStore(database).record(first.version, [Drift("cheap", 30, 20, -0.4, "scan")])
        runs.request("refresh", {"seed": 0}, "made")
        run = runs.claim(["refresh"], "worker")
        runs.finish(run.id, {"version": first.version})
        runs.request("refresh", {}, "waiting")
        writer.close()
        database.close()
        with sqlite3.connect(home / "thalweg.db") as file:
            for table in ("snapshots", "heads"):
                for row, blob in file.execute(f"select rowid, tensors from {table}").fetchall():
                    cut = save({name: tensor[:2].copy() for name, tensor in load_tensors(blob).items()})
                    digest = hashlib.sha256(cut).hexdigest()
                    file.execute(f"update {table} set tensors = ?, sha256 = ? where rowid = ?", (cut, digest, row))
            dump = "\n".join(file.iterdump())
    Path(out).write_bytes(gzip.compress(dump.encode(), mtime=0))


if __name__ == "__main__":
    main(sys.argv[1])
