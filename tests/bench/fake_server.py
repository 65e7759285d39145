"""A server that streams answers as OpenAI does, says what it was asked, and fails where a prompt tells it to."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

# Words at the start of a prompt that make it fail, each in its way.
BUSY, BREAKS, ENDS_EARLY, HANGS = "busy", "breaks", "ends-early", "hangs"
OVERHEAD_TOKENS = 3  # added to each prompt, as a chat template does
TOKENS_PER_WORD = 2


@dataclass
class FakeServer:
    """``token_seconds``: between one token and the next; ``first_seconds``: before the first."""

    token_seconds: float = 0.0
    first_seconds: float = 0.0
    port: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    running: int = 0
    most: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.running += 1
        self.idle.clear()
        self.most = max(self.most, self.running)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            _, *lines = head.strip().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            self.asked.append(body)
            self.headers.append(headers)
            await self._answer(reader, writer, body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            self.running -= 1
            writer.close()
            if not self.running:
                self.idle.set()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: Mapping[str, Any]
    ) -> None:
        prompt: str = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
        what = prompt.split(" ", 1)[0]
        if what == BUSY:
            text = b'{"error": {"message": "the queue is full"}}'
            writer.write(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))
            return
        if what == HANGS:
            await reader.read()  # until the client leaves
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        tokens = body["max_tokens"]
        await asyncio.sleep(self.first_seconds)
        for number in range(tokens):
            if what == ENDS_EARLY and number == 1:
                return
            if what == BREAKS and number == 1:
                self._event(writer, {"error": {"message": "the engine failed"}})
                break
            delta = {"text": "x "} if "prompt" in body else {"delta": {"content": "x "}}
            self._event(writer, {"choices": [{"index": 0, **delta, "finish_reason": None}]})
            if self.token_seconds:
                await writer.drain()
                await asyncio.sleep(self.token_seconds)
        else:
            self._event(writer, {"choices": [{"index": 0, "text": "", "finish_reason": "length"}]})
            usage = {
                "prompt_tokens": len(prompt.split()) * TOKENS_PER_WORD + OVERHEAD_TOKENS,
                "completion_tokens": tokens,
            }
            self._event(writer, {"choices": [], "usage": usage})
        self._chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")

    def _event(self, writer: asyncio.StreamWriter, event: Mapping[str, Any]) -> None:
        data = b"data: %s\n\n" % json.dumps(event).encode()
        half = len(data) // 2  # an event in two chunks: a client that takes chunks for events fails
        self._chunk(writer, data[:half])
        self._chunk(writer, data[half:])

    def _chunk(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))


@asynccontextmanager
async def serving(server: FakeServer) -> AsyncIterator[FakeServer]:
    """Listens on a free port while the block runs."""
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
