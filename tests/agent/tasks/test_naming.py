"""Tasks are named by the terms that they use more than others."""

from __future__ import annotations

import numpy as np

from agent.tasks.naming import task_names


def named(texts: list[str], labels: list[int], count: int, **terms: int) -> tuple[str, ...]:
    return task_names(texts, np.array(labels, np.int64), count, **terms)


def test_a_name_holds_the_terms_that_a_task_uses_more_than_others() -> None:
    texts = ["translate poem French", "translate poem Danish", "translate sonnet", "sort list Python", "sort array"]
    poems, sorting = named(texts, [0, 0, 0, 1, 1], 2)
    assert poems.startswith("translate, poem") and sorting.startswith("sort, ")
    assert not set(poems.split(", ")) & set(sorting.split(", "))


def test_a_term_that_all_tasks_use_ranks_low() -> None:
    texts = ["answer river river", "answer river", "answer integral", "answer integral sum"]
    assert [name.split(", ")[0] for name in named(texts, [0, 0, 1, 1], 2)] == ["river", "integral"]


def test_stop_words_digits_and_short_words_are_no_terms() -> None:
    assert named(["What is the sum of 12345 and ab? Please write it."], [0], 1) == ("sum",)


def test_a_prompt_counts_a_term_once() -> None:
    texts = ["echo " * 50 + "river", "river bank", "river delta"]
    assert named(texts, [0, 0, 0], 1)[0].split(", ")[0] == "river"


def test_chinese_and_japanese_are_named_too() -> None:
    assert named(["写诗"], [0], 1) == ("写诗",)


def test_a_task_without_text_is_called_by_its_column() -> None:
    assert named(["", "river", ""], [0, 1, 2], 4) == ("task 0", "river", "task 2", "task 3")


def test_no_more_terms_than_asked_and_equal_inputs_give_equal_names() -> None:
    texts, labels = ["alpha beta gamma delta", "omega sigma kappa"], [0, 1]
    assert all(len(name.split(", ")) == 2 for name in named(texts, labels, 2, terms=2))
    assert named(texts, labels, 2) == named(texts, labels, 2)
    assert named(["delta gamma beta alpha"], [0], 1) == ("alpha, beta, delta",)  # ties by alphabet


def test_only_the_beginning_of_a_long_text_is_read() -> None:
    assert named(["river " + "." * 5000 + " integral"], [0], 1) == ("river",)
