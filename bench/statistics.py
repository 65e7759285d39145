"""What a run comes to: latencies, tokens per second, failures by kind, and what met its objective."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.client import LEFT, OK, Outcome


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Of a duration, in seconds."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What an answer must keep to; a bound that is not set is always kept. Seconds."""

    first_token: float | None = None
    time_per_token: float | None = None
    """Mean over the answer after its first token: what its reader sees as its speed."""

    def met_by(self, outcome: Outcome) -> bool:
        if outcome.error != OK or not outcome.pieces_at:
            return False
        if self.first_token is not None and outcome.first_token > self.first_token:
            return False
        pace = outcome.time_per_token
        return self.time_per_token is None or pace is None or pace <= self.time_per_token


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Of a run; ``seconds`` from the first request that was due to the last end. Rates are per second."""

    requests: int
    completed: int
    errors: dict[str, int]
    seconds: float
    request_rate: float
    output_token_rate: float
    prompt_token_rate: float
    first_token: Distribution | None
    inter_token: Distribution | None
    time_per_token: Distribution | None
    latency: Distribution | None
    goodput: float
    """Requests per second that met the objective."""
    met: float
    """Their share of all requests, those that failed included."""
    client_lag: Distribution | None
    """From when a request was due to when it was sent: what the client itself was late."""


def percentile(values: Sequence[float], percent: float) -> float:
    """With linear interpolation between neighbours."""
    return float(np.percentile(np.asarray(values), percent))


def distribution(values: Sequence[float]) -> Distribution | None:
    """None where there is nothing to describe."""
    if not values:
        return None
    p50, p90, p95, p99 = (float(value) for value in np.percentile(np.asarray(values), (50, 90, 95, 99)))
    return Distribution(
        count=len(values), mean=float(np.mean(values)), p50=p50, p90=p90, p95=p95, p99=p99, max=max(values)
    )


def summarise(outcomes: Iterable[Outcome], objective: Objective) -> Summary:
    """Requests that the client itself left before their end count for nothing but as such."""
    everything = list(outcomes)
    done = [outcome for outcome in everything if outcome.error == OK]
    judged = [outcome for outcome in everything if outcome.error != LEFT]
    begun = [outcome for outcome in done if outcome.pieces_at]
    begin = min((outcome.due for outcome in everything), default=0.0)
    seconds = max((outcome.ended for outcome in everything), default=0.0) - begin
    per_second = 1 / seconds if seconds else 0.0
    met = sum(objective.met_by(outcome) for outcome in judged)
    paces = [pace for outcome in begun if (pace := outcome.time_per_token) is not None]
    return Summary(
        requests=len(everything),
        completed=len(done),
        errors=dict(Counter(outcome.error for outcome in everything if outcome.error != OK)),
        seconds=seconds,
        request_rate=len(done) * per_second,
        output_token_rate=sum(outcome.output_tokens for outcome in done) * per_second,
        prompt_token_rate=sum(outcome.prompt_tokens for outcome in done) * per_second,
        first_token=distribution([outcome.first_token for outcome in begun]),
        inter_token=distribution([gap for outcome in begun for gap in outcome.gaps]),
        time_per_token=distribution(paces),
        latency=distribution([outcome.latency for outcome in done]),
        goodput=met * per_second,
        met=met / len(judged) if judged else 0.0,
        client_lag=distribution([outcome.sent - outcome.due for outcome in everything]),
    )
