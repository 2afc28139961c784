"""Counts the files of the four rooms that one prompt, one feedback event and one refresh pass through.

``python -m tests.walks`` starts an upstream, a replica and a refresh in this process, records every file in which a
function runs meanwhile, and prints the three lists.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
ROOMS = ("agent", "serve", "store", "jobs")
KEY = "walks-" + "0" * 20
POOL = """
version: 1
models:
  - {{name: up/alpha, provider: {{kind: openai, base_url: "{url}"}}, price: {{input: 1, output: 2}}, context: 32000}}
  - {{name: up/beta, provider: {{kind: openai, base_url: "{url}"}}, price: {{input: 1, output: 2}}, context: 32000}}
"""


POLLED = {
    "serve.routing.catch_up",
    "serve.routing.follower",
    "serve.routing.rival",
    "store.feedback",
    "store.log_pages",
    "store.snapshots",
    "store.trials",
    "store.pool.models",
}
"""What a replica runs several times a second whether anything happens or not."""


class Recorder:
    """Collects the files in which functions run, in every thread that is started after it."""

    def __init__(self) -> None:
        self._files: set[str] | None = None
        threading.setprofile(self._record)
        sys.setprofile(self._record)

    @contextmanager
    def recording(self) -> Iterator[set[str]]:
        """The files of the ``with`` block, complete at its end."""
        found: set[str] = set()
        self._files = found
        yield found
        self._files = None

    def _record(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or self._files is None or frame.f_code.co_name == "<module>":
            return
        module = str(frame.f_globals.get("__name__", ""))  # of generated methods too, whose file is "<string>"
        if module.partition(".")[0] in ROOMS:
            self._files.add(module)


async def requests(recorder: Recorder) -> tuple[set[str], set[str]]:
    """Modules that one chat and one feedback event pass through."""
    import httpx

    from serve.http.api import build_api
    from serve.providers.openai import OpenAIProvider
    from serve.service import Service
    from serve.settings import ServeSettings
    from store.schedule import JobPlan

    provider = OpenAIProvider(os.environ, timeout_s=10.0, connect_timeout_s=5.0)
    service = Service(ServeSettings.from_env(os.environ), {"openai": provider}, (JobPlan("refresh", "off"),))
    transport = httpx.ASGITransport(build_api(service))
    headers = {"authorization": f"Bearer {KEY}"}

    async with httpx.AsyncClient(transport=transport, base_url="http://walks", headers=headers) as client:

        async def chat(text: str) -> str:
            body = {"model": "auto", "messages": [{"role": "user", "content": text}]}
            response = await client.post("/v1/chat/completions", json=body)
            assert response.status_code == 200, response.text
            return str(response.headers["x-thalweg-decision-id"])

        async def rate(decision: str, score: float, rater: str) -> None:
            event = {"decision_id": decision, "score": score, "rater": rater}
            assert (await client.post("/feedback", json=event)).status_code == 202

        while (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.1)
        await chat("What is 2 + 2?")
        await asyncio.sleep(1.0)
        with recorder.recording() as prompt:
            decision = await chat("What is 3 + 5?")
            await asyncio.sleep(0.2)  # the call's outcome is written after the answer
        with recorder.recording() as feedback:
            await rate(decision, 0.0, "ann")
            await asyncio.sleep(1.0)
        for i in range(25):  # what the refresh reads
            await rate(await chat(f"What is {i} + 7?"), i / 25, f"rater-{i}")
        await service.close()
    return prompt - POLLED, feedback - {"serve.routing.rival", "store.snapshots", "store.trials", "store.pool.models"}


def refresh(recorder: Recorder) -> set[str]:
    """Modules that one refresh passes through."""
    from jobs.schedule.worker import run_job
    from jobs.settings import JobSettings
    from store.database import Database
    from store.runs import JobRuns

    settings = JobSettings.from_env(os.environ)
    runs = JobRuns(Database.open(settings.database_url))
    runs.request("refresh", {}, "walks")
    run = runs.claim(("refresh",), "walks")
    assert run is not None
    with recorder.recording() as found:
        run_job(run, settings)
    return found


def main() -> None:
    """Print the three walks."""
    recorder = Recorder()
    from jobs.context import JobContext
    from jobs.refresh.seed import ensure_champion
    from jobs.settings import JobSettings
    from tests.upstream import Upstream

    with tempfile.TemporaryDirectory() as home, Upstream() as upstream:
        pool = Path(home, "pool.yaml")
        pool.write_text(POOL.format(url=upstream.base_url))
        os.environ |= {"THALWEG_HOME": home, "THALWEG_POOL": str(pool), "THALWEG_API_KEY": KEY}
        with JobContext(JobSettings.from_env(os.environ)) as ctx:
            ensure_champion(ctx.database, ctx.cached_encoder, ctx.cards())
        prompt, feedback = asyncio.run(requests(recorder))
        for name, found in (("prompt", prompt), ("feedback event", feedback), ("refresh", refresh(recorder))):
            print(f"one {name}: {len(found)} files")
            print("".join(f"  {module.replace('.', '/')}.py\n" for module in sorted(found)))


if __name__ == "__main__":
    main()
