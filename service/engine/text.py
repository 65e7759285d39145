"""From tokens to text as they come: whole characters only, and never a part of a stop string."""

from collections.abc import Sequence
from typing import Protocol

# What a decoder writes for bytes that are no whole character yet.
INCOMPLETE = "�"
# A character has four bytes at most, each of which may be a token: so many that end in none, or say nothing, never will.
HELD_TOKENS = 8
# Some decoders drop the space before a first word: these many earlier tokens are decoded again to keep it.
OVERLAP_TOKENS = 4


class Decoder(Protocol):
    """The part of a tokenizer that is needed here."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str: ...


class Detokenizer:
    """The text of a growing sequence of tokens."""

    def __init__(self, decoder: Decoder, *, skip_special_tokens: bool = True) -> None:
        self._decoder = decoder
        self._skip_special_tokens = skip_special_tokens
        self._ids: list[int] = []
        self._from = 0  # where decoding starts again
        self._told = 0  # tokens before this one have been told

    def add(self, token: int) -> str:
        """The text that ``token`` completes; empty while a character is unfinished."""
        self._ids.append(token)
        return self._new_text(final=False)

    def end(self) -> str:
        """What is left, unfinished characters too."""
        return self._new_text(final=True)

    def _new_text(self, *, final: bool) -> str:
        before = self._decode(self._ids[self._from : self._told])
        now = self._decode(self._ids[self._from :])
        new, held = now[len(before) :], len(self._ids) - self._told
        if not new:
            if held >= HELD_TOKENS:
                del self._ids[self._told :]
            return ""
        if now.endswith(INCOMPLETE) and not final and min(held, len(new)) < HELD_TOKENS:
            return ""
        self._from = max(self._from, self._told - OVERLAP_TOKENS)
        self._told = len(self._ids)
        return new

    def _decode(self, ids: list[int]) -> str:
        return self._decoder.decode(ids, skip_special_tokens=self._skip_special_tokens)


class StopStrings:
    """Passes text on until one of the stop strings appears (with it if ``include``); what may become one is held back."""

    def __init__(self, stop: Sequence[str], *, include: bool = False) -> None:
        self._stop = tuple(stop)
        self._include = include
        self._held = ""

    def add(self, text: str) -> tuple[str, str | None]:
        """The text that may be told, and the stop string that has ended it, if one has."""
        self._held += text
        found = [(place, stop) for stop in self._stop if (place := self._held.find(stop)) >= 0]
        if found:
            place, stop = min(found, key=lambda one: one[0])
            told, self._held = self._held[: place + len(stop) if self._include else place], ""
            return told, stop
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        told, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return told, None

    def end(self) -> str:
        """What was held back in vain."""
        told, self._held = self._held, ""
        return told


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of ``text`` with which ``stop`` begins."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
