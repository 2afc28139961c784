"""A live server under load that models join: its upstreams answer from recorded scores, and a judge reads these off.

An answer says what it is worth (``[score 0.80] ...``). The judge is a model of the pool that is asked to compare two answers,
and gives each the score that it says; one that says none, such as SmolLM2's, gets `UNSAID`.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import numpy as np
import openai

from agent.examples import Examples
from agent.fit import fit
from store.database import Database
from store.encoders.cache import CachedEncoder
from store.evaluations import EvaluationRow, EvaluationStore
from store.prompts import text_id
from store.settings import StoreSettings
from tests.serve.conftest import publish
from tests.serve.test_live import Live
from tests.upstream import Body, Upstream, asked

LOCAL = "local/smollm2"
UNSAID = 0.1
PRICE = (1.0, 4.0)
"""USD per million input and output tokens of the models that are there from the start."""

ANSWER_TOKENS, ASKED_TOKENS = 400, 24
"""Tokens of an answer where the request sets no limit, and the limit that the load sets: SmolLM2 writes some 10 a second."""

FINAL = ("adopted", "declined", "failed")

Scores = Mapping[str, float]
"""Prompt -> score of a model's answer."""


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A model that joins.

    Parameters
    ----------
    name
        In the pool.
    scores
        Of its answers.
    price
        USD per million input and output tokens.
    context
        What it claims, in tokens.
    manners
        Of its upstream.
    """

    name: str
    scores: Scores
    price: tuple[float, float] = PRICE
    context: int = 32_000
    manners: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answered:
    """A request of the load: its prompt, which model answered, with which score; ``error`` where it failed."""

    prompt: str
    model: str
    score: float
    error: str | None = None


def answer(scores: Callable[[str], Scores]) -> Callable[[Body], str]:
    """What an upstream answers: the recorded score of the model that is asked, or a verdict where two answers are quoted."""

    def answered(body: Body) -> str:
        if mark := re.search(r'[Mm]ark is "(\w+)"', asked(body)):
            return verdict(asked(body), mark[1])
        score = scores(str(body["model"])).get(asked(body))
        return "ok" if score is None else f"[score {score:.3f}] So I would answer this."

    return answered


def verdict(text: str, mark: str) -> str:
    """A verdict on two quoted answers by the scores that they say."""
    found = [re.search(rf"{place} answer: .*?\[score ([\d.]+)\]", text) for place in ("first", "second")]
    first, second = (float(m[1]) if m else UNSAID for m in found)
    better = "tie" if first == second else "first" if first > second else "second"
    return json.dumps({"mark": mark, "first": first, "second": second, "better": better, "reason": "By the scores."})


def usage(body: Body, text: str) -> tuple[int, int]:
    """Input tokens by length; output tokens as asked for at most, a verdict's by length."""
    limit = body.get("max_tokens") or body.get("max_completion_tokens") or ANSWER_TOKENS
    given = sum(len(str(message.get("content"))) for message in body["messages"]) // 4 + 8
    return given, min(int(limit), len(text) // 4 if text.startswith("{") else ANSWER_TOKENS)


class Stage:
    """A server that runs, its upstreams, and the load.

    Parameters
    ----------
    live
        The server.
    recorded
        model -> its scores, also of those that join.
    prompts
        What the load asks, in random order.
    """

    def __init__(self, live: Live, recorded: dict[str, Scores], prompts: Sequence[str]) -> None:
        self.live, self.recorded, self._prompts = live, recorded, prompts
        self.answers: list[Answered] = []
        self._done = threading.Event()
        self._threads: list[threading.Thread] = []

    @contextmanager
    def load(self, clients: int, pause_s: float, feedback: float) -> Iterator[None]:
        """Clients that ask one request after another, waiting ``pause_s`` between them, and score a share of the answers."""
        self._done.clear()
        threads = [threading.Thread(target=self._ask, args=(n, pause_s, feedback)) for n in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._done.set()
            for thread in threads:
                thread.join()

    def _ask(self, seed: int, pause_s: float, feedback: float) -> None:
        rng = random.Random(seed)
        client = openai.OpenAI(base_url=f"{self.live.url}/v1", api_key=self.live.key, max_retries=0)
        with client, self.live.http as http:
            for n in count():
                if self._done.wait(pause_s):
                    return
                self.answers.append(self._one(client, http, rng, f"user-{seed}-{n % 10}", feedback))

    def _one(
        self, client: openai.OpenAI, http: httpx.Client, rng: random.Random, rater: str, feedback: float
    ) -> Answered:
        prompt = rng.choice(self._prompts)
        try:
            messages: Any = [{"role": "user", "content": prompt}]
            answer = client.chat.completions.create(model="auto", messages=messages, max_tokens=ASKED_TOKENS)
            chosen: dict[str, Any] = answer.thalweg  # type: ignore[attr-defined]
            score = self.recorded.get(chosen["model"], {}).get(prompt, UNSAID)
            if rng.random() < feedback:
                event = {"decision_id": chosen["decision_id"], "score": score, "source": "user", "rater": rater}
                http.post("/feedback", json=event).raise_for_status()
            return Answered(prompt, chosen["model"], score)
        except (openai.OpenAIError, httpx.HTTPError) as error:
            return Answered(prompt, "", 0.0, f"{type(error).__name__}: {error}")

    @contextmanager
    def joining(self, newcomer: Newcomer) -> Iterator[tuple[Upstream, float]]:
        """Add a model by ``POST /v1/models``; its upstream, and when it was added. At the end it is removed."""
        self.recorded[newcomer.name] = newcomer.scores
        manners = {"usage": usage, **newcomer.manners}
        with Upstream(answer(lambda model: newcomer.scores), **manners) as upstream, self.live.http as http:
            provider = {"kind": "openai", "base_url": upstream.base_url}
            price = dict(zip(("price_input", "price_output"), newcomer.price))
            body = {"name": newcomer.name, "provider": provider, "context": newcomer.context, **price}
            added = time.monotonic()
            assert http.post("/v1/models", json=body).raise_for_status().status_code == 201
            yield upstream, added
            http.delete(f"/v1/models/{newcomer.name}").raise_for_status()

    def join(self, name: str) -> dict[str, Any]:
        """What the server says of how far a model has come."""
        with self.live.http as http:
            found: dict[str, Any] = http.get(f"/v1/models/{name}").raise_for_status().json()
            return found

    def wait(self, name: str, timeout_s: float, states: Sequence[str] = FINAL) -> str:
        """The state that a model comes to, one of ``states``, or the one that it is in after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while (state := str(self.join(name)["state"])) not in states and time.monotonic() < deadline:
            time.sleep(0.2)
        return state

    def requests(self, number: int) -> list[Answered]:
        """The next ``number`` answers of the load."""
        begin = len(self.answers)
        while len(self.answers) < begin + number:
            time.sleep(0.05)
        return self.answers[begin : begin + number]


@contextmanager
def stage(
    home: StoreSettings,
    encoder: CachedEncoder,
    rows: Sequence[tuple[str, Scores]],
    prompts: Sequence[str],
    **settings: Any,
) -> Iterator[Stage]:
    """A server with SmolLM2 and the models of ``rows`` (prompt, model -> score), trained on these.

    Parameters
    ----------
    prompts
        What the load asks.
    settings
        Of the server.
    """
    models = sorted({model for _, scores in rows for model in scores})
    recorded: dict[str, Scores] = {model: {prompt: scores[model] for prompt, scores in rows} for model in models}
    names = [model for model in models if model != LOCAL]
    train(home, encoder, rows, models)
    with Upstream(answer(lambda model: recorded.get(model, {})), usage=usage) as upstream:
        pool = home.home / "pool.yaml"
        pool.write_text(json.dumps(_pool(names, upstream.base_url)))
        live = Live(home.home, pool, **settings)
        try:
            live.start()
            with live.http as http:  # SmolLM2 loads at its first request
                body = {"model": LOCAL, "messages": [{"role": "user", "content": "Hi."}], "max_tokens": 1}
                http.post("/v1/chat/completions", json=body, timeout=120).raise_for_status()
            yield Stage(live, recorded, prompts)
        finally:
            live.stop()


def _pool(names: Sequence[str], url: str) -> Any:
    price = dict(zip(("input", "output"), PRICE))
    entries: list[Any] = [
        {"name": n, "provider": {"kind": "openai", "base_url": url}, "price": price, "context": 32_000} for n in names
    ]
    local = {"name": LOCAL, "provider": {"kind": "embedded"}, "price": {"input": 0, "output": 0}, "context": 2048}
    return {"version": 1, "models": [*entries, local]}


def train(
    home: StoreSettings, encoder: CachedEncoder, rows: Sequence[tuple[str, Scores]], models: Sequence[str]
) -> None:
    """Store scored prompts, and make a snapshot that was trained on them the champion."""
    database = Database.open(home.database_url)
    encoded = dict(zip([text for text, _ in rows], encoder.encode([text for text, _ in rows])))
    made = [EvaluationRow(text, "recorded", None, dict(scores), {}) for text, scores in rows]
    EvaluationStore(database).add(
        "recorded", "train", made, lambda texts: [encoded[text] for text in texts], encoder.fingerprint
    )
    examples = Examples(
        ids=tuple(text_id(text, encoder.fingerprint) for text, _ in rows),
        embeddings=np.stack([encoded[text].embedding for text, _ in rows]),
        features=np.stack([encoded[text].features for text, _ in rows]),
        scores=np.array([[scores.get(model, np.nan) for model in models] for _, scores in rows]),
        models=tuple(models),
        texts=tuple(text for text, _ in rows),
    )
    publish(database, fit(examples, encoder=encoder.fingerprint))
    database.close()
