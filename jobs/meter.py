"""Wall time and peak memory of a block of code."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import psutil

_PERIOD_S = 0.05
_MB = 2**20


class Meter:
    """Measures what runs inside its ``with`` block.

    Attributes
    ----------
    wall_s
        Seconds that the block took.
    peak_rss_mb
        Highest resident memory of the process during the block, in MiB, including what it held before.
    """

    wall_s = 0.0
    peak_rss_mb = 0.0

    def __enter__(self) -> Self:
        self._process = psutil.Process()
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="meter", daemon=True)
        self._sampler.start()
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wall_s = time.perf_counter() - self._started
        self._done.set()
        self._sampler.join()

    def _sample(self) -> None:
        while True:
            self.peak_rss_mb = max(self.peak_rss_mb, self._process.memory_info().rss / _MB)
            if self._done.wait(_PERIOD_S):
                return
