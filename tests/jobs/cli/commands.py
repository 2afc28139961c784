"""Runs the command line: in this process, or as one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from jobs.cli.app import app

ROOT = Path(__file__).parents[3]
MAIN = [sys.executable, "-c", "from jobs.cli.app import main; main()"]


def thalweg(*args: object, stdin: str | None = None) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(a) for a in args], input=stdin)


def data(*args: object) -> Any:
    """What a command prints with ``--json``."""
    done = thalweg(*args, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(*args: object) -> str:
    """The one line that a command prints which ends with code 2."""
    done = thalweg(*args)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("thalweg: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def as_process(*args: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a process."""
    return subprocess.run(MAIN + list(args), cwd=ROOT, capture_output=True, text=True, timeout=60, env=dict(os.environ))
