"""The log: one JSON object per line on standard output, with the id of the request that it is about.

What clients send (prompts, keys, headers) is never part of it.
"""

import json
import logging
import re
import sys
import time
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

REQUEST_ID_HEADER = b"x-request-id"
# What clients send as an id goes into the log and back to them: what else could be in there is not worth having.
_ID = re.compile(rb"[!-~]{1,128}")
# Asked every few seconds by machines.
_QUIET_PATHS = frozenset({"/health", "/ready", "/metrics"})
_FACTS = "log"
# Libraries that write plain lines to standard error by themselves, once they are imported.
_PLAIN = ("transformers", "torch", "torch.distributed")

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class JsonLines(logging.Formatter):
    """A record as a line of JSON; what was given as ``extra={"facts": {...}}`` becomes fields of their own."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (request_id := _request_id.get()) is not None:
            line["request_id"] = request_id
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(level: str) -> None:
    """Sends what this process logs, warnings and the records of imported libraries too, to standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in _PLAIN:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True


def note(scope: Scope, **facts: object) -> None:
    """Facts for the line that the request gets when it ends."""
    scope["state"][_FACTS].update(facts)


class RequestLog:
    """Middleware: every request has an id, the client's own (`X-Request-ID`) if it sent one, and a line when it ends.

    The id is in every answer, whatever its status, and never more than a label: two requests may have the same.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _sent_id(scope) or uuid.uuid4().hex
        _request_id.set(request_id)
        facts: dict[str, object] = {}
        scope.setdefault("state", {})[_FACTS] = facts
        began = time.monotonic()

        async def tagged(message: Message) -> None:
            if message["type"] == "http.response.start":
                facts["status"] = message["status"]
                message["headers"] = [*message.get("headers", []), (REQUEST_ID_HEADER, request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, tagged)
        finally:
            level = logging.DEBUG if scope["path"] in _QUIET_PATHS else logging.INFO
            seconds = round(time.monotonic() - began, 4)
            request = {"method": scope["method"], "path": scope["path"], "seconds": seconds}
            log.log(level, "request", extra={"facts": request | facts})


def _sent_id(scope: Scope) -> str | None:
    sent = next((value for name, value in scope["headers"] if name == REQUEST_ID_HEADER), b"")
    return sent.decode("ascii") if _ID.fullmatch(sent) else None
