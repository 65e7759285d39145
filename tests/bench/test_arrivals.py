"""Requests come as often as was asked for, and at random; traces are read as they were recorded."""

from pathlib import Path

import numpy as np
import pytest

from bench.arrivals import TraceError, poisson, read_trace, window


def test_poisson_has_the_rate_and_the_spread_of_independent_requests() -> None:
    times = np.array(list(poisson(20.0, 1000.0, np.random.default_rng(1))))
    assert ((times > 0) & (times < 1000)).all()
    # 20,000 expected, with a standard deviation of 141.
    assert len(times) == pytest.approx(20_000, abs=4 * 141)
    gaps = np.diff(times)
    assert gaps.mean() == pytest.approx(1 / 20, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 20, rel=0.05)  # exponential: the deviation is the mean
    per_second, _ = np.histogram(times, np.arange(0, 1001))
    assert per_second.var() == pytest.approx(20, rel=0.2)  # Poisson: the variance is the mean


def test_same_seed_gives_the_same_arrivals() -> None:
    first, second = (list(poisson(5, 10, np.random.default_rng(3))) for _ in range(2))
    assert first == second != []


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    file = tmp_path / "trace.csv"
    file.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.5000000,374,44\n"
        "2023-11-16 18:16:46.5000001,20,7\n"
        "2023-11-16 18:15:50.0000000,396,109\n"  # not in order
    )
    return file


def test_trace_is_read_in_order_from_its_first_request(trace: Path) -> None:
    read = read_trace(trace)
    assert [(arrival.prompt_tokens, arrival.output_tokens) for arrival in read] == [(374, 44), (396, 109), (20, 7)]
    assert [arrival.at for arrival in read] == pytest.approx([0.0, 3.5, 60.0])


def test_window_and_speed_are_of_the_trace_s_own_time(trace: Path) -> None:
    replayed = window(read_trace(trace), start=3.0, seconds=58.0, speed=10.0)
    assert [arrival.at for arrival in replayed] == pytest.approx([0.05, 5.7])
    assert window(read_trace(trace), start=3.0, seconds=1.0, speed=1.0)[0].prompt_tokens == 396


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("TIMESTAMP,ContextTokens\n", "GeneratedTokens"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "no requests"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.1,many,1\n", "line 2.*many"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.1,1\n", "line 2"),
    ],
)
def test_what_is_wrong_with_a_trace_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(text)
    with pytest.raises(TraceError, match=says):
        read_trace(file)
