"""Pieces of answers on the wire: JSON, usage and server-sent events."""

import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

from service.engine.request import Generation

EVENT_STREAM = "text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"

encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
"""To JSON; for a text it is one call into C."""


def identifier(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex}"


def envelope(prefix: str, kind: str, model: str) -> dict[str, Any]:
    """The fields with which every answer and every chunk begins."""
    return {"id": identifier(prefix), "object": kind, "created": int(time.time()), "model": model}


def usage(generations: Sequence[Generation], per_prompt: int) -> dict[str, Any]:
    """What the answers have used; ``per_prompt`` of them, one after the other, share a prompt, which counts once."""
    firsts = generations[::per_prompt]
    prompt = sum(len(generation.prompt) for generation in firsts)
    completion = sum(generation.completion_tokens for generation in generations)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(generation.cached_tokens for generation in firsts)},
    }


def event(body: object) -> bytes:
    return f"data: {encode(body)}\n\n".encode()


class Chunks:
    """The chunks of one streamed answer: all but a choice is encoded once."""

    def __init__(self, head: dict[str, Any], *, usage_wanted: bool) -> None:
        self._head = head
        self._before = f'data: {encode(head)[:-1]},"choices":['
        self._after = '],"usage":null}\n\n' if usage_wanted else "]}\n\n"

    def chunk(self, choice: str) -> bytes:
        """The event for a choice, which is JSON."""
        return f"{self._before}{choice}{self._after}".encode()

    def measured(self, choice: str, used: dict[str, Any]) -> bytes:
        """The same with the usage so far."""
        return f'{self._before}{choice}],"usage":{encode(used)}}}\n\n'.encode()

    def total(self, used: dict[str, Any]) -> bytes:
        """The event after the last one with a choice."""
        return event({**self._head, "choices": [], "usage": used})
