"""What a model is scaled on: typed signals and the PromQL that KEDA asks for them.

KEDA wants exactly one series, so every query is one ``sum`` without ``by``. A sum over the pods grows with the load and
not with the number of pods; the autoscaler has to divide it by the replicas, which is what ``AverageValue`` says. An
average under ``AverageValue`` would be divided twice and never ask for more than two replicas; so no signal can choose
another kind of target.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from infra.config.schema import GpuMetrics, IngressRequests, QueryRequests, RequestSide, Scaling
from infra.series import ModelSeries
from infra.workload import Workload
from service.metric_names import KV_CACHE_USAGE, MODEL_NAME_LABEL, REQUESTS_RUNNING, REQUESTS_WAITING

# Of kube-state-metrics: the pods that the Deployment is meant to have.
WANTED_REPLICAS = "kube_deployment_spec_replicas"
# What is asked about them, and whom to look at when nothing answers.
ASLEEP = "wanted replicas (kube-state-metrics, scraped with honorLabels)"
# Of ingress-nginx's controller, per Ingress; counted there, it knows requests that found no pod.
INGRESS_REQUESTS = "nginx_ingress_controller_requests"
INGRESS_CONTROLLER = "nginx_ingress_controller_build_info"
# Seconds: long enough for two scrapes at one a minute, short enough to show load soon …
RATE_WINDOW = 120
# … and, where KEDA's own looks wake the model, long enough that even one that is late by a whole interval sees every request.
LOOKS = 2
# Percent of the time in which a kernel ran; not there for slices of a GPU (MIG) …
GPU_UTILIZATION = "DCGM_FI_DEV_GPU_UTIL"
# … for which the share of busy compute engines, 0 to 1, is.
GPU_ENGINE_ACTIVE = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"


@dataclass(frozen=True, kw_only=True)
class Signal:
    """An amount of work for the whole model, and what of it one replica should carry; above that another one is wanted."""

    metric_type: ClassVar[Literal["AverageValue"]] = "AverageValue"

    name: str
    query: str
    per_replica: float


def pod_gauge(metric: str, workload: Workload) -> str:
    """The sum of a gauge that each pod of the model exposes; no series where no pod was scraped."""
    series = ModelSeries.of(workload)
    return f"sum({series.server(metric, **{MODEL_NAME_LABEL: workload.served_model})})"


def gpu_gauge(workload: Workload, gpu_metrics: GpuMetrics, *, sliced: bool) -> str:
    """Percent of GPU utilisation, summed over the pods; a pod with several GPUs counts its busiest one."""
    series = ModelSeries.of(workload, honor_labels=gpu_metrics.honor_labels)
    use = f"100 * {series.gpu(GPU_ENGINE_ACTIVE)}" if sliced else series.gpu(GPU_UTILIZATION)
    return f"sum(max by ({series.gpu_pod}) ({use}))"


def signals(
    scaling: Scaling, workload: Workload, gpu_metrics: GpuMetrics, *, sliced: bool = False
) -> tuple[Signal, ...]:
    """The signals that the configuration asks for, those that show load soonest first.

    Queued requests show load that is not served; running ones show it before it queues. ``sliced``: the replicas run on
    slices of a GPU (MIG).
    """
    inside = (
        ("waiting", scaling.waiting_per_replica, pod_gauge(REQUESTS_WAITING, workload)),
        ("running", scaling.running_per_replica, pod_gauge(REQUESTS_RUNNING, workload)),
        ("kv-cache", scaling.kv_cache_percent, f"100 * {pod_gauge(KV_CACHE_USAGE, workload)}"),
        ("gpu", scaling.gpu_percent, gpu_gauge(workload, gpu_metrics, sliced=sliced)),
    )
    found = [
        Signal(name=name, query=_awake(query, scaling, workload), per_replica=target)
        for name, target, query in inside
        if target is not None
    ]
    if scaling.request_side is not None:
        found.append(_request_side(scaling.request_side, scaling, workload))
    return tuple(found)


def questions(asked: tuple[Signal, ...], workload: Workload) -> dict[str, str]:
    """What must have an answer before the autoscaler takes the signals, by name.

    Beside the signals that is what they read 0 by while the model sleeps: with a pod there, their own queries never ask for it.
    """
    replicas = _wanted(workload)
    asleep = any(replicas in signal.query for signal in asked)
    return {signal.name: signal.query for signal in asked} | ({ASLEEP: replicas} if asleep else {})


def _awake(query: str, scaling: Scaling, workload: Workload) -> str:
    """The query, and 0 while the model is meant to have no pod: only then is silence no failure."""
    if scaling.min_replicas > 0:
        return query
    return f"({query}) or ({_wanted(workload)} == 0)"


def _wanted(workload: Workload) -> str:
    return f"sum({ModelSeries.of(workload).deployment(WANTED_REPLICAS)})"


def _request_side(source: RequestSide, scaling: Scaling, workload: Workload) -> Signal:
    match source:
        case IngressRequests(per_replica=per_replica):
            # The horizontal autoscaler, which adds to the first replica, looks every 15 seconds.
            window = RATE_WINDOW if scaling.min_replicas else max(RATE_WINDOW, LOOKS * scaling.polling_seconds)
            return Signal(name="requests", query=_ingress_rate(workload, window), per_replica=per_replica)
        case QueryRequests(query=query, per_replica=per_replica):
            return Signal(name="requests", query=query, per_replica=per_replica)


def _ingress_rate(workload: Workload, window: int) -> str:
    """Requests per second at the model's Ingress, over so many seconds."""
    counters, before = ModelSeries.of(workload).ingress(INGRESS_REQUESTS), f"offset {window}s"
    now = " or ".join(counters)
    then = " or ".join(f"{counter} {before}" for counter in counters)
    rates = " or ".join(f"rate({counter}[{window}s])" for counter in counters)
    # A counter that is new begins with the first request, of which a rate, from one sample to the next, knows nothing. New it is
    # where its controller was scraped before and it was not there; else it may be old, and all it ever counted no news.
    new = f"(({now}) unless ({then})) and on (instance) {INGRESS_CONTROLLER} {before}"
    rate = f"sum(({new}) / {window} or {rates})"
    # The controller has no series for an Ingress that nobody asked for yet: that is no load. But a controller that is not
    # scraped is a failure, and must not read as none.
    return f"{rate} or 0 * count({INGRESS_CONTROLLER})"
