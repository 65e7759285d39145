"""Pieces of answers on the wire: identifiers, usage and server-sent events."""

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

DONE = b"data: [DONE]\n\n"
# A proxy that buffers would turn a stream into one late answer (nginx reads this header).
STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def envelope(prefix: str, kind: str, model: str) -> dict[str, Any]:
    """The fields with which every answer and every chunk begins."""
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def event(body: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class EventStream(StreamingResponse):
    """Server-sent events; ``meanwhile`` is entered before the first and left after the last, or when the client is gone."""

    def __init__(self, events: AsyncIterator[bytes], meanwhile: AbstractContextManager[None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=STREAM_HEADERS)
        self._meanwhile = meanwhile

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._meanwhile:
            await super().__call__(scope, receive, send)
