"""A real Serve instance in HAProxy mode, from its config file: what the parts alone cannot show."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import psutil
import pytest
import yaml

from agent.evaluation.trial import TRIAL
from agent.snapshot import Snapshot
from store.database import Database
from store.feedback import FeedbackLog
from store.snapshots import SnapshotStore
from store.trials import TrialPlan
from tests.serve.conftest import BEST_AT, KINDS, WORDS, new_home, prompt, wait
from tests.upstream import Upstream

REPOSITORY = Path(__file__).parents[2]
START_S = 200.0


class Live:
    """``serve run`` of a config file on free ports; `kill` ends it at once."""

    def __init__(self, home: Path, pool_file: Path, **settings: Any) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home / "serve.log"
        self._config = home / "serve.yaml"
        self.pool = pool_file
        arguments = {"home": str(home), "pool": str(pool_file), "refresh_min_feedback": 0, "upstream_timeout_s": 60}
        arguments |= settings
        application = {"name": "thalweg", "import_path": "serve.app:build", "args": arguments}
        options = {"http_options": {"port": self.port}, "applications": [application]}
        self._config.write_text(yaml.safe_dump(options))
        self._tree: list[psutil.Process] = []

    def start(self) -> None:
        """Returns once it is ready."""
        # Replicas of two that share a range would listen on the same ports, and each get requests of the other's.
        ports = random.SystemRandom().randrange(10_000, 30_000, 100)
        settings = {
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports + 49),
            "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(ports + 50),
            "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(ports + 99),
            "PYTHONPATH": str(REPOSITORY) + os.pathsep + os.environ.get("PYTHONPATH", ""),
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # else replicas run at nice 15
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        }
        env = {k: v for k, v in os.environ.items() if not k.startswith(("THALWEG_", "RAY_"))} | settings
        command = [str(Path(sys.executable).with_name("serve")), "run", str(self._config)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=log, stderr=log)
        self._root = psutil.Process(self._process.pid)
        # One client and few questions: a client of its own for each takes the CPU from what is starting.
        with httpx.Client(base_url=self.url, timeout=5) as client:
            wait(lambda: self._ready(client), START_S, period_s=0.1)
        self._tree = [self._root, *self._root.children(recursive=True)]

    def _ready(self, client: httpx.Client) -> bool:
        assert self._root.is_running() and self._root.status() != psutil.STATUS_ZOMBIE, self.log.read_text()[-3000:]
        try:
            return client.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """SIGKILL to each process that was started."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to what is left."""
        self._end(signal.SIGTERM, first=1)
        psutil.wait_procs(self._tree, timeout=10)
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals, first: int | None = None) -> None:
        started = {p.pid: p for p in (*self._tree, *self._root.children(recursive=True))} if self._alive() else {}
        self._tree = list(({p.pid: p for p in self._tree} | started).values())
        for process in self._tree[:first]:
            if process.is_running():
                process.send_signal(number)
        if first is None:
            psutil.wait_procs(self._tree, timeout=10)
            self._process.wait(60)

    def _alive(self) -> bool:
        return bool(self._root.is_running())

    @property
    def http(self) -> httpx.Client:
        """A client with the key."""
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {self.key}"}, timeout=60)

    @property
    def key(self) -> str:
        """The key that it made."""
        return (self.home / "api_key").read_text().strip()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def live(
    tmp_path_factory: pytest.TempPathFactory, cache_dir: Path, snapshot: Snapshot, pool_file: Path
) -> Iterator[Live]:
    home = new_home(tmp_path_factory.mktemp("live") / "home", cache_dir, snapshot).home
    running = Live(home, pool_file)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def http(live: Live) -> Iterator[httpx.Client]:
    with live.http as client:
        yield client


@pytest.fixture
def client(live: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key=live.key, max_retries=0)


def ask(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": text}], **fields}


def choice(http: httpx.Client, kind: str, word: str = "Vienna", **steering: Any) -> dict[str, Any]:
    """The greedy best for a prompt of this kind."""
    greedy = {"explore": False, "cost_quality_tradeoff": 1.0, **steering}
    response = http.post("/v1/route", json=ask(prompt(kind, word), thalweg=greedy))
    assert response.status_code == 200, response.text
    decision: dict[str, Any] = response.json()
    return decision


def test_the_key_is_printed_once_and_nothing_opens_without_it(live: Live) -> None:
    assert live.log.read_text().count(live.key) == 1
    assert (live.home / "api_key").stat().st_mode & 0o777 == 0o600
    assert httpx.get(f"{live.url}/v1/models").status_code == 401


def test_the_openai_client_is_routed_to_the_upstream(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": prompt("river")}]
    greedy: Any = {"thalweg": {"explore": False}}
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=messages, extra_body=greedy)
    answer = raw.parse()
    assert answer.choices[0].message.content == f"echo: {prompt('river')}"
    summary = answer.thalweg  # type: ignore[attr-defined]
    assert raw.headers["x-thalweg-model"] == summary["model"]
    assert raw.headers["x-thalweg-decision-id"] == summary["decision_id"]
    with client.chat.completions.create(model="auto", messages=messages, stream=True, extra_body=greedy) as stream:
        first, *rest = list(stream)
    assert first.thalweg["decision_id"] != summary["decision_id"]  # type: ignore[attr-defined]
    assert not any(hasattr(chunk, "thalweg") for chunk in rest)


def test_the_local_model_answers_plain_and_streamed(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "What is the capital of France?"}]
    asked: Any = {"model": "local/smollm2", "messages": messages, "temperature": 0, "max_tokens": 16}
    assert "Paris" in client.chat.completions.create(**asked).choices[0].message.content
    with client.chat.completions.create(**asked, stream=True) as stream:
        chunks = list(stream)
    assert "Paris" in "".join(c.choices[0].delta.content or "" for c in chunks)
    assert len(chunks) > 3 and chunks[0].thalweg["model"] == "local/smollm2"
    with pytest.raises(openai.UnprocessableEntityError, match="temperature"):
        client.chat.completions.create(**(asked | {"temperature": 9}))


@pytest.mark.parametrize(("text", "stream"), [("hang", False), ("slow", True)])
def test_a_client_that_goes_away_takes_the_upstream_call_with_it(
    live: Live, upstream: Upstream, text: str, stream: bool
) -> None:
    dropped = upstream.dropped
    body = json.dumps(ask(text, model="up/alpha", stream=stream))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {live.key}\r\n"
    with socket.create_connection(("127.0.0.1", live.port)) as client:
        # In one packet: where the body comes in another, this HAProxy does not notice that the client has gone.
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        time.sleep(1.0)
    wait(lambda: upstream.dropped > dropped, 5.0)


def test_twenty_down_votes_move_one_task_within_two_seconds_and_no_other(http: httpx.Client) -> None:
    kinds = ("river", "sum", "code", "poem")
    before = {kind: choice(http, kind)["model"] for kind in kinds}
    for n in range(20):
        decision = choice(http, "code", f"f{n}", candidates=[before["code"]])
        vote = {"decision_id": decision["decision_id"], "thumb": "down", "rater": f"r{n}"}
        assert http.post("/feedback", json=vote).status_code == 202
    wait(lambda: choice(http, "code")["model"] != before["code"], 2.0)
    assert {kind: choice(http, kind)["model"] for kind in kinds if kind != "code"} == {
        kind: model for kind, model in before.items() if kind != "code"
    }


def test_a_new_champion_swaps_in_without_a_failed_request(live: Live, http: httpx.Client, snapshot: Snapshot) -> None:
    served: list[str] = []
    failed: list[Any] = []
    done = threading.Event()

    def ask_on() -> None:
        with live.http as client:
            while not done.is_set():
                response = client.post("/v1/route", json=ask(prompt("poem")))
                (served if response.status_code == 200 else failed).append(response.headers.get("x-thalweg-snapshot"))

    asking = threading.Thread(target=ask_on)
    asking.start()
    database = Database.open(f"sqlite:///{live.home}/thalweg.db")
    version = SnapshotStore(database).publish(snapshot, status="champion", report={}, created_by="tests").version
    database.close()
    try:
        wait(lambda: str(version) in served, 10.0)
    finally:
        done.set()
        asking.join()
    assert not failed and served[0] != str(version) and served[-1] == str(version)


def test_imported_evaluations_and_a_refresh_move_the_route_while_it_serves(live: Live, http: httpx.Client) -> None:
    words = [f"{a} near {b}" for a in WORDS.split()[:10] for b in WORDS.split()[10:]]
    data = live.home / "river-belongs-to-beta.jsonl"
    with data.open("w") as lines:
        for kind in KINDS:
            for word in words:
                talented = {"up/beta"} if kind == "river" else {m for m in BEST_AT if kind in BEST_AT[m]}
                scores = {model: 1.0 if model in talented else 0.3 for model in BEST_AT}
                lines.write(json.dumps({"prompt": prompt(kind, word), "source": kind, "scores": scores}) + "\n")
    settings = {"THALWEG_HOME": str(live.home), "THALWEG_POOL": str(live.pool)}
    imported = subprocess.run(
        [str(Path(sys.executable).with_name("thalweg")), "import", str(data), "--json"],
        cwd=REPOSITORY, env=os.environ | settings, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert imported.returncode == 0, imported.stderr
    assert choice(http, "river", "Riga")["model"] == "up/alpha"
    answers: list[httpx.Response] = []
    done = threading.Event()

    def ask_on() -> None:
        with live.http as client:
            while not done.wait(0.02):
                answers.append(client.post("/v1/route", json=ask(prompt("sum"))))

    asking = threading.Thread(target=ask_on)
    asking.start()
    try:
        run = http.post("/v1/jobs/refresh").json()["id"]
        wait(lambda: http.get(f"/v1/jobs/runs/{run}").json()["state"] in ("done", "failed"), 120.0)
        wait(lambda: choice(http, "river", "Riga")["model"] == "up/beta", 5.0)
        wait(lambda: answers[-1].headers["x-thalweg-snapshot"] != answers[0].headers["x-thalweg-snapshot"], 5.0)
    finally:
        done.set()
        asking.join()
    assert {response.status_code for response in answers} == {200}
    assert len({response.headers["x-thalweg-snapshot"] for response in answers}) == 2


def test_a_better_challenger_wins_its_trial_and_a_worse_champion_is_demoted(
    live: Live, http: httpx.Client, snapshot: Snapshot, misled: Snapshot
) -> None:
    database = Database.open(f"sqlite:///{live.home}/thalweg.db")
    store, log, plan = SnapshotStore(database), FeedbackLog(database), TrialPlan(TRIAL, 14.0)
    before = max((trial["id"] for trial in http.get("/v1/snapshots").json()["trials"]), default=0)

    def publish(made: Snapshot, status: Literal["champion", "trial"], plan: TrialPlan | None) -> int:
        """With nothing to learn from the log so far, else both would route by what it says."""
        fresh = replace(made, position=log.head())
        report = {"reason": "better"}
        return store.publish(fresh, status=status, report=report, created_by="refresh", plan=plan).version

    def trial_runs(nth: int) -> bool:
        ready = http.get("/readyz").json()
        return bool(ready["trial"] == before + nth and ready["snapshot"] == store.champion_version())

    def serve_and_score(round: str) -> str:
        """80 answers, then their true scores at once; returns the id of a decision that the coin made."""
        events, tried = [], ""
        for n in range(20):
            for kind in KINDS:
                asked = ask(prompt(kind, f"{round} {n}"), thalweg={"cost_quality_tradeoff": 1.0})
                decision = http.post("/v1/route", json=asked).raise_for_status().json()
                score = 0.9 if kind in BEST_AT.get(decision["model"], ()) else 0.1
                events.append({"decision_id": decision["decision_id"], "score": score, "source": "judge"})
                tried = tried or (decision["decision_id"] if "is drawn with" in decision["why"] else "")
        assert http.post("/feedback", json=events).status_code == 202
        return tried

    publish(misled, "champion", None)
    better = publish(snapshot, "trial", plan)
    wait(lambda: trial_runs(1))
    tried = serve_and_score("first")
    choice = http.get(f"/v1/decisions/{tried}").json()["trial"]
    assert choice["trial"] == before + 1 and choice["champion"] != choice["challenger"]
    wait(lambda: trial_runs(2))
    listed = http.get("/v1/snapshots").json()
    held, won = listed["trials"][:2]
    assert (listed["serving"], listed["trial"], listed["data"][0]["trial"]["id"]) == (better, held["id"], held["id"])
    assert (won["state"], won["challenger"]) == ("promoted", better) and won["difference"] > 0.2
    assert (held["kind"], held["state"], held["champion"], held["challenger"]) == (
        "hold-back", "running", better, won["champion"],
    )  # fmt: skip
    assert listed["data"][0]["why"].startswith("promoted: better on trial")

    worse = publish(misled, "champion", plan)
    wait(lambda: trial_runs(3))
    assert http.get("/v1/snapshots").json()["data"][0]["why"].startswith("better, nothing is proven yet")
    serve_and_score("second")
    wait(lambda: http.get("/readyz").json()["snapshot"] == better)
    database.close()
    demoted = http.get("/v1/snapshots").json()["data"][0]
    assert (demoted["version"], demoted["status"], demoted["trial"]["state"]) == (worse, "retired", "promoted")
    assert demoted["why"].startswith("rolled back: worse than its predecessor")
    assert http.post("/v1/snapshots/end-trial").status_code == 404


def test_what_was_learned_survives_kill_9_of_all_processes(live: Live, http: httpx.Client) -> None:
    decision = choice(http, "sum", "Malta")
    for n in range(5):
        vote = {"decision_id": decision["decision_id"], "score": 0.0, "source": "judge", "rater": f"j{n}"}
        receipt = http.post("/feedback", json=vote)
        assert receipt.status_code == 202
    seq = receipt.json()["results"][0]["seq"]
    wait(lambda: http.get("/readyz").json()["position"] >= seq, 2.0)
    before = {kind: choice(http, kind) for kind in ("code", "sum")}
    key = live.key
    live.kill()
    live.start()
    with live.http as again:
        assert live.key == key and again.get("/readyz").json()["position"] >= seq
        assert again.get(f"/v1/decisions/{decision['decision_id']}").json()["feedback"][0]["score"] == 0.0
        for kind, was in before.items():
            now = choice(again, kind)
            assert now["model"] == was["model"] and now["snapshot"] == was["snapshot"]
            assert now["quality"] == pytest.approx(was["quality"], abs=1e-6)
    assert live.log.read_text().count(key) == 1


BAD_NUMBER = "THALWEG_MAX_BODY='lots': give a whole number above 0"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_body", "lots", BAD_NUMBER),
        ("maxbody", "1", "did you mean 'max_body'"),
        ("pool", "{pool}", "did you mean 'price'"),
    ],
)
def test_a_mistake_in_the_arguments_is_named(
    tmp_path: Path, pool_file: Path, name: str, value: str, message: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        from serve.app import build
    typo = tmp_path / "pool.yaml"
    typo.write_text(pool_file.read_text().replace("price:", "prise:", 1))
    with pytest.raises(SystemExit, match=f"(?s)^thalweg: .*{message}"):
        build({"home": str(tmp_path), name: value.format(pool=typo)})


def test_a_mistake_in_the_arguments_ends_serve_run_with_one_clear_line(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("serve")), "run", "serve.app:build", f"home={tmp_path}"]
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    asked = [*command, "max_body=lots"]
    ended = subprocess.run(asked, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=120)
    assert ended.returncode != 0 and BAD_NUMBER in ended.stderr and "Traceback" not in ended.stderr
