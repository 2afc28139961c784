"""What a judge looks at, by the kind of task that a prompt sets; the kind is read off the prompt by simple rules."""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["code", "exact", "extraction", "writing", "other"]

_RULES: tuple[tuple[Kind, str], ...] = (
    (
        "extraction",
        r"\bjson\b|\bxml\b|\byaml\b|\bcsv\b|\bextract\b|\bclassif(?:y|ication)\b|\blabel (?:the|each)\b|\bas a table\b",
    ),
    (
        "code",
        r"```|\bdef \w+\(|#include\b|\bSELECT\b.+\bFROM\b|\b(?:python|javascript|typescript|java|rust|c\+\+|golang|bash|sql)\b"
        r"|\b(?:write|fix|debug|refactor|implement)\b.{0,40}\b(?:function|code|program|script|class|method|query|regex)\b",
    ),
    (
        "writing",
        r"\b(?:write|compose|draft|rewrite|paraphrase)\b.{0,60}"
        r"\b(?:poem|haiku|story|essay|e-?mail|letter|song|speech|article|blog|scene|limerick|joke|slogan|review|toast)\b"
        r"|\b(?:summari[sz]e|translate)\b",
    ),
    (
        "exact",
        r"\b(?:solve|calculate|compute|evaluate|simplify|integrate|derivative|equation|probability|remainder|how many|how much"
        r"|percent)\b|\d\s*[-+*/^=]\s*\d|\\frac|\n\s*\(?[A-D][).]\s|\bwhich of the following\b|\btrue or false\b",
    ),
)
"""The first rule that the last turn meets gives the kind."""

LINES: dict[Kind, str] = {
    "code": "It asks for code. Trace it on an ordinary input and on an edge case. An answer that would not run, or gives a "
    "wrong result, is at most 0.3, however well it is explained.",
    "exact": "It has one right result. Work it out first, then compare. A wrong result is 0; a right one whose steps have an "
    "error is at least 0.7.",
    "extraction": "It asks for data in a form. Check every value against the request, and that the form is what was asked for, "
    "with nothing around it. A missing or invented value costs as much as its share of all.",
    "writing": "It asks for a text. Check every constraint that the request names (form, length, audience, facts), then how "
    "well it reads for its purpose.",
    "other": "Check first whether what it says is true, then whether it covers what was asked.",
}
"""What each kind adds to the rubric."""


def kind_of(prompt: str) -> Kind:
    """The kind of task that a prompt sets.

    Examples
    --------
    >>> kind_of("Write a haiku about rivers."), kind_of("What is 17 * 3?"), kind_of("Return the names as JSON: Ann, Bob")
    ('writing', 'exact', 'extraction')
    """
    return next((kind for kind, rule in _RULES if re.search(rule, prompt, re.IGNORECASE)), "other")
