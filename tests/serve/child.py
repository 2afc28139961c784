"""What tests of this room run in other processes, see `tests.store.child`."""

from __future__ import annotations

import signal
from multiprocessing.connection import Connection

from serve.http.api import build_api
from serve.service import Service
from serve.settings import ServeSettings
from tests.serve.served import Served


def serve_feedback(line: Connection, env: dict[str, str]) -> None:
    """Serve a home, say where, then wait to be killed."""
    service = Service(ServeSettings.from_env(env), {}, ())
    with Served(build_api(service), "on") as served:
        line.send(served.url)
        signal.pause()
