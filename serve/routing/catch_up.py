"""Catching up with the feedback log: routers learn its rows page by page; what cannot be learned is set aside and recorded."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.router import Router
from store.log_pages import LogPages
from store.set_aside import SetAsideStore

PAGE = 500
"""Rows that a replica reads at a time."""

_log = logging.getLogger("thalweg.serve")


class Advance(NamedTuple):
    """Whether there may be more rows to learn at once, and the prompts that must be encoded first, their texts by id."""

    more: bool
    missing: Mapping[str, str]


class CatchUp:
    """Brings routers to the head of the log; the threads that use it work on routers of their own.

    Parameters
    ----------
    pages
        The log, as routers of one encoder read it.
    set_aside
        Where rows are recorded that were set aside.
    page
        Rows read at a time.
    """

    def __init__(self, pages: LogPages, set_aside: SetAsideStore, page: int = PAGE) -> None:
        self._pages = pages
        self._set_aside = set_aside
        self._page = page

    def advance(self, routers: Sequence[Router]) -> Advance:
        """Let all ``routers`` learn the next page, each from its own position."""
        page = self._pages.read(min(router.position for router in routers), self._page)
        for router in routers if page.rows else ():
            rows = router.learn_many(page.rows)
            for row in rows:
                _log.warning("row %d of the feedback log was set aside: %s", row.seq, row.reason)
            self._set_aside.record(router.snapshot.version, rows)
        return Advance(bool(page.rows) and not page.missing, page.missing)

    def encode(self, missing: Mapping[str, str]) -> None:
        """Encode prompts that `advance` returned; it takes milliseconds each."""
        self._pages.encode(missing)

    def finish(self, routers: Sequence[Router]) -> None:
        """`advance` and `encode` until ``routers`` are at the head of the log."""
        done = self.advance(routers)
        while done.more or done.missing:
            self.encode(done.missing)
            done = self.advance(routers)
