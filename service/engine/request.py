"""What goes into the engine and what comes out. Standard library only: the API is written against these types."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

FinishReason = Literal["stop", "length", "abort", "error"]
GrammarKind = Literal["json_object", "json_schema", "regex", "choice"]


class QueueFullError(Exception):
    """As many requests wait as may."""


class EngineClosedError(Exception):
    """The engine takes no requests: it has not loaded, is stopping, or has failed; the message says which."""


class GrammarError(ValueError):
    """A grammar that cannot be compiled; the message says why."""


class ScoresError(ValueError):
    """A model's scores are no numbers: what it has computed of a request is not sound."""


class ContextLengthError(ValueError):
    """Prompt and answer together are longer than the context; all in tokens."""

    def __init__(self, prompt_tokens: int, max_tokens: int, context_tokens: int) -> None:
        super().__init__(
            f"{prompt_tokens} tokens of prompt and {max_tokens} of answer are more than the {context_tokens} of the context"
        )
        self.prompt_tokens = prompt_tokens
        self.max_tokens = max_tokens
        self.context_tokens = context_tokens


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """What the text of an answer must be.

    ``definition`` is empty for ``json_object``, the schema as JSON for ``json_schema``, the expression for ``regex``,
    and a JSON list of texts for ``choice``. ``lenient``: what of a schema cannot be enforced is left out, else refused.
    """

    kind: GrammarKind
    definition: str = ""
    lenient: bool = False


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen, and when it was the last. The values are valid when they get here."""

    max_tokens: int  # from 0: then the request ends with its prompt
    min_tokens: int = 0  # so many come before an end token or a stop string may
    temperature: float = 1.0  # 0: the most likely token
    top_p: float = 1.0  # in (0, 1]
    top_k: int = 0  # 0: all
    min_p: float = 0.0  # in [0, 1], of the most likely token's probability
    presence_penalty: float = 0.0  # off the score of every token generated so far
    frequency_penalty: float = 0.0  # the same, times how often it was
    repetition_penalty: float = 1.0  # transformers': divides the scores of tokens of the prompt and the answer
    logit_bias: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    seed: int | None = None  # same seed, same random numbers, whatever else runs
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    include_stop: bool = False  # what ended the answer, string or token, is a part of its text
    skip_special_tokens: bool = True  # the text is without them
    hidden_tokens: frozenset[int] = frozenset()  # the text is without these, too
    ignore_eos: bool = False
    top_logprobs: int | None = None  # None: no logprobs; else so many alternatives, 0 to 20
    prompt_logprobs: int | None = None  # the same for the prompt's tokens
    grammar: Grammar | None = None


@dataclass(frozen=True)
class TokenLogprob:
    """A token's logarithm of probability before any of the sampling options, and the most likely tokens'."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]  # (token, logprob), most likely first
    rank: int | None = None  # of a prompt's token: 1 is the most likely one


@dataclass(frozen=True)
class Piece:
    """What one or more steps added to an answer; the last piece of an answer has a ``finish_reason``.

    ``tokens`` are all that were generated since the piece before, those of a stop string too; ``logprobs`` has one entry
    for each of them where asked for. ``text`` may be empty, and never has a part of a stop string (or it has all of it, where
    that is wanted). The first piece of an answer has ``prompt_logprobs`` where asked for: of the prompt's tokens from the
    second on, for nothing leads to the first.
    """

    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None  # the stop string or stop token that ended it
    error: str = ""  # with "error" and "abort": why
    prompt_logprobs: tuple[TokenLogprob, ...] = ()

    def __add__(self, later: "Piece") -> "Piece":
        return Piece(
            self.text + later.text,
            self.tokens + later.tokens,
            self.logprobs + later.logprobs,
            later.finish_reason,
            later.stop_reason,
            later.error,
            self.prompt_logprobs + later.prompt_logprobs,
        )


class Generation:
    """One answer in the making. It belongs to the event loop that submitted it: iterate over it there, once.

    Pieces that nobody has taken yet come as one: a slow reader gets fewer and longer pieces, not a queue of them.
    """

    def __init__(
        self, prompt: Sequence[int], sampling: Sampling, cancel: Callable[["Generation"], None] = lambda _: None
    ) -> None:
        self.prompt = tuple(prompt)
        self.sampling = sampling
        self.completion_tokens = 0  # of the pieces delivered so far
        self.cached_tokens = 0  # of the prompt, that came from the prefix cache
        self.loop = asyncio.get_running_loop()
        self._cancel = cancel
        self._piece: Piece | None = None
        self._arrived = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """The pieces; the last one has a ``finish_reason``."""
        finished = False
        while not finished:
            await self._arrived.wait()
            self._arrived.clear()
            if self._piece is not None:
                piece, self._piece = self._piece, None
                finished = piece.finish_reason is not None
                yield piece

    def cancel(self) -> None:
        """Ends it within one step; it may be called at any time, twice, and from any thread."""
        self._cancel(self)

    def deliver(self, piece: Piece, cached_tokens: int = 0) -> None:
        """For the engine, on the generation's event loop."""
        self.completion_tokens += len(piece.tokens)
        self.cached_tokens = cached_tokens
        self._piece = piece if self._piece is None else self._piece + piece
        self._arrived.set()
