"""Contradictions: values that are sound one by one and cannot be had together."""

from collections.abc import Mapping

from infra.config.parsing import Check, Contradiction
from infra.config.schema import (
    Cluster,
    Model,
    NodePortEndpoint,
    PvcWeights,
    Resources,
    Scaling,
    Server,
    StackConfig,
    Timing,
)

# The horizontal autoscaler does nothing while the load is within this of its target (the controller manager's default).
AUTOSCALER_TOLERANCE = 0.1
BINARY_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


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
    most, target = server.max_running_requests, scaling.running_per_replica
    if _reached(target, most):
        return None
    problem = (
        f"is never exceeded by {AUTOSCALER_TOLERANCE:.0%}: a replica runs server.max_running_requests = {most} at most"
    )
    remedy = "Lower it (four fifths of max_running_requests is a good start) or raise max_running_requests."
    return Contradiction("scaling.running_per_replica", target, problem, remedy)


def _waiting_target(server: Server, scaling: Scaling) -> Contradiction | None:
    most, target = server.max_waiting_requests, scaling.waiting_per_replica
    if _reached(target, most):
        return None
    problem = (
        f"is never exceeded by {AUTOSCALER_TOLERANCE:.0%}: more than server.max_waiting_requests = {most} are refused"
    )
    return Contradiction("scaling.waiting_per_replica", target, problem, "Lower it or raise max_waiting_requests.")


def _reached(target: float, most: int) -> bool:
    """Whether a replica that carries the most it can makes the autoscaler add one."""
    return most > target * (1 + AUTOSCALER_TOLERANCE)


def _memory(memory: str, limit: str) -> Contradiction | None:
    if _bytes(memory) <= _bytes(limit):
        return None
    return Contradiction(
        "memory", memory, f"is more than memory_limit = {limit}", "Lower memory or raise memory_limit."
    )


def _bytes(quantity: str) -> int:
    return int(quantity[:-2]) * BINARY_UNITS[quantity[-2:]]


def _existing_claims(cluster: Cluster, models: Mapping[str, Model]) -> Contradiction | None:
    named = [name for name, model in models.items() if isinstance(model.weights, PvcWeights)]
    if not named or not cluster.create_namespace:
        return None
    problem = f"makes the namespace {cluster.namespace}, in which the claim of models.{named[0]} is said to be already"
    remedy = "Set cluster.create_namespace to false: the stack then neither makes nor removes the namespace."
    return Contradiction("cluster.create_namespace", cluster.create_namespace, problem, remedy)


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
    Check(Resources, ("memory", "memory_limit"), _memory),
    Check(Timing, ("pre_stop_seconds", "drain_seconds", "grace_seconds"), _grace),
    Check(Model, ("server", "scaling"), _running_target),
    Check(Model, ("server", "scaling"), _waiting_target),
    Check(StackConfig, ("models",), _any_model),
    Check(StackConfig, ("cluster", "models"), _existing_claims),
    Check(StackConfig, ("models",), _node_ports),
)
