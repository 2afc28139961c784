"""Features of a conversation's text beside its embedding: some forty plain ones, and counts of its hashed words.

They measure what embeddings hardly hold: length, digits, code, scripts, options to choose from, wording. They are pure
functions of the text of the order of one; `agent.encoding.similarity` standardises them.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from agent.types import Turn

LAST_TURN_WEIGHT = 0.75
"""Weight of the last user turn in a conversation's embedding; the other turns have the rest."""

_WORD = re.compile(r"[A-Za-z]+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_OPTION = re.compile(r"(?m)^\s*\(?([A-J])[.):]\s?")
_CODE = re.compile(r"\bdef |\breturn\b|\bimport |>>>|```|\bclass |\bassert\b|[{};]\s*$|\bfunction\b|\bprint\(", re.M)
_LATEX = re.compile(r"\\[a-zA-Z]+|\$")
_ASKING = re.compile(r"\b(what|which|who|when|where|why|how|if|find|compute|write|given|each|total|many|much)\b", re.I)
_BLANK = re.compile(r"_{2,}|\( ?\)|（ ?）")

_MATH = np.array(sorted(map(ord, "+-*/=^<>%√∑∫×÷")), np.uint32)
_BRACKETS = np.array(sorted(map(ord, "()[]{}")), np.uint32)
_QUESTION = np.array([ord("?"), ord("？")], np.uint32)

PLAIN: tuple[str, ...] = (
    "log_chars", "log_lines", "log_words", "log_numbers", "log_largest_number", "digit_share", "upper_share",
    "lower_share", "space_share", "line_share", "cjk_share", "has_cjk", "other_script_share", "cyrillic_share",
    "punctuation_share", "math_share", "bracket_share", "question_share", "log_questions", "comma_share", "dot_share",
    "underscore_share", "quote_share", "log_code_marks", "log_latex_marks", "log_asking_words", "options",
    "has_options", "log_longest_line", "mean_word", "word_variety", "ends_in_question", "ends_in_stop", "ends_open",
    "has_blank", "log_paragraphs", "log_turns", "has_system",
)  # fmt: skip
"""Names of the plain features, in order."""

BUCKETS = 1024
"""Buckets that words are hashed to. Character n-grams in as many more buckets improved nothing (docs/log.md)."""

FEATURES: tuple[str, ...] = PLAIN + tuple(f"word_{i}" for i in range(BUCKETS))
"""Names of all features in order: the plain ones, then the buckets of `hashed_words`."""


def split_turns(turns: Sequence[Turn]) -> tuple[str, str]:
    """The text of the last user turn, and that of all other turns, joined by blank lines; turns without text are dropped.

    Where no user turn has text, the last turn with text takes its place.
    """
    texts = [t for t in turns if t.text.strip()]
    last = next((i for i in range(len(texts) - 1, -1, -1) if texts[i].role == "user"), len(texts) - 1)
    if last < 0:
        return "", ""
    return texts[last].text, "\n\n".join(t.text for i, t in enumerate(texts) if i != last)


def features(turns: Sequence[Turn]) -> NDArray[np.float32]:
    """The features of a conversation, (len(FEATURES),); all but two, on its turns, are of its last user turn."""
    text, _ = split_turns(turns)
    return np.concatenate([_plain(text, turns), hashed_words(text)])


def _plain(text: str, turns: Sequence[Turn]) -> NDArray[np.float32]:
    """The plain features, (len(PLAIN),)."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    n = max(len(points), 1)

    def share(mask: NDArray[np.bool_], scale: float = 1.0) -> float:
        return float(mask.sum()) / n * scale

    def between(low: int, high: int) -> NDArray[np.bool_]:
        return (points >= low) & (points <= high)

    digit, upper, lower = between(48, 57), between(65, 90), between(97, 122)
    space, newline, beyond_ascii = points == 32, points == 10, points > 127
    cjk = between(0x3040, 0x9FFF) | between(0xAC00, 0xD7AF) | between(0xF900, 0xFAFF)
    head, tail = text[:4000], text[-3000:]
    words = _WORD.findall(head)
    numbers = _NUMBER.findall(head)
    options = len(set(_OPTION.findall(tail)))
    last = text.rstrip()[-1:]
    log = math.log1p
    values = (
        log(len(points)), log(newline.sum()), log(len(words)), log(len(numbers)),
        log(max((min(float(x), 1e12) for x in numbers), default=0.0)) / 4, share(digit), share(upper), share(lower),
        share(space), share(newline, 10), share(cjk), float(cjk.any()), share(beyond_ascii & ~cjk),
        share(between(0x400, 0x4FF)), share(~(digit | upper | lower | space | newline | beyond_ascii)),
        share(np.isin(points, _MATH), 5), share(np.isin(points, _BRACKETS), 5), share(np.isin(points, _QUESTION), 20),
        log(np.isin(points, _QUESTION).sum()), share(points == 44, 5), share(points == 46, 5), share(points == 95, 5),
        share((points == 34) | (points == 39), 5), log(len(_CODE.findall(head))), log(len(_LATEX.findall(head))),
        log(len(_ASKING.findall(head))), options / 4, float(options >= 3),
        log(max(map(len, text.split("\n")))), sum(map(len, words)) / len(words) / 5 if words else 0.0,
        len({w.lower() for w in words}) / max(len(words), 1), float(last in "?？" and last != ""),
        float(last in ".。" and last != ""), float(last in ":：=" and last != ""), float(bool(_BLANK.search(text))),
        log(text.count("\n\n")), log(len(turns)), float(any(t.role in ("system", "developer") for t in turns)),
    )  # fmt: skip
    return np.array(values, np.float32)


HEAD, TAIL = 2500, 1500
"""Characters hashed of the beginning and end of a text longer than both together."""

_TOKEN = re.compile(r"[a-z]+|[^\sa-z]")
_DIGIT = re.compile(r"\d")


def hashed_words(text: str) -> NDArray[np.float32]:
    """(BUCKETS,) ``log(1 + count)`` of the words and punctuation of ``text`` hashed to each bucket; digits count as 0.

    Examples
    --------
    >>> bool(np.array_equal(hashed_words("Add 12 to 71."), hashed_words("add 83 to 90.")))
    True
    >>> float(hashed_words("").sum())
    0.0
    """
    if len(text) > HEAD + TAIL:
        text = f"{text[:HEAD]} {text[-TAIL:]}"
    tokens = _TOKEN.findall(_DIGIT.sub("0", text.lower()))
    buckets = np.fromiter(map(_bucket, tokens), np.int64, len(tokens))
    return np.log1p(np.bincount(buckets, minlength=BUCKETS)).astype(np.float32)


@lru_cache(maxsize=65_536)
def _bucket(token: str) -> int:
    """Bucket of a token; unlike `hash`, equal in every process."""
    return zlib.crc32(token.encode("utf-8", "surrogatepass")) % BUCKETS
