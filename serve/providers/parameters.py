"""Parameters that a model refuses, as its check found: they are sent under another name, or left out, and that is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LIMITS = ("max_tokens", "max_completion_tokens")
"""Names by which a request limits the length of the answer; a model may take one of them, or neither."""


def adapted(body: Mapping[str, Any], check: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A chat request as a model takes it, and what was changed, in words.

    Parameters
    ----------
    body
        As the client sent it.
    check
        ``limit``: by which of `LIMITS` the model limits its answers, None for neither; ``temperature``: whether it takes one,
        None where that is not known. What was not checked is missing, and changes nothing.

    Examples
    --------
    >>> adapted({"max_tokens": 9, "temperature": 0}, {"limit": "max_completion_tokens", "temperature": False})
    ({'max_completion_tokens': 9}, ['max_tokens is sent as max_completion_tokens', 'temperature is left out'])
    """
    out, changes = dict(body), list[str]()
    if "limit" in check:
        limit = check["limit"]
        for name in LIMITS:
            if name == limit or name not in out:
                continue
            value = out.pop(name)
            if limit is None or limit in out:
                changes.append(f"{name} is left out")
            else:
                out[limit] = value
                changes.append(f"{name} is sent as {limit}")
    if check.get("temperature") is False and out.pop("temperature", None) is not None:
        changes.append("temperature is left out")
    return out, changes
