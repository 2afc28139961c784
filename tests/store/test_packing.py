"""Decisions are kept compact, come back exactly, and are read as earlier versions wrote them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import orjson
import pytest
from sqlalchemy import LargeBinary, select, text, type_coerce

from agent.types import Candidate, Encoded, Evidence, Part
from store.database import Database
from store.decisions import DecisionLog
from store.packing import pack_candidates, read_candidates
from store.tables import DecisionTable, PromptTable
from store.views import RecordedDecisionView, to_json
from store.writer import GroupCommitter
from tests.store.build import a_record


def a_pool(models: int, seed: int = 0) -> tuple[Candidate, ...]:
    """Candidates as a router makes them: numbers of many digits, parts by weights that are the same for all."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(3)).tolist()

    def one(i: int) -> Candidate:
        parts = {n: Part(float(rng.random()), w) for n, w in zip(("task", "head", "neighbours"), weights)}
        numbers = {
            n: float(rng.random()) for n in ("quality", "stderr", "cost", "utility", "shrinkage", "cost_penalty")
        }
        name = f"vendor-{i % 5}/model-{i}.5-instruct"
        return replace(Candidate(name, 0.0, 0.0, 0.0, 0.0, float(i == 0), parts), **numbers)  # type: ignore[arg-type]

    return tuple(one(i) for i in range(models))


@pytest.mark.parametrize("models", [0, 1, 21])
def test_candidates_come_back_exactly(models: int) -> None:
    ranked = a_pool(models)
    ranked += (
        Candidate("x", 0.1 + 0.2, 1e-300, -0.0, 1 / 3, 0.0, {"prior": Part(0.1, 1.0)}, "no vision é", caution=0.25),
    )
    assert read_candidates(pack_candidates(ranked)) == ranked
    (unknown,) = read_candidates(
        pack_candidates((replace(ranked[-1], cost=math.inf, parts={"a": Part(0.5, math.nan)}),))
    )
    assert math.isnan(unknown.cost) and math.isnan(unknown.parts["a"].weight)


def test_candidates_take_a_fifth_of_their_json() -> None:
    ranked = a_pool(21)
    plain = orjson.dumps(ranked)
    assert len(plain) > 9000 and len(pack_candidates(ranked)) < len(plain) / 4.5


def test_a_decision_and_its_view_are_the_same_whether_it_is_stored_compact_or_as_json(
    database: Database, writer: GroupCommitter
) -> None:
    log = DecisionLog(database, writer)
    evidence = tuple(Evidence(f"{i:064x}", 0.9, {f"m{j}": 1.0 for j in range(11)}) for i in range(5))
    features = np.zeros(1000, np.float32)
    features[7] = 0.5
    made = a_record("compact")
    encoded = Encoded(made.decision.encoded.embedding, features, 5)
    made = replace(made, decision=replace(made.decision, candidates=a_pool(11), evidence=evidence, encoded=encoded))
    made = replace(made, decision=replace(made.decision, model=made.decision.candidates[0].model))
    log.append(made).result()
    log.append(replace(made, id="json")).result()
    with database.session(write=True) as session:
        size = select(
            *(
                type_coerce(c, LargeBinary)
                for c in (DecisionTable.candidates, DecisionTable.evidence, PromptTable.features)
            )
        )
        stored = session.execute(size.join(PromptTable).where(DecisionTable.id == "compact")).one()
        assert sum(map(len, stored)) < 1500
        kind = "CAST(:{0} AS TEXT)" if database.dialect == "sqlite" else "convert_to(:{0}, 'UTF8')"
        session.execute(
            text(
                f"UPDATE decisions SET candidates = {kind.format('c')}, evidence = {kind.format('e')} WHERE id = 'json'"
            ),
            {
                "c": json.dumps([asdict(c) for c in made.decision.candidates]),
                "e": json.dumps([asdict(e) for e in evidence]),
            },
        )
        session.execute(PromptTable.__table__.update().values(embedding=encoded.embedding))  # type: ignore[attr-defined]
        session.commit()
    compact, plain = log.get("compact"), log.get("json")
    assert compact is not None and plain is not None
    assert compact.decision.candidates == plain.decision.candidates == made.decision.candidates
    assert compact.decision.evidence == plain.decision.evidence == evidence
    assert np.array_equal(compact.decision.encoded.features, features)
    views = [to_json(RecordedDecisionView.of_record(replace(r, id="d"), None, [])) for r in (compact, plain)]
    assert views[0] == views[1]
