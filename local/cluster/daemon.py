"""Background processes that outlive the command that starts them.

A daemon is found by what the kernel says of it, never by a pid file: its first argument is its name and its environment
carries the state directory. So a crash, a ``kill -9`` or a lost file cannot hide one, and a pid that was given to somebody
else is never mistaken for ours. Children such as containerd's shims inherit the mark, and go when everything goes.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from local.screen import LocalError

MARK = "LLM_STACK_DAEMON_OF"
STOP_SECONDS = 10.0  # a daemon gets this long between SIGTERM and SIGKILL
POLL_SECONDS = 0.1
LOG_LIMIT_BYTES = 20 * 1024 * 1024  # a log is cut at its daemon's next start beyond this

# Held while they run: Popen complains when it is collected while its child runs, which is the point here.
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class Process:
    """One live process that carries our mark."""

    pid: int
    arguments: tuple[str, ...]
    executable: str

    @property
    def name(self) -> str:
        return self.arguments[0] if self.arguments else ""


def homes() -> set[str]:
    """The state directories of all clusters that run on this host."""
    mark = f"{MARK}=".encode()
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it ended while we looked
            continue
        found |= {variable.removeprefix(mark).decode() for variable in variables if variable.startswith(mark)}
    return found


def marked_processes(home: Path) -> Iterator[Process]:
    """Every live process whose environment says that it belongs to the state directory ``home``."""
    mark = f"{MARK}={home}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if mark not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            executable = str((entry / "exe").readlink())
        except OSError:  # it ended while we looked, or is a kernel thread
            continue
        if arguments:  # a zombie has none
            yield Process(int(entry.name), tuple(arguments), executable)


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def end(pids: list[int], patience: float = STOP_SECONDS) -> None:
    """SIGTERM, then SIGKILL for what is still there after ``patience`` seconds."""
    for sign, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, STOP_SECONDS)):
        for pid in pids:
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + seconds
        while (pids := [pid for pid in pids if alive(pid)]) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if not pids:
            break
    _children[:] = [child for child in _children if child.poll() is None]


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """A background process: what runs, where it logs, and how one knows that it is ready."""

    name: str
    executable: Path
    arguments: tuple[str, ...]
    home: Path
    logs: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.logs / f"{self.name}.log"

    def process(self) -> Process | None:
        """The live process of this daemon, or None."""
        return next((process for process in marked_processes(self.home) if process.name == self.name), None)

    def start(self) -> bool:
        """Makes the daemon run as declared; one that runs with other arguments or another binary is restarted.

        Returns whether anything had to be done.
        """
        running = self.process()
        if running is not None:
            same = running.arguments[1:] == self.arguments and Path(running.executable) == self.executable.resolve()
            if same:
                return False
            end([running.pid])
        self.logs.mkdir(parents=True, exist_ok=True)
        keep = "ab" if self.log.exists() and self.log.stat().st_size < LOG_LIMIT_BYTES else "wb"
        with self.log.open(keep) as log:
            child = subprocess.Popen(
                (self.name, *self.arguments),
                executable=self.executable,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                env={**os.environ, **self.environment, MARK: str(self.home)},
            )
        _children.append(child)
        # Until the kernel has laid out the new program its environment reads empty, and the process would look like a stranger.
        while child.poll() is None and self.process() is None:
            time.sleep(POLL_SECONDS / 10)
        return True

    def stop(self) -> None:
        if (running := self.process()) is not None:
            end([running.pid])

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Waits for ``ready``; a daemon that dies meanwhile, or is not ready in time, is an error with its last words."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self.process() is None:
                raise self.failure("ended")
            if time.monotonic() > deadline:
                raise self.failure(f"was not ready after {seconds:.0f} s")
            time.sleep(POLL_SECONDS)

    def failure(self, what: str) -> LocalError:
        return LocalError(
            f"{self.name} {what}: {self.last_words()}",
            f"The whole log is {self.log}; run `make up` again, and `make down` first if that does not help.",
        )

    def last_words(self) -> str:
        """The last line of the log that says something, for an error message."""
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return "it wrote no log"
        telling = [
            line for line in lines if "error" in line.lower() or "fail" in line.lower() or "fatal" in line.lower()
        ]
        return (telling or lines or ["it wrote nothing"])[-1].strip()
