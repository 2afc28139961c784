"""Reference answers: an answer is scored against one by comparing texts, numbers, choices or JSON; nothing in it is run.

What is compared is the answer that a text ends in: what stands in its last ``\\boxed{}`` or ``<answer>`` tag, or after its last
"answer is" or "answer:"; else its last line; of a number the last one there, of JSON the last code block or the whole text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, cast, get_args

from agent.errors import InvalidInput

ReferenceKind = Literal["exact", "numeric", "choice", "json"]

TOLERANCE = 1e-6
"""Of a number where none is given; beside numbers beyond 1, as a share of them."""

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?\.?\d+(?:[eE][-+]?\d+)?(?:\s*/\s*\d+)?")
_TAG = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_SAID = re.compile(r"\banswer(?:\s+is)?\s*[:=]|\banswer\s+is\b", re.IGNORECASE)
_BLOCK = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
_CHOICE = re.compile(r"(?:(?:option|choice)\s+)?[(\[]?([A-Z])[)\].:]?(?![\w'])", re.IGNORECASE)
_MARKS = "*_`$ \t\r\n"


@dataclass(frozen=True, slots=True)
class Reference:
    """The right answer to a prompt.

    Parameters
    ----------
    kind
        ``exact``: a text, apart from case, spaces and a last stop; ``numeric``: a number; ``choice``: a letter; ``json``: a
        JSON value, apart from the order of keys.
    value
        A text, a number, a letter, or any JSON.
    tolerance
        By how much a number may be off; None for `TOLERANCE`.
    """

    kind: ReferenceKind
    value: Any
    tolerance: float | None = None

    @classmethod
    def of(cls, given: Any) -> Self:
        """The reference that is written as ``{"kind": ..., "value": ..., "tolerance": ...}``; raises `InvalidInput`.

        Examples
        --------
        >>> Reference.of({"kind": "numeric", "value": 0.5}).score("Half of it, so the answer is 1/2.")
        1.0
        """
        if not isinstance(given, Mapping):
            raise _wrong("", 'give an object {"kind": ..., "value": ...}')
        if unknown := sorted(str(name) for name in set(given) - {"kind", "value", "tolerance"}):
            raise _wrong("", f"unknown key {unknown[0]!r}; it has kind, value and, of a number, tolerance")
        kind, value, tolerance = given.get("kind"), given.get("value"), given.get("tolerance")
        if kind not in get_args(ReferenceKind):
            raise _wrong("kind", f"give one of {', '.join(get_args(ReferenceKind))}, not {kind!r}")
        if "value" not in given or (value is None and kind != "json"):
            raise _wrong("value", "give the right answer")
        if kind == "exact" and not (isinstance(value, str) and _plain(value)):
            raise _wrong("value", f"give a text that is not empty, not {value!r}")
        if kind == "numeric" and not _is_number(value):
            raise _wrong("value", f"give a finite number, not {value!r}")
        if kind == "choice" and not (isinstance(value, str) and re.fullmatch("[A-Za-z]", value)):
            raise _wrong("value", f"give one letter, not {value!r}")
        if tolerance is not None and (kind != "numeric" or not _is_number(tolerance) or tolerance < 0):
            raise _wrong("tolerance", "give a number of at least 0, and only where kind is numeric")
        return cls(cast(ReferenceKind, kind), value, tolerance)

    def as_json(self) -> dict[str, Any]:
        """As it is written."""
        more = {} if self.tolerance is None else {"tolerance": self.tolerance}
        return {"kind": self.kind, "value": self.value, **more}

    def score(self, answer: str) -> float:
        """1 where an answer is right, else 0; an answer in which none is found is wrong.

        Examples
        --------
        >>> choice = Reference("choice", "B")
        >>> choice.score("(B) Paris"), choice.score("It is B or C.\\n\\n**Answer: C**"), choice.score("A big one")
        (1.0, 0.0, 0.0)
        """
        compare = {"exact": self._exact, "numeric": self._numeric, "choice": self._choice, "json": self._json}
        return float(compare[self.kind](answer))

    def _exact(self, answer: str) -> bool:
        right = _plain(self.value)
        return right in (_plain(answer), _plain(_final(answer)))

    def _numeric(self, answer: str) -> bool:
        marked = _marked(answer)
        found = _NUMBER.findall(answer if marked is None else marked)
        number = _number(found[-1] if marked is None else found[0]) if found else None
        off = self.tolerance if self.tolerance is not None else TOLERANCE * max(1.0, abs(self.value))
        return number is not None and bool(abs(number - self.value) <= off)

    def _choice(self, answer: str) -> bool:
        found = _CHOICE.match(_final(answer).strip(_MARKS))
        if found is None or (found[0].upper() == "A" and found.end() < len(_final(answer).strip(_MARKS))):
            return False  # "A big one" is no choice, "A)" and "A" are
        return found[1].upper() == str(self.value).upper()

    def _json(self, answer: str) -> bool:
        blocks = _BLOCK.findall(answer)
        try:
            found = json.loads(blocks[-1] if blocks else answer)
        except (ValueError, RecursionError):
            return False
        return _same(found, self.value)


def _marked(answer: str) -> str | None:
    """What a text marks as its answer; None where it marks nothing."""
    if tags := _TAG.findall(answer):
        return str(tags[-1])
    if (at := answer.rfind("\\boxed{")) >= 0:
        return _braced(answer[at + len("\\boxed{") :])
    if said := list(_SAID.finditer(answer)):
        rest = answer[said[-1].end() :].strip(_MARKS + ":").split("\n")[0]
        return rest or None
    return None


def _braced(text: str) -> str:
    """Up to the brace that closes."""
    depth = 1
    for i, sign in enumerate(text):
        depth += (sign == "{") - (sign == "}")
        if depth == 0:
            return text[:i]
    return text


def _final(answer: str) -> str:
    """What a text marks as its answer, else its last line."""
    marked = _marked(answer)
    return marked if marked is not None else (answer.strip().splitlines() or [""])[-1]


def _plain(text: str) -> str:
    return " ".join(text.strip(_MARKS).rstrip(".").strip(_MARKS).strip("\"'").casefold().split())


def _number(text: str) -> float | None:
    over, _, under = text.replace(",", "").partition("/")
    try:
        return float(over) / (float(under) if under else 1.0)
    except (ValueError, ZeroDivisionError, OverflowError):
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _same(a: Any, b: Any) -> bool:
    """Whether two JSON values are equal; 1 equals 1.0, and neither is true."""
    if _is_number(a) and _is_number(b):
        return bool(abs(a - b) <= TOLERANCE * max(1.0, abs(b)))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[name], b[name]) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and bool(a == b)


def _wrong(field: str, what: str) -> InvalidInput:
    name = f"reference.{field}" if field else "reference"
    return InvalidInput(f"{name}: {what}", param=name)
