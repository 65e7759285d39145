"""What a long prompt does to those who get tokens meanwhile."""

from dataclasses import dataclass

from bench.client import OK, Client
from bench.measures.setting import Report, Samples, Setting, prompts
from bench.measures.streams import Streams, gaps
from bench.processes import BenchError, Server, serving
from bench.statistics import percentile

ALONE, BESIDE = "between tokens p95, alone", "between tokens p95, beside the long prompt"
STREAMS = 8
PROMPT_TOKENS = 128
OUTPUT_TOKENS = 2000  # more than are made in the time that is looked at
LONG_PROMPT_TOKENS = 4000
SETTLE_PIECES = 8  # before anything counts: every answer is under way
LOOK_PIECES = 48  # of each answer, without the long prompt


@dataclass(frozen=True, kw_only=True)
class Interference:
    async def measure(self, setting: Setting, report: Report) -> Samples:
        samples: Samples = {ALONE: [], BESIDE: []}
        with serving(setting.ours("float32"), setting.log("ours")) as server:
            await _beside(server, seed=0)  # what the first of its kind costs
            for run in range(1, setting.runs + 1):
                report(f"run {run} of {setting.runs}")
                samples[ALONE].append(await _alone(server, seed=2 * run))
                samples[BESIDE].append(await _beside(server, seed=2 * run + 1))
        return samples


async def _alone(server: Server, seed: int) -> float:
    async with _streams(server, seed) as streams:
        await streams.reach(SETTLE_PIECES)
        await streams.reach(LOOK_PIECES)
        outcomes = await streams.left()
    begin = max(outcome.pieces_at[SETTLE_PIECES - 1] for outcome in outcomes)
    return percentile(gaps(outcomes, begin, float("inf")), 95)


async def _beside(server: Server, seed: int) -> float:
    long = prompts(seed=1_000_000 + seed).text(LONG_PROMPT_TOKENS)
    async with _streams(server, seed) as streams:
        await streams.reach(SETTLE_PIECES)
        asked = await Client(server.target()).ask(long, 1)
        outcomes = await streams.left()
    if asked.error != OK:
        raise BenchError(f"the long prompt was not answered: {asked.error} {asked.message}")
    if ended := next((outcome for outcome in outcomes if outcome.finish_reason), None):
        raise BenchError(f"an answer ended beside the long prompt, after {len(ended.pieces_at)} parts")
    return percentile(gaps(outcomes, asked.sent, asked.pieces_at[0]), 95)


def _streams(server: Server, seed: int) -> Streams:
    return Streams(
        server.target(), prompts(seed), count=STREAMS, prompt_tokens=PROMPT_TOKENS, output_tokens=OUTPUT_TOKENS
    )
