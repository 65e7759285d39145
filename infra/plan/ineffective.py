"""Keys that somebody has set, and that do nothing where they are."""

from collections.abc import Iterator

from infra.config.schema import Server, StackConfig, TransformersRuntime, VllmRuntime
from infra.findings import Finding, warning


def findings(config: StackConfig, key: str) -> Iterator[Finding]:
    """Limits that a model's runtime does not keep, switches of what it does not have, and hours that ask for what is there."""
    model = config.models[key]
    most = model.server.max_waiting_requests
    if isinstance(model.runtime, VllmRuntime) and most != Server.max_waiting_requests:
        yield warning(
            f"models.{key}.server.max_waiting_requests",
            most,
            "has no effect: vLLM's queue has no end, and nobody is refused",
            "Leave it out, and limit requests where they enter the cluster.",
        )
    if isinstance(model.runtime, TransformersRuntime) and model.runtime.enforce_eager and model.gpus.count != 1:
        yield warning(
            f"models.{key}.runtime.enforce_eager",
            True,
            f"has no effect: CUDA graphs are of models on one GPU, and this one has {model.gpus.count or 'none'}",
            "Leave it out.",
        )
    lowest = model.scaling.min_replicas
    for index, schedule in enumerate(model.scaling.schedules):
        if schedule.replicas <= lowest:
            yield warning(
                f"models.{key}.scaling.schedules[{index}].replicas",
                schedule.replicas,
                f"has no effect: min_replicas = {lowest} are always there",
                "Raise it above min_replicas, lower min_replicas, or leave the schedule out.",
            )
