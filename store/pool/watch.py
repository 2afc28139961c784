"""Watching the pool file: what is changed in it while a server runs is taken over without a restart."""

from __future__ import annotations

from pathlib import Path

from agent.errors import BadDataFile
from store.pool.file import PoolFile
from store.pool.models import ModelPool, PoolSync

_Stamp = tuple[int, int, int] | None


class PoolFileWatcher:
    """Reads a pool file again once it has changed, and has stayed the same from one look to the next, so that a file which
    is being written is not read half.

    Parameters
    ----------
    path
        Of the file. It has been read when the watcher is made.
    pool
        What it is taken over into.
    """

    def __init__(self, path: Path, pool: ModelPool) -> None:
        self._path, self._pool = path, pool
        self._read = self._last = self._stamp()

    def look(self) -> PoolSync | BadDataFile | None:
        """Read the file if it has changed and stays as it is; None where there is nothing to do.

        Of a file with mistakes the error that names them, once; the pool stays as it was.
        """
        stamp = self._stamp()
        settled, self._last = stamp == self._last, stamp
        if not settled or stamp == self._read:
            return None
        try:
            models = PoolFile.load(self._path)
        except BadDataFile as error:
            self._read = stamp
            return error
        changed = self._pool.sync(models)
        self._read = stamp  # only now: where the database is away, the next look tries again
        return changed

    def _stamp(self) -> _Stamp:
        """Changes with the file; None where there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
