"""What the person at the terminal sees: steps with their progress and time, and errors with a remedy."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO

REPORT_SECONDS = 15.0  # a long step says where it is this often when nobody can see a line being rewritten
REDRAW_SECONDS = 0.5


class LocalError(Exception):
    """Something a person can act on: what is wrong, and the next step."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.remedy}"


def duration(seconds: float) -> str:
    """Seconds for people: ``8 s``, ``2 min 05 s``."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


@dataclass
class Step:
    """A piece of work under way; ``report`` says how far it is."""

    title: str
    expected_seconds: float | None = None
    state: str = ""
    outcome: str = ""
    began: float = field(default_factory=time.monotonic)

    def report(self, state: str) -> None:
        """How far the step is, in a few words (``312 of 480 packages``)."""
        self.state = state

    def done(self, outcome: str) -> None:
        """What the step came to, shown when it ends."""
        self.outcome = outcome

    def line(self) -> str:
        expected = f" of about {duration(self.expected_seconds)}" if self.expected_seconds else ""
        state = f": {self.state}" if self.state else ""
        return f"  {self.title}{state} ({duration(time.monotonic() - self.began)}{expected})"


class Screen:
    """Writes to a terminal (one line, rewritten) or to a log (a line now and then)."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._lock = threading.Lock()

    def say(self, text: str = "") -> None:
        self._write(f"{text}\n")

    @contextmanager
    def step(self, title: str, expected_seconds: float | None = None) -> Iterator[Step]:
        """Shows ``title`` until the block ends, then how long it took; ``expected_seconds`` tells how long it may take."""
        step = Step(title, expected_seconds)
        over = threading.Event()
        follower = threading.Thread(target=self._follow, args=(step, over), daemon=True)
        follower.start()
        try:
            yield step
        except BaseException:
            over.set()
            follower.join()
            self._finish(f"  {title}: failed after {duration(time.monotonic() - step.began)}")
            raise
        over.set()
        follower.join()
        outcome = f": {step.outcome}" if step.outcome else ""
        self._finish(f"  {title}{outcome} ({duration(time.monotonic() - step.began)})")

    def _follow(self, step: Step, over: threading.Event) -> None:
        while not over.wait(REDRAW_SECONDS if self._terminal else REPORT_SECONDS):
            self._write(f"\r\033[K{step.line()}" if self._terminal else f"{step.line()}\n")

    def _finish(self, line: str) -> None:
        self._write(f"\r\033[K{line}\n" if self._terminal else f"{line}\n")

    def _write(self, text: str) -> None:
        with self._lock:
            self._stream.write(text)
            self._stream.flush()
