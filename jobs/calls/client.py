"""Calls to OpenAI-compatible endpoints from a job: with a deadline, at a bounded rate, tried again where nothing was paid."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from store.join_calls import JoinCall, JoinCalls
from store.pool.file import PoolModel

ATTEMPTS = 5
"""Tries of one call."""

LONGEST_WAIT_S = 60.0
"""Longest wait before another try, whatever the endpoint asks for."""

_BUSY = (429, 503, 529)
"""Answers that say that nothing was done, and to come again."""

_LONGEST_ERROR = 500


class CallFailed(Exception):
    """A call was not answered.

    Parameters
    ----------
    message
        For people; names no key.
    status
        Of the answer; None where there was none.
    paid
        Whether it may have been paid all the same.
    retry_after_s
        What the endpoint asked to wait.
    """

    def __init__(
        self, message: str, *, status: int | None = None, paid: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.paid = paid
        self.retry_after_s = retry_after_s

    @property
    def refused(self) -> bool:
        """Whether the endpoint says that the request is wrong, and not that it is busy, broken or that a key is wrong."""
        return self.status is not None and 400 <= self.status < 500 and self.status not in (401, 403, 404, 408, 429)


@dataclass(frozen=True, slots=True)
class Answer:
    """The ``text`` of an answer and the whole ``body``; tokens are None where the endpoint does not count them."""

    text: str
    body: Mapping[str, Any]
    input_tokens: int | None
    output_tokens: int | None
    latency_ms: float

    def cost(self, model: PoolModel) -> float | None:
        """USD at list price; None where the tokens are not known."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        card = model.card
        return (self.input_tokens * card.price_input + self.output_tokens * card.price_output) / 1e6


@dataclass(slots=True)
class JobClient:
    """Calls models.

    Parameters
    ----------
    env
        Where the endpoints' keys are.
    timeout_s
        Longest wait for an answer.
    calls_per_minute
        Most calls a minute to one endpoint.
    sleep, monotonic
        Of the clock; tests pass their own.

    Attributes
    ----------
    limits
        model -> the parameter by which it limits the length of an answer, as far as that is known; None: by none.
    """

    env: Mapping[str, str]
    timeout_s: float = 120.0
    calls_per_minute: float = 60.0
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    limits: dict[str, str | None] = field(default_factory=dict)
    _next: dict[str, float] = field(default_factory=dict)
    _http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self._http = httpx.Client(timeout=httpx.Timeout(self.timeout_s, connect=min(self.timeout_s, 10.0)))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def chat(self, model: PoolModel, body: Mapping[str, Any]) -> Answer:
        """The answer to an OpenAI chat request; raises `CallFailed`.

        A busy endpoint, and one that cannot be reached, is tried again, after the time that it asks for or a random one that
        grows. After a timeout or a broken answer it is not: it may have been paid.
        """
        start = self.monotonic()
        content = self._tried(model, lambda: self._post(model, body))
        try:
            parsed = orjson.loads(content)
            message = parsed["choices"][0]["message"]
            text = message.get("content") or ""
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise CallFailed(f"it answered no chat completion: {_beginning(content)}", paid=True) from error
        usage = parsed.get("usage") if isinstance(parsed.get("usage"), dict) else {}
        counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
        tokens = [n if isinstance(n, int) and n >= 0 else None for n in counts]
        latency = (self.monotonic() - start) * 1e3
        return Answer(text if isinstance(text, str) else "", parsed, tokens[0], tokens[1], latency)

    def limited(self, model: PoolModel, body: Mapping[str, Any], tokens: int) -> Answer:
        """The answer to a chat request, of at most so many tokens, thinking included; raises `CallFailed`.

        Where it is not known by which parameter the model limits that, one that it refuses is replaced by the other.
        """
        name = model.card.name
        ways = [self.limits[name]] if name in self.limits else ["max_tokens", "max_completion_tokens"]
        for way in ways[:-1]:
            try:
                answer = self.chat(model, {**body, way: tokens} if way else body)
            except CallFailed as error:
                if not error.refused:
                    raise
            else:
                self.limits[name] = way
                return answer
        return self.chat(model, {**body, ways[-1]: tokens} if ways[-1] else body)

    def streams(self, model: PoolModel, body: Mapping[str, Any]) -> bool:
        """Whether a chat request is answered by events that end properly; raises `CallFailed`."""
        content = self._tried(model, lambda: self._post(model, {**body, "stream": True}))
        events = [line[5:].strip() for line in content.splitlines() if line.startswith(b"data:")]
        return any(event.startswith(b"{") and b'"finish_reason"' in event for event in events)

    def listed(self, model: PoolModel) -> Mapping[str, Any] | None:
        """What the endpoint's list of models says of one, which costs nothing; None where it has no list, or not the model."""
        url = f"{str(model.provider.base_url).rstrip('/')}/models"
        name, key = model.provider.api_key_env, self.env.get(model.provider.api_key_env or "")
        if name and not key:
            return None
        try:
            response = self._http.get(url, headers={"authorization": f"Bearer {key}"} if key else {})
            listed = orjson.loads(response.content)["data"] if response.is_success else ()
            wanted = model.provider.model or model.card.name
            return next((entry for entry in listed if isinstance(entry, dict) and entry.get("id") == wanted), None)
        except (httpx.HTTPError, httpx.InvalidURL, orjson.JSONDecodeError, KeyError, TypeError):
            return None

    def _tried(self, model: PoolModel, call: Callable[[], bytes]) -> bytes:
        retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            retry=retry_if_exception(lambda e: isinstance(e, CallFailed) and not e.paid and _worth_another_try(e)),
            wait=_wait,
            sleep=self.sleep,
            reraise=True,
        )
        out: bytes = retrying(call)
        return out

    def _post(self, model: PoolModel, body: Mapping[str, Any]) -> bytes:
        url = f"{str(model.provider.base_url).rstrip('/')}/chat/completions"
        self._keep_rate(url)
        headers = {"content-type": "application/json"}
        if name := model.provider.api_key_env:
            if not self.env.get(name):
                raise CallFailed(f"{name} is not set", status=401)
            headers["authorization"] = f"Bearer {self.env[name]}"
        content = orjson.dumps({**body, "model": model.provider.model or model.card.name})
        try:
            response = self._http.post(url, headers=headers, content=content)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise CallFailed(f"{url} cannot be reached ({type(error).__name__}: {error})") from error
        except httpx.TimeoutException as error:
            raise CallFailed(f"no answer within {self.timeout_s:g} s", paid=True) from error
        except httpx.HTTPError as error:
            raise CallFailed(f"the answer broke off ({type(error).__name__}: {error})", paid=True) from error
        if not response.is_success:
            status = response.status_code
            raise CallFailed(
                f"it answered {status}: {_beginning(response.content)}",
                status=status,
                retry_after_s=_seconds(response.headers.get("retry-after")),
            )
        return response.content

    def _keep_rate(self, url: str) -> None:
        """Wait until another call may be made."""
        now = self.monotonic()
        at = max(self._next.get(url, now), now)
        self._next[url] = at + 60.0 / self.calls_per_minute
        if at > now:
            self.sleep(at - now)


def _worth_another_try(error: CallFailed) -> bool:
    return error.status is None or error.status in _BUSY


_random_wait = wait_random_exponential(multiplier=1.0, max=LONGEST_WAIT_S)


def _wait(state: RetryCallState) -> float:
    """Seconds before another try: as the endpoint asks, and a random time that grows from try to try."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.retry_after_s if isinstance(error, CallFailed) and error.retry_after_s is not None else 0.0
    return min(max(asked, _random_wait(state)), LONGEST_WAIT_S)


def _seconds(header: str | None) -> float | None:
    """A Retry-After in seconds; None for a date, and where there is none."""
    try:
        return None if header is None else max(float(header), 0.0)
    except ValueError:
        return None


def _beginning(content: bytes) -> str:
    return content[:_LONGEST_ERROR].decode("utf-8", "replace").strip() or "nothing"


def end(
    calls: JoinCalls,
    call: JoinCall,
    model: PoolModel,
    answer: Answer | None,
    decision_id: str | None = None,
    text: str | None = None,
) -> None:
    """Write down that a booked call was answered; of a stream, whose usage is not read, ``answer`` is None.

    ``text`` is kept in place of the answer's own.
    """
    if answer is None:
        calls.done(call, "", cost_usd=None)
        return
    calls.done(
        call,
        answer.text if text is None else text,
        cost_usd=answer.cost(model),
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        latency_ms=answer.latency_ms,
        decision_id=decision_id,
    )
