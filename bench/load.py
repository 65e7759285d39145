"""`python -m bench.load --url http://localhost:8000/v1 --model chat …`: load on any server that speaks OpenAI's API.

Open loop (requests come when they come): `--rate 5` or `--trace FILE.csv`. Closed loop: `--concurrency 32`.
The report is JSON, with a picture beside it. Ctrl-C ends the run and reports what came until then.
"""

import argparse
import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np

from bench import arrivals, machine, plot
from bench.arrivals import Arrival
from bench.client import OK, TIMEOUT_SECONDS, Client, Outcome, Target
from bench.drive import Driver, Progress, reporting, run
from bench.prompts import WORDS, Lengths, Prompts, Scale
from bench.statistics import Distribution, Objective, Summary, summarise
from local.screen import Screen, Step

KEY_VARIABLE = "OPENAI_API_KEY"
DEFAULT_REQUESTS = 100  # of a closed loop for which neither a number nor a time is said
FEW_WORDS, MANY_WORDS = 64, 512  # of the two prompts that tell how a server counts
MILLISECONDS = 1000
OBJECTIVES = {"ttft": "first_token", "itl": "time_per_token"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came of a load, and what the client itself needed for it, as a share of one core."""

    outcomes: list[Outcome]
    scale: Scale
    interrupted: bool
    client_cpu: float


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 0 when at least one request was answered, 1 when none was, 2 for wrong arguments."""
    parser = _parser()
    options = parser.parse_args(arguments)
    screen = Screen()
    try:
        target = _target(options)
        coming, total = _arrivals(options)
        with screen.step("Load", options.seconds) as step:
            done = run(_run(options, target, coming, total, step))
            summary = summarise(done.outcomes, options.objective)
            step.done(f"{summary.completed} of {summary.requests} requests answered")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(table(summary, done.client_cpu))
    if done.outcomes:
        for message in sorted({f"{outcome.error}: {outcome.message}" for outcome in done.outcomes if outcome.message}):
            print(f"  {message}")
        _write(options, target, done, summary)
    return 0 if summary.completed else 1


def table(summary: Summary, client_cpu: float) -> str:
    """The summary for people."""
    lines = [
        f"{summary.completed} of {summary.requests} requests in {summary.seconds:.1f} s"
        + "".join(f", {number} x {kind}" for kind, number in sorted(summary.errors.items())),
        f"{summary.output_token_rate:.1f} output tokens/s, {summary.prompt_token_rate:.1f} prompt tokens/s, "
        f"{summary.request_rate:.2f} requests/s",
        f"goodput {summary.goodput:.2f} requests/s: {summary.met:.1%} met the objective",
        "",
        f"{'ms':<16}{'mean':>10}{'p50':>10}{'p90':>10}{'p95':>10}{'p99':>10}{'max':>10}",
    ]
    for name, values in (
        ("first token", summary.first_token),
        ("between tokens", summary.inter_token),
        ("per token", summary.time_per_token),
        ("whole answer", summary.latency),
        ("client's lag", summary.client_lag),
    ):
        if values:
            lines.append(f"{name:<16}" + "".join(f"{value * MILLISECONDS:>10.1f}" for value in _figures(values)))
    return "\n".join([*lines, "", f"The client took {client_cpu:.0%} of one core."])


def _figures(values: Distribution) -> tuple[float, ...]:
    return values.mean, values.p50, values.p90, values.p95, values.p99, values.max


async def _run(
    options: argparse.Namespace, target: Target, coming: Iterator[Arrival], total: int | None, step: Step
) -> Run:
    loop = asyncio.get_running_loop()
    leave: asyncio.Future[None] = loop.create_future()
    interrupted = asyncio.Event()

    def interrupt() -> None:
        interrupted.set()
        end()

    def end() -> None:
        if not leave.done():
            leave.set_result(None)

    loop.add_signal_handler(signal.SIGINT, interrupt)
    progress = Progress(total=total)
    step.report("how the server counts tokens")
    scale = await _scale(Client(target))
    prompts = Prompts(WORDS, scale, options.seed, options.shared_prefix)
    driver = Driver(client=Client(target, progress.piece), prompts=prompts, progress=progress, leave=leave)
    cpu, began = _cpu_seconds(), loop.time()
    if options.concurrency and options.duration:
        loop.call_later(options.duration, end)
    work = driver.closed_loop(coming, options.concurrency) if options.concurrency else driver.open_loop(coming)
    outcomes = await reporting(progress, step.report, work)
    return Run(
        outcomes=outcomes,
        scale=scale,
        interrupted=interrupted.is_set(),
        client_cpu=(_cpu_seconds() - cpu) / max(loop.time() - began, 1e-9),
    )


async def _scale(client: Client) -> Scale:
    """Asks twice for one token, to see how many tokens the server makes of our words.

    Raises:
        ValueError: the server does not answer.
    """
    draw = Prompts(WORDS, Scale(), seed=1)
    counted = []
    for words in (FEW_WORDS, MANY_WORDS):
        outcome = await client.ask(draw.text(words), 1)
        if outcome.error != OK:
            raise ValueError(f"the server does not answer a first request: {outcome.error} {outcome.message}".strip())
        counted.append((words, outcome.prompt_tokens))
    if not counted[0][1]:
        return Scale()  # it does not say
    return Scale.fitted(*counted)


def _arrivals(options: argparse.Namespace) -> tuple[Iterator[Arrival], int | None]:
    """What is to be sent, and how much that is where it is known."""
    random = np.random.default_rng(options.seed)
    if options.trace:
        trace = arrivals.window(
            arrivals.read_trace(options.trace), start=options.start, seconds=options.duration, speed=options.speed
        )
        if not trace:
            raise ValueError(f"{options.trace} has no requests from {options.start} s on for {options.duration} s")
        trace = trace[: options.requests]
        options.seconds = trace[-1].at
        return iter(trace), len(trace)
    drawn = (
        Arrival(
            at=0.0, prompt_tokens=options.prompt_tokens.draw(random), output_tokens=options.output_tokens.draw(random)
        )
        for _ in count()
    )
    if options.concurrency:
        options.seconds = options.duration
        limit = options.requests or (None if options.duration else DEFAULT_REQUESTS)
        return islice(drawn, limit), limit
    if options.duration is None and options.requests is None:
        raise ValueError("--rate wants --duration or --requests, or it never ends")
    times = list(islice(arrivals.poisson(options.rate, options.duration or float("inf"), random), options.requests))
    options.seconds = times[-1] if times else 0.0
    timed = (
        Arrival(at=at, prompt_tokens=length.prompt_tokens, output_tokens=length.output_tokens)
        for at, length in zip(times, drawn, strict=False)
    )
    return timed, len(times)


def _target(options: argparse.Namespace) -> Target:
    key = options.api_key_file.read_text().strip() if options.api_key_file else os.environ.get(KEY_VARIABLE)
    fields: dict[str, object] = {"temperature": options.temperature, "stream_options": {"include_usage": True}}
    if options.ignore_eos:
        fields["ignore_eos"] = True
    return Target(
        url=options.url,
        model=options.model,
        endpoint=options.endpoint,
        api_key=key,
        options=fields | options.body,
        timeout=options.timeout,
    )


def _write(options: argparse.Namespace, target: Target, done: Run, summary: Summary) -> None:
    begin = min(outcome.due for outcome in done.outcomes)
    report = {
        "target": {"url": target.url, "model": target.model, "endpoint": target.endpoint, "body": dict(target.options)},
        "load": {name: _plain(getattr(options, name)) for name in LOAD_OPTIONS},
        "scale": asdict(done.scale),
        "machine": asdict(machine.describe()),
        "interrupted": done.interrupted,
        "client_cpu": done.client_cpu,
        "summary": asdict(summary),
        "requests": [_request(outcome, begin) for outcome in done.outcomes],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1))
    picture = options.plot or options.out.with_suffix(".svg")
    plot.draw(
        picture, f"{target.model} at {target.url}: {_load_in_words(options)}", done.outcomes, summary, options.objective
    )
    print(f"\n{options.out}\n{picture}")


LOAD_OPTIONS = (
    "rate", "trace", "concurrency", "requests", "duration", "start", "speed", "prompt_tokens", "output_tokens",
    "shared_prefix", "seed", "objective",
)  # fmt: skip


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return value.name
    return asdict(value) if isinstance(value, Lengths | Objective) else value


def _request(outcome: Outcome, begin: float) -> dict[str, object]:
    """Times in seconds from the beginning of the run."""
    return {
        "due": outcome.due - begin,
        "first_token": outcome.pieces_at[0] - begin if outcome.pieces_at else None,
        "ended": outcome.ended - begin,
        "prompt_tokens": outcome.prompt_tokens,
        "output_tokens": outcome.output_tokens,
        "finish_reason": outcome.finish_reason,
        "error": outcome.error,
    }


def _load_in_words(options: argparse.Namespace) -> str:
    if options.trace:
        return f"{options.trace.name} from {options.start:g} s, {options.speed:g} times as fast"
    return f"{options.concurrency} at a time" if options.concurrency else f"{options.rate:g} requests/s"


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _positive(text: str) -> float:
    try:
        if 0 < (value := float(text)) < float("inf"):
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0")


def _number(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 1")


def _lengths(text: str) -> Lengths:
    try:
        return Lengths.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _objective(text: str) -> Objective:
    """``ttft:500,itl:50``, in milliseconds; one of them is enough."""
    bounds = {}
    for part in text.split(","):
        name, _, value = part.partition(":")
        if name not in OBJECTIVES:
            raise argparse.ArgumentTypeError(f"{text!r}: expected milliseconds such as ttft:500,itl:50")
        bounds[OBJECTIVES[name]] = _positive(value) / MILLISECONDS
    return Objective(**bounds)


def _body(text: str) -> dict[str, object]:
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    if not isinstance(fields, dict):
        raise argparse.ArgumentTypeError(f'{text!r}: expected an object such as {{"top_p": 0.9}}')
    return fields


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    where = parser.add_argument_group("server")
    where.add_argument("--url", required=True, help="with the API's version, such as http://localhost:8000/v1")
    where.add_argument("--model", required=True)
    where.add_argument("--endpoint", choices=("chat", "completions"), default="chat")
    where.add_argument("--api-key-file", type=Path, help=f"else {KEY_VARIABLE} of the environment, else none")
    where.add_argument("--timeout", type=_positive, default=TIMEOUT_SECONDS, metavar="S", help="of one request")
    load = parser.add_argument_group("load").add_mutually_exclusive_group(required=True)
    load.add_argument("--rate", type=_positive, metavar="R", help="open loop: requests per second, at random (Poisson)")
    load.add_argument("--trace", type=Path, metavar="CSV", help="open loop: TIMESTAMP,ContextTokens,GeneratedTokens")
    load.add_argument("--concurrency", type=_number, metavar="N", help="closed loop: so many at a time")
    much = parser.add_argument_group("how much of it")
    much.add_argument("--requests", type=_number, metavar="N")
    much.add_argument("--duration", type=_positive, metavar="S", help="of a trace, in its own time")
    much.add_argument("--start", type=float, default=0.0, metavar="S", help="of a trace: where in it to begin")
    much.add_argument("--speed", type=_positive, default=1.0, metavar="X", help="of a trace: so many times as fast")
    what = parser.add_argument_group("requests (a trace has lengths of its own)")
    what.add_argument(
        "--prompt-tokens", type=_lengths, default=Lengths(low=128), metavar="N", help="128, 16-512, 200~0.8"
    )
    what.add_argument("--output-tokens", type=_lengths, default=Lengths(low=64), metavar="N", help="the same")
    what.add_argument("--shared-prefix", type=int, default=0, metavar="N", help="tokens with which all prompts begin")
    what.add_argument("--temperature", type=float, default=0.0)
    what.add_argument(
        "--ignore-eos", action=argparse.BooleanOptionalAction, default=True,
        help="answers of exactly the wanted length: a field of vLLM and this server, which others may refuse",
    )  # fmt: skip
    what.add_argument("--body", type=_body, default={}, metavar="JSON", help="further fields of each request")
    what.add_argument("--seed", type=int, default=0)
    report = parser.add_argument_group("report")
    report.add_argument(
        "--slo", dest="objective", type=_objective, default=Objective(), metavar="ttft:MS,itl:MS",
        help="what counts as good: milliseconds to the first token, and per token after it",
    )  # fmt: skip
    report.add_argument("--out", type=Path, default=Path("build/load.json"), metavar="JSON")
    report.add_argument("--plot", type=Path, metavar="SVG|PNG", help="by default beside the report")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
