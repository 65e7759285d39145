"""Text from tokens: whole characters, and stop strings that never show."""

import pytest
from tokenizers import Tokenizer

from local import tiny_model
from service.engine.text import Detokenizer, StopStrings


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        return bytes(token_ids).decode(errors="replace")


@pytest.mark.parametrize("text", ["plain", "grün 🌊 日本語", "a\N{COMBINING ACUTE ACCENT}b"])
def test_characters_come_whole(text: str) -> None:
    detokenizer = Detokenizer(Bytes())
    pieces = [detokenizer.add(byte) for byte in text.encode()]
    assert "�" not in "".join(pieces)
    assert "".join(pieces) + detokenizer.end() == text


def test_unfinished_character_is_told_at_the_end() -> None:
    detokenizer = Detokenizer(Bytes())
    assert detokenizer.add("é".encode()[0]) == ""
    assert detokenizer.end() == "�"


class Counting(Bytes):
    """Some bytes are special and say nothing; how many tokens are decoded is counted."""

    decoded = 0

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        self.decoded += len(token_ids)
        return super().decode([token for token in token_ids if token], skip_special_tokens=skip_special_tokens)


@pytest.mark.parametrize(("token", "text"), [(0, ""), (0xFF, "�")])
def test_tokens_that_never_become_a_character_are_not_decoded_again_and_again(token: int, text: str) -> None:
    decoder = Counting()
    detokenizer = Detokenizer(decoder)
    told = "".join(detokenizer.add(token) for _ in range(1000))
    assert told + detokenizer.end() == text * 1000
    assert decoder.decoded < 40 * 1000


@pytest.mark.parametrize("silent", range(12))
def test_character_after_silent_tokens_comes_whole(silent: int) -> None:
    detokenizer = Detokenizer(Counting())
    pieces = [detokenizer.add(token) for token in [*b"a", *[0] * silent, *"🌊".encode()]]
    assert [piece for piece in pieces if piece] == ["a", "🌊"]


def test_words_keep_their_spaces() -> None:
    tokenizer: Tokenizer = tiny_model._tokenizer()
    text = "The model reads the prompt once, and then writes."
    detokenizer = Detokenizer(tokenizer)
    assert "".join(detokenizer.add(token) for token in tokenizer.encode(text).ids) + detokenizer.end() == text


@pytest.mark.parametrize("cut", range(1, 12))
def test_stop_string_never_shows_in_part(cut: int) -> None:
    text = "one two STOP three"
    stops = StopStrings(["STOP"])
    told, ended = "", None
    for start in range(0, len(text), cut):
        piece, ended = stops.add(text[start : start + cut])
        told += piece
        assert not told.endswith(("S", "ST", "STO", "STOP"))
        if ended:
            break
    assert ended == "STOP"
    assert told == "one two "


@pytest.mark.parametrize("cut", range(1, 12))
def test_stop_string_is_the_end_of_the_text_where_that_is_wanted(cut: int) -> None:
    text = "one two STOP three"
    stops = StopStrings(["STOP"], include=True)
    told, ended = "", None
    for start in range(0, len(text), cut):
        piece, ended = stops.add(text[start : start + cut])
        told += piece
        if ended:
            break
    assert (told, ended) == ("one two STOP", "STOP")


def test_what_was_held_back_in_vain_is_told() -> None:
    stops = StopStrings(["STOP"])
    assert stops.add("a ST") == ("a ", None)
    assert stops.end() == "ST"
