"""Every error that Thalweg raises on purpose, in one tree.

ThalwegError
├── InvalidInput            the caller sent something wrong; names the field and the fix
│   ├── UnknownModel        a model that is not in the pool
│   ├── UnknownDecision     a decision id that does not exist
│   └── BadDataFile         a data or pool file with a wrong line
├── NoCandidate             no model of the pool can take this request
├── StoreUnavailable        the database cannot be reached or written; nothing was acknowledged
├── SnapshotCorrupt         a stored snapshot that cannot be used; the champion keeps serving
├── ChampionChanged         another champion serves than the one that a new snapshot was compared with
└── UpstreamError           the chosen model's provider failed
    └── UpstreamTimeout     ... by not answering in time

Errors of libraries (SQLAlchemy, httpx, pydantic) are translated where these are called.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ThalwegError(Exception):
    """Base class.

    Parameters
    ----------
    message
        What went wrong and what to do next, for a person.
    param
        The field at fault, as the caller wrote it (``"messages[0].content"``), where there is one.
    """

    code = "thalweg_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class InvalidInput(ThalwegError):
    """The caller sent something that cannot be used; ``param`` names it."""

    code = "invalid_input"


class UnknownModel(InvalidInput):
    """A model name that the pool does not hold."""

    code = "model_not_found"


class UnknownDecision(InvalidInput):
    """A decision id that does not exist."""

    code = "decision_not_found"


class BadDataFile(InvalidInput):
    """A data or pool file with a wrong line; the message says which line and which key."""

    code = "bad_data_file"


class NoCandidate(ThalwegError):
    """No model of the pool is available and able to take this request."""

    code = "no_candidate"


class StoreUnavailable(ThalwegError):
    """The database cannot be reached or written; nothing was acknowledged."""

    code = "store_unavailable"


class SnapshotCorrupt(ThalwegError):
    """A stored snapshot cannot be used; the champion in memory keeps serving."""

    code = "snapshot_corrupt"


class ChampionChanged(ThalwegError):
    """Another champion serves than the one that a new snapshot was compared with; nothing was published."""

    code = "champion_changed"


class UpstreamError(ThalwegError):
    """The chosen model's provider answered with an error or could not be reached.

    Parameters
    ----------
    status
        The upstream's HTTP status, or 502 where there was none.
    body
        The upstream's error body (at most 64 KiB), passed on to the client.
    """

    code = "upstream_error"

    def __init__(self, message: str, *, status: int = 502, body: bytes = b"", param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.status = status
        self.body = body


class UpstreamTimeout(UpstreamError):
    """The chosen model's provider did not answer in time."""

    code = "upstream_timeout"


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``"; did you mean 'x'?"``, or ``""`` where no known word is as similar as ``cutoff``, in [0, 1].

    Examples
    --------
    >>> did_you_mean("scor", ("score", "source")), did_you_mean("x", ("score",))
    ("; did you mean 'score'?", '')
    """
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]!r}?" if close else ""
