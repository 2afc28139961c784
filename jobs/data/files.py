"""Files of scored prompts: read whole and checked, then imported into the store with each prompt encoded once.

`read` knows Thalweg's own format (`jobs.data.rows`) and two benchmarks' formats (`jobs.data.benchmarks`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.encoding.encoder import Encoder
from agent.errors import BadDataFile
from agent.types import Encoded, Turn
from jobs.data import benchmarks
from jobs.data.rows import read_jsonl
from store.database import Database
from store.evaluations import EvaluationRow, EvaluationStore, ImportReport
from store.settings import PromptsSetting


def read(path: Path) -> list[EvaluationRow]:
    """Every scored row of a data file, in any of the formats known; see `load` for the others.

    Parameters
    ----------
    path
        ``.jsonl`` or ``.jsonl.gz``; RouterBench exported as ``.csv`` or ``.csv.gz``; a file or folder of
        LLMRouterBench's results.

    Raises
    ------
    BadDataFile
        Where the file is missing, damaged, of another format, or has a wrong line; names each.
    """
    if scored := [row for row in _rows(path) if row.scores]:
        return scored
    raise BadDataFile(f"{path}: holds no scores", param=str(path))


def _rows(path: Path) -> list[EvaluationRow]:
    if not path.exists():
        raise BadDataFile(f"{path}: no such file", param=str(path))
    suffixes = [s for s in path.suffixes if s != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if path.is_dir() or kind == ".json":
        rows = benchmarks.read_llmrouterbench(path)
    elif kind == ".csv":
        rows = benchmarks.read_routerbench(path)
    elif kind in (".pkl", ".pickle"):
        raise BadDataFile(
            f"{path}: a pickle can run code when it is opened, so it is never read; export it once where you trust it: "
            "pandas.read_pickle(path).to_csv('routerbench.csv', index=False), then import the CSV",
            param=str(path),
        )
    else:
        rows = read_jsonl(path)
    if not rows:
        raise BadDataFile(f"{path}: holds no rows", param=str(path))
    return rows


@dataclass(frozen=True, slots=True)
class DataFile:
    """A checked file, ready to be imported as ``dataset`` and ``split``."""

    path: Path
    dataset: str
    split: str
    rows: Sequence[EvaluationRow]


def load(path: Path, dataset: str | None = None, split: str | None = None) -> DataFile:
    """Read a file as `read` does, with the rows that have a reference and no score.

    ``reasoning_gym/train.jsonl.gz`` is by default the split ``train`` of ``reasoning_gym``.
    """
    rows = _rows(path)
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
    """Write a file's rows; what the store holds already stays as it is, and only new prompts are encoded.

    Parameters
    ----------
    prompts
        Whether the prompts' texts are kept.
    progress
        Called with the number of rows done.
    """

    def encode(texts: list[str]) -> list[Encoded]:
        return encoder.encode([(Turn("user", text),) for text in texts])

    return EvaluationStore(database, prompts).add(
        file.dataset, file.split, file.rows, encode, encoder.fingerprint, progress
    )
