"""How the time of a step grows with what the sequences hold, beside the same growth of the raw loop.

The engine's linear layers are the faster ones, so attention is a larger part of its steps: a raw loop that has them, too, tells
what of the growth is attention's and the cache's.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from bench.measures.setting import Report, Samples, Setting, prompts
from bench.measures.streams import Streams, gaps
from bench.processes import Server, serving
from bench.raw import Job, Layers, RawLoop, looping

SHORT_TOKENS, LONG_TOKENS = 500, 4000
BATCH = 8
OUTPUT_TOKENS = 2000  # more than are made until the last prompt is computed and the steps after it are seen
STEPS = 48  # that are looked at, each with all sequences in it
OURS = "ours"
RAW: dict[str, Layers] = {"raw": "transformers", "raw, the engine's linear layers": "engine"}


def step(who: str, tokens: int) -> str:
    """The name under which a figure is kept."""
    return f"{who}: step at {tokens} tokens"


@dataclass(frozen=True, kw_only=True)
class ContextGrowth:
    async def measure(self, setting: Setting, report: Report) -> Samples:
        samples: Samples = {}
        with ExitStack() as stack:
            server = stack.enter_context(serving(setting.ours("float32"), setting.log(OURS)))
            server.hold()
            loops: dict[str, RawLoop] = {}
            for who, layers in RAW.items():
                loops[who] = stack.enter_context(
                    looping(setting.model, "float32", setting.log(f"raw-{layers}"), layers)
                )
                loops[who].hold()
            for run in range(1, setting.runs + 1):
                for tokens in (SHORT_TOKENS, LONG_TOKENS):
                    for who, loop in loops.items():
                        report(f"run {run} of {setting.runs}, {tokens} tokens, {who}")
                        loop.go_on()
                        job = Job(cache="static", batch=BATCH, prompt_tokens=tokens, output_tokens=STEPS)
                        samples.setdefault(step(who, tokens), []).append(loop.run(job).step_seconds)
                        loop.hold()
                    report(f"run {run} of {setting.runs}, {tokens} tokens, {OURS}")
                    server.go_on()
                    samples.setdefault(step(OURS, tokens), []).append(await _step(server, tokens, seed=run))
                    server.hold()
        return samples


async def _step(server: Server, tokens: int, seed: int) -> float:
    """Seconds from one token to the next, the median while all sequences get tokens."""
    streams = Streams(server.target(), prompts(seed), count=BATCH, prompt_tokens=tokens, output_tokens=OUTPUT_TOKENS)
    async with streams:
        await streams.reach(1)
        await streams.reach(STEPS)
        outcomes = await streams.left()
    begin = max(outcome.pieces_at[0] for outcome in outcomes)
    return median(gaps(outcomes, begin, float("inf")))
