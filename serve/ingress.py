"""The ingress deployment: HTTP and router in one process, since a hop through a handle costs 5 ms."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from ray.serve.handle import DeploymentHandle

from serve.http.api import build_api
from serve.providers.base import Provider
from serve.providers.embedded import EmbeddedProvider
from serve.providers.openai import OpenAIProvider
from serve.service import Service
from serve.settings import ServeSettings
from store.schedule import JobPlan


class Ingress:
    """One replica.

    Parameters
    ----------
    settings
        Read by the composition root; only the upstreams' keys are looked up in this process's own environment, so
        that they are never sent over the cluster.
    local
        The local model.
    scheduler
        Not called: jobs are asked for in SQL. Serve starts only what is bound to the ingress.
    jobs
        The jobs that may be asked for, and when they run.
    """

    def __init__(
        self,
        settings: ServeSettings,
        local: DeploymentHandle[Any],
        scheduler: DeploymentHandle[Any],
        jobs: Sequence[JobPlan],
    ) -> None:
        providers: dict[str, Provider] = {
            "openai": OpenAIProvider(
                os.environ, timeout_s=settings.upstream_timeout_s, connect_timeout_s=settings.connect_timeout_s
            ),
            "embedded": EmbeddedProvider(local, timeout_s=settings.upstream_timeout_s),
        }
        self._service = Service(settings, providers, jobs)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve once the constructor is done."""
        return build_api(self._service)

    def check_health(self) -> None:
        """Called by Serve, which restarts the replica where it raises: its router no longer follows the feedback log."""
        self._service.follower.check_health()
