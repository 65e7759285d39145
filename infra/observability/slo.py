"""What was promised, how much of it was kept, and how fast the rest is being used up.

An objective allows a share of the requests to miss it: its budget, over 30 days. An alert on that share alone is either
late or noisy, so the speed is watched at which the budget goes, over a long window (it matters) and a short one (it still
goes on). Source of windows and speeds: Google, The Site Reliability Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate".
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infra.config.schema.objectives import Objectives
from infra.observability.rules import AlertRule, RecordingRule, RuleGroup, Severity
from infra.series import ModelSeries, Not
from service.metric_names import (
    FINISHED_REASON_LABEL,
    FIRST_TOKEN_BUCKETS,
    INTER_TOKEN_BUCKETS,
    INTER_TOKEN_LATENCY,
    REQUEST_SUCCESS,
    TIME_TO_FIRST_TOKEN,
)

LATENCY_BUDGET = 0.05  # the objectives of latency speak of 95 % of the cases …
TAIL_BUDGET = 0.01  # … and those of its tail of 99 %
# However generous the promise: when this share of the requests misses it, somebody is woken.
MOST_MISSED = 0.8
# In a quiet hour one slow answer is a large share of few; below this many answers in a window nobody is called.
FEWEST_REQUESTS = 20
SHORT_WINDOWS = ("5m", "30m", "1h", "2h")
LONG_WINDOWS = ("6h", "1d", "3d")
LONG_INTERVAL = 120  # seconds between two evaluations of the long windows, which are costly and move slowly
NOW_WINDOW = "5m"  # the one in which an objective is missed now
NOW_LASTING = 600  # seconds for which an objective is missed before that alone is told
BURN_LASTING = 60  # seconds; the windows already say that it lasts

BUCKETS = {TIME_TO_FIRST_TOKEN: FIRST_TOKEN_BUCKETS, INTER_TOKEN_LATENCY: INTER_TOKEN_BUCKETS}
LATE = {
    TIME_TO_FIRST_TOKEN: "answers took longer than {:g} s to begin",
    INTER_TOKEN_LATENCY: "tokens came later than {:g} s after the one before",
}
# A client that left says nothing about the server.
COUNTED = Not("abort")
MISSED = "llm:objective_missed:ratio_rate"
ENDED = "llm:requests_ended:increase"


@dataclass(frozen=True, kw_only=True)
class Burn:
    """The budget goes ``speed`` times as fast as it may, over the ``long`` window and still in the ``short`` one."""

    long: str
    short: str
    speed: float


BURNS: dict[Severity, tuple[Burn, ...]] = {
    # 2 % of the budget in an hour, 5 % in six.
    "page": (Burn(long="1h", short="5m", speed=14.4), Burn(long="6h", short="30m", speed=6)),
    # 10 % of the budget in a day, and in three.
    "ticket": (Burn(long="1d", short="2h", speed=3), Burn(long="3d", short="6h", speed=1)),
}


def near_buckets(seconds: float, buckets: Sequence[float]) -> tuple[float, ...]:
    """The buckets of a histogram next to ``seconds``: that one alone where it is a bucket, else those on both sides.

    A histogram can only count answers up to one of its buckets; with any other number a query finds no series at all.
    """
    above = bisect_left(buckets, seconds)
    if above < len(buckets) and buckets[above] == seconds:
        return (seconds,)
    return tuple(buckets[max(above - 1, 0) : above + 1])


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One promise. ``missed`` gives the share (0 to 1) that missed it in a window; ``seconds`` is None for errors.

    ``burns`` and ``slow`` name the alerts that tell of a budget which goes too fast, and of a promise that is missed now.
    """

    name: str
    burns: str | None
    slow: str | None
    budget: float
    seconds: float | None
    missed: Callable[[str], str]
    what: str  # completes "9 % of the …"

    def ratio(self, series: ModelSeries, window: str) -> str:
        """The recorded share that missed it."""
        return series.server(f"{MISSED}{window}", objective=self.name)


def objectives(promised: Objectives, series: ModelSeries) -> tuple[Objective, ...]:
    """The promises of the configuration; a ValueError names a latency that is no bucket, and the buckets next to it."""

    def ended(window: str, **reason: str) -> str:
        return f"sum(rate({series.server(f'{REQUEST_SUCCESS}_total', **reason)}[{window}]))"

    def failed(window: str) -> str:
        # Without an "error" series no request failed; without any request the share is not a number, which is no alert.
        every = ended(window, **{FINISHED_REASON_LABEL: COUNTED})
        return f"({ended(window, **{FINISHED_REASON_LABEL: 'error'})} or 0 * {every}) / {every}"

    def latency(
        name: str, metric: str, seconds: float | None, budget: float, slow: str, burns: str | None = None
    ) -> Objective | None:
        if seconds is None:
            return None
        near = near_buckets(seconds, BUCKETS[metric])
        if near != (seconds,):
            key = f"{name.replace('-', '_')}_seconds"
            raise ValueError(f"{key} = {seconds}: is no bucket of {metric}; use {' or '.join(map(str, near))}")
        # Buckets are written as Python writes floats, in vLLM and here.
        within, every = series.server(f"{metric}_bucket", le=str(float(seconds))), series.server(f"{metric}_count")
        return Objective(
            name=name,
            burns=burns,
            slow=slow,
            budget=budget,
            seconds=seconds,
            missed=lambda window: f"1 - sum(rate({within}[{window}])) / sum(rate({every}[{window}]))",
            what=LATE[metric].format(seconds),
        )

    errors = Objective(
        name="errors",
        burns="LlmErrorBudgetBurn",
        slow=None,
        budget=promised.error_percent / 100,
        seconds=None,
        missed=failed,
        what="requests failed",
    )
    first, between = TIME_TO_FIRST_TOKEN, INTER_TOKEN_LATENCY
    first_95, first_99 = promised.first_token_seconds, promised.first_token_p99_seconds
    between_95, between_99 = promised.inter_token_seconds, promised.inter_token_p99_seconds
    latencies = (
        latency("first-token", first, first_95, LATENCY_BUDGET, "LlmFirstTokenSlow", "LlmFirstTokenBudgetBurn"),
        latency("inter-token", between, between_95, LATENCY_BUDGET, "LlmInterTokenSlow", "LlmInterTokenBudgetBurn"),
        # Nobody is woken by a tail: when it grows, the others miss their promise too.
        latency("first-token-p99", first, first_99, TAIL_BUDGET, "LlmFirstTokenP99Slow"),
        latency("inter-token-p99", between, between_99, TAIL_BUDGET, "LlmInterTokenP99Slow"),
    )
    return (errors, *(promise for promise in latencies if promise is not None))


def records(series: ModelSeries, promises: tuple[Objective, ...]) -> tuple[RuleGroup, ...]:
    """The shares that missed each promise and the requests that ended, for every window that an alert looks at."""
    labels = {"namespace": series.namespace, "service": series.name}

    def group(name: str, windows: tuple[str, ...], interval: int | None) -> RuleGroup:
        missed = [
            RecordingRule(
                record=f"{MISSED}{window}",
                expression=promise.missed(window),
                labels={**labels, "objective": promise.name},
            )
            for promise in promises
            for window in windows
            if promise.burns or window == NOW_WINDOW
        ]
        ended = series.server(f"{REQUEST_SUCCESS}_total", **{FINISHED_REASON_LABEL: COUNTED})
        long = {burn.long for burns in BURNS.values() for burn in burns}
        counts = [
            RecordingRule(record=f"{ENDED}{window}", expression=f"sum(increase({ended}[{window}]))", labels=labels)
            for window in windows
            if window in long
        ]
        return RuleGroup(name=f"{series.namespace}.{series.name}.{name}", rules=(*missed, *counts), interval=interval)

    return (group("objectives", SHORT_WINDOWS, None), group("objectives-long", LONG_WINDOWS, LONG_INTERVAL))


def burn_alerts(series: ModelSeries, promise: Objective) -> tuple[AlertRule, ...]:
    """One alert of each severity, where the promise has some; their value is what missed it in the longer window."""
    if promise.burns is None:
        return ()

    def too_fast(burn: Burn) -> str:
        most = f"{min(burn.speed * promise.budget, MOST_MISSED):g}"
        long, short = promise.ratio(series, burn.long), promise.ratio(series, burn.short)
        return f"({long} > {most} and {short} > {most} {_enough(series, burn.long)})"

    urgency: dict[Severity, str] = {"page": "now, and many", "ticket": "for hours, and more than was promised"}
    return tuple(
        AlertRule(
            name=promise.burns,
            expression="\n  or ".join(too_fast(burn) for burn in burns),
            severity=severity,
            lasting=BURN_LASTING,
            summary=f"Model {series.name}: {promise.what} ({urgency[severity]})",
            description=f"{{{{ $value | humanizePercentage }}}} of the {promise.what}; {_allowed(promise)}. At this speed "
            "the budget of 30 days does not last.",
        )
        for severity, burns in BURNS.items()
    )


def slow_alerts(series: ModelSeries, promise: Objective) -> tuple[AlertRule, ...]:
    """The promise is missed at this moment: earlier than the budget shows, and nobody is woken."""
    if promise.slow is None:
        return ()
    # Of fewer a single slow one would be more than the budget.
    fewest = max(FEWEST_REQUESTS, round(1 / promise.budget))
    return (
        AlertRule(
            name=promise.slow,
            expression=f"{promise.ratio(series, NOW_WINDOW)} > {promise.budget:g} {_enough(series, '1h', fewest)}",
            severity="ticket",
            lasting=NOW_LASTING,
            summary=f"Model {series.name}: {promise.what}",
            description=f"{{{{ $value | humanizePercentage }}}} of the {promise.what} in the last 5 minutes; "
            f"{_allowed(promise)}.",
        ),
    )


def _allowed(promise: Objective) -> str:
    return f"{100 * promise.budget:g} % may"


def _enough(series: ModelSeries, window: str, fewest: int = FEWEST_REQUESTS) -> str:
    return f"and on (namespace, service) {series.server(f'{ENDED}{window}')} >= {fewest}"
