"""Tokens per second and first tokens: the server, the raw forward loop, and a peer, one after the other in each run."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from bench.client import Client, Outcome
from bench.drive import Driver
from bench.measures.setting import Dtype, Report, Samples, Setting, alike, closed_loop, follow, prompts
from bench.processes import Command, Group, Server, serving
from bench.raw import CacheKind, Job, RawLoop, looping
from bench.statistics import percentile

Peer = Literal["peer", "llama.cpp"]
OURS = "ours"
PEER: Peer = "peer"  # `transformers serve`
LLAMA: Peer = "llama.cpp"
RAW: dict[CacheKind, str] = {"static": "raw, static cache", "dynamic": "raw, dynamic cache"}
RATE, FIRST_TOKEN = "tokens/s", "first token p95"
WARM_UP_TOKENS = 8
Contestant = Callable[[int], Awaitable[dict[str, float]]]


def sample(who: str, what: str) -> str:
    """The name under which a figure is kept."""
    return f"{who}: {what}"


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """``waves`` times as many requests as are answered at a time (``concurrency``); lengths in tokens."""

    dtype: Dtype
    concurrency: int
    raw: bool
    peer: Peer | None
    waves: int = 4
    prompt_tokens: int = 128
    output_tokens: int = 64

    async def measure(self, setting: Setting, report: Report) -> Samples:
        samples: Samples = {}
        with ExitStack() as stack:
            contestants: list[tuple[str, Group, Contestant]] = []
            for who, command in self._commands(setting):
                report(f"starting {command.name}")
                server = stack.enter_context(serving(command, setting.log(who)))
                report(f"first requests to {command.name}")
                await self._ask(server, seed=0, waves=1)
                server.hold()
                contestants.append((who, server, self._server(who, server)))
            if self.raw:
                report("starting the raw loop")
                loop = stack.enter_context(looping(setting.model, self.dtype, setting.log("raw")))
                for cache in RAW:
                    loop.run(self._job(cache, batches=1, output_tokens=WARM_UP_TOKENS))
                loop.hold()
                contestants.append(("raw", loop, self._loop(loop)))
            for number in range(1, setting.runs + 1):
                for who, group, contestant in contestants:
                    report(f"run {number} of {setting.runs}, {who}")
                    group.go_on()
                    figures = await contestant(number)
                    group.hold()
                    for name, value in figures.items():
                        samples.setdefault(name, []).append(value)
        return samples

    def _commands(self, setting: Setting) -> Iterator[tuple[str, Command]]:
        yield OURS, setting.ours(self.dtype)
        if self.peer == PEER:
            yield PEER, setting.peer(self.dtype)
        if self.peer == LLAMA:
            yield LLAMA, setting.llama_cpp(self.dtype)

    def _server(self, who: str, server: Server) -> Contestant:
        async def contestant(run: int) -> dict[str, float]:
            outcomes = await self._ask(server, seed=run, waves=self.waves)
            seconds = max(outcome.ended for outcome in outcomes) - min(outcome.due for outcome in outcomes)
            first_tokens = [outcome.first_token for outcome in outcomes]
            return {
                sample(who, RATE): sum(outcome.output_tokens for outcome in outcomes) / seconds,
                sample(who, FIRST_TOKEN): percentile(first_tokens, 95),
            }

        return contestant

    def _loop(self, loop: RawLoop) -> Contestant:
        async def contestant(_: int) -> dict[str, float]:
            figures = {}
            for cache, who in RAW.items():
                job = self._job(cache, batches=self.waves, output_tokens=self.output_tokens)
                figures[sample(who, RATE)] = job.tokens / loop.run(job).seconds
            return figures

        return contestant

    async def _ask(self, server: Server, *, seed: int, waves: int) -> list[Outcome]:
        arrivals = alike(waves * self.concurrency, self.prompt_tokens, self.output_tokens)
        driver = Driver(
            client=Client(server.target()),
            prompts=prompts(seed),
            progress=follow(len(arrivals)),
            leave=asyncio.get_running_loop().create_future(),
        )
        return await closed_loop(driver, arrivals, self.concurrency)

    def _job(self, cache: CacheKind, *, batches: int, output_tokens: int) -> Job:
        return Job(
            cache=cache,
            batch=self.concurrency,
            prompt_tokens=self.prompt_tokens,
            output_tokens=output_tokens,
            batches=batches,
        )
