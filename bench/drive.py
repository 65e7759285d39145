"""Sends requests: when they are due, whatever the server does (open loop), or so many at a time (closed loop)."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any, TypeVar

import uvloop

from bench.arrivals import Arrival
from bench.client import CONNECT, LEFT, OK, Client, Outcome
from bench.prompts import Prompts

REPORT_SECONDS = 0.5
PATIENCE_SECONDS = 0.1  # before a place of a closed loop tries again what could not even connect

T = TypeVar("T")


@dataclass(kw_only=True)
class Progress:
    """What has happened so far."""

    total: int | None
    sent: int = 0
    ended: int = 0
    failed: int = 0
    pieces: int = 0
    began: float = 0.0

    def piece(self) -> None:
        self.pieces += 1

    def took(self, outcome: Outcome) -> None:
        self.ended += 1
        self.failed += outcome.error not in (OK, LEFT)

    def __str__(self) -> str:
        of = f" of {self.total}" if self.total is not None else ""
        failed = f", {self.failed} failed" if self.failed else ""
        rate = self.pieces / max(perf_counter() - self.began, REPORT_SECONDS)
        return f"{self.ended}{of} answered{failed}, {self.sent - self.ended} running, {rate:.0f} tokens/s"


@dataclass(frozen=True, kw_only=True)
class Driver:
    """Asks ``client`` for what arrives; a done ``leave`` ends everything that still runs, and nothing more is sent."""

    client: Client
    prompts: Prompts
    progress: Progress
    leave: asyncio.Future[None]

    async def open_loop(self, arrivals: Iterable[Arrival]) -> list[Outcome]:
        """Outcomes in the order of arrival."""
        self.progress.began = start = perf_counter()
        tasks = []
        for arrival in arrivals:
            # Also what is overdue waits a turn: who only sends never reads.
            await asyncio.wait((self.leave,), timeout=max(start + arrival.at - perf_counter(), 0))
            if self.leave.done():
                break
            tasks.append(asyncio.create_task(self._ask(arrival, start + arrival.at)))
        return await asyncio.gather(*tasks)

    async def closed_loop(self, arrivals: Iterable[Arrival], concurrency: int) -> list[Outcome]:
        """Outcomes in the order of their ends; ``at`` of the arrivals counts for nothing."""
        self.progress.began = perf_counter()
        coming, outcomes = iter(arrivals), list[Outcome]()

        async def place(mine: Iterator[Arrival]) -> None:
            for arrival in mine:
                if self.leave.done():
                    return
                outcomes.append(outcome := await self._ask(arrival, None))
                if outcome.error == CONNECT:
                    await asyncio.sleep(PATIENCE_SECONDS)

        # The first of every place at once, before any of them goes on to its second.
        firsts = list(islice(coming, concurrency))
        await asyncio.gather(*(place(_then(first, coming)) for first in firsts))
        return outcomes

    async def _ask(self, arrival: Arrival, due: float | None) -> Outcome:
        self.progress.sent += 1
        outcome = await self.client.ask(
            self.prompts.text(arrival.prompt_tokens), arrival.output_tokens, due, leave=self.leave
        )
        self.progress.took(outcome)
        return outcome


async def reporting(progress: Progress, report: Callable[[str], None], work: Coroutine[Any, Any, T]) -> T:
    """Carries ``work`` out and reports the progress now and then."""

    async def follow() -> None:
        while True:
            report(str(progress))
            await asyncio.sleep(REPORT_SECONDS)

    follower = asyncio.create_task(follow())
    try:
        return await work
    finally:
        follower.cancel()


def run(work: Coroutine[Any, Any, T]) -> T:
    """On uvloop: asyncio's own loop takes twice the time for each token."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _then(first: Arrival, rest: Iterator[Arrival]) -> Iterator[Arrival]:
    yield first
    yield from rest
