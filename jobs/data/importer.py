"""`thalweg import`: scored prompts from files into the store, each prompt encoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.encoding.encoder import Encoder
from agent.types import Encoded, Turn
from jobs.data.files import read
from store.database import Database
from store.evaluations import EvaluationRow, EvaluationStore, ImportReport
from store.settings import PromptsSetting


@dataclass(frozen=True, slots=True)
class DataFile:
    """A checked file, ready to be imported as ``dataset`` and ``split``."""

    path: Path
    dataset: str
    split: str
    rows: Sequence[EvaluationRow]


def load(path: Path, dataset: str | None = None, split: str | None = None) -> DataFile:
    """Read and check a whole file; ``reasoning_gym/train.jsonl.gz`` is the split ``train`` of ``reasoning_gym``.

    Raises
    ------
    BadDataFile
        Where anything is wrong with it.
    """
    rows = read(path)
    name = path.name.split(".")[0]
    return DataFile(path, dataset or path.absolute().parent.name or name, split or name, rows)


def store_file(
    file: DataFile,
    database: Database,
    encoder: Encoder,
    *,
    prompts: PromptsSetting = "full",
    progress: Callable[[int], None] | None = None,
) -> ImportReport:
    """Write a file's rows; what is there already stays as it is, and only new prompts are encoded.

    Parameters
    ----------
    progress
        Told the number of rows done.
    """

    def encode(texts: list[str]) -> list[Encoded]:
        return encoder.encode([(Turn("user", text),) for text in texts])

    return EvaluationStore(database, prompts).add(
        file.dataset, file.split, file.rows, encode, encoder.fingerprint, progress
    )
