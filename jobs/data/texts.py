"""What remembered prompts said, as far as it is kept: the seed set's always, others' where the settings keep texts."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from jobs.refresh.seed import seed_prompts
from store.database import Database
from store.prompts import text_id
from store.tables import PromptTable


def known_texts(database: Database, ids: Sequence[str], encoder: str) -> dict[str, str]:
    """prompt id -> text, of the prompts that ``encoder`` encoded; ids whose text is not kept are left out."""
    texts = {text_id(p["prompt"], encoder): p["prompt"] for p in seed_prompts()}
    query = select(PromptTable.id, PromptTable.text).where(PromptTable.id.in_(ids))
    with database.session() as session:
        texts.update((name, text) for name, text in session.execute(query) if text is not None)
    return {name: texts[name] for name in ids if name in texts}
