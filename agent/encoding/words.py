"""Hashed words: what a prompt is written with, where a small English encoder is blind (other scripts, formats, code).

Words, marks and single ideographs are hashed into a fixed number of buckets (the hashing trick, Weinberger et al. 2009), so
that a prompt is a vector of fixed length before any data is seen; training weighs and rotates the buckets (`agent.encoding.similarity`).
Digits are all alike, case is folded, and of long texts the head and the tail are read.
"""

from __future__ import annotations

import re
import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BUCKETS = 1024
"""Length of the vector. Runs of characters beside the words, in as many buckets, gave nothing (docs/log.md)."""

HEAD, TAIL = 2500, 1500
"""Characters read of a text longer than both together."""

_TOKEN = re.compile(r"[a-z]+|[^\sa-z]")
_DIGIT = re.compile(r"\d")


def words(text: str) -> NDArray[np.float32]:
    """(BUCKETS,) ``log(1 + count)`` of the words and marks of ``text`` that fall into each bucket.

    Examples
    --------
    >>> bool(np.array_equal(words("Add 12 to 71."), words("add 83 to 90.")))
    True
    >>> float(words("").sum())
    0.0
    """
    if len(text) > HEAD + TAIL:
        text = f"{text[:HEAD]} {text[-TAIL:]}"
    tokens = _TOKEN.findall(_DIGIT.sub("0", text.lower()))
    buckets = np.fromiter(map(_bucket, tokens), np.int64, len(tokens))
    return np.log1p(np.bincount(buckets, minlength=BUCKETS)).astype(np.float32)


@lru_cache(maxsize=65_536)
def _bucket(token: str) -> int:
    """Where a token falls, in every process alike."""
    return zlib.crc32(token.encode("utf-8", "surrogatepass")) % BUCKETS
