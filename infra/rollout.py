"""How a new version takes the place of the old one: with a pod more, or with one less, for a while."""

import math
from dataclasses import dataclass
from fractions import Fraction

from infra.accelerator import devices_per_gpu, gpus_taken, parts_per_gpu
from infra.config.schema import StackConfig
from infra.weights import on_one_node


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Pods beyond the wanted number, and pods that may be missing, during an update."""

    max_surge: int
    max_unavailable: int


SURGE = Rollout(max_surge=1, max_unavailable=0)
IN_PLACE = Rollout(max_surge=0, max_unavailable=1)


def rollout_of(config: StackConfig, key: str) -> Rollout:
    """The rollout of the model ``key``: a pod more where its pool has room for it at the most replicas, else a pod less.

    A surge on a full pool never ends: the new pod waits for a GPU that only the old one could free. Nor does one with a volume
    of one node, where the new pod comes to another.
    """
    model = config.models[key]
    match model.placement.rollout:
        case "surge":
            return SURGE
        case "in-place":
            return IN_PLACE
        case "auto" if on_one_node(model.weights):
            return IN_PLACE
        case "auto":
            free = free_devices(config, key)
            return SURGE if free is None or free >= model.gpus.count else IN_PLACE


def free_gpus(config: StackConfig, pool: str) -> Fraction | None:
    """GPUs of the pool that no model takes, even if all run their most replicas; None in an autoscaled pool, which grows.

    Below zero where they are not enough. Slices of several profiles on one GPU may leave a little more than their shares say.

    Raises:
        UnknownGpuError: nobody knows the pool's GPU, or it is not cut as a model asks.
    """
    there = config.gpu_pools[pool]
    if there.total == "autoscaled":
        return None
    users = (model for model in config.models.values() if model.gpus.pool == pool)
    plugin = config.device_plugin
    return there.total - sum(
        (model.scaling.max_replicas * gpus_taken(model.gpus, there, plugin) for model in users), Fraction()
    )


def free_devices(config: StackConfig, key: str) -> int | None:
    """Devices such as the model ``key`` asks for that its pool has left; None where it has no pool, or one that grows.

    Raises:
        UnknownGpuError: as :func:`free_gpus`.
    """
    gpus, plugin = config.models[key].gpus, config.device_plugin
    if gpus.pool is None:
        return None
    pool, free = config.gpu_pools[gpus.pool], free_gpus(config, gpus.pool)
    if free is None or pool.total == "autoscaled":
        return None
    alike = (
        model
        for model in config.models.values()
        if (model.gpus.pool, model.gpus.mig_profile) == (gpus.pool, gpus.mig_profile)
    )
    taken = sum(model.scaling.max_replicas * model.gpus.count for model in alike)
    return min(
        math.floor(free * parts_per_gpu(gpus, pool, plugin)),
        pool.total * devices_per_gpu(gpus, pool, plugin) - taken,  # few GPUs may have a device such as this
    )
