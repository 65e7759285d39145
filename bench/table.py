"""The bars of the server: what is measured, what must come out, and how a table says what did."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.measures import context, interference, memory, prefix, start
from bench.measures.context import ContextGrowth
from bench.measures.interference import Interference
from bench.measures.memory import Memory
from bench.measures.prefix import SharedPrefix
from bench.measures.setting import Experiment, Samples
from bench.measures.start import Start
from bench.measures.throughput import FIRST_TOKEN, LLAMA, OURS, PEER, RATE, RAW, Throughput, sample
from bench.raw import Layers

EXPERIMENTS: Mapping[str, Experiment] = {
    "start": Start(),
    "prefix": SharedPrefix(),
    "fp32-1": Throughput(dtype="float32", concurrency=1, raw=True, peer=None),
    "fp32-8": Throughput(dtype="float32", concurrency=8, raw=True, peer=PEER),
    "fp32-32": Throughput(dtype="float32", concurrency=32, raw=True, peer=PEER),
    "long-32": Throughput(dtype="float32", concurrency=32, raw=False, peer=PEER, waves=1, prompt_tokens=450),
    "bf16-1": Throughput(dtype="bfloat16", concurrency=1, raw=True, peer=None),
    "bf16-8": Throughput(dtype="bfloat16", concurrency=8, raw=True, peer=None),
    "bf16-32": Throughput(dtype="bfloat16", concurrency=32, raw=True, peer=PEER),
    # Apart from the others, so that what befalls this peer costs no bar its samples.
    "llama-1": Throughput(dtype="float32", concurrency=1, raw=False, peer=LLAMA),
    "llama-8": Throughput(dtype="float32", concurrency=8, raw=False, peer=LLAMA),
    "llama-32": Throughput(dtype="float32", concurrency=32, raw=False, peer=LLAMA),
    "interference": Interference(),
    "context": ContextGrowth(),
    "memory": Memory(),
}
NATIVE_BFLOAT16_ONLY = ("bf16-1", "bf16-8", "bf16-32")
LLAMA_ONLY = ("llama-1", "llama-8", "llama-32")
REPORTED = "reported"  # the verdict on a figure without a bar


@dataclass(frozen=True, kw_only=True)
class Reached:
    """``value`` of the medians, ``low`` and ``high`` of the single runs."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """A bar, or without ``must`` and ``aim`` a figure that is only reported.

    ``ratio`` of the figures of one run, or of their medians; ``details`` are shown beside it.
    """

    title: str
    experiment: str
    ratio: Callable[[Mapping[str, float]], float]
    must: float | None
    aim: float | None
    higher_is_better: bool = False
    details: Sequence[str] = ()

    def reached(self, samples: Samples) -> Reached:
        """What the samples come to."""
        medians = {name: median(values) for name, values in samples.items()}
        runs = min(len(values) for values in samples.values())
        each = [self.ratio({name: values[run] for name, values in samples.items()}) for run in range(runs)]
        return Reached(value=self.ratio(medians), low=min(each), high=max(each))

    def verdict(self, value: float) -> str:
        """``aim``, ``must`` or ``missed``: the better of the two that is reached; ``reported`` where there is no bar."""
        sign = 1 if self.higher_is_better else -1
        bars = [(name, bar) for name, bar in (("aim", self.aim), ("must", self.must)) if bar is not None]
        if not bars:
            return REPORTED
        return next((name for name, bar in bars if sign * (value - bar) >= 0), "missed")


def _of(name: str, other: str) -> Callable[[Mapping[str, float]], float]:
    return lambda figures: figures[name] / figures[other]


def _of_raw(figures: Mapping[str, float]) -> float:
    return figures[sample(OURS, RATE)] / max(figures[sample(who, RATE)] for who in RAW.values())


def _growth(who: str, figures: Mapping[str, float]) -> float:
    return figures[context.step(who, context.LONG_TOKENS)] / figures[context.step(who, context.SHORT_TOKENS)]


def _raw_row(dtype: str, concurrency: int, must: float, aim: float) -> Row:
    return Row(
        title=f"output tokens/s over HTTP ÷ raw forward loop, {dtype}, n={concurrency}",
        experiment=f"{dtype}-{concurrency}",
        ratio=_of_raw,
        must=must,
        aim=aim,
        higher_is_better=True,
        details=(sample(OURS, RATE), *(sample(who, RATE) for who in RAW.values())),
    )


def _peer_row(title: str, experiment: str, must: float, aim: float) -> Row:
    return Row(
        title=f"output tokens/s ÷ `transformers serve --continuous-batching`, {title}",
        experiment=experiment,
        ratio=_of(sample(OURS, RATE), sample(PEER, RATE)),
        must=must,
        aim=aim,
        higher_is_better=True,
        details=(sample(OURS, RATE), sample(PEER, RATE)),
    )


def _llama_row(concurrency: int) -> Row:
    return Row(
        title=f"output tokens/s ÷ llama.cpp's `llama-server`, fp32, c={concurrency}",
        experiment=f"llama-{concurrency}",
        ratio=_of(sample(OURS, RATE), sample(LLAMA, RATE)),
        must=None,
        aim=None,
        higher_is_better=True,
        details=(sample(OURS, RATE), sample(LLAMA, RATE)),
    )


def _first_token_row(dtype: str, aim: float) -> Row:
    return Row(
        title=f"time to first token p95 ÷ the same peer, {dtype}, c=32, first wave included",
        experiment=f"{dtype}-32",
        ratio=_of(sample(OURS, FIRST_TOKEN), sample(PEER, FIRST_TOKEN)),
        must=0.85,
        aim=aim,
        details=(sample(OURS, FIRST_TOKEN), sample(PEER, FIRST_TOKEN)),
    )


def _growth_row(who: str, layers: Layers) -> Row:
    whose = "transformers' own" if layers == "transformers" else "the engine's"
    return Row(
        title="decode step at 4,000 tokens ÷ at 500, batch 8, ÷ the same of the raw loop with a static cache and "
        f"{whose} linear layers",
        experiment="context",
        ratio=lambda figures: _growth(context.OURS, figures) / _growth(who, figures),
        must=1.2,
        aim=1.0,
        details=tuple(
            context.step(one, tokens)
            for one in (context.OURS, who)
            for tokens in (context.SHORT_TOKENS, context.LONG_TOKENS)
        ),
    )


ROWS: Sequence[Row] = (
    _raw_row("fp32", 1, 0.83, 0.90),
    _raw_row("fp32", 8, 0.78, 0.88),
    _raw_row("fp32", 32, 0.88, 0.95),
    _raw_row("bf16", 1, 0.80, 0.90),
    _raw_row("bf16", 8, 0.75, 0.85),
    _raw_row("bf16", 32, 0.70, 0.85),
    _peer_row("fp32, c=8", "fp32-8", 1.2, 1.35),
    _peer_row("fp32, c=32", "fp32-32", 1.8, 2.3),
    _peer_row("fp32, 32 prompts of 450 tokens", "long-32", 3.5, 4.5),
    _first_token_row("fp32", 0.72),
    _first_token_row("bf16", 0.5),
    _llama_row(1),
    _llama_row(8),
    _llama_row(32),
    Row(
        title="between tokens p95 while a prompt of 4,000 tokens is computed beside 8 answers ÷ without it",
        experiment="interference",
        ratio=_of(interference.BESIDE, interference.ALONE),
        must=4,
        aim=2,
        details=(interference.BESIDE, interference.ALONE),
    ),
    Row(
        title="32 prompts with 1,000 tokens in common and 20 of their own: tokens computed ÷ sent",
        experiment="prefix",
        ratio=lambda figures: figures[prefix.SHARE],
        must=0.10,
        aim=0.06,
    ),
    *(_growth_row(who, layers) for who, layers in context.RAW.items()),
    Row(
        title=f"memory after all mixed requests ÷ after the first {memory.EARLY_REQUESTS}",
        experiment="memory",
        ratio=_of(memory.LATE, memory.EARLY),
        must=1.02,
        aim=1.00,
        details=(memory.EARLY, memory.LATE),
    ),
    Row(
        title="process start to `/ready` ÷ importing torch and transformers + `from_pretrained`",
        experiment="start",
        ratio=_of(start.READY, start.LOADED),
        must=1.3,
        aim=1.1,
        details=(start.READY, start.LOADED),
    ),
)


def markdown(samples: Mapping[str, Samples], remarks: Mapping[str, str]) -> str:
    """The table, a line for each bar; ``remarks`` say why an experiment has no samples."""
    lines = ["| measure | must | aim | reached | of single runs | medians |", "|---|---|---|---|---|---|"]
    for row in ROWS:
        bars = f"| {row.title} | {_bar(row.must)} | {_bar(row.aim)} |"
        if taken := samples.get(row.experiment):
            reached = row.reached(taken)
            details = "; ".join(f"{name} {_figure(name, median(taken[name]))}" for name in row.details)
            verdict = row.verdict(reached.value)
            spread = f"{reached.low:.2f} to {reached.high:.2f}" if reached.high != reached.low else ""
            lines.append(f"{bars} **{reached.value:.3g}** ({verdict}) | {spread} | {details} |")
        else:
            lines.append(f"{bars} {remarks.get(row.experiment, 'not measured')} | | |")
    return "\n".join(lines) + "\n"


def _bar(bar: float | None) -> str:
    return "none" if bar is None else f"{bar:g}"


def _figure(name: str, value: float) -> str:
    if name.startswith("bytes"):
        return f"{value / 2**20:.1f} MiB"
    if name.endswith(RATE):
        return f"{value:.0f}"
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"
