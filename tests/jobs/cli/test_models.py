"""`thalweg models`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.cli.commands import data, refused, thalweg

pytestmark = pytest.mark.usefixtures("home")


def test_models_are_added_changed_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACME_KEY", raising=False)
    endpoint = ("--base-url", "http://127.0.0.1:9/v1", "--api-key-env", "ACME_KEY")
    added = data(
        "models",
        "add",
        "acme/one",
        *endpoint,
        "--price-input",
        "1.5",
        "--price-output",
        "6",
        "--prior",
        "math=0.7",
        "--capability",
        "tools",
        "--output-tokens",
        "900",
    )
    assert (added["price_input"], added["priors"], added["capabilities"]) == (1.5, {"math": 0.7}, ["tools"])
    assert added["output_tokens"] == 900
    assert data("models", "set", "acme/one", "--output-tokens", "1200")["output_tokens"] == 1200
    assert "not checked yet" in added["unavailable_reason"]
    shown = data("models", "show", "acme/one")
    assert (shown["state"], [step["reason"] for step in shown["steps"]]) == ("added", ["it was added"])
    assert data("models", "show", "openai/gpt-4o")["state"] == "adopted"
    assert "added, it was added" in thalweg("models", "show", "acme/one").stdout
    unchecked = data("models", "add", "acme/free", *endpoint, "--no-check", "--price-input", "0")
    assert (unchecked["state"], unchecked["price_output"], unchecked["context"]) == ("trial", None, None)
    assert "price_output is not known" in unchecked["unavailable_reason"]
    assert data("models", "set", "acme/free", "--price-output", "0")["unavailable_reason"] == "ACME_KEY is not set"
    changed = data("models", "set", "acme/one", "--price-input", "2", "--base-url", "http://127.0.0.1:8/v1")
    assert (changed["price_input"], changed["provider"]["base_url"]) == (2.0, "http://127.0.0.1:8/v1")
    assert changed["provider"]["api_key_env"] == "ACME_KEY"
    assert "holds 'acme/one' already" in refused("models", "add", "acme/one", *endpoint)
    assert thalweg("models", "remove", "acme/one").exit_code == 0
    assert "acme/one" not in {m["id"] for m in data("models", "list")}
    assert "acme/one" in {m["id"] for m in data("models", "list", "--removed")}
    assert "did you mean 'openai/gpt-4o'?" in refused("models", "remove", "openai/gpt-40")
    assert "write axis=0.8" in refused("models", "add", "acme/two", *endpoint, "--prior", "math")
    assert "--base-url is missing" in refused("models", "add", "acme/two")
    assert "nothing to change" in refused("models", "set", "openai/gpt-4o")


def test_a_model_is_replaced_by_one_of_the_pool_or_one_that_joins() -> None:
    old = data("models", "show", "openai/gpt-4o")
    done = data("models", "replace", "openai/gpt-4o", "openai/gpt-4o-next", "--price-input", 2, "--price-output", 8)
    assert done["replaced"] == "openai/gpt-4o" and done["model"]["state_reason"] == "it replaces openai/gpt-4o"
    assert done["model"]["provider"] == old["provider"] | {"model": "gpt-4o-next"}
    assert (
        "openai/gpt-4o serves on, and leaves the pool once openai/gpt-4o-next has passed its check"
        in done["consequences"]
    )
    assert data("models", "show", "openai/gpt-4o")["removed"] is False
    again = thalweg("models", "replace", "openai/gpt-4o", "local/smollm2-135m-instruct")
    assert again.exit_code == 0 and "openai/gpt-4o has left the pool" in again.stderr
    assert "openai/gpt-4o" not in {m["id"] for m in data("models", "list")}
    assert data("models", "show", "local/smollm2-135m-instruct")["replaces"] == "openai/gpt-4o"
    assert "cannot be given here" in refused(
        "models", "replace", "openai/gpt-5", "local/smollm2-135m-instruct", "--price-input", 1
    )


def test_without_a_champion_nothing_is_suggested() -> None:
    assert "there is no champion yet" in refused("models", "suggest")


def test_a_pool_file_that_is_named_is_read_and_its_typos_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(data("models", "list")) >= 11
    pool = tmp_path / "pool.yaml"
    pool.write_text(
        "version: 1\nmodels:\n  - name: acme/one\n    provider: {kind: openai, base_url: http://127.0.0.1:9/v1}\n"
        "    price: {input: 1, output: 2}\n    context: 8192\n"
    )
    monkeypatch.setenv("THALWEG_POOL", str(pool))
    assert [m["id"] for m in data("models", "list")] == ["acme/one"]
    pool.write_text(pool.read_text().replace("price:", "prise:"))
    message = refused("models", "list")
    assert "line 5" in message
    assert "price" in message
