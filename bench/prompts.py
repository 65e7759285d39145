"""What is asked: texts of a wanted length in tokens, no two with the same beginning unless they shall share one."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Common English words, each one token, or little more, in the tokenizers of today.
_TEXT = (
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother "
    "area money story fact month lot right study book eye job word business issue side kind head house service friend "
    "father power hour game line end member law car city community name president team minute idea body information "
    "back parent face others level office door health person art war history party result change morning reason "
    "research girl guy moment air teacher force education"
)
WORDS = tuple(_TEXT.split())
POOL_WORDS = 65_536  # a prompt is a slice of so many words drawn once: drawing each anew would cost the client its time
HEAD_WORDS = 6  # drawn for each prompt: 100^6 beginnings, none of which a prefix cache has seen

SYNTAX = re.compile(r"(?P<low>\d+)(?:-(?P<high>\d+)|~(?P<sigma>\d*\.?\d+))?")


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Tokens: always ``low``, evenly ``low`` to ``high``, or log-normal with median ``low`` and ``sigma`` of the logarithm."""

    low: int
    high: int | None = None
    sigma: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Lengths":
        """``128``, ``16-512``, or ``200~0.8``.

        Raises:
            ValueError: it is none of these.
        """
        match = SYNTAX.fullmatch(text)
        if match is None or int(match["low"]) < 1 or (match["high"] and int(match["high"]) < int(match["low"])):
            raise ValueError(f"{text!r}: expected tokens as 128, as a range 16-512, or as median~sigma 200~0.8")
        return cls(
            low=int(match["low"]),
            high=int(match["high"]) if match["high"] else None,
            sigma=float(match["sigma"]) if match["sigma"] else None,
        )

    def draw(self, random: np.random.Generator) -> int:
        if self.high is not None:
            return int(random.integers(self.low, self.high, endpoint=True))
        if self.sigma is not None:
            return max(1, round(float(random.lognormal(math.log(self.low), self.sigma))))
        return self.low


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How a server counts: ``overhead`` tokens that it adds to each prompt, and tokens for each of our words."""

    tokens_per_word: float = 1.0
    overhead: float = 0.0

    @classmethod
    def fitted(cls, few: tuple[int, int], many: tuple[int, int]) -> "Scale":
        """From two prompts, each as (words, tokens that the server counted)."""
        slope = (many[1] - few[1]) / (many[0] - few[0])
        return cls(tokens_per_word=slope, overhead=few[1] - slope * few[0])

    def words(self, tokens: int) -> int:
        """How many give so many tokens, at least one."""
        return max(1, round((tokens - self.overhead) / self.tokens_per_word))


class Prompts:
    """Draws prompts; the same seed gives the same ones."""

    def __init__(self, words: Sequence[str], scale: Scale, seed: int, shared_tokens: int = 0) -> None:
        """``shared_tokens``: with how many tokens every prompt begins alike, as with a long system prompt."""
        self._random = np.random.default_rng(seed)
        self._words = words
        self._scale = scale
        self._pool = self._draw(POOL_WORDS)
        self._shared = self._draw(round(shared_tokens / scale.tokens_per_word))

    def text(self, tokens: int) -> str:
        """A prompt of so many tokens, the shared ones included."""
        own = max(1, self._scale.words(tokens) - len(self._shared))
        head = self._draw(min(own, HEAD_WORDS))
        rest = own - len(head)
        start = int(self._random.integers(len(self._pool)))
        body = self._pool[start : start + rest]
        while len(body) < rest:
            body += self._pool[: rest - len(body)]
        return " ".join((*self._shared, *head, *body))

    def _draw(self, count: int) -> list[str]:
        return [self._words[place] for place in self._random.integers(len(self._words), size=count)]
