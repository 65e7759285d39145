"""What KEDA's operator tells of a model's ScaledObject, in PromQL.

Source: kedacore/keda 2.20.2, pkg/metricscollector/prommetrics.go. The label with the trigger's name is called ``scaler``,
``triggerName`` or ``trigger_name`` there; it is ``scaler`` in all answers here.
"""

from typing import Literal

from infra.series import ModelSeries, Unlike

Function = Literal["rate", "increase"]
# While a signal fails, nearly all of its queries do; single failures among good answers are no fallback.
FAILED_QUERIES = 0.8
FALLBACK_WINDOW = "5m"  # some ten looks, and several scrapes of KEDA


def value(series: ModelSeries) -> str:
    """Each signal as the autoscaler gets it: the fallback's, while that answers."""
    return " or ".join(series.keda("keda_scaler_metrics_value", "scaledObject", type="scaledobject"))


def paused(series: ModelSeries) -> str:
    """1 while an annotation pauses the ScaledObject."""
    return " or ".join(series.keda("keda_scaled_object_paused", "scaledObject"))


def errors(series: ModelSeries, function: Function, window: str) -> str:
    """Failed looks at each signal; none is counted while the fallback answers."""
    counters = series.keda("keda_scaler_detail_errors_total", "scaledObject", type="scaledobject")
    return _counter(function, counters, window)


def empty(series: ModelSeries, function: Function, window: str) -> str:
    """Answers of Prometheus without data, for each signal; since KEDA 2.20."""
    counters = series.keda("keda_scaler_empty_upstream_responses_total", "scaledResource")
    return _by_scaler(_counter(function, counters, window), "triggerName")


def queries(series: ModelSeries, function: Function, window: str, **labels: str) -> str:
    """Queries for each signal by their HTTP status (``error`` where none came); since KEDA 2.20.

    A query that failed is asked once more, so that there are two for a failed look.
    """
    counters = series.keda("keda_scaler_http_requests_total", "scaled_resource", **labels)
    return _by_scaler(_counter(function, counters, window), "trigger_name")


def fallback(series: ModelSeries) -> str:
    """The share of failed queries of each signal for which the fallback answers; no series for the others.

    A failed look that the fallback answers is none to KEDA: its counter of errors stands still. Only the counters of
    queries and of empty answers go on. So the fallback is at work where queries fail and no error is counted. Source:
    kedacore/keda 2.20.2, pkg/scaling/scale_handler.go (processMetricsWithFallback) and pkg/fallback/fallback.go.
    """
    refused = queries(series, "increase", FALLBACK_WINDOW, status_code=Unlike("2.."))
    failed = f"sum by (scaler) ({empty(series, 'increase', FALLBACK_WINDOW)} or {refused})"
    every = f"sum by (scaler) ({queries(series, 'increase', FALLBACK_WINDOW)})"
    counted = f"sum by (scaler) ({errors(series, 'increase', FALLBACK_WINDOW)})"
    return f"{failed}\n  / {every}\n  > {FAILED_QUERIES}\n  unless on (scaler) {counted} > 0"


def _counter(function: Function, counters: tuple[str, str], window: str) -> str:
    return " or ".join(f"{function}({counter}[{window}])" for counter in counters)


def _by_scaler(counters: str, named: str) -> str:
    return f'label_replace({counters}, "scaler", "$1", "{named}", "(.*)")'
