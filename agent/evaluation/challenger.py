"""The core of a refresh, without a database: train a challenger on all that is known, and try it against the champion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.evaluation.gate import GateReport
from agent.evaluation.trial import try_out
from agent.feedback.ledger import Ledger
from agent.fit import fit
from agent.snapshot import Snapshot
from jobs.refresh.gather import Gathered

Progress = Callable[[str, float], None]


GROWTH = 1.5
"""A challenger of so many times the champion's scored prompts is promoted unless it is proven worse."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenger that was trained, and what the gate says of it."""

    snapshot: Snapshot
    verdict: GateReport


def challenge(
    known: Gathered, champion: Snapshot | None, *, encoder: str, seed: int, progress: Progress | None = None
) -> Challenge:
    """Train on what is known and let the gate judge the result.

    Parameters
    ----------
    known
        Training data, and what is held out for the gate.
    champion
        What serves now; None where nothing that can be read does. Then, and where it reads the embeddings of another
        encoder, the challenger is promoted uncontested.
    encoder
        Fingerprint of the encoder that made the embeddings of ``known``.
    seed
        Of everything random.
    progress
        Told (stage, share done); what it raises ends the challenge.

    Raises
    ------
    InvalidInput
        Where there is nothing to learn from.
    """
    tell: Progress = progress or (lambda stage, share: None)
    rival = champion if champion is not None and champion.encoder == encoder else None
    snapshot = fit(
        known.training,
        encoder=encoder,
        champion=rival,
        position=known.position,
        seed=seed,
        carried=known.carried,
        progress=lambda stage, share: tell(stage, 0.9 * share),
    )
    tell("gate", 0.9)
    if rival is None:
        return Challenge(snapshot, GateReport(True, _uncontested(champion), None, None, None))
    ledger = Ledger.from_state(known.carried["ledger"] if known.carried else None, grounds=snapshot.evaluated)
    verdict = try_out(rival, snapshot, known.evaluations, known.observations, ledger=ledger, seed=seed)
    return Challenge(snapshot, outgrow(verdict, rival, snapshot))


def outgrow(verdict: GateReport, champion: Snapshot, challenger: Snapshot) -> GateReport:
    """``verdict``, but promoting a challenger that knows far more than the champion unless it is proven worse.

    A greedy router hardly ever tries what would prove a challenger right, so a champion of few prompts, or one that does
    not know a model of the pool, could never be followed (docs/log.md). It has little to defend.
    """
    if verdict.promote or verdict.proven_worse:
        return verdict
    strangers = sorted(set(challenger.models) - set(champion.models))
    if strangers:
        return replace(
            verdict, promote=True, reason=f"the champion does not know {', '.join(strangers)}; {verdict.reason}"
        )
    before, after = champion.scored_prompts, challenger.scored_prompts
    if after >= GROWTH * before:
        return replace(verdict, promote=True, reason=f"{after:,} scored prompts outgrow {before:,}; {verdict.reason}")
    return verdict


def _uncontested(champion: Snapshot | None) -> str:
    if champion is None:
        return "uncontested: there is no champion that can be read"
    return f"uncontested: the champion reads the embeddings of another encoder ({champion.encoder})"
