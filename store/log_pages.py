"""Pages of the feedback log as routers learn them: in order, and none of them unreadable.

A row that cannot be read is set aside. One whose prompt another encoder encoded is given an encoding of its stored text by
the encoder that serves. That encoding is kept with the prompts, so that it is made once and every replica learns the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select

from agent.encoding.encoder import Encoder
from agent.observations import Observation, SetAside
from agent.types import Encoded, Turn
from store.columns import utc_now
from store.database import Database
from store.feedback import FeedbackLog
from store.prompts import ENCODED, encoded, insert_or_ignore, prompt_row, text_id
from store.tables import PromptTable


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of the log, and what must be encoded before those after them can be read: the prompts' ids and texts."""

    rows: Sequence[Observation | SetAside]
    missing: Mapping[str, str]


class LogPages:
    """Reads the log for routers whose snapshots read one encoder's embeddings.

    Parameters
    ----------
    encoder
        That encoder.
    """

    def __init__(self, database: Database, log: FeedbackLog, encoder: Encoder) -> None:
        self._database = database
        self._log = log
        self._encoder = encoder
        self._failed: dict[str, str] = {}  # id of a prompt that could not be encoded -> why

    def read(self, after: int, limit: int) -> Page:
        """At most ``limit`` rows after a position; it ends before a row whose prompt must be encoded first."""
        rows = self._log.page(after, limit)
        foreign = {row.prompt_id for row in rows if isinstance(row, Observation) and self._is_foreign(row)}
        if not foreign:
            return Page(rows, {})
        texts = self._texts(foreign)
        ids = {prompt: text_id(text, self._encoder.fingerprint) for prompt, text in texts.items() if text is not None}
        known = self._known(ids.values())
        read: list[Observation | SetAside] = []
        for row in rows:
            if isinstance(row, Observation) and self._is_foreign(row):
                own = ids.get(row.prompt_id)
                if own is not None and own not in known and own not in self._failed:
                    wanted = {
                        i: str(texts[prompt]) for prompt, i in ids.items() if i not in known and i not in self._failed
                    }
                    return Page(read, wanted)
                read.append(self._translated(row, own, known))
            else:
                read.append(row)
        return Page(read, {})

    def encode(self, missing: Mapping[str, str]) -> None:
        """Encode prompts and keep the results, for `read`."""
        for prompt, text in missing.items():
            try:
                [made] = self._encoder.encode([(Turn("user", text),)])  # alone, or others would change its last digits
            except Exception as error:  # of any kind: the rows on it are set aside
                self._failed[prompt] = f"{type(error).__name__}: {error}"
                continue
            row = prompt_row(text, self._encoder.fingerprint, made, "full", utc_now())
            with self._database.session(write=True) as session:
                session.connection().execute(insert_or_ignore(PromptTable, self._database.dialect), [row])
                session.commit()

    def _is_foreign(self, row: Observation) -> bool:
        return row.encoder not in ("", self._encoder.fingerprint)

    def _translated(self, row: Observation, own: str | None, known: Mapping[str, Encoded]) -> Observation | SetAside:
        """The row as if this encoder had encoded its prompt."""
        if own is None:
            return SetAside(row.seq, f"its prompt was encoded by {row.encoder}, and its text is not stored")
        if own not in known:
            return SetAside(row.seq, f"its prompt was encoded by {row.encoder}, and not again: {self._failed[own]}")
        return replace(row, prompt_id=own, encoded=known[own], encoder=self._encoder.fingerprint)

    def _texts(self, prompts: Iterable[str]) -> dict[str, str | None]:
        query = select(PromptTable.id, PromptTable.text).where(PromptTable.id.in_(list(prompts)))
        with self._database.session() as session:
            return {row.id: row.text for row in session.execute(query)}

    def _known(self, prompts: Iterable[str]) -> dict[str, Encoded]:
        query = select(PromptTable.id, *ENCODED).where(PromptTable.id.in_(list(prompts)))
        with self._database.session() as session:
            return {row.id: encoded(row) for row in session.execute(query)}
