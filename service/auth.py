"""API keys from a file: who may use the server."""

import codecs
import hmac
import json
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.errors import INVALID_REQUEST, error_body

log = logging.getLogger(__name__)

# Probes and Prometheus have no key, and these answers say nothing about anybody's requests.
OPEN_PATHS = frozenset({"/health", "/ready", "/metrics"})

# The same answer for a missing, a malformed and a wrong key, so that it tells nothing about the right ones.
_REFUSAL = json.dumps(
    error_body(
        "Incorrect API key provided: send the header `Authorization: Bearer KEY` with a key of this server.",
        INVALID_REQUEST,
        code="invalid_api_key",
    )
).encode()
_REFUSAL_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_REFUSAL)).encode()),
    (b"www-authenticate", b"Bearer"),
]

_Version = tuple[int, int, int, int]


class ApiKeys:
    """The keys of a file: one per line, without those that are empty or begin with ``#``.

    Only keyed hashes stay in memory. The file is read again when it is another one than before, as after the swap of
    symbolic links with which Kubernetes updates a Secret's volume. While it is missing, unreadable or empty no key is right.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._secret = secrets.token_bytes()  # what an attacker does not know, the time of a comparison cannot tell
        self._version: _Version | None = None
        self._digests: tuple[bytes, ...] = ()
        self._trouble = ""

    def allow(self, key: bytes) -> bool:
        """Whether ``key`` is one of them; takes as long for a wrong key as for a right one."""
        self._refresh()
        digest = self._digest(key)
        return sum([hmac.compare_digest(digest, known) for known in self._digests]) > 0

    def _refresh(self) -> None:
        try:
            status = self._file.stat()
            version = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
            if version == self._version:
                return
            lines = [line.strip() for line in self._file.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()]
        except OSError as error:
            self._version, self._digests = None, ()
            self._complain(f"cannot be read: {error.strerror}")
            return
        keys = {line for line in lines if line and not line.startswith(b"#")}
        self._version, self._digests = version, tuple(self._digest(key) for key in keys)
        if keys:
            self._trouble = ""
            log.info("%d API keys in %s", len(keys), self._file)
        else:
            self._complain("has no key")

    def _complain(self, trouble: str) -> None:
        if trouble != self._trouble:  # once, and not for every request
            log.error("API_KEYS_FILE=%s %s: every request is refused", self._file, trouble)
        self._trouble = trouble

    def _digest(self, key: bytes) -> bytes:
        return hmac.digest(self._secret, key, "sha256")


class Authentication:
    """Middleware that lets a request through if it has one of the keys, or needs none."""

    def __init__(self, app: ASGIApp, keys: ApiKeys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or self._keys.allow(_bearer(scope)):
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 401, "headers": _REFUSAL_HEADERS})
        await send({"type": "http.response.body", "body": _REFUSAL})


def _bearer(scope: Scope) -> bytes:
    """The key of the request; empty, which is never right, if it has none."""
    headers: Mapping[bytes, bytes] = dict(scope["headers"])
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else b""
