"""Contradictions of replicas and signals."""

import difflib
import re
import zoneinfo
from collections.abc import Iterator

from infra import cron
from infra.config.parsing import Check, Contradiction
from infra.config.schema import (
    DevicePlugin,
    GpuMetrics,
    IngressExposure,
    IngressRequests,
    Model,
    QueryRequests,
    RuntimeKind,
    Scaling,
    Schedule,
    Server,
    StackConfig,
    VllmRuntime,
)

# The horizontal autoscaler does nothing while the load is within this of its target (the controller manager's default).
AUTOSCALER_TOLERANCE = 0.1
# Part of the name of every usual class of ingress-nginx, such as nginx-internal.
NGINX_CLASS = "nginx"
# Of PromQL: texts, brackets without brackets in them, and what makes an aggregation give several series.
TEXT = re.compile(r"""\"(?:\\.|[^"\\])*\"|'(?:\\.|[^'\\])*'|`[^`]*`""")
BRACKETS = re.compile(r"[({\[][^(){}\[\]]*[)}\]]")
GROUPING = re.compile(r"\b(by|without)\b", re.IGNORECASE)


def replica_range(low: int, high: int) -> Iterator[Contradiction]:
    """More replicas without load than at most."""
    if low > high:
        yield Contradiction(
            "min_replicas", low, f"is more than max_replicas = {high}", "Lower min_replicas or raise max_replicas."
        )


def fallback_range(low: int, high: int, fallback: int | None) -> Iterator[Contradiction]:
    """Replicas for the time without measurements that are outside the range."""
    if fallback is not None and low <= high and not low <= fallback <= high:
        remedy = f"Use a number from {max(1, low)} to {high}, or leave it out for {max(1, low)}."
        problem = f"is outside min_replicas = {low} to max_replicas = {high}"
        yield Contradiction("fallback_replicas", fallback, problem, remedy)


def scale_to_zero(scaling: Scaling) -> Iterator[Contradiction]:
    """Zero replicas without a signal from outside the pods: nothing would ever wake the model."""
    if scaling.min_replicas == 0 and scaling.request_side is None and not scaling.schedules:
        yield Contradiction(
            "scaling.min_replicas",
            0,
            "leaves nothing that could wake the model: without a pod there is no queue to measure",
            "Add scaling.request_side or scaling.schedules, or keep one replica.",
        )


def ingress_signal(model: Model) -> Iterator[Contradiction]:
    """Requests that ingress-nginx shall count, for a model to which no Ingress of its leads."""
    exposure = model.exposure
    led = isinstance(exposure, IngressExposure) and NGINX_CLASS in exposure.class_name
    if isinstance(model.scaling.request_side, IngressRequests) and not led:
        problem = "counts what passes an Ingress of ingress-nginx, and no such exposure leads to the model"
        remedy = f"Add exposure with kind ingress and a class_name with {NGINX_CLASS} in it, or use source query."
        yield Contradiction("scaling.request_side.source", IngressRequests.TAG, problem, remedy)


def one_series(query: str) -> Iterator[Contradiction]:
    """A query of one's own whose sum is grouped: KEDA wants one series, and fails at several."""
    outside = TEXT.sub("", query)
    while (shorter := BRACKETS.sub("", outside)) != outside:
        outside = shorter
    if (grouped := GROUPING.search(outside)) is not None:
        problem = f"has {grouped[0]} after its closing bracket, and gives a series for each group: KEDA takes one"
        yield Contradiction("query", query, problem, f"Leave {grouped[0]} (...) out, or put sum(...) around it all.")


def any_signal(scaling: Scaling) -> Iterator[Contradiction]:
    """Nothing to scale on: KEDA refuses a ScaledObject without a signal, of however many replicas."""
    signals = (
        scaling.waiting_per_replica,
        scaling.running_per_replica,
        scaling.kv_cache_percent,
        scaling.gpu_percent,
        scaling.request_side,
    )
    if not any(signals) and not scaling.schedules:
        yield Contradiction(
            "scaling.waiting_per_replica",
            scaling.waiting_per_replica,
            "leaves no signal that is looked at: KEDA takes no autoscaler without one",
            "Set waiting_per_replica or running_per_replica; for a fixed number, min_replicas and max_replicas to the same.",
        )


def schedule_hours(schedule: Schedule) -> Iterator[Contradiction]:
    """A schedule that ends when it begins: KEDA refuses it."""
    if schedule.start == schedule.end:
        yield Contradiction(
            "end", schedule.end, "is when it begins too", "Give the hour until which replicas are kept."
        )


def schedule_zone(timezone: str) -> Iterator[Contradiction]:
    """A time zone that does not exist: KEDA takes it, fails at every look, and its fallback keeps all replicas for ever."""
    zones = zoneinfo.available_timezones()
    # A host without the time zones' data knows none of them.
    if zones and timezone not in zones:
        near = difflib.get_close_matches(timezone, zones, n=1)
        remedy = f"Did you mean {near[0]}?" if near else "Use a name of the IANA's time zones, such as Europe/Berlin."
        yield Contradiction("timezone", timezone, "is no time zone that exists", remedy)


def schedule_times(start: str, end: str) -> Iterator[Contradiction]:
    """A time that cron does not know, such as an hour 25: KEDA refuses it."""
    for key, time in (("start", start), ("end", end)):
        if (found := cron.refused(time)) is not None:
            field, text = found
            yield Contradiction(
                key,
                time,
                f"has {text} as its {field.name}",
                f"Use {field.lowest} to {field.highest} or *, lists such as 1,2, rising ranges such as 1-5, steps such as */2.",
            )


def schedule_replicas(scaling: Scaling) -> Iterator[Contradiction]:
    """A schedule that wants more replicas than there may be."""
    for index, schedule in enumerate(scaling.schedules):
        if schedule.replicas > scaling.max_replicas:
            yield Contradiction(
                f"scaling.schedules[{index}].replicas",
                schedule.replicas,
                f"is more than max_replicas = {scaling.max_replicas}",
                "Lower it or raise max_replicas.",
            )


def running_target(server: Server, scaling: Scaling) -> Iterator[Contradiction]:
    """A target for running requests that a server never exceeds: the autoscaler would be inert and look healthy."""
    most, target = server.max_running_requests, scaling.running_per_replica
    if target is not None and not _reached(target, most):
        yield Contradiction(
            "scaling.running_per_replica",
            target,
            f"is never exceeded by {AUTOSCALER_TOLERANCE:.0%}: a replica runs server.max_running_requests = {most} at most",
            "Lower it (four fifths of max_running_requests is a good start) or raise max_running_requests.",
        )


def waiting_target(runtime: RuntimeKind, server: Server, scaling: Scaling) -> Iterator[Contradiction]:
    """A target for queued requests that a server never exceeds; vLLM's queue has no end."""
    most, target = server.max_waiting_requests, scaling.waiting_per_replica
    if isinstance(runtime, VllmRuntime):
        return
    if target is not None and not _reached(target, most):
        yield Contradiction(
            "scaling.waiting_per_replica",
            target,
            f"is never exceeded by {AUTOSCALER_TOLERANCE:.0%}: more than server.max_waiting_requests = {most} are refused",
            "Lower it or raise max_waiting_requests.",
        )


def gpu_trigger(config: StackConfig) -> Iterator[Contradiction]:
    """A GPU-utilisation trigger where nobody can tell it per replica: no GPU, one that pods share, or none that is watched."""
    for name, model in config.models.items():
        target = model.scaling.gpu_percent
        if target is None:
            continue
        if problem := _no_utilisation(model, config.device_plugin, config.gpu_metrics):
            remedy = "Leave gpu_percent out and scale on waiting and running requests."
            yield Contradiction(f"models.{name}.scaling.gpu_percent", target, problem, remedy)


def _no_utilisation(model: Model, plugin: DevicePlugin, metrics: GpuMetrics) -> str:
    if not model.gpus.count:
        return "asks for the utilisation of GPUs, and the model has none"
    if plugin.sharing != "none":
        return f"is the whole GPU's, which {plugin.shares} pods share (device_plugin.sharing = {plugin.sharing})"
    if metrics.mode == "none":
        return "is measured by nobody (gpu_metrics.mode = none)"
    return ""


def _reached(target: float, most: int) -> bool:
    """Whether a replica that carries the most it can makes the autoscaler add one."""
    return most > target * (1 + AUTOSCALER_TOLERANCE)


CHECKS = (
    Check(Scaling, ("min_replicas", "max_replicas"), replica_range),
    Check(Scaling, ("min_replicas", "max_replicas", "fallback_replicas"), fallback_range),
    Check(Model, ("scaling",), scale_to_zero),
    Check(Model, (), ingress_signal),
    Check(QueryRequests, ("query",), one_series),
    Check(Model, ("scaling",), any_signal),
    Check(Schedule, ("timezone",), schedule_zone),
    Check(Schedule, ("start", "end"), schedule_times),
    Check(Schedule, (), schedule_hours),
    Check(Model, ("scaling",), schedule_replicas),
    Check(Model, ("server", "scaling"), running_target),
    Check(Model, ("runtime", "server", "scaling"), waiting_target),
    Check(StackConfig, (), gpu_trigger),
)
