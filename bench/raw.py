"""The raw forward loop, seen from outside: a process that does jobs. Needs no torch here."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from bench.processes import BenchError, Group

CacheKind = Literal["static", "dynamic"]
Layers = Literal["transformers", "engine"]  # whose linear layers


@dataclass(frozen=True, kw_only=True)
class Job:
    """``batches`` times: prompts of ``batch`` sequences in one pass, then a pass for each further token of all of them."""

    cache: CacheKind
    batch: int
    prompt_tokens: int
    output_tokens: int
    batches: int = 1

    @property
    def tokens(self) -> int:
        """That the job generates."""
        return self.batches * self.batch * self.output_tokens


@dataclass(frozen=True, kw_only=True)
class Figures:
    seconds: float
    """Of all batches, their prompts included."""
    step_seconds: float
    """Median of the passes after the prompts."""


class RawLoop(Group):
    """The model in a process that only computes."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        super().__init__(process)
        self._log = log

    def run(self, job: Job) -> Figures:
        """Does a job and waits for it.

        Raises:
            BenchError: the process failed.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asdict(job)) + "\n")
        self.process.stdin.flush()
        return Figures(**json.loads(self.line()))

    def line(self) -> str:
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            raise BenchError(f"the raw loop failed: {self._log.read_text()[-1000:]}")
        return line


@contextmanager
def looping(model: Path, dtype: str, log: Path, layers: Layers = "transformers") -> Iterator[RawLoop]:
    """The loop, with the model loaded, while the block runs."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.raw_loop", str(model), dtype, layers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    loop = RawLoop(process, log)
    try:
        loop.line()
        yield loop
    finally:
        loop.end()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
