"""What a judge replied: a verdict on two answers, or a grade of one.

A verdict is the judge's whole message, one JSON object of a fixed form that repeats the mark which its question held: so a text
within an answer that looks like a verdict is none, even where the judge repeats it. What cannot be read so gives no score.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

ORDERS = ("ours first", "theirs first")
ALONE = "alone"
"""How the subjects of calls to judges end."""

Score = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class Verdict(BaseModel):
    """What a judge replies."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mark: str
    first: Score
    second: Score
    better: Literal["first", "second", "tie"]
    reason: Annotated[str, Field(max_length=2000)]


class Grade(BaseModel):
    """What a judge replies on one answer alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mark: str
    score: Score
    reason: Annotated[str, Field(max_length=2000)]


Form = TypeVar("Form", Verdict, Grade)


@dataclass(frozen=True, slots=True)
class PairScore:
    """Scores of two answers, each the mean over both orders; ``position_bias`` is how much more the first place was given."""

    ours: float
    theirs: float
    position_bias: float
    reason: str


def read_grade(text: str, mark: str) -> Grade | None:
    """The grade that ``text`` is; None where it is none: other text, or another mark."""
    grade = _read(Grade, text)
    return grade if grade is not None and grade.mark == mark else None


def read_verdict(text: str, mark: str) -> Verdict | None:
    """The verdict that ``text`` is; None where it is none: other text, another mark, or a contradiction.

    Examples
    --------
    >>> reply = '{"mark": "m", "first": 1, "second": 0.2, "better": "first", "reason": "Only the first is right."}'
    >>> read_verdict(reply, "m").first, read_verdict(reply, "n"), read_verdict("The first is better.", "m")
    (1.0, None, None)
    """
    verdict = _read(Verdict, text)
    if verdict is None:
        return None
    scores = {"first": verdict.first > verdict.second, "second": verdict.first < verdict.second, "tie": True}
    return verdict if verdict.mark == mark and scores[verdict.better] else None


def _read(form: type[Form], text: str) -> Form | None:
    content = text.strip()
    if content.startswith("```") and content.endswith("```"):
        content = content.removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        return form.model_validate(orjson.loads(content))
    except (orjson.JSONDecodeError, ValidationError):
        return None


def pair_score(ours_first: Verdict, theirs_first: Verdict) -> PairScore:
    """Scores of our answer and of theirs, from verdicts in both orders: a judge's liking for a place falls out."""
    bias = fmean([ours_first.first - ours_first.second, theirs_first.first - theirs_first.second]) / 2.0
    ours = fmean([ours_first.first, theirs_first.second])
    theirs = fmean([ours_first.second, theirs_first.first])
    return PairScore(ours, theirs, bias, f"{ours_first.reason} | {theirs_first.reason}")


def kept_with(mark: str, reply: str) -> str:
    """A judge's reply with the mark that its question held, as it is kept."""
    return f"{mark}\n{reply}"


def taken_apart(kept: str) -> tuple[str, str]:
    """The mark and the reply of what is kept."""
    mark, _, reply = kept.partition("\n")
    return mark, reply
