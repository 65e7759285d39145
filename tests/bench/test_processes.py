"""Servers are started, asked only when they are ready, held still, and ended with everything they started."""

import os
import sys
import time
from pathlib import Path

import pytest

from bench.processes import BenchError, Command, Group, serving


def command(program: str) -> Command:
    return Command(
        name="a server", arguments=(sys.executable, "-c", program), ready_path="/", served_name="m",
        variables={"PORT": "{port}"}, options={"temperature": 0},
    )  # fmt: skip


SERVER = """
import http.server, os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'calls{a="1"} 2.0\\ncalls{a="2"} 3.5\\ncallsign{a="1"} 9\\n'
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


SPIN = """
import threading
threading.Thread(target=lambda: [0 for _ in iter(int, 1)], daemon=True).start()
"""


def cpu_ticks(group: Group) -> int:
    after_name = Path(f"/proc/{group.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(after_name[11]) + int(after_name[12])


def exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_server_runs_while_the_block_does(tmp_path: Path) -> None:
    with serving(command(SERVER), tmp_path / "log") as server:
        assert server.start_seconds > 0
        target = server.target(seed=1)
        assert target.url == f"http://127.0.0.1:{server.port}/v1"
        assert target.options == {"temperature": 0, "seed": 1}
        assert server.metric("calls") == 5.5
        with pytest.raises(BenchError, match="no others in /metrics"):
            server.metric("others")
        alone = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096
        assert server.resident_bytes > alone  # its child counts
        group = server.process.pid
    deadline = time.monotonic() + 10
    while exists(group):
        assert time.monotonic() < deadline


def test_held_server_computes_nothing_until_it_goes_on(tmp_path: Path) -> None:
    busy = SERVER.replace("class Handler", f"{SPIN}\nclass Handler")
    with serving(command(busy), tmp_path / "log") as server:
        server.hold()
        time.sleep(0.05)
        held = cpu_ticks(server)
        time.sleep(0.2)
        assert cpu_ticks(server) == held
        server.go_on()
        deadline = time.monotonic() + 10
        while cpu_ticks(server) == held:
            assert time.monotonic() < deadline


def test_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchError, match=r"(?s)a server is not ready .*exit status 3.*no such model"),
        serving(command("import sys; print('no such model'); sys.exit(3)"), tmp_path / "log"),
    ):
        pass
