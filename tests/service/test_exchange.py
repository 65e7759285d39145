"""How a stream ends that nobody reads, and one that breaks."""

import asyncio
import time
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

from starlette.requests import Request
from starlette.types import Message

from service.api.exchange import LAST_EVENT_SECONDS, EventStream, Exchange, pieces
from service.engine.request import Generation, Piece, Sampling
from service.metrics import Metrics
from service.settings import Settings


def exchange() -> Exchange:
    metrics = Metrics("x")
    metrics.loaded(context_tokens=100)
    context = SimpleNamespace(settings=Settings(model="x", request_timeout_seconds=1), engine=None, metrics=metrics)
    app = SimpleNamespace(state=SimpleNamespace(context=context))
    return Exchange(Request({"type": "http", "app": app, "state": {"log": {}}}))


async def connected() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def texts(generation: Generation) -> AsyncGenerator[bytes, None]:
    async for _, piece in pieces([generation]):
        yield piece.text.encode()


def test_stream_that_nobody_reads_ends_at_its_time() -> None:
    async def run() -> tuple[list[Generation], float]:
        cancelled: list[Generation] = []
        generation = Generation([1], Sampling(max_tokens=1), cancelled.append)
        generation.deliver(Piece("a"))

        async def stuck(message: Message) -> None:
            if message["type"] == "http.response.body":  # as behind a full buffer
                await asyncio.Event().wait()

        stream = EventStream(exchange(), texts(generation), [generation])
        began = time.monotonic()
        await stream({"type": "http"}, connected, stuck)
        return cancelled, time.monotonic() - began

    cancelled, seconds = asyncio.run(run())
    assert cancelled
    assert seconds < 1 + LAST_EVENT_SECONDS + 1


def test_failure_after_the_first_event_is_the_last_one() -> None:
    async def run() -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        generation = Generation([1], Sampling(max_tokens=5))
        generation.deliver(Piece("a"))

        async def send(message: Message) -> None:
            sent.append(dict(message))
            if message.get("body") == b"a":
                generation.deliver(Piece("", finish_reason="error", error="it broke"))

        await EventStream(exchange(), texts(generation), [generation])({"type": "http"}, connected, send)
        return sent

    start, first, last = asyncio.run(run())
    assert (start["status"], first["body"], last["more_body"]) == (200, b"a", False)
    assert last["body"].startswith(b'data: {"error":{"message":"it broke"')
