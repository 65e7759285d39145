"""The devices of one replica, as the cluster offers them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from infra.config.schema import DevicePlugin, GpuPool, Gpus, Toleration
from infra.gpus import Gpu, MigProfile, find_gpu

GPU_RESOURCE = "nvidia.com/gpu"
# Ends the profile of the one slice of a GPU that has its media engines.
MEDIA_ENGINES = "+me"
# The taint that clouds and operators put on GPU nodes, so that only pods that need one run there.
GPU_TAINT = Toleration(taint=GPU_RESOURCE, effect="NoSchedule")


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """What a pod asks for, and of which nodes."""

    count: int
    resource: str
    node_selector: Mapping[str, str]
    tolerations: tuple[Toleration, ...]
    runtime_class: str | None

    @classmethod
    def of(cls, gpus: Gpus, pools: Mapping[str, GpuPool], plugin: DevicePlugin) -> "Accelerator | None":
        """None where the model is served on the CPU."""
        if not gpus.count or gpus.pool is None:
            return None
        pool = pools[gpus.pool]
        sliced = gpus.mig_profile is not None and plugin.mig_strategy == "mixed"
        return cls(
            count=gpus.count,
            # With the strategy `single` a slice is offered as if it were a whole GPU.
            # The device plugin writes a dot for the plus of `1g.10gb+me`, which no resource's name can have.
            resource=f"nvidia.com/mig-{(gpus.mig_profile or '').replace('+', '.')}" if sliced else GPU_RESOURCE,
            node_selector=pool.node_selector,
            tolerations=(GPU_TAINT, *pool.tolerations),
            runtime_class=pool.runtime_class,
        )


def device(gpus: Gpus, pool: GpuPool) -> Gpu | MigProfile:
    """What a replica's processes see as one GPU: a whole one or a slice, whoever else uses it.

    Raises:
        UnknownGpuError: as :func:`devices_per_gpu`.
    """
    gpu = find_gpu(pool.gpu)
    return gpu if gpus.mig_profile is None else gpu.slice(gpus.mig_profile.removesuffix(MEDIA_ENGINES))


def devices_per_gpu(gpus: Gpus, pool: GpuPool, plugin: DevicePlugin) -> int:
    """As how many devices such as a replica asks for one GPU is offered: its slices, each of them by its shares.

    Raises:
        UnknownGpuError: nobody knows the pool's GPU, or it is not cut so.
    """
    parts = parts_per_gpu(gpus, pool, plugin)
    return shares_of(plugin) if (gpus.mig_profile or "").endswith(MEDIA_ENGINES) else parts


def parts_per_gpu(gpus: Gpus, pool: GpuPool, plugin: DevicePlugin) -> int:
    """How many devices of that size one GPU has: of slices with media engines (+me) it has one, and others beside it.

    Raises:
        UnknownGpuError: as :func:`devices_per_gpu`.
    """
    seen = device(gpus, pool)
    return (seen.per_gpu if isinstance(seen, MigProfile) else 1) * shares_of(plugin)


def gpus_taken(gpus: Gpus, pool: GpuPool, plugin: DevicePlugin) -> Fraction:
    """The GPUs that one replica takes: of one that is shared or cut, the others have the rest.

    Raises:
        UnknownGpuError: as :func:`devices_per_gpu`.
    """
    return Fraction(gpus.count, parts_per_gpu(gpus, pool, plugin))


def gpus_needed(replicas: Iterable[tuple[Gpus, int]], pool: GpuPool, plugin: DevicePlugin) -> int:
    """The GPUs that so many replicas of each kind need; slices of several profiles may need one more, as they divide it.

    Raises:
        UnknownGpuError: as :func:`devices_per_gpu`.
    """
    taken, alike = Fraction(), dict[str | None, Fraction]()
    for gpus, count in replicas:
        taken += count * gpus_taken(gpus, pool, plugin)
        devices = Fraction(count * gpus.count, devices_per_gpu(gpus, pool, plugin))
        alike[gpus.mig_profile] = alike.get(gpus.mig_profile, Fraction()) + devices
    return math.ceil(max((taken, *alike.values())))


def shares_of(plugin: DevicePlugin) -> int:
    """As how many devices the plugin offers a GPU or a slice."""
    return plugin.shares if plugin.sharing != "none" else 1


def device_words(gpus: Gpus, plugin: DevicePlugin) -> str:
    """What the devices of a replica are, in words."""
    whole = "GPUs" if gpus.mig_profile is None else f"slices {gpus.mig_profile}"
    return whole if plugin.sharing == "none" else f"shares of {whole}"
