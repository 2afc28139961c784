"""From two data files to a `Result`: read, check, encode (cached) and compare."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agent.errors import InvalidInput
from jobs.data.files import read
from jobs.evaluate.harness import Progress, Result, run
from jobs.evaluate.table import align, build
from store.encoders.cache import CachedEncoder

SUFFIXES = (".jsonl.gz", ".jsonl")


def evaluate(
    train: Path,
    test: Path,
    *,
    encoder: CachedEncoder,
    seeds: int = 1,
    priors: Mapping[str, float] | None = None,
    ablate: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Train on one file and route the other; the parameters are those of `jobs.evaluate.harness.run`.

    Raises
    ------
    BadDataFile, InvalidInput
        Where a file cannot be used.
    """
    if seeds < 1:
        raise InvalidInput(f"--seeds is {seeds}; give 1 or more", param="seeds")
    report: Progress = progress or (lambda what, share: None)
    trained_on, tested_on, models, notes = align(read(train), read(test))
    if len(trained_on) < 2:
        raise InvalidInput(f"{train}: training needs at least two different prompts", param="train")
    rows = [*trained_on, *tested_on]
    encoded = encoder.encode([row.prompt for row in rows], lambda share: report("encoding", share))
    return run(
        build(trained_on, encoded[: len(trained_on)], models),
        build(tested_on, encoded[len(trained_on) :], models),
        encoder=encoder.fingerprint,
        seeds=seeds,
        priors=priors or {},
        notes=notes,
        progress=report,
        ablate=ablate,
    )


def pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """The data sets of a folder: every subfolder with a ``train`` and a ``test`` file, by name.

    Raises
    ------
    InvalidInput
        Where there is none.
    """
    found = {}
    for sub in sorted(folder.glob("*/")):
        train, test = (
            next((f for s in SUFFIXES if (f := sub / f"{split}{s}").exists()), None) for split in ("train", "test")
        )
        if train and test:
            found[sub.name] = (train, test)
    if not found:
        raise InvalidInput(
            f"{folder}: no subfolder holds train.jsonl(.gz) and test.jsonl(.gz); name a folder like ../shared/data",
            param="folder",
        )
    return found
