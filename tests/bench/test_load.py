"""The command against a server that streams: what is sent, when, and what is reported."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import load
from bench.arrivals import Arrival
from bench.client import LEFT, OK, Client, Outcome, Target
from bench.drive import Driver, Progress, run
from bench.prompts import WORDS, Prompts, Scale
from tests.bench.fake_server import OVERHEAD_TOKENS, TOKENS_PER_WORD, FakeServer, serving


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """In a thread of its own: the command has its own event loop."""
    fake, ready, over = FakeServer(token_seconds=0.002, first_seconds=0.01), threading.Event(), threading.Event()

    async def main() -> None:
        async with serving(fake):
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(5)
    yield fake
    over.set()
    thread.join()


def command(server: FakeServer, out: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    status = load.main(["--url", server.url, "--model", "m", "--out", str(out), *arguments])
    return status, json.loads(out.read_text())


def test_closed_loop_keeps_its_concurrency_and_writes_report_and_picture(server: FakeServer, tmp_path: Path) -> None:
    status, report = command(
        server, tmp_path / "r.json", "--concurrency", "4", "--requests", "20", "--prompt-tokens", "203", "--output-tokens", "8",
        "--slo", "ttft:10000,itl:10000",
    )  # fmt: skip
    assert status == 0
    assert server.most == 4
    assert report["scale"] == {"tokens_per_word": TOKENS_PER_WORD, "overhead": OVERHEAD_TOKENS}
    assert {request["prompt_tokens"] for request in report["requests"]} == {203}
    summary = report["summary"]
    assert (summary["completed"], summary["errors"], summary["met"]) == (20, {}, 1.0)
    assert summary["output_token_rate"] == pytest.approx(160 / summary["seconds"])
    assert 0.01 <= summary["first_token"]["p50"] < summary["latency"]["p50"]
    assert (tmp_path / "r.svg").read_text().count("</svg>") == 1


def test_trace_is_replayed_with_its_lengths_and_times(server: FakeServer, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:40.0,99,9\n"
        "2023-11-16 18:15:46.0,103,4\n"
        "2023-11-16 18:15:47.0,203,2\n"
        "2023-11-16 18:15:50.0,99,9\n"
    )
    status, report = command(
        server, tmp_path / "r.json", "--trace", str(trace), "--start", "5", "--duration", "4", "--speed", "10", "--plot",
        str(tmp_path / "r.png"),
    )  # fmt: skip
    assert status == 0
    assert [(each["prompt_tokens"], each["output_tokens"]) for each in report["requests"]] == [(103, 4), (203, 2)]
    first, second = (each["due"] for each in report["requests"])
    assert second - first == pytest.approx(0.1, abs=1e-6)
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_open_loop_sends_what_is_due_whatever_the_server_does(server: FakeServer, tmp_path: Path) -> None:
    server.first_seconds = 0.5
    _, report = command(server, tmp_path / "r.json", "--rate", "100", "--requests", "30", "--output-tokens", "1")
    assert server.most > 20  # all came within half a second
    assert report["summary"]["completed"] == 30
    assert report["summary"]["client_lag"]["p50"] < 0.05


def test_closed_loop_ends_after_its_time_and_leaves_what_runs(server: FakeServer, tmp_path: Path) -> None:
    _, report = command(
        server, tmp_path / "r.json", "--concurrency", "2", "--duration", "0.4", "--output-tokens", "20000"
    )
    assert report["summary"]["errors"] == {LEFT: 2}


def test_failures_are_reported_and_what_nobody_answers_is_an_error(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command(server, tmp_path / "r.json", "--concurrency", "1", "--timeout", "0.001")
    assert ended.value.code == 2
    assert "does not answer a first request: timeout" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--rate", "0"), "'0': expected a number above 0"),
        (("--rate", "2"), "--rate wants --duration or --requests"),
        (("--concurrency", "0"), "'0': expected a whole number"),
        (("--concurrency", "2", "--prompt-tokens", "9-3"), "'9-3': expected tokens as 128"),
        (("--concurrency", "2", "--slo", "p95:3"), "expected milliseconds such as ttft:500,itl:50"),
        (("--concurrency", "2", "--body", "[1]"), "expected an object"),
        (("--trace", "/nowhere.csv"), "/nowhere.csv"),
        (("--rate", "2", "--concurrency", "3"), "not allowed with"),
    ],
)
def test_wrong_argument_is_named(arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load.main(["--url", "http://127.0.0.1:9/v1", "--model", "m", *arguments])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_key_is_sent_and_never_written(server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(load.KEY_VARIABLE, "hunter2")
    command(server, tmp_path / "r.json", "--concurrency", "1", "--requests", "1", "--output-tokens", "1")
    assert server.headers[-1]["authorization"] == "bearer hunter2"
    assert "hunter2" not in (tmp_path / "r.json").read_text()


def test_latency_counts_from_when_a_request_was_due() -> None:
    async def main() -> list[Outcome]:
        async with serving(FakeServer()) as server:
            driver = Driver(
                client=Client(Target(url=server.url, model="m")),
                prompts=Prompts(WORDS, Scale(), 1),
                progress=Progress(total=1),
                leave=asyncio.get_running_loop().create_future(),
            )
            return await driver.open_loop([Arrival(at=-2.0, prompt_tokens=1, output_tokens=1)])

    (late,) = run(main())
    assert late.error == OK
    assert late.first_token > 2.0
