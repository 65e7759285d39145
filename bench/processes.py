"""What is measured, as processes of their own: started, held still while another one is measured, and ended."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.client import Target

START_SECONDS = 180.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.01  # a hundredth of what a start takes, at most
REQUEST_SECONDS = 10.0
LOG_CHARACTERS = 1500
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
HOST = "127.0.0.1"
PORT = "{port}"


class BenchError(Exception):
    """A measurement that came to nothing, and why."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """How a server is started and asked. ``{port}`` in arguments and variables becomes its port."""

    name: str
    arguments: tuple[str, ...]
    ready_path: str
    """Answers 200 when the server can be asked."""
    served_name: str
    """The model's name in requests."""
    directory: Path = field(default_factory=Path.cwd)
    variables: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    """Fields of every request, for greedy answers of the wanted length."""


class Group:
    """A process and its children."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def hold(self) -> None:
        """Until :meth:`go_on` it computes nothing: an idle server, too, may be busy with waiting."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    @property
    def resident_bytes(self) -> int:
        """Of memory, of all its processes."""
        total = 0
        for directory in Path("/proc").iterdir():
            if directory.name.isdigit():
                with suppress(OSError):
                    after_name = (directory / "stat").read_text().rpartition(")")[2].split()
                    if int(after_name[2]) == self.process.pid:  # its process group
                        total += int((directory / "statm").read_text().split()[1]) * PAGE_BYTES
        return total

    def end(self) -> None:
        """By SIGTERM, and by force when that does not help."""
        self.go_on()
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.signal(signal.SIGKILL)  # also children that outlive it
            self.process.wait()


@dataclass(frozen=True, kw_only=True)
class Server(Group):
    """A server that runs; ``start_seconds`` from the start of its process until it could be asked."""

    command: Command
    process: "subprocess.Popen[str]"
    port: int
    start_seconds: float

    def target(self, **options: object) -> Target:
        """How it is asked, with further fields of the request."""
        return Target(
            url=f"http://{HOST}:{self.port}/v1", model=self.command.served_name, options={**self.command.options, **options}
        )  # fmt: skip

    def metric(self, name: str) -> float:
        """The sum of a metric's samples.

        Raises:
            BenchError: the server does not expose it.
        """
        status, text = _get(self.port, "/metrics")
        values = [float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name}{{")]
        if status != http.HTTPStatus.OK or not values:
            raise BenchError(f"{self.command.name} exposes no {name} in /metrics (HTTP {status})")
        return sum(values)


@contextmanager
def serving(command: Command, log: Path) -> Iterator[Server]:
    """The server, ready, while the block runs.

    Raises:
        BenchError: it does not become ready; the message has the end of its log.
    """
    port = free_port()
    began = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(
            [argument.replace(PORT, str(port)) for argument in command.arguments],
            cwd=command.directory,
            env={
                **os.environ,
                "PYTHONPATH": str(command.directory),
                **{name: value.replace(PORT, str(port)) for name, value in command.variables.items()},
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    try:
        while not _ready(port, command.ready_path):
            waited = time.perf_counter() - began
            if process.poll() is not None or waited > START_SECONDS:
                raise BenchError(
                    f"{command.name} is not ready after {waited:.0f} s (exit status {process.returncode}): {_end(log)}"
                )
            time.sleep(POLL_SECONDS)
        yield Server(command=command, process=process, port=port, start_seconds=time.perf_counter() - began)
    finally:
        Group(process).end()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _ready(port: int, path: str) -> bool:
    with suppress(OSError, http.client.HTTPException):
        return _get(port, path)[0] == http.HTTPStatus.OK
    return False


def _get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(HOST, port, timeout=REQUEST_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-LOG_CHARACTERS:].strip()
