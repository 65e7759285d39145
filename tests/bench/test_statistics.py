"""The arithmetic of a report."""

from array import array

import pytest

from bench.client import LEFT, OK, Outcome
from bench.statistics import Objective, distribution, percentile, summarise


def outcome(
    due: float = 0.0, first: float = 1.0, gap: float = 0.1, tokens: int = 5, error: str = OK, sent: float | None = None
) -> Outcome:
    pieces = array("d", (due + first + number * gap for number in range(tokens)))
    return Outcome(
        due=due,
        sent=due if sent is None else sent,
        pieces_at=pieces,
        ended=pieces[-1] if pieces else due + first,
        prompt_tokens=10,
        output_tokens=tokens,
        error=error,
    )


def test_percentiles_interpolate() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    assert percentile(list(map(float, range(101))), 95) == 95.0
    described = distribution([3.0, 1.0, 2.0])
    assert described is not None
    assert (described.count, described.mean, described.p50, described.max) == (3, 2.0, 2.0, 3.0)
    assert distribution([]) is None


def test_summary_counts_tokens_failures_and_time() -> None:
    summary = summarise(
        [outcome(0.0), outcome(2.0, sent=2.5), outcome(3.0, first=0.6, tokens=0, error="HTTP 429"), outcome(1.0, error=LEFT)],
        Objective(),
    )  # fmt: skip
    assert (summary.requests, summary.completed, summary.errors) == (4, 2, {"HTTP 429": 1, LEFT: 1})
    assert summary.seconds == pytest.approx(3.6)
    assert summary.output_token_rate == pytest.approx(10 / 3.6)
    assert summary.prompt_token_rate == pytest.approx(20 / 3.6)
    assert summary.inter_token is not None
    assert summary.inter_token.count == 8
    assert summary.inter_token.p95 == pytest.approx(0.1)
    assert summary.client_lag is not None
    assert summary.client_lag.max == pytest.approx(0.5)


def test_goodput_counts_answers_that_keep_to_both_bounds() -> None:
    objective = Objective(first_token=1.0, time_per_token=0.2)
    outcomes = [
        outcome(first=0.9, gap=0.19),
        outcome(first=1.1, gap=0.1),  # begins too late
        outcome(first=0.5, gap=0.21),  # is too slow
        outcome(first=0.9, tokens=1),  # has no second token to be slow with
        outcome(first=0.1, error="cut off"),
        outcome(first=0.1, error=LEFT),  # its end is nobody's fault
    ]
    assert [objective.met_by(each) for each in outcomes] == [True, False, False, True, False, False]
    summary = summarise(outcomes, objective)
    assert summary.met == 2 / 5
    assert summary.goodput == pytest.approx(2 / summary.seconds)


def test_pace_is_the_mean_and_not_the_worst_gap() -> None:
    uneven = Outcome(due=0, sent=0, pieces_at=array("d", (1.0, 1.0, 1.0, 1.9)), ended=1.9, output_tokens=4)
    assert uneven.time_per_token == pytest.approx(0.3)


def test_no_requests_are_no_failure() -> None:
    summary = summarise([], Objective())
    assert (summary.requests, summary.goodput, summary.met, summary.first_token) == (0, 0.0, 0.0, None)
