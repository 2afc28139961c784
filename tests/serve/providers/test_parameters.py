"""A request is changed where a check found that its parameters are refused, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from serve.providers.parameters import adapted


@pytest.mark.parametrize(
    ("sent", "check", "forwarded", "changes"),
    [
        ({"max_tokens": 9, "temperature": 0.0}, {}, {"max_tokens": 9, "temperature": 0.0}, 0),
        ({"max_tokens": 9}, {"limit": "max_tokens", "temperature": None}, {"max_tokens": 9}, 0),
        ({"max_completion_tokens": 9}, {"limit": "max_tokens"}, {"max_tokens": 9}, 1),
        ({"max_tokens": 9, "max_completion_tokens": 8}, {"limit": "max_tokens"}, {"max_tokens": 9}, 1),
        ({"max_tokens": 9, "max_completion_tokens": 8}, {"limit": None}, {}, 2),
        ({"temperature": 0.0, "top_p": 1}, {"temperature": False}, {"top_p": 1}, 1),
        ({"temperature": None}, {"temperature": False}, {}, 0),
        ({"temperature": 0.7}, {"temperature": True}, {"temperature": 0.7}, 0),
        ({}, {"limit": "max_completion_tokens", "temperature": False}, {}, 0),
    ],
)
def test_only_what_is_refused_is_changed(
    sent: dict[str, Any], check: dict[str, Any], forwarded: dict[str, Any], changes: int
) -> None:
    before = dict(sent)
    found, said = adapted(sent, check)
    assert (found, len(said), sent) == (forwarded, changes, before)
