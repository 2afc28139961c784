"""Imported evaluations: models' scores on prompts. A row's id is the hash of its content, so importing twice adds nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from typing import NamedTuple

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from agent.errors import InvalidInput
from agent.evaluation.reference import Reference
from agent.examples import Examples
from agent.online.drift import drift_adjustment
from agent.types import Encoded
from store.columns import utc_now
from store.database import Database
from store.drifts import FoundDrift
from store.examples import Score, to_examples
from store.prompts import insert_or_ignore, prompt_row, text_id
from store.settings import PromptsSetting
from store.tables import EvaluationTable, PromptTable

CHUNK = 256
"""Rows per commit: the most that an interrupted import loses."""


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """An evaluated prompt. ``source`` and ``task`` are true labels to compare tasks with; the router does not see them.

    Parameters
    ----------
    scores
        model -> score in [0, 1], of the models that were evaluated.
    costs
        model -> USD; may be empty.
    reference
        The right answer, by which answers of other models are scored; None where it is not known.
    """

    prompt: str
    source: str
    task: str | None
    scores: Mapping[str, float]
    costs: Mapping[str, float]
    reference: Reference | None = None

    def __post_init__(self) -> None:
        for model, score in self.scores.items():
            if not 0.0 <= score <= 1.0:
                raise InvalidInput(f"the score of {model!r} is {score}; it must lie in 0..1", param=f"scores.{model}")
        for model, cost in self.costs.items():
            if not 0.0 <= cost < float("inf"):
                raise InvalidInput(
                    f"the cost of {model!r} is {cost}; it must be USD, 0 or more", param=f"costs.{model}"
                )


@dataclass(frozen=True, slots=True)
class ImportReport:
    """Counts of an import: new ``rows`` and ``scores``, ``new_prompts`` that were encoded, ``duplicates`` of stored rows."""

    rows: int
    new_prompts: int
    scores: int
    duplicates: int


class Label(NamedTuple):
    """True labels of an evaluated prompt."""

    source: str
    task: str | None


@dataclass(frozen=True, slots=True)
class DatasetCount:
    """Numbers of stored rows and distinct prompts of a dataset's split."""

    dataset: str
    split: str
    rows: int
    prompts: int


class EvaluationStore:
    """Adds evaluations and reads them as training examples.

    Parameters
    ----------
    prompts
        ``embedding``: prompts' texts are not stored.
    """

    def __init__(self, database: Database, prompts: PromptsSetting = "full") -> None:
        self._database = database
        self._prompts = prompts

    def add(
        self,
        dataset: str,
        split: str,
        rows: Iterable[EvaluationRow],
        encode: Callable[[list[str]], list[Encoded]],
        encoder: str,
        progress: Callable[[int], None] | None = None,
    ) -> ImportReport:
        """Import rows, `CHUNK` per commit: an interrupted import that is repeated goes on where it stopped.

        Parameters
        ----------
        encode
            Called with the prompts that this encoder has not encoded yet, once each.
        encoder
            Its fingerprint.
        progress
            Called after each commit with the number of rows read so far.
        """
        report = ImportReport(0, 0, 0, 0)
        stream = iter(rows)
        read = 0
        while chunk := list(islice(stream, CHUNK)):
            report = self._add(dataset, split, chunk, encode, encoder, report)
            read += len(chunk)
            if progress is not None:
                progress(read)
        return report

    def _add(
        self,
        dataset: str,
        split: str,
        chunk: Sequence[EvaluationRow],
        encode: Callable[[list[str]], list[Encoded]],
        encoder: str,
        so_far: ImportReport,
    ) -> ImportReport:
        now = utc_now()
        prompts = {text_id(row.prompt, encoder): row.prompt for row in chunk}
        wanted = {_content_id(dataset, split, text_id(row.prompt, encoder), row): row for row in chunk}
        with self._database.session() as session:
            known = _present(session, PromptTable.id, prompts)
            seen = _present(session, EvaluationTable.id, wanted)
        # Encoding takes seconds: no transaction stays open meanwhile.
        missing = [prompts[i] for i in sorted(prompts.keys() - known)]
        encoded = encode(missing) if missing else []
        new_prompts = [
            prompt_row(text, encoder, e, self._prompts, now) for text, e in zip(missing, encoded, strict=True)
        ]
        new_rows = [
            {
                "id": content,
                "dataset": dataset,
                "split": split,
                "prompt_id": text_id(row.prompt, encoder),
                "source": row.source,
                "task": row.task,
                "scores": dict(row.scores),
                "costs": dict(row.costs),
                "reference": None if row.reference is None else row.reference.as_json(),
                "created_at": now,
            }
            for content, row in wanted.items()
            if content not in seen
        ]
        with self._database.session(write=True) as session:
            connection = session.connection()
            if new_prompts:
                connection.execute(insert_or_ignore(PromptTable, self._database.dialect), new_prompts)
            if new_rows:
                connection.execute(insert_or_ignore(EvaluationTable, self._database.dialect), new_rows)
            session.commit()
        return ImportReport(
            rows=so_far.rows + len(new_rows),
            new_prompts=so_far.new_prompts + len(new_prompts),
            scores=so_far.scores + sum(len(wanted[str(row["id"])].scores) for row in new_rows),
            duplicates=so_far.duplicates + len(chunk) - len(new_rows),
        )

    def examples(
        self, encoder: str, models: Sequence[str] | None = None, drifts: Sequence[FoundDrift] = ()
    ) -> tuple[Examples, list[Label]]:
        """The evaluated prompts of one encoder, scores averaged over datasets, and the label of each.

        Parameters
        ----------
        models
            The columns; prompts on which none of them was scored are left out. None for every model ever scored.
        drifts
            Scores from before their model changed are shifted by the change and weigh little; they are not used where the
            prompt was evaluated again since.
        """
        query = (
            select(
                EvaluationTable.prompt_id,
                EvaluationTable.source,
                EvaluationTable.task,
                EvaluationTable.scores,
                EvaluationTable.costs,
                EvaluationTable.created_at,
            )
            .join(PromptTable, PromptTable.id == EvaluationTable.prompt_id)
            .where(PromptTable.encoder == encoder)
            .order_by(EvaluationTable.prompt_id, EvaluationTable.id)
        )
        scores: dict[tuple[str, str], list[Score]] = {}
        score_weight: dict[tuple[str, str], float] = {}
        labels: dict[str, Label] = {}
        with self._database.session() as session:
            for prompt, source, task, scored, costs, created in session.execute(query):
                labels.setdefault(prompt, Label(source, task))
                later = [found.drift for found in drifts if found.detected_at > created]
                for model, score in scored.items():
                    shift, weight = drift_adjustment(model, -1, later)
                    if weight > score_weight.get((prompt, model), 0.0):
                        score_weight[prompt, model], scores[prompt, model] = weight, []
                    if weight == score_weight[prompt, model]:
                        shifted = min(max(score + shift, 0.0), 1.0)
                        scores[prompt, model].append(Score(prompt, model, shifted, costs.get(model)))
            examples = to_examples(session, [s for found in scores.values() for s in found], models)
        if drifts:
            weights = [[score_weight.get((prompt, model), 0.0) for model in examples.models] for prompt in examples.ids]
            examples = replace(examples, weights=np.array(weights, np.float64).reshape(examples.scores.shape))
        return examples, [labels[i] for i in examples.ids]

    def references(self, prompts: Sequence[str]) -> dict[str, Reference]:
        """prompt id -> its reference answer, of those that have one; where imports differ, the latest."""
        e, found = EvaluationTable, dict[str, Reference]()
        with self._database.session() as session:
            for start in range(0, len(prompts), CHUNK):
                page = e.prompt_id.in_(prompts[start : start + CHUNK])
                query = select(e.prompt_id, e.reference).where(page, e.reference.is_not(None))
                for prompt, reference in session.execute(query.order_by(e.created_at, e.id)):
                    found[prompt] = Reference.of(reference)
        return found

    def referenced(self, encoder: str) -> list[tuple[str, str, Reference]]:
        """The prompts of one encoder that have a reference and whose text is known: id, text and reference, by id."""
        p, e = PromptTable, EvaluationTable
        has = select(e.id).where(e.prompt_id == p.id, e.reference.is_not(None)).exists()
        query = select(p.id, p.text).where(p.encoder == encoder, p.text.is_not(None), has).order_by(p.id)
        with self._database.session() as session:
            texts = {name: str(text) for name, text in session.execute(query)}
        return [(name, texts[name], reference) for name, reference in sorted(self.references(list(texts)).items())]

    def counts(self) -> list[DatasetCount]:
        """Counts by dataset and split."""
        e = EvaluationTable
        query = (
            select(e.dataset, e.split, func.count(), func.count(e.prompt_id.distinct()))
            .group_by(e.dataset, e.split)
            .order_by(e.dataset, e.split)
        )
        with self._database.session() as session:
            return [DatasetCount(*row) for row in session.execute(query)]


def _content_id(dataset: str, split: str, prompt: str, row: EvaluationRow) -> str:
    content: list[object] = [dataset, split, prompt, row.source, row.task, dict(row.scores), dict(row.costs)]
    if row.reference is not None:
        content.append(row.reference.as_json())
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _present(session: Session, column: InstrumentedAttribute[str], ids: Iterable[str]) -> set[str]:
    return set(session.scalars(select(column).where(column.in_(ids))))
