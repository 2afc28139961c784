"""How long a prompt a model takes in truth: the longest prompts of the past that its card claims to hold are put to it."""

from __future__ import annotations

from sqlalchemy import select

from agent.snapshot import Snapshot
from jobs.calls.asking import Asking
from jobs.context import JobContext
from store.pool.file import PoolModel
from store.prompts import turns_of
from store.tables import PromptTable

ANSWER_TOKENS = 16
"""Longest answer to such a prompt."""

MOST_CALLS = 7
"""One where the claim holds, as far as the prompts of the past show; else as many as halve what is left open."""


def measured_context(ctx: JobContext, asking: Asking, model: PoolModel, champion: Snapshot) -> int | None:
    """Length of a model's context in tokens, by what it refuses; None where nothing speaks against its card.

    The longest prompt is asked first. Where it is refused, shorter ones find by bisection which are not.
    """
    prompts = _fitting(ctx, model, champion)
    low, high = -1, len(prompts)  # the longest that was answered, and the shortest that was refused
    at = high - 1
    for _ in range(MOST_CALLS):
        if high - low <= 1:
            break
        name = prompts[at][1]
        messages = [{"role": turn.role, "content": turn.text} for turn in turns_of(_text(ctx, name))]
        reply = asking.ask("check", f"length {name}", model, messages, ANSWER_TOKENS)
        if reply.text is not None:
            low = at
        elif reply.refused:
            high = at
        else:
            break
        at = (low + high) // 2
    if high == len(prompts) or low < 0:
        return None
    return prompts[low][0] + ANSWER_TOKENS


def _fitting(ctx: JobContext, model: PoolModel, champion: Snapshot) -> list[tuple[int, str]]:
    """(tokens, id) of the prompts whose text is stored, and that fit; by length."""
    t = PromptTable
    most = model.card.context - ANSWER_TOKENS
    query = select(t.tokens, t.id).where(t.encoder == champion.encoder, t.text.is_not(None), t.tokens <= most)
    with ctx.database.session() as session:
        return [(tokens, name) for tokens, name in session.execute(query.order_by(t.tokens, t.id))]


def _text(ctx: JobContext, name: str) -> str:
    with ctx.database.session() as session:
        return str(session.scalar(select(PromptTable.text).where(PromptTable.id == name)))
