"""A web server on this machine in the place of publishers and of the model hub."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

RANGES = "bytes="


@dataclass
class Site:
    """``files`` by path. ``cut`` has, by path, how many bytes each of the next answers holds before it breaks off.

    Without the header ``authorization``, where one is set, nobody gets anything.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, list[int]] = field(default_factory=dict)
    resumable: bool = True
    authorization: str | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)  # path and range of every request
    url: str = ""


@pytest.fixture
def site() -> Iterator[Site]:
    served = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200 if self.path in served.files else 404)
            self.end_headers()

        def do_GET(self) -> None:
            path, wanted = self.path.partition("?")[0], self.headers.get("Range", "")
            served.asked.append((path, wanted))
            if served.authorization not in (None, self.headers.get("Authorization")):
                self.send_error(401)
                return
            content = served.files.get(path)
            if content is None:
                self.send_error(404)
                return
            start = int(wanted.removeprefix(RANGES).rstrip("-")) if wanted and served.resumable else 0
            if start >= len(content) > 0:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            cuts = served.cut.get(path, [])
            self.wfile.write(content[start:][: cuts.pop(0) if cuts else None])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()
