"""Features are pure functions of the text, of the order of one, and of the last user turn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.encoding.features import FEATURES, features, split_turns
from agent.types import Turn

turns = st.lists(
    st.builds(Turn, st.sampled_from(["system", "developer", "user", "assistant", "tool"]), st.text(max_size=200)),
    max_size=5,
)


def feature(name: str, *texts: str | Turn) -> float:
    """One feature of a conversation of user turns."""
    return float(features([t if isinstance(t, Turn) else Turn("user", t) for t in texts])[FEATURES.index(name)])


@given(turns)
def test_features_are_finite_and_of_the_order_of_one(talk: list[Turn]) -> None:
    found = features(talk)
    assert found.shape == (len(FEATURES),) == (len(set(FEATURES)),) and found.dtype == np.float32
    assert np.isfinite(found).all() and np.abs(found).max() <= 25.0
    assert (found == features(talk)).all()


@pytest.mark.parametrize("text", ["", " ", "\ud83d", "a\ud800b", "\x00", "9" * 400, "x" * 100_000, "\n" * 1000])
def test_odd_text_has_features(text: str) -> None:
    assert np.isfinite(features([Turn("user", text)])).all()


def test_no_turns_have_features() -> None:
    assert np.isfinite(features([])).all()


@pytest.mark.parametrize(
    ("name", "more", "less"),
    [
        ("log_chars", "a long question about rivers", "short"),
        ("log_lines", "a\nb\nc", "a b c"),
        ("log_numbers", "add 1, 2 and 3", "add one"),
        ("log_largest_number", "is 1000000 large?", "is 10 large?"),
        ("digit_share", "12345 a", "1 abcdef"),
        ("upper_share", "SHOUT", "whisper"),
        ("cjk_share", "詩を書く", "write 詩"),
        ("has_cjk", "a 詩", "a poem"),
        ("cyrillic_share", "привет", "hello"),
        ("math_share", "x = y + z", "x is y"),
        ("log_code_marks", "def f(x):\n    return x", "define a function"),
        ("log_latex_marks", r"\frac{1}{2} of $x$", "half of x"),
        ("has_options", "Pick:\nA. red\nB. green\nC. blue", "Pick red, green or blue"),
        ("ends_in_question", "Is it?", "It is."),
        ("ends_in_stop", "It is.", "Is it?"),
        ("ends_open", "The capital is:", "The capital."),
        ("has_blank", "The ___ flows", "The river flows"),
        ("log_paragraphs", "one\n\ntwo", "one\ntwo"),
        ("word_variety", "all words differ here", "same same same same"),
    ],
)
def test_a_feature_measures_what_it_is_named_for(name: str, more: str, less: str) -> None:
    assert feature(name, more) > feature(name, less)


def test_content_is_read_from_the_last_user_turn() -> None:
    talk = [Turn("user", "def f(x): return 123"), Turn("assistant", "456"), Turn("user", "Thank you.")]
    for name in ("digit_share", "log_code_marks", "log_chars", "ends_in_stop"):
        assert feature(name, *talk) == feature(name, "Thank you.")


def test_turns_are_counted_and_a_system_turn_is_marked() -> None:
    assert feature("log_turns", "a", "b", "c") > feature("log_turns", "a")
    assert (
        feature("has_system", Turn("system", "Be brief."), "a") == 1.0 == feature("has_system", Turn("developer", "x"))
    )
    assert feature("has_system", "a", Turn("assistant", "b")) == 0.0


# --- the last user turn


def test_the_last_user_turn_and_all_before_it() -> None:
    talk = [Turn("system", "s"), Turn("user", "one"), Turn("assistant", "two"), Turn("user", "three")]
    assert split_turns(talk) == ("three", "s\n\none\n\ntwo")


def test_what_follows_the_last_user_turn_is_context_too() -> None:
    """A tool's answer after the question, say."""
    assert split_turns([Turn("user", "question"), Turn("tool", "42")]) == ("question", "42")


def test_empty_turns_do_not_count() -> None:
    assert split_turns([Turn("user", "question"), Turn("assistant", ""), Turn("user", " \n")]) == ("question", "")


@pytest.mark.parametrize(
    ("talk", "last"),
    [([], ""), ([Turn("user", " ")], ""), ([Turn("system", "a"), Turn("assistant", "b")], "b")],
    ids=["nothing", "blank", "no user"],
)
def test_without_a_user_turn_the_last_with_text_takes_its_place(talk: list[Turn], last: str) -> None:
    assert split_turns(talk)[0] == last


@given(turns)
def test_no_text_is_lost(talk: list[Turn]) -> None:
    last, before = split_turns(talk)
    kept = sorted(last + before.replace("\n\n", ""))
    given = "".join(t.text for t in talk if t.text.strip())
    assert len(kept) <= len(given) and all(t.text in last + "\n\n" + before for t in talk if t.text.strip())
