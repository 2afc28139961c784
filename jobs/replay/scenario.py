"""The scenario of a replay: models that join, leave or degrade, and feedback that is sparse, late, biased or malicious."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agent.errors import InvalidInput, did_you_mean

PRESETS = {"bias": "judge:-0.2,flip:0.2", "malicious": "malicious:0.1"}
"""Names that `--noise` takes for a combination; `bias`: a judge who scores too low, beside users with flipped thumbs."""


@dataclass(frozen=True, slots=True)
class Change:
    """``model`` joins, leaves, or loses ``delta`` of its score (clipped at 0) from ``step`` of the stream on."""

    model: str
    step: int
    delta: float = 0.0


WEAK = "weak"
"""Name of the made-up model of ``--join-weak``."""

NEVER = 2**62
"""A step that no stream reaches."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Errors of feedback.

    Parameters
    ----------
    judge
        A judge gives the feedback: the score plus this, clipped to [0, 1]. None: there is no judge.
    flip
        Users give the feedback: thumbs (up from a score of .5), of which this share is flipped. None: users give the
        score itself. With ``judge``, each gives half.
    malicious
        Share of the users who score the worst model 1 and all others 0.
    """

    judge: float | None = None
    flip: float | None = None
    malicious: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """Changes of the pool, and how feedback is given.

    Parameters
    ----------
    joins, leaves, degrades
        Steps count the prompts of the stream from 0.
    weak
        How far the made-up model `WEAK`, which is among the ``joins``, is below the models' mean score on each prompt;
        None where there is none.
    probes
        Prompts of the past that each model answers when it joins, for policies that ask: their true scores come from a judge.
    noise
        Errors of feedback.
    feedback_rate
        Share of decisions that ever get feedback.
    delay
        Steps from a decision to its feedback.
    announced
        At the step of a degrade, the policy is rebuilt from its own history with that model's scores lowered by the
        same delta, as if it were informed of the change at once.
    """

    joins: tuple[Change, ...] = ()
    leaves: tuple[Change, ...] = ()
    degrades: tuple[Change, ...] = ()
    noise: Noise = Noise()
    feedback_rate: float = 1.0
    delay: int = 0
    announced: bool = False
    weak: float | None = None
    probes: int = 0

    @property
    def unannounced(self) -> tuple[Change, ...]:
        """Changes that a policy has to learn from feedback."""
        return (*self.joins, *self.degrades)

    @property
    def perturbed(self) -> bool:
        """Whether the reference scenario differs from this one."""
        return self.reference() != self

    def reference(self) -> Scenario:
        """The scenario to compare with: models in the pool from the start but the weak one, which never joins; degrades
        announced, all feedback true.
        """
        joins = tuple(replace(change, step=NEVER) for change in self.joins if change.model == WEAK)
        return replace(
            self, joins=joins, noise=Noise(), feedback_rate=1.0, delay=0, announced=bool(self.degrades), probes=0
        )

    def without_joins(self) -> Scenario:
        """The same where no model ever joins."""
        return replace(self, joins=tuple(replace(change, step=NEVER) for change in self.joins), probes=0)


def parse(
    *,
    join: Sequence[str] = (),
    join_weak: str | None = None,
    leave: Sequence[str] = (),
    degrade: Sequence[str] = (),
    noise: Sequence[str] = (),
    feedback_rate: float = 1.0,
    delay: int = 0,
    probes: int = 0,
) -> Scenario:
    """The scenario of command line options; raises `InvalidInput` that names the option at fault."""
    if not 0.0 <= feedback_rate <= 1.0:
        raise _bad("feedback-rate", feedback_rate, "give a share from 0 to 1")
    if delay < 0:
        raise _bad("delay", delay, "give a number of steps, 0 or more")
    if probes < 0 or (probes and not join and join_weak is None):
        raise _bad("probes", probes, "give a number of 0 or more, with --join or --join-weak")
    weak = None if join_weak is None else _weak(join_weak)
    return Scenario(
        joins=(*(_change("join", text) for text in join), *(() if weak is None else (replace(weak, delta=0.0),))),
        leaves=tuple(_change("leave", text) for text in leave),
        degrades=tuple(_change("degrade", text, wants_delta=True) for text in degrade),
        noise=_noise(noise),
        feedback_rate=feedback_rate,
        delay=delay,
        weak=None if weak is None else weak.delta,
        probes=probes,
    )


def check(scenario: Scenario, models: Sequence[str], steps: int) -> None:
    """Raise `InvalidInput` where a change names a model that the data lack, or a step beyond a stream of ``steps``."""
    for option, changes in (("join", scenario.joins), ("leave", scenario.leaves), ("degrade", scenario.degrades)):
        for change in changes:
            if change.model not in models:
                hint = did_you_mean(change.model, models) or f"; the data hold {', '.join(models)}"
                raise _bad(option, change.model, f"no such model in the data{hint}")
            if change.step >= steps:
                raise _bad(option, f"{change.model}@{change.step}", f"the stream has steps 0 to {steps - 1:,}")
    if not set(models) - {c.model for c in (*scenario.joins, *scenario.leaves)}:
        raise InvalidInput("--join, --leave: at least one model must stay in the pool throughout", param="leave")


def _change(option: str, text: str, *, wants_delta: bool = False) -> Change:
    form = "MODEL@STEP:DELTA, for example o3-mini@2000:0.3" if wants_delta else "MODEL@STEP, for example o3-mini@2000"
    model, at, rest = text.rpartition("@")
    step, colon, delta = rest.partition(":")
    if not at or not model or not step.isdigit() or bool(colon) != wants_delta:
        raise _bad(option, text, f"write {form}")
    if not wants_delta:
        return Change(model, int(step))
    value = _number(delta)
    if not 0.0 < value <= 1.0:
        raise _bad(option, text, "DELTA is what the score loses, above 0 and at most 1")
    return Change(model, int(step), value)


def _weak(text: str) -> Change:
    step, _, below = text.partition(":")
    if not step.isdigit() or not 0.0 < (value := _number(below)) <= 1.0:
        raise _bad("join-weak", text, "write STEP:BELOW, for example 2000:0.3; BELOW is above 0 and at most 1")
    return Change(WEAK, int(step), value)


def _noise(texts: Sequence[str]) -> Noise:
    found: dict[str, float] = {}
    for text in ",".join(PRESETS.get(t.strip(), t) for t in ",".join(texts).split(",") if t.strip()).split(","):
        if not text.strip():
            continue
        kind, _, given = text.partition(":")
        value = _number(given)
        least = {"judge": -1.0, "flip": 0.0, "malicious": 0.0}.get(kind.strip(), np.nan)
        if not least <= value <= 1.0:
            raise _bad(
                "noise", text, "write judge:BIAS (-1 to 1), flip:SHARE or malicious:SHARE (0 to 1), or a preset: "
                + "; ".join(f"{name} = {meaning}" for name, meaning in PRESETS.items()),
            )  # fmt: skip
        found[kind.strip()] = value
    return Noise(found.get("judge"), found.get("flip"), found.get("malicious", 0.0))


def _number(text: str) -> float:
    """NaN, which no comparison accepts, where ``text`` is no number."""
    try:
        return float(text)
    except ValueError:
        return np.nan


def _bad(option: str, value: Any, fix: str) -> InvalidInput:
    return InvalidInput(f"--{option} {value}: {fix}", param=option)
