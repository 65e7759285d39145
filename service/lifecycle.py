"""Connections and shutdown: a bounded age for kept-alive connections, and an orderly end on SIGTERM.

From SIGTERM on `/ready` fails, idle connections are closed and every answer closes its connection. Requests that still
arrive are answered until the last running one has ended or the drain's time is up. Then what still runs ends with an
error, and what still arrives is refused (503), until those errors are written; the process ends with status 0.
"""

import asyncio
import gc
import json
import logging
import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.errors import INVALID_REQUEST, error_body
from service.engine.engine import Engine, EngineState

log = logging.getLogger(__name__)

CONNECTED_AT = "connected_at"
CLOSE = (b"connection", b"close")
# After SIGTERM new requests may still be on their way: endpoints leave a cluster's routing a moment later.
LINGER_SECONDS = 2.0
# Longer than clients keep an idle connection (httpx: 5 s): so it is the client that closes it, and never under a request.
IDLE_SECONDS = 75
# For the answers that the drain cut off, to get their errors written.
LAST_WORDS_SECONDS = 5
_UPGRADE = re.compile(rb"^upgrade:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)
_LONGEST_LINE = 65_536  # bytes of a head that are held back until their line has come whole
_END_OF_HEAD = b"\r\n\r\n"


class AgedConnection(HttpToolsProtocol):
    """uvicorn's connection, which remembers since when it is open, and ends when nothing ever comes over it.

    It does not hear of other protocols: the parser would take the body for one of theirs. Java's own client offers HTTP/2 with
    every request.
    """

    _in_head = True
    _line = b""  # of a head, the one that has not come whole

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, CONNECTED_AT: time.monotonic()}
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            head, end, rest = (self._line + data).partition(_END_OF_HEAD)
            whole = len(head) if end or len(head) > _LONGEST_LINE else head.rfind(b"\n") + 1
            self._line = head[whole:]
            data = _UPGRADE.sub(b"", head[:whole] + end[:2]) + end[2:] + rest
        super().data_received(data)
        if self._line and not self._in_head:  # the head ended before it: it is of the body
            self._line, data = b"", self._line
            super().data_received(data)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP, as every other error is answered."""
        body = json.dumps(error_body(msg, INVALID_REQUEST)).encode()
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        self.transport.close()

    def close_when_idle(self) -> None:
        """Closes the connection, at once or after the running answer; one that has had no request yet may still send it."""
        if self.cycle is not None:
            self.shutdown()


@dataclass
class Lifecycle:
    """Whether the server is on its way out."""

    draining: bool = False


class Connections:
    """Middleware that counts requests in flight, and ends a connection after an answer when it is old or the server drains."""

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle, max_age: float) -> None:
        self._app = app
        self._lifecycle = lifecycle
        self._max_age = max_age
        self.in_flight = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._ends(scope):
                message = {**message, "headers": [*message.get("headers", []), CLOSE]}
            await send(message)

        self.in_flight += 1
        self._quiet.clear()
        try:
            await self._app(scope, receive, closing)
        finally:
            self.in_flight -= 1
            if self.in_flight == 0:
                self._quiet.set()

    async def quiet_within(self, seconds: float) -> None:
        """Returns when nothing is in flight, and after ``seconds`` in any case."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), max(seconds, 0))

    def _ends(self, scope: Scope) -> bool:
        connected_at = scope.get("state", {}).get(CONNECTED_AT)
        return self._lifecycle.draining or (
            connected_at is not None and time.monotonic() - connected_at > self._max_age
        )


class Server(uvicorn.Server):
    """uvicorn, with a drain: SIGTERM makes /ready fail and lets running requests end before the process does."""

    def __init__(
        self,
        config: uvicorn.Config,
        engine: Engine,
        lifecycle: Lifecycle,
        connections: Connections,
        drain_seconds: float,
    ) -> None:
        super().__init__(config)
        self._engine = engine
        self._lifecycle = lifecycle
        self._connections = connections
        self._drain_seconds = drain_seconds
        self._draining: asyncio.Task[None] | None = None

    async def on_tick(self, counter: int) -> bool:
        """Ends the process when its engine has failed: whoever started it sees that, and may start it again."""
        if not gc.isenabled() and self._engine.state is EngineState.SERVING:
            gc.freeze()  # what is there now stays: to look through it again and again would make requests wait
            gc.enable()
        return self._engine.state is EngineState.FAILED or await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains; an interrupt while draining ends at once. The process then ends with status 0."""
        if self._lifecycle.draining and sig == signal.SIGINT:
            self.should_exit = self.force_exit = True
            return
        self._lifecycle.draining = True
        asyncio.get_running_loop().call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        began = time.monotonic()
        log.info("draining: %d requests in flight, at most %.0f s", self._connections.in_flight, self._drain_seconds)
        for connection in list(self.server_state.connections):
            if isinstance(connection, AgedConnection):
                connection.close_when_idle()
        await asyncio.sleep(min(LINGER_SECONDS, self._drain_seconds))
        await self._connections.quiet_within(began + self._drain_seconds - time.monotonic())
        cut_off = self._connections.in_flight
        self._engine.stop("the server is shutting down")
        await self._connections.quiet_within(LAST_WORDS_SECONDS)
        log.info("drained after %.1f s, %d requests cut off", time.monotonic() - began, cut_off)
        self.should_exit = True
