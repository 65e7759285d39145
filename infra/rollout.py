"""How a new version takes the place of the old one: with a pod more, or with one less, for a while."""

from dataclasses import dataclass

from infra.config.schema import DevicePlugin, StackConfig


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Pods beyond the wanted number, and pods that may be missing, during an update."""

    max_surge: int
    max_unavailable: int


SURGE = Rollout(max_surge=1, max_unavailable=0)
IN_PLACE = Rollout(max_surge=0, max_unavailable=1)


def rollout_of(config: StackConfig, key: str) -> Rollout:
    """The rollout of the model ``key``: a pod more where its pool has room for it at the most replicas, else a pod less.

    A surge on a full pool never ends: the new pod waits for a GPU that only the old one could free.
    """
    model = config.models[key]
    match model.placement.rollout:
        case "surge":
            return SURGE
        case "in-place":
            return IN_PLACE
        case "auto":
            pool = model.gpus.pool
            return SURGE if pool is None or free_devices(config, pool) >= model.gpus.count else IN_PLACE


def free_devices(config: StackConfig, pool: str) -> float:
    """Devices of the pool that no model takes, even if all run their most replicas; infinite in an autoscaled pool.

    Slices of a GPU (MIG) are counted as the GPUs that they are cut from would be: a pool is of one kind.
    """
    total = config.gpu_pools[pool].total
    if total == "autoscaled":
        return float("inf")
    users = (model for model in config.models.values() if model.gpus.pool == pool)
    taken = sum(model.scaling.max_replicas * model.gpus.count for model in users)
    return devices(total, config.device_plugin) - taken


def devices(gpus: int, plugin: DevicePlugin) -> int:
    """What the plugin offers for so many whole GPUs."""
    return gpus * (plugin.shares if plugin.sharing != "none" else 1)
