"""What goes into the engine and what comes out."""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "abort", "error"]


class QueueFullError(Exception):
    """As many requests wait as may."""


class EngineClosedError(Exception):
    """The engine takes no requests: it has not loaded, is stopping, or has failed; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen, and when it was the last."""

    temperature: float  # 0: the most likely token
    top_p: float  # in (0, 1]
    max_tokens: int
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True)
class Piece:
    """A part of an answer: its text (it may be empty), the tokens so far, and, with the last one, why it ended."""

    text: str
    completion_tokens: int
    finish_reason: FinishReason | None = None
    error: str = ""
