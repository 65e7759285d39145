"""Contradictions: values that are sound one by one and cannot be had together."""

from collections.abc import Mapping

from infra.config.parsing import Check, Contradiction
from infra.config.schema import Model, NodePortEndpoint, Scaling, Server, StackConfig, Timing


def _replica_range(low: int, high: int) -> Contradiction | None:
    if low <= high:
        return None
    return Contradiction(
        "min_replicas", low, f"is more than max_replicas = {high}", "Lower min_replicas or raise max_replicas."
    )


def _fallback_range(low: int, high: int, fallback: int | None) -> Contradiction | None:
    if fallback is None or low > high or low <= fallback <= high:
        return None
    remedy = f"Use a number from {low} to {high}, or leave it out for {low}."
    return Contradiction(
        "fallback_replicas", fallback, f"is outside min_replicas = {low} to max_replicas = {high}", remedy
    )


def _grace(pre_stop: int, drain: int, grace: int | None) -> Contradiction | None:
    if grace is None or grace > pre_stop + drain:
        return None
    sum_of = f"pre_stop_seconds + drain_seconds = {pre_stop} + {drain}"
    problem = f"is not more than {sum_of}: the pod would be killed while it still answers"
    return Contradiction("grace_seconds", grace, problem, "Raise it, lower drain_seconds, or leave it out.")


def _running_target(server: Server, scaling: Scaling) -> Contradiction | None:
    if scaling.running_per_replica <= server.max_running_requests:
        return None
    problem = (
        f"is more than server.max_running_requests = {server.max_running_requests}: no replica ever runs that many"
    )
    remedy = "Lower it (four fifths of max_running_requests is a good start) or raise max_running_requests."
    return Contradiction("scaling.running_per_replica", scaling.running_per_replica, problem, remedy)


def _waiting_target(server: Server, scaling: Scaling) -> Contradiction | None:
    if scaling.waiting_per_replica <= server.max_waiting_requests:
        return None
    bound = f"server.max_waiting_requests = {server.max_waiting_requests}"
    problem = f"is more than {bound}: requests are refused before it is reached"
    return Contradiction(
        "scaling.waiting_per_replica", scaling.waiting_per_replica, problem, "Lower it or raise max_waiting_requests."
    )


def _any_model(models: Mapping[str, Model]) -> Contradiction | None:
    if models:
        return None
    return Contradiction(
        "models", dict(models), "names no model", "Add one: models.<name>.weights and models.<name>.resources."
    )


def _node_ports(models: Mapping[str, Model]) -> Contradiction | None:
    taken: dict[int, str] = {}
    for name, model in models.items():
        if not isinstance(model.endpoint, NodePortEndpoint):
            continue
        port = model.endpoint.port
        if port in taken:
            problem = f"is also the port of models.{taken[port]}.endpoint"
            return Contradiction(f"models.{name}.endpoint.port", port, problem, "Give each model a port of its own.")
        taken[port] = name
    return None


CHECKS = (
    Check(Scaling, ("min_replicas", "max_replicas"), _replica_range),
    Check(Scaling, ("min_replicas", "max_replicas", "fallback_replicas"), _fallback_range),
    Check(Timing, ("pre_stop_seconds", "drain_seconds", "grace_seconds"), _grace),
    Check(Model, ("server", "scaling"), _running_target),
    Check(Model, ("server", "scaling"), _waiting_target),
    Check(StackConfig, ("models",), _any_model),
    Check(StackConfig, ("models",), _node_ports),
)
