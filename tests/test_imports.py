"""Imports point one way and in no circle, `agent` stays pure, nothing is unpickled, importing does nothing."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
MAY_IMPORT = {
    "agent": {"agent"},
    "store": {"store", "agent"},
    "serve": {"serve", "agent", "store"},
    "jobs": {"jobs", "agent", "store"},
}
COMPOSITION_ROOT = "serve.app"
IMPURE = set(
    "sqlalchemy alembic sqlite3 psycopg httpx requests urllib http socket ssl aiohttp openai fastapi starlette ray "
    "subprocess multiprocessing signal time datetime sched random os sys io pathlib shutil tempfile glob gzip logging "
    "warnings psutil onnxruntime transformers sentence_transformers tokenizers pydantic_settings".split()
)
IMPURE_CALLS = {"open", "print", "input", "exec", "eval"}
UNPICKLERS = set("pickle cPickle _pickle joblib dill cloudpickle shelve marshal".split())
UNPICKLING = {"torch.load", "pandas.read_pickle", "pd.read_pickle"}
ONLY_UNDER_ALEMBIC = "store.migrations.env"
MODULES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for room in MAY_IMPORT
    for path in sorted((REPOSITORY / room).rglob("*.py"))
}


def faults(module: str, source: str, package: bool = False) -> list[str]:
    """What is wrong with ``module``, a line each: wrong arrows, impurity in `agent`, unpickling anywhere."""
    tree = ast.parse(source)
    room = module.partition(".")[0]
    allowed = MAY_IMPORT[room] | ({"jobs"} if module == COMPOSITION_ROOT else set())
    found = []
    for line, name in imported(tree, module, package):
        top = name.partition(".")[0]
        if top in MAY_IMPORT and top not in allowed:
            found.append(f"{module}:{line} imports {name}: {room} may import {', '.join(sorted(allowed))}")
        if top in UNPICKLERS or name in UNPICKLING:
            found.append(f"{module}:{line} imports {name}, which unpickles")
        if room == "agent" and (
            top in IMPURE or name.startswith("os.") or (top == "os" and module != "agent.encoding.encoder")
        ):
            found.append(
                f"{module}:{line} imports {name}: agent does no network, SQL, file, clock, environment or process work"
            )
    for node in ast.walk(tree):
        name = dotted(node)
        if name in UNPICKLING:
            found.append(f"{module}:{node.lineno} uses {name}, which unpickles")  # type: ignore[attr-defined]
        if room == "agent" and isinstance(node, ast.Call) and dotted(node.func) in IMPURE_CALLS:
            found.append(
                f"{module}:{node.lineno} calls {dotted(node.func)}: agent does no file, process or terminal work"
            )
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and not is_false(node.value):
            found.append(f"{module}:{node.value.lineno} allows pickle")
    return found


def imported(tree: ast.AST, module: str, package: bool) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of all that is imported, wherever it stands: in functions, under TYPE_CHECKING, by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: len(module.split(".")) - node.level + package] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in ("import_module", "__import__"):
            names = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            yield from ((node.lineno, name) for name in names)


def dotted(node: ast.AST) -> str:
    """``a.b`` of an attribute of a name, the name of a name, else nothing."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def is_false(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """Every circle of ``arrows`` (node -> nodes), each found from the node at which a depth-first walk meets it again."""
    found: list[str] = []
    done: set[str] = set()

    def walk(node: str, path: tuple[str, ...]) -> None:
        if node in path:
            found.append(" -> ".join((*path[path.index(node) :], node)))
        elif node not in done:
            for other in sorted(arrows.get(node, ())):
                walk(other, (*path, node))
            done.add(node)

    for start in sorted(arrows):
        walk(start, ())
    return found


def arrows(modules: dict[str, str], packages: set[str] = frozenset()) -> dict[str, set[str]]:  # type: ignore[assignment]
    """module -> modules that it imports, of those in ``modules`` (name -> source)."""
    drawn: dict[str, set[str]] = {}
    for module, source in modules.items():
        names = [name for _, name in imported(ast.parse(source), module, module in packages)]
        owners = {next((o for o in (name, name.rpartition(".")[0]) if o in modules), module) for name in names}
        drawn[module] = owners - {module}
    return drawn


def folder(module: str) -> str:
    """``agent.tasks`` for ``agent.tasks.graph``; a module at a room's top stands for itself."""
    return ".".join(module.split(".")[:2])


def test_no_imports_run_in_a_circle_between_modules_or_folders() -> None:
    packages = {name for name, path in MODULES.items() if path.stem == "__init__"}
    drawn = arrows({name: path.read_text() for name, path in MODULES.items()}, packages)
    assert circles(drawn) == []
    between: dict[str, set[str]] = {}
    for module, others in drawn.items():
        between.setdefault(folder(module), set()).update({folder(o) for o in others} - {folder(module)})
    assert circles(between) == []


def test_circles_are_seen() -> None:
    assert circles(
        arrows({"a.b": "from a import c", "a.c": "def f():\n    from a.b import g", "a.d": "import a.b"})
    ) == ["a.b -> a.c -> a.b"]
    assert circles(arrows({"a.b": "from a import c", "a.c": "import os"})) == []


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_one_way_and_the_pure_room_is_pure(room: str) -> None:
    read = {name: path for name, path in MODULES.items() if name.partition(".")[0] == room}
    assert read, f"no module found in {room}/"
    assert [f for name, path in read.items() for f in faults(name, path.read_text(), path.stem == "__init__")] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("agent.router", "import store"),
        ("agent.router", "from store.database import Database"),
        ("agent.router", "def f():\n    from serve import live"),
        ("agent.router", "if TYPE_CHECKING:\n    import jobs.schedule.worker"),
        ("store.database", "from serve.routing.live import LiveRouter"),
        ("store.database", "import jobs"),
        ("serve.routing.live", "from jobs.schedule.worker import run_job"),
        ("serve.routing.live", "importlib.import_module('jobs.schedule.worker')"),
        ("jobs.schedule.worker", "from serve.routing.live import LiveRouter"),
        ("jobs.schedule.worker", "import agent, serve.http.api"),
        ("agent.fit", "import time"),
        ("agent.fit", "from datetime import datetime"),
        ("agent.fit", "import urllib.request"),
        ("agent.fit", "from sqlalchemy.orm import Session"),
        ("agent.fit", "import os"),
        ("agent.encoding.encoder", "import os"),
        ("agent.encoding.encoder", "from os import environ"),
        ("agent.encoding.encoder", "from pathlib import Path"),
        ("agent.encoding.encoder", "open('weights.onnx')"),
        ("store.snapshots", "import pickle"),
        ("store.encoders.cache", "from joblib import load"),
        ("serve.providers.local.weights", "torch.load('weights.pt')"),
        ("serve.providers.local.weights", "from torch import load"),
        ("jobs.data.files", "np.load(path, allow_pickle=True)"),
    ],
)
def test_the_checker_sees(module: str, source: str) -> None:
    assert len(faults(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("serve.app", "from jobs.schedule.worker import run_job\nfrom ray import serve"),
        ("store.database", "import os, time\nos.environ['HOME']\nfrom agent.types import Decision"),
        ("agent.fit", "from agent import evolve\nfrom . import means"),
        ("jobs.data.files", "np.load(path, allow_pickle=False)"),
    ],
)
def test_the_checker_lets_pass(module: str, source: str) -> None:
    assert faults(module, source) == []


WATCHED_IMPORTS = """
import os, sys, threading
seen = []
WEIGHTS = (".safetensors", ".onnx", ".gguf", ".bin", ".pt", ".npz", ".db", ".sqlite", ".sqlite3", ".yaml", ".jsonl", ".gz")
ours = sys.argv[1]

def watch(event, args):
    if event in ("sqlite3.connect", "socket.connect", "socket.bind", "subprocess.Popen", "os.fork", "os.posix_spawn"):
        seen.append(f"{event} {args[:1]}")
    elif event == "open" and isinstance(args[0], str):
        path, mode = args[0], args[1] or ""
        beyond_reading = "w" in mode or "a" in mode or "+" in mode
        if beyond_reading and not path.endswith(".pyc") and path != os.devnull and ".pyc." not in path:
            seen.append(f"writes {path}")
        elif path.endswith(WEIGHTS) and (path.startswith(ours) and "/.venv/" not in path or "minilm" in path.lower()):
            seen.append(f"reads {path}")

import importlib
for foreign in sys.argv[2].split(","):  # what others do when they are imported is not ours
    importlib.import_module(foreign)
threads, env, working = set(threading.enumerate()), dict(os.environ), os.getcwd()
sys.addaudithook(watch)
for module in sys.argv[3:]:
    importlib.import_module(module)
    seen += [f"{module} started {t.name}" for t in set(threading.enumerate()) - threads]
    threads = set(threading.enumerate())
    if dict(os.environ) != env:
        seen.append(f"{module} changed the environment: {set(os.environ.items()) ^ set(env.items())}")
        env = dict(os.environ)
seen += [f"{path} appeared" for path in os.listdir(working)]
if seen:
    sys.exit("\\n".join(seen))
"""
FOREIGN = "numpy,torch,sklearn,river.drift,river.stats,hnswlib,sqlalchemy,fastapi,httpx,ray.serve,typer"


def watched(folder: Path, *modules: str, path: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """Import ``modules`` one after the other in a process that is watched, in an empty working directory."""
    working = folder / "working"
    working.mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("THALWEG_", "RAY_"))} | {
        "PYTHONPATH": str(path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "THALWEG_HOME": str(working / "home"),
    }
    foreign = FOREIGN if path == REPOSITORY else "json"
    command = [sys.executable, "-c", WATCHED_IMPORTS, str(path), foreign, *modules]
    return subprocess.run(command, cwd=working, env=env, capture_output=True, text=True, timeout=280)


def test_importing_does_nothing(tmp_path: Path) -> None:
    """Every module of the rooms: no thread, connection, process, file, weight, changed variable or printed line."""
    ended = watched(tmp_path, *(name for name in MODULES if name != ONLY_UNDER_ALEMBIC))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import threading\nthreading.Thread(target=threading.Event().wait, name='busy', daemon=True).start()", "busy"),
        ("import sqlite3\nsqlite3.connect(':memory:')", "sqlite3.connect"),
        ("open('var', 'w').close()", "writes var"),
        ("from pathlib import Path\nopen(Path(__file__).with_name('w.safetensors'), 'rb').close()", "reads"),
        ("import os\nos.environ['OMP_NUM_THREADS'] = '7'", "changed the environment"),
    ],
)
def test_the_watch_sees(tmp_path: Path, source: str, said: str) -> None:
    (tmp_path / "w.safetensors").touch()
    (tmp_path / "guilty.py").write_text(source)
    ended = watched(tmp_path, "guilty", path=tmp_path)
    assert ended.returncode == 1 and said in ended.stderr
