"""A real server process for tests: the tiny model behind the real command."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx

from service import metric_names

# Below those that systems give to clients' connections.
PORTS = range(20_000, 32_000)
START_SECONDS = 90
STOP_SECONDS = 30
POLL_SECONDS = 0.05


def free_port() -> int:
    """A port that nothing listens at, and that no client's connection takes until a server has started there."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class ServerProcess:
    """`python -m service` with the given environment; ``ready``: serving when the constructor returns."""

    def __init__(self, model: Path, log: Path, *, ready: bool = True, **settings: str) -> None:
        self.port = free_port()
        self.log = log
        environment = {
            **os.environ,
            "MODEL": str(model),
            "SERVED_MODEL_NAME": "tiny",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "DEVICE": "cpu",
            "DTYPE": "float32",
            "OMP_NUM_THREADS": "1",  # the model is so small that threads only wait for each other
            **settings,
        }
        self.errors = log.with_name(f"{log.name}-errors")
        with log.open("wb") as output, self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service"], env=environment, stdout=output, stderr=errors
            )
        if ready:
            self.wait_for(lambda: self.get("/ready").status_code == 200, START_SECONDS)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> httpx.Response:
        try:
            return httpx.get(f"{self.url}{path}", timeout=10)
        except httpx.ConnectError:
            return httpx.Response(599)  # nothing listens (yet, or any more)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have the labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [
            line
            for line in self.get("/metrics").text.splitlines()
            if line.startswith(f"{name}{{") and all(label in line for label in wanted)
        ]
        assert lines, f"{name} is not exposed"
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def refused(self, reason: str) -> float:
        """How many requests were, for that reason."""
        return self.metric(f"{metric_names.REQUESTS_REFUSED}_total", reason=reason)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"the server ended: {self.told()}"
            assert time.monotonic() < deadline, f"not in {seconds} s: {self.told()}"
            time.sleep(POLL_SECONDS)

    def told(self) -> str:
        """The ends of its log and of its standard error."""
        return f"{self.log.read_text()[-2000:]}\n{self.errors.read_text()[-1000:]}"

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(STOP_SECONDS)
