"""How long a replica takes to come, and what that asks of the other times of a model."""

from collections.abc import Iterator
from dataclasses import dataclass

from infra.config.schema import StackConfig
from infra.findings import Finding, Severity
from infra.lifecycle import Lifecycle

MEGABYTE = 1e6
# Python, torch, transformers and the first steps: 4 s were measured on an idle CPU, and a pod shares its node …
CPU_WARM_UP_SECONDS = 10
# … and on a GPU its context, libraries and graphs come first. Not measured here: what vLLM's users report for small models.
GPU_WARM_UP_SECONDS = 40


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """Seconds of each part of a replica's coming; weights are None where their size is not known."""

    provisioning: int
    image_pull: int
    weights: float | None
    warm_up: int

    @property
    def pod(self) -> float:
        """What the startup probe has to allow: from the pod's creation on a node that is there."""
        return self.image_pull + (self.weights or 0) + self.warm_up

    @property
    def total(self) -> float:
        return self.provisioning + self.pod


def cold_start(config: StackConfig, key: str, weights_bytes: int | None) -> ColdStart:
    """What a replica of the model ``key`` is expected to need on a node that never ran one."""
    model = config.models[key]
    timing = model.timing
    seconds = None if weights_bytes is None else weights_bytes / MEGABYTE / timing.storage_mb_per_second
    return ColdStart(
        provisioning=provisioning_seconds(config, key),
        image_pull=timing.image_pull_seconds,
        weights=seconds,
        warm_up=GPU_WARM_UP_SECONDS if model.gpus.count else CPU_WARM_UP_SECONDS,
    )


def cold_start_budget(config: StackConfig, key: str) -> int:
    """Seconds that a replica may take to come: a new node, and everything that a pod does until it is ready."""
    return provisioning_seconds(config, key) + config.models[key].timing.startup_seconds


def cooldown_seconds(config: StackConfig, key: str) -> int:
    """Seconds without load before the last replica goes; a model that sleeps sooner than it wakes would never serve."""
    return config.models[key].scaling.cooldown_seconds or cold_start_budget(config, key)


def findings(config: StackConfig, key: str, start: ColdStart) -> Iterator[Finding]:
    """Times of the model ``key`` that contradict how long its replicas take to come and to go."""
    model, path = config.models[key], f"models.{key}"
    scaling, timing = model.scaling, model.timing
    lifecycle = Lifecycle.of(timing, scaling)
    if start.weights is not None and timing.startup_seconds < start.pod:
        yield Finding(
            severity=Severity.ERROR,
            key=f"{path}.timing.startup_seconds",
            value=str(timing.startup_seconds),
            problem=f"is less than the {start.pod:.0f} s that a pod is expected to need: image {start.image_pull} s, weights "
            f"{start.weights:.0f} s at {timing.storage_mb_per_second} MB/s, warm-up {start.warm_up} s",
            remedy=f"Raise it to {1.5 * start.pod:.0f} or so; set storage_mb_per_second and image_pull_seconds as measured.",
        )
    if scaling.min_replicas == 0 and cooldown_seconds(config, key) < start.total:
        yield Finding(
            severity=Severity.ERROR,
            key=f"{path}.scaling.cooldown_seconds",
            value=str(cooldown_seconds(config, key)),
            problem=f"is less than a cold start of {start.total:.0f} s: the model would go to sleep while it wakes",
            remedy="Raise it, or leave it out.",
        )
    if scaling.min_replicas > 0 and scaling.cooldown_seconds is not None:
        yield _warning(
            f"{path}.scaling.cooldown_seconds",
            scaling.cooldown_seconds,
            f"has no effect: it is the time before the last replica goes, and min_replicas = {scaling.min_replicas}",
            "Use down_window_seconds for the others, and leave it out.",
        )
    if scaling.max_replicas > max(1, scaling.min_replicas) and scaling.down_window_seconds < start.total:
        yield _warning(
            f"{path}.scaling.down_window_seconds",
            scaling.down_window_seconds,
            f"is less than a cold start of {start.total:.0f} s: a replica that still loads may be taken for an idle one",
            f"Raise it to {start.total:.0f} or more.",
        )
    if lifecycle.drain < timing.answer_seconds:
        yield _warning(
            f"{path}.timing.drain_seconds",
            lifecycle.drain,
            f"is less than answer_seconds = {timing.answer_seconds}: the longest answers end early when a pod stops",
            "Raise drain_seconds, or lower answer_seconds.",
        )
    pool = config.gpu_pools.get(model.gpus.pool or "")
    if pool is not None and pool.spot_notice_seconds is not None and lifecycle.grace > pool.spot_notice_seconds:
        yield _warning(
            f"{path}.timing.grace_seconds",
            lifecycle.grace,
            f"is more than the {pool.spot_notice_seconds} s between the notice and the end of a spot node: answers are cut off",
            "Lower answer_seconds and pre_stop_seconds, or use nodes that stay.",
        )


def provisioning_seconds(config: StackConfig, key: str) -> int:
    """Seconds until the model ``key`` has a node for one more replica."""
    pool = config.gpu_pools.get(config.models[key].gpus.pool or "")
    return pool.provisioning_seconds if pool is not None and pool.total == "autoscaled" else 0


def _warning(key: str, value: object, problem: str, remedy: str) -> Finding:
    return Finding(severity=Severity.WARNING, key=key, value=str(value), problem=problem, remedy=remedy)
