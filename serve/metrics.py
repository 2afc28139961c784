"""The metrics of a replica, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MILLISECONDS = (0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.02, 0.05, 0.1, 0.5, 2.0)
_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """The metrics of one replica, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("thalweg_requests", "HTTP requests", ["route", "method", "status"], registry=registry)
        self.decisions = Counter(
            "thalweg_decisions", "Routing decisions", ["model", "kind", "explored"], registry=registry
        )
        self.exploration_regret = Counter(
            "thalweg_exploration_regret",
            "Expected utility given up to explore, by API key: sum of the best utility less the expected one",
            ["key"],
            registry=registry,
        )
        self.trial_decisions = Counter(
            "thalweg_trial_decisions",
            "Decisions on which the two snapshots of a trial differed, by whose choice was taken",
            ["trial", "side"],
            registry=registry,
        )
        self.trial_regret = Counter(
            "thalweg_trial_regret", "Utility that a trial's coin was expected to cost", ["trial"], registry=registry
        )
        self.routing = Histogram(
            "thalweg_routing_seconds", "Time to encode and route a request", buckets=_MILLISECONDS, registry=registry
        )
        self.calls = Counter("thalweg_calls", "Calls to models", ["model", "status"], registry=registry)
        self.call_time = Histogram(
            "thalweg_call_seconds", "Time of a call to a model", ["model"], buckets=_SECONDS, registry=registry
        )
        self.tokens = Counter(
            "thalweg_tokens", "Tokens that models reported", ["model", "direction"], registry=registry
        )
        self.cost = Counter("thalweg_cost_usd", "USD of calls at list price", ["model"], registry=registry)
        self.feedback = Counter("thalweg_feedback", "Feedback events", ["source", "status"], registry=registry)
        self.snapshot = Gauge("thalweg_snapshot_version", "Snapshot that serves", registry=registry)
        self.position = Gauge("thalweg_log_position", "Feedback row applied last", registry=registry)
        self.set_aside = Gauge(
            "thalweg_set_aside_rows",
            "Feedback rows since the serving snapshot from which nothing could be learned",
            registry=registry,
        )
        self.drifts = Counter(
            "thalweg_drifts",
            "Silent changes of models that this replica found first",
            ["model", "kind"],
            registry=registry,
        )
        self.swaps = Counter("thalweg_snapshot_swaps", "Snapshots swapped in", registry=registry)
        self.models = Gauge(
            "thalweg_pool_models",
            "Models of the pool, by how far their joining it has come",
            ["state"],
            registry=registry,
        )
        self.join_steps = Gauge(
            "thalweg_join_steps", "How often a model that joins has come into a state", ["state"], registry=registry
        )
        self.join_usd = Gauge(
            "thalweg_join_usd", "USD that the joins of a model have spent on calls", ["model"], registry=registry
        )

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)
