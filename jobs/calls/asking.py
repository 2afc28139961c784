"""Calls that are paid for: each is booked with the most that it can cost, then made, and none is made a second time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.calls.client import Answer, CallFailed, JobClient, end
from store.join_calls import JoinBudget, JoinCalls, Role
from store.pool.file import PoolModel

_OVERHEAD_TOKENS = 200
"""Tokens that a request has beside its texts, at most."""

DOWN_AFTER = 3
"""Calls running that a model leaves unanswered, each tried as often as `JobClient` tries, after which it is down."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The ``text`` that ``model`` answered, now or before (None: it did not); ``beyond``: the budget did not allow the call;
    ``refused``: the endpoint says now that the request is wrong; ``down``: what it did in place of an answer, else."""

    text: str | None
    beyond: bool = False
    model: str = ""
    refused: bool = False
    down: str | None = None


class Asking:
    """Asks models, within the budget of one join, or of a day's judging.

    Parameters
    ----------
    calls, budget
        Where calls are booked, and what they may cost.
    join
        The join's id; None where live answers are judged.
    """

    def __init__(self, client: JobClient, calls: JoinCalls, budget: JoinBudget, join: int | None) -> None:
        self._client = client
        self._calls = calls
        self._budget = budget
        self._join = join
        self._unanswered: Counter[str] = Counter()  # by model, the latest calls running

    def down(self, model: str) -> bool:
        """Whether the model is asked no more, since it leaves calls unanswered."""
        return self._unanswered[model] >= DOWN_AFTER

    def ask(
        self,
        role: Role,
        subject: str,
        model: PoolModel,
        messages: Sequence[Mapping[str, str]],
        most: int,
        *,
        more: Mapping[str, Any] = {},
        before: str = "",
        decide: Callable[[Answer], str | None] = lambda answer: None,
    ) -> Reply:
        """Get an answer, unless it was asked for before: then what was answered. A model that is `down` is not asked.

        Parameters
        ----------
        role, subject
            What the call is about, once each.
        most
            Longest answer in tokens.
        more
            Further fields of the request.
        before
            Is kept before the answer's text, and so stands in the `Reply` too.
        decide
            Records the decision under which the answer is scored, and returns its id.
        """
        card = model.card
        if self.down(card.name):
            return Reply(None, down="it left the calls before unanswered")
        # the most that it can cost: a token is a byte at least
        tokens = sum(len(m["content"].encode("utf-8", "surrogatepass")) for m in messages) + _OVERHEAD_TOKENS
        reserved = (tokens * card.price_input + most * card.price_output) / 1e6
        call = self._calls.book(self._join, role, subject, card.name, reserved, self._budget)
        if call is None:
            return Reply(None, beyond=True)
        if call.state != "booked":
            return Reply(call.answer or "" if call.state == "done" else None, model=call.model)
        try:
            answer = self._client.limited(model, {"messages": list(messages), **more}, most)
        except CallFailed as error:
            self._calls.failed(call, error.message, paid=error.paid)
            self._unanswered[card.name] = 0 if error.refused else self._unanswered[card.name] + 1
            return Reply(None, refused=error.refused, down=None if error.refused else error.message)
        self._unanswered[card.name] = 0
        text = before + answer.text
        end(self._calls, call, model, answer, decide(answer), text)
        return Reply(text, model=card.name)
