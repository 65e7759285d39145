"""An image registry on loopback, as far as a push needs one (OCI distribution specification, 4. Push), with a password."""

import hashlib
import re
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

USER, PASSWORD = "builder", "hush-hush"


class Registry:
    """While entered it serves; ``manifests`` has what was pushed, by name and by tag or digest."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], bytes] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def host(self) -> str:
        return f"localhost:{self._server.server_port}"

    def __enter__(self) -> "Registry":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    authorization = f"Basic {b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, status: int, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)

        def _serve(self) -> None:
            body = self._body()
            blob = re.fullmatch(r"/v2/.+/blobs/(sha256:[0-9a-f]{64})", self.path)
            manifest = re.fullmatch(r"/v2/(.+)/manifests/(.+)", self.path)
            if self.headers.get("Authorization") != authorization:
                self._answer(401, WWW_Authenticate='Basic realm="test"')
            elif self.command == "HEAD" and blob:
                self._answer(200 if blob[1] in registry.blobs else 404)
            elif self.command == "HEAD":
                self._answer(404)
            elif self.command == "POST":
                self._answer(202, Location=f"{self.path}upload")
            elif manifest:
                name, reference = manifest.groups()
                registry.manifests[name, reference] = registry.manifests[name, _digest(body)] = body
                self._answer(201, Docker_Content_Digest=_digest(body))
            elif self.command == "PUT":
                registry.blobs[_digest(body)] = body
                self._answer(201, Docker_Content_Digest=_digest(body))
            else:
                self._answer(200)

        do_GET = do_HEAD = do_POST = do_PUT = _serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler
