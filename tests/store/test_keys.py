"""The bootstrap key."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.errors import StoreUnavailable
from serve.http.auth import matches
from store.keys import bootstrap_key


def test_a_given_key_is_used_and_not_kept(tmp_path: Path) -> None:
    assert bootstrap_key("given-key", tmp_path) == ("given-key", False)
    assert not list(tmp_path.iterdir())


def test_a_key_is_made_once_readable_by_its_owner_only(tmp_path: Path) -> None:
    key, made = bootstrap_key(None, tmp_path / "home")
    assert made and len(key) > 32 and key == key.strip()
    assert (tmp_path / "home" / "api_key").stat().st_mode & 0o777 == 0o600
    assert bootstrap_key(None, tmp_path / "home") == (key, False)


def test_an_empty_key_is_no_key(tmp_path: Path) -> None:
    key, made = bootstrap_key("", tmp_path)
    assert made and key


@pytest.mark.parametrize("content", ["", "\n", "s\u00e9cret"])
def test_a_kept_key_that_is_none_opens_nothing_and_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "api_key").write_text(content, encoding="utf-8")
    with pytest.raises(StoreUnavailable, match=r"api_key .*THALWEG_API_KEY"):
        bootstrap_key(None, tmp_path)


def test_replicas_that_start_at_once_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: bootstrap_key(None, tmp_path), range(32)))
    assert len({key for key, _ in found}) == 1
    assert sum(made for _, made in found) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["api_key"]


def test_a_home_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(StoreUnavailable, match="THALWEG_API_KEY"):
        bootstrap_key(None, tmp_path / "home")


@pytest.mark.parametrize(
    ("header", "open_"),
    [
        (b"Bearer secret-key", True),
        (b"bearer secret-key", True),
        (b"Bearer  secret-key", True),
        (b"Bearer secret-ke", False),
        (b"Bearer secret-keyy", False),
        (b"Bearer", False),
        (b"Basic secret-key", False),
        (b"secret-key", False),
        ("Bearer sécret-key".encode(), False),
        (b"", False),
        (None, False),
    ],
)
def test_only_the_bearer_of_the_key_passes(header: bytes | None, open_: bool) -> None:
    assert matches(header, b"secret-key") is open_
