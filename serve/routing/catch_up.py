"""Catching up with the feedback log: routers learn its rows page by page; what cannot be learned is set aside and recorded."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from agent.router import Router
from store.log_pages import LogPages
from store.set_aside import SetAsideStore

PAGE = 500
"""Rows read at a time."""

_log = logging.getLogger("thalweg.serve")


class CatchUp:
    """Brings routers to the head of the log; the threads that use it work on routers of their own.

    Parameters
    ----------
    pages
        The log, as routers of one encoder read it.
    set_aside
        Where rows are recorded that were set aside.
    """

    def __init__(self, pages: LogPages, set_aside: SetAsideStore) -> None:
        self._pages = pages
        self._set_aside = set_aside

    def advance(self, routers: Sequence[Router]) -> Mapping[str, str]:
        """Let all ``routers`` learn what is new, each from its own position, until they are at the head of the log.

        Returns the prompts, by id, that another encoder encoded and that must be encoded first; none at the head.
        """
        while True:
            page = self._pages.read(min(router.position for router in routers), PAGE)
            for router in routers if page.rows else ():
                rows = router.learn_many(page.rows)
                for row in rows:
                    _log.warning("row %d of the feedback log was set aside: %s", row.seq, row.reason)
                self._set_aside.record(router.snapshot.version, rows)
            if page.missing or not page.rows:
                return page.missing

    def encode(self, missing: Mapping[str, str]) -> None:
        """Encode prompts that `advance` returned; it takes milliseconds each."""
        self._pages.encode(missing)

    def finish(self, routers: Sequence[Router]) -> None:
        """`advance` and `encode` until ``routers`` are at the head of the log."""
        while missing := self.advance(routers):
            self.encode(missing)
