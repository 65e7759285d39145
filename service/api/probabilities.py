"""Probabilities of tokens in the shapes of both kinds of completions."""

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from service.engine.request import TokenLogprob

# What JSON has instead of minus infinity, the logarithm of a probability of 0 (vLLM's number).
LEAST_LOGPROB = -9999.0
_INCOMPLETE = "\ufffd"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # SentencePiece's way to write one
_WORD = "\u2581"  # and its way to write the space before a word


class TokenTexts:
    """The text and the bytes of single tokens; a token may be a part of a character."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, tuple[str, list[int]]] = {}

    def of(self, token: int) -> tuple[str, list[int]]:
        if token not in self._known:
            self._known[token] = self._look_up(token)
        return self._known[token]

    def _look_up(self, token: int) -> tuple[str, list[int]]:
        text: str = self._tokenizer.decode([token])
        piece: str | None = self._tokenizer.convert_ids_to_tokens(token)
        if piece is None:  # the model has more rows than the tokenizer tokens
            return text, list(text.encode())
        if byte := _BYTE.fullmatch(piece):
            return _escaped([int(byte[1], 16)])
        if piece.startswith(_WORD) and not text.startswith(" "):
            text = f" {text}"
        if _INCOMPLETE in text and all(character in _BYTE_OF for character in piece):
            return _escaped([_BYTE_OF[character] for character in piece])
        return text, list(text.encode())


def of_chat(logprobs: Sequence[TokenLogprob], texts: TokenTexts) -> list[dict[str, Any]]:
    """`logprobs.content` of a chat completion's choice."""
    return [
        {**_entry(one.token, one.logprob, texts), "top_logprobs": [_entry(*other, texts) for other in one.top]}
        for one in logprobs
    ]


def of_completion(
    logprobs: Sequence[TokenLogprob], texts: TokenTexts, most: int, *, first: Sequence[int] = (), offset: int = 0
) -> dict[str, list[Any]]:
    """`logprobs` of a completion's choice, with at most ``most`` alternatives to each token.

    ``first``: tokens before those, that have no probability; ``offset``: where in the choice's text all of them begin.
    """
    tokens = [texts.of(token)[0] for token in (*first, *(one.token for one in logprobs))]
    unknown = [None] * len(first)
    return {
        "tokens": tokens,
        "token_logprobs": [*unknown, *(_finite(one.logprob) for one in logprobs)],
        "top_logprobs": [
            *unknown,
            *(
                {texts.of(token)[0]: _finite(logprob) for token, logprob in (*one.top[:most], (one.token, one.logprob))}
                for one in logprobs
            ),
        ],
        "text_offset": list(accumulate(map(len, tokens[:-1]), initial=offset)),
    }


def of_prompt(logprobs: Sequence[TokenLogprob], texts: TokenTexts, most: int) -> list[dict[str, Any] | None]:
    """vLLM's `prompt_logprobs`: for each token of the prompt, itself and at most ``most`` others, by their numbers."""

    def entry(token: int, logprob: float, rank: int | None) -> dict[str, Any]:
        return {"logprob": _finite(logprob), "rank": rank, "decoded_token": texts.of(token)[0]}

    return [
        None,  # nothing leads to the first
        *(
            {str(token): entry(token, logprob, rank) for rank, (token, logprob) in enumerate(one.top[:most], start=1)}
            | {str(one.token): entry(one.token, one.logprob, one.rank)}
            for one in logprobs
        ),
    ]


def _entry(token: int, logprob: float, texts: TokenTexts) -> dict[str, Any]:
    text, content = texts.of(token)
    return {"token": text, "logprob": _finite(logprob), "bytes": content}


def _finite(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)


def _escaped(content: list[int]) -> tuple[str, list[int]]:
    """Bytes that are no text, written as OpenAI does."""
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content), content


def _byte_of() -> dict[str, int]:
    """Byte-level tokenizers (GPT-2's way) write each byte as a character: printable ones as themselves, others from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_of()
