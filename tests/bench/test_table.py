"""What samples come to, and that the results of a long measurement survive its interruption."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import server
from bench.client import Outcome, Target
from bench.drive import run
from bench.measures import context, prefix
from bench.measures.setting import Report, Samples, Setting, prompts
from bench.measures.streams import Streams, gaps
from bench.processes import BenchError
from bench.table import EXPERIMENTS, ROWS, Row
from tests.bench.fake_server import FakeServer, serving


def row(title: str) -> Row:
    (found,) = (row for row in ROWS if title in row.title)
    return found


def test_reached_is_the_ratio_of_medians_over_the_faster_raw_loop() -> None:
    samples = {
        "ours: tokens/s": [90.0, 80.0, 100.0],
        "raw, static cache: tokens/s": [100.0, 100.0, 100.0],
        "raw, dynamic cache: tokens/s": [50.0, 125.0, 120.0],
    }
    reached = row("raw forward loop, fp32, n=8").reached(samples)
    assert reached.value == 90 / 120
    assert (reached.low, reached.high) == (80 / 125, 0.9)


def test_growth_is_set_beside_that_of_the_raw_loop() -> None:
    steps = {"ours": (2.0, 5.0), "raw": (1.0, 2.0), "raw, the engine's linear layers": (1.0, 2.5)}
    samples = {
        context.step(who, tokens): [seconds]
        for who, both in steps.items()
        for tokens, seconds in zip((context.SHORT_TOKENS, context.LONG_TOKENS), both, strict=True)
    }
    assert row("static cache and transformers' own").reached(samples).value == 1.25
    assert row("static cache and the engine's").reached(samples).value == 1.0


@pytest.mark.parametrize(
    ("title", "value", "verdict"),
    [
        ("raw forward loop, fp32, n=1", 0.91, "aim"),
        ("raw forward loop, fp32, n=1", 0.83, "must"),
        ("raw forward loop, fp32, n=1", 0.82, "missed"),
        ("mixed requests", 0.99, "aim"),
        ("mixed requests", 1.02, "must"),
        ("mixed requests", 1.03, "missed"),
        ("llama-server`, fp32, c=32", 0.5, "reported"),
    ],
)
def test_verdict_knows_which_way_is_better(title: str, value: float, verdict: str) -> None:
    assert row(title).verdict(value) == verdict


def test_every_row_has_its_experiment_and_every_experiment_a_row() -> None:
    assert {row.experiment for row in ROWS} == set(EXPERIMENTS)


class Fixed:
    """An experiment that is over at once."""

    def __init__(self, *values: float | BenchError, samples: Sequence[str] = (prefix.SHARE,)) -> None:
        self._values = iter(values)
        self._samples = samples

    async def measure(self, _: Setting, report: Report) -> Samples:
        value = next(self._values)
        if isinstance(value, BenchError):
            raise value
        return {name: [value] for name in self._samples}


def measure(out: Path, *arguments: str) -> tuple[int, str]:
    status = server.main(["--out", str(out), "--model", str(out / "model"), "--rows", "prefix", *arguments])
    return status, (out / "server.md").read_text()


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").touch()
    monkeypatch.setattr("bench.machine.busy_cores", lambda: 0.0)
    return tmp_path


Measured = Callable[..., None]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    return lambda *values: monkeypatch.setitem(EXPERIMENTS, "prefix", Fixed(*values))


def test_what_was_measured_is_kept_until_it_is_measured_again(out: Path, measured: Measured) -> None:
    measured(0.04, 0.2)
    status, text = measure(out)
    assert status == 0
    assert "**0.04** (aim)" in text
    assert "not measured" in text
    assert measure(out)[1] == text  # from the file
    status, text = measure(out, "--again")
    assert status == 1
    assert "**0.2** (missed)" in text


def test_results_of_another_configuration_are_not_mixed_in(out: Path, measured: Measured) -> None:
    measured(0.04, 0.05)
    measure(out)
    assert "**0.05** (aim)" in measure(out, "--set", "KV_CACHE_MIB=2048")[1]
    assert len(list(out.glob("server.*.json"))) == 1  # the former ones are put aside


def test_failure_of_one_is_said_in_its_row_and_ends_nothing(out: Path, measured: Measured) -> None:
    measured(BenchError("a request failed: HTTP 500"))
    status, text = measure(out)
    assert status == 1
    assert "failed: a request failed: HTTP 500" in text


def test_peer_that_is_not_there_misses_no_bar(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text = measure(out, "--rows", "llama-*")
    assert status == 0
    assert text.count("| none | none | not measured: no --llama-server |") == 3
    with pytest.raises(SystemExit, match="2"):
        measure(out, "--llama-server", str(out))
    assert f"{str(out)!r}: expected a program" in capsys.readouterr().err


def test_version_of_llama_cpp_is_said_with_what_it_reached(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = out / "llama-server"
    program.write_text("#!/bin/sh\necho 'version: 1.2 (build 3)' >&2\n")
    program.chmod(0o755)
    monkeypatch.setitem(EXPERIMENTS, "llama-8", Fixed(0.5, samples=("ours: tokens/s", "llama.cpp: tokens/s")))
    status, text = measure(out, "--rows", "llama-8", "--llama-server", str(program))
    assert status == 0
    assert "**1** (reported)" in text
    assert "llama.cpp 1.2 (build 3)" in text
    text = measure(out, "--rows", "llama-8")[1]  # without the program, what was measured still stands
    assert "**1** (reported)" in text
    assert "llama.cpp 1.2 (build 3)" in text


def against(fake: FakeServer, work: Callable[[Streams], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with serving(fake):
            target = Target(url=fake.url, model="m")
            async with Streams(target, prompts(1), count=3, prompt_tokens=4, output_tokens=200) as streams:
                return await work(streams)

    return run(main())


def test_streams_are_looked_at_while_they_run() -> None:
    async def look(streams: Streams) -> list[Outcome]:
        await streams.reach(2)
        await streams.reach(5)
        return await streams.left()

    outcomes = against(FakeServer(token_seconds=0.01), look)
    assert [outcome.error for outcome in outcomes] == ["left"] * 3
    assert all(7 <= len(outcome.pieces_at) < 200 for outcome in outcomes)
    begin = max(outcome.pieces_at[1] for outcome in outcomes)
    end = min(outcome.pieces_at[-1] for outcome in outcomes)
    some, everything = gaps(outcomes, begin, end), gaps(outcomes, 0, float("inf"))
    assert 0 < len(some) < len(everything) == sum(len(outcome.pieces_at) - 1 for outcome in outcomes)


def test_stream_that_ends_too_early_is_no_measurement() -> None:
    async def look(streams: Streams) -> None:
        await asyncio.wait_for(streams.reach(1000), 20)

    with pytest.raises(BenchError, match="ended after 200 parts"):
        against(FakeServer(), look)
