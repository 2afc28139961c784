"""The bootstrap admin key: given by the settings, or generated once and kept in the home."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from agent.errors import StoreUnavailable


def bootstrap_key(given: str | None, home: Path) -> tuple[str, bool]:
    """The key that clients must send, and whether this call has generated it.

    Where none is ``given``, it is read from ``home/api_key`` (mode 0600), which the first of several replicas that start
    on a new home creates.

    Raises
    ------
    StoreUnavailable
        Where the file can be neither read nor written, or holds no key.
    """
    if given:
        return given, False
    path = home / "api_key"
    try:
        home.mkdir(parents=True, exist_ok=True)
        made = _create(path)
        key = path.read_text(encoding="ascii").strip()
        if not key:  # it would open the server to an empty token
            raise OSError("the file is empty; delete it, and a new key is made")
        return key, made
    except (OSError, UnicodeDecodeError) as error:
        raise StoreUnavailable(
            f"the API key cannot be kept in {path} ({error}); set THALWEG_API_KEY or another THALWEG_HOME"
        ) from error


def _create(path: Path) -> bool:
    """Create ``path`` with a new key, atomically; False where it exists."""
    if path.exists():
        return False
    draft = path.with_name(f".api_key.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"tw-{secrets.token_urlsafe(32)}\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # fails where another replica was first
        return True
    except FileExistsError:
        return False
    finally:
        draft.unlink()
