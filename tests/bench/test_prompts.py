"""Prompts have the length that was asked for, and share only the beginning that they shall share."""

import numpy as np
import pytest

from bench.prompts import HEAD_WORDS, POOL_WORDS, WORDS, Lengths, Prompts, Scale


def drawn(text: str, count: int = 4000) -> np.ndarray:
    random = np.random.default_rng(1)
    return np.array([Lengths.parse(text).draw(random) for _ in range(count)])


def test_lengths_are_drawn_as_they_are_written() -> None:
    assert set(drawn("128")) == {128}
    even = drawn("16-18")
    assert set(even) == {16, 17, 18}
    assert np.median(drawn("200~0.8")) == pytest.approx(200, rel=0.1)
    assert np.log(drawn("200~0.8")).std() == pytest.approx(0.8, rel=0.1)


@pytest.mark.parametrize("text", ["", "0", "x", "20-10", "5~", "-3"])
def test_what_is_no_length_is_refused_by_its_value(text: str) -> None:
    with pytest.raises(ValueError, match=repr(text)):
        Lengths.parse(text)


def test_scale_is_found_from_two_prompts() -> None:
    scale = Scale.fitted((64, 64 * 2 + 17), (512, 512 * 2 + 17))
    assert (scale.tokens_per_word, scale.overhead) == (2.0, 17.0)
    assert scale.words(117) == 50
    assert scale.words(3) == 1  # there is no prompt without a word


def test_prompts_are_as_long_as_wanted_and_begin_differently() -> None:
    prompts = Prompts(WORDS, Scale(tokens_per_word=2.0, overhead=10.0), seed=1)
    texts = [prompts.text(210) for _ in range(500)]
    assert {len(text.split()) for text in texts} == {100}
    assert len({tuple(text.split()[:HEAD_WORDS]) for text in texts}) == 500
    assert len(prompts.text(3 * POOL_WORDS).split()) == round((3 * POOL_WORDS - 10) / 2)


def test_shared_beginning_is_the_same_for_all_and_only_that() -> None:
    prompts = Prompts(WORDS, Scale(), seed=1, shared_tokens=100)
    texts = [prompts.text(120).split() for _ in range(50)]
    assert {len(text) for text in texts} == {120}
    assert len({tuple(text[:100]) for text in texts}) == 1
    assert len({tuple(text[100:]) for text in texts}) == 50
