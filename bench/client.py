"""One streamed answer over HTTP, read at so little cost that the client is not what is measured.

Each request has a connection of its own: as many users have, and so that a Service of Kubernetes spreads them over its pods.
"""

import asyncio
import json
import ssl
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, Literal
from urllib.parse import urlsplit

import httptools

Endpoint = Literal["chat", "completions"]
PATHS: Mapping[Endpoint, str] = {"chat": "/chat/completions", "completions": "/completions"}
DEFAULT_PORTS = {"http": 80, "https": 443}
TIMEOUT_SECONDS = 600.0
MESSAGE_CHARACTERS = 300  # of an error's body, kept for whoever looks for its cause

OK = ""
CONNECT, TIMEOUT, CUT_OFF, REFUSED, NOT_HTTP, LEFT = "connect", "timeout", "cut off", "error event", "not HTTP", "left"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A server and how it is asked. ``url`` ends with the API's version, as OpenAI's clients want it (…/v1)."""

    url: str
    model: str
    endpoint: Endpoint = "completions"
    api_key: str | None = field(default=None, repr=False)
    options: Mapping[str, object] = field(default_factory=dict)
    """Further fields of every request's body."""
    timeout: float = TIMEOUT_SECONDS


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of one request; times in seconds of the client's clock (``perf_counter``)."""

    due: float
    """When it should have been sent. Latencies count from here: a client that is late must not make a server look fast."""
    sent: float
    pieces_at: "array[float]"
    """When each part of the answer arrived: a token each, with most servers most of the time."""
    ended: float
    prompt_tokens: int = 0
    output_tokens: int = 0
    """As the server counted them; where it counts none, one for each part."""
    finish_reason: str | None = None
    error: str = OK
    """The kind of failure, or nothing."""
    message: str = ""

    @property
    def first_token(self) -> float:
        """Seconds to the first token."""
        return self.pieces_at[0] - self.due

    @property
    def latency(self) -> float:
        """Seconds to the end of the answer."""
        return self.ended - self.due

    @property
    def gaps(self) -> list[float]:
        """Seconds between one part and the next."""
        return [later - earlier for earlier, later in zip(self.pieces_at, self.pieces_at[1:], strict=False)]

    @property
    def time_per_token(self) -> float | None:
        """Seconds per token after the first, mean over the answer; None where there was no second one."""
        if self.output_tokens < 2:
            return None
        return (self.pieces_at[-1] - self.pieces_at[0]) / (self.output_tokens - 1)


class Client:
    """Asks one server; as often at the same time as wanted."""

    def __init__(self, target: Target, on_piece: Callable[[], None] = lambda: None) -> None:
        """``on_piece`` is called for each part of any answer.

        Raises:
            ValueError: the URL is none.
        """
        parts = urlsplit(target.url)
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
            raise ValueError(f"{target.url!r}: expected a URL such as http://localhost:8000/v1")
        self._target = target
        self._on_piece = on_piece
        self._host = parts.hostname
        self._port = parts.port or DEFAULT_PORTS[parts.scheme]
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        path = parts.path.rstrip("/") + PATHS[target.endpoint]
        key = f"authorization: Bearer {target.api_key}\r\n" if target.api_key else ""
        self._head = (
            f"POST {path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
            f"accept: text/event-stream\r\nconnection: close\r\n{key}content-length: "
        )

    async def ask(
        self, prompt: str, output_tokens: int, due: float | None = None, leave: asyncio.Future[None] | None = None
    ) -> Outcome:
        """Sends one request now and reads its answer to the end, or until ``leave`` is done. Failures are outcomes."""
        sent = perf_counter()
        due = sent if due is None else due
        stream = _Stream(self._on_piece)
        leaves = partial(_leave, stream)
        if leave is not None:
            leave.add_done_callback(leaves)
        transport: asyncio.Transport | None = None
        try:
            async with asyncio.timeout(self._target.timeout):
                try:
                    transport, _ = await asyncio.get_running_loop().create_connection(
                        lambda: stream, self._host, self._port, ssl=self._tls
                    )
                except OSError as error:
                    return Outcome(
                        due=due, sent=sent, pieces_at=array("d"), ended=perf_counter(), error=CONNECT, message=str(error)
                    )  # fmt: skip
                transport.write(self._request(prompt, output_tokens))
                await asyncio.shield(stream.over)  # a timeout would cancel it, and its result is still to be set
        except TimeoutError:
            stream.fail(TIMEOUT)
        finally:
            if leave is not None:
                leave.remove_done_callback(leaves)
            if transport is not None:
                transport.abort()
        return stream.outcome(due, sent)

    def _request(self, prompt: str, output_tokens: int) -> bytes:
        asked: dict[str, object] = (
            {"prompt": prompt}
            if self._target.endpoint == "completions"
            else {"messages": [{"role": "user", "content": prompt}]}
        )
        body = json.dumps(
            {"model": self._target.model, **asked, "max_tokens": output_tokens, "stream": True, **self._target.options}
        ).encode()
        return f"{self._head}{len(body)}\r\n\r\n".encode() + body


class _Stream(asyncio.Protocol):
    """Reads an answer as it comes: httptools takes HTTP apart and calls the ``on_`` methods."""

    def __init__(self, on_piece: Callable[[], None]) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_piece = on_piece
        self._parser = httptools.HttpResponseParser(self)
        self._now = 0.0
        self._status = 0
        self._rest = b""
        self._pieces_at: array[float] = array("d")
        self._ended = 0.0
        self._finish_reason: str | None = None
        self._prompt_tokens = self._output_tokens = 0
        self._error = OK
        self._message = ""

    def data_received(self, data: bytes) -> None:
        self._now = perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail(NOT_HTTP, str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        # An answer without a length ends with its connection: then only its last event tells that it is whole.
        self.fail(OK if self._finish_reason else CUT_OFF, str(exc or ""))

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        *lines, self._rest = (self._rest + body).split(b"\n")
        if self._status == 200:
            for line in lines:
                if line.startswith(b"data:"):
                    self._event(line[5:].strip())
        elif lines:
            self._rest = b"\n".join((*lines, self._rest))

    def on_message_complete(self) -> None:
        if self._status != 200:
            self.fail(f"HTTP {self._status}", self._rest.decode(errors="replace"))
        else:
            self.fail(OK if self._finish_reason else CUT_OFF)

    def fail(self, error: str, message: str = "") -> None:
        """The end, of whatever kind; the first one counts."""
        if not self.over.done():
            self._ended = perf_counter() if error else self._now
            self._error = self._error or error
            self._message = self._message or message[:MESSAGE_CHARACTERS]
            self.over.set_result(None)

    def outcome(self, due: float, sent: float) -> Outcome:
        return Outcome(
            due=due,
            sent=sent,
            pieces_at=self._pieces_at,
            ended=self._ended,
            prompt_tokens=self._prompt_tokens,
            output_tokens=self._output_tokens or len(self._pieces_at),
            finish_reason=self._finish_reason,
            error=self._error,
            message=self._message,
        )

    def _event(self, data: bytes) -> None:
        if data == b"[DONE]":
            return
        try:
            event: dict[str, Any] = json.loads(data)
        except ValueError:
            self.fail(NOT_HTTP, f"an event that is no JSON: {data[:MESSAGE_CHARACTERS].decode(errors='replace')}")
            return
        if event.get("error"):
            self._error, self._message = REFUSED, json.dumps(event["error"])[:MESSAGE_CHARACTERS]
            return
        for choice in event.get("choices") or ():
            if _has_content(choice):
                self._pieces_at.append(self._now)
                self._on_piece()
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
        if usage := event.get("usage"):
            self._prompt_tokens, self._output_tokens = usage["prompt_tokens"], usage["completion_tokens"]


def _leave(stream: _Stream, _: asyncio.Future[None]) -> None:
    stream.fail(LEFT)


def _has_content(choice: Mapping[str, Any]) -> bool:
    if choice.get("text"):
        return True
    delta = choice.get("delta") or {}
    return bool(delta.get("content") or delta.get("reasoning_content") or delta.get("tool_calls"))
