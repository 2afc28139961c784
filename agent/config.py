"""How training goes: one configuration for all data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FitConfig:
    """One configuration for all data.

    Parameters
    ----------
    edges
        Neighbours that a prompt is joined to in the graph.
    preference
        Weight of preference similarity in an edge.
    smoothing
        Neighbours whose scores rank the models on a prompt.
    resolutions
        Of Leiden.
    folds
        Parts of the training prompts whose scores are hidden in turn, to see what stage 1 says of prompts it does not know.
    smallest_task
        Fewest prompts of a task.
    voters
        Neighbours that vote on a prompt's task.
    neighbours
        Neighbours whose scores are evidence.
    evidence_power, evidence_strength
        Evidence counts as similarity to this power; task means weigh like this many scores beside it.
    landmarks
        Width of the trunk, at most.
    memory
        Most prompts that the snapshot remembers.
    """

    edges: int = 15
    preference: float = 0.5
    smoothing: int = 30
    resolutions: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    folds: int = 5
    smallest_task: int = 5
    voters: int = 20
    neighbours: int = 50
    evidence_power: float = 4.0
    evidence_strength: float = 10.0
    landmarks: int = 1000
    memory: int = 50_000
