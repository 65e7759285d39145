"""Contradictions of GPUs: what there is, how it is divided, and who asks for it."""

from collections.abc import Iterator, Mapping
from contextlib import suppress

from infra.accelerator import device_words, devices_per_gpu
from infra.config.parsing import Check, Contradiction
from infra.config.schema import (
    Cost,
    DevicePlugin,
    GpuPool,
    Gpus,
    Model,
    Resources,
    RuntimeKind,
    StackConfig,
    VllmRuntime,
)
from infra.gpus import GIB, UnknownGpuError, find_gpu
from infra.quantity import bytes_of
from infra.rollout import free_devices

# Python with torch and transformers keeps three quarters of a GiB on a CPU (CPU_PROCESS_BYTES of the plan, measured); CUDA and
# its libraries come on top. Less than this ends at the import, and more is usual.
GPU_PROCESS_BYTES = GIB


def known_gpu(pool: GpuPool) -> Iterator[Contradiction]:
    """A GPU that is in no table: nobody could say what fits it."""
    try:
        find_gpu(pool.gpu)
    except UnknownGpuError as error:
        yield Contradiction("gpu", pool.gpu, "is no GPU that is known here", str(error))


def sharing(plugin: DevicePlugin) -> Iterator[Contradiction]:
    """GPUs that are shared by one pod, or by several without being shared."""
    if plugin.sharing == "none" and plugin.shares > 1:
        remedy = "Set device_plugin.sharing to time-slicing or mps, or leave shares out."
        yield Contradiction("shares", plugin.shares, "says that pods share a GPU, and sharing = none", remedy)
    if plugin.sharing != "none" and plugin.shares == 1:
        yield Contradiction("shares", 1, f"leaves sharing = {plugin.sharing} without effect", "Use 2 or more.")


def mig_with_mps(plugin: DevicePlugin) -> Iterator[Contradiction]:
    """Slices of a GPU (MIG) together with MPS, which NVIDIA's device plugin refuses."""
    if plugin.sharing == "mps" and plugin.mig_strategy != "none":
        yield Contradiction(
            "sharing",
            plugin.sharing,
            f"does not go with mig_strategy = {plugin.mig_strategy}: the device plugin refuses MPS on slices",
            "Use sharing none or time-slicing, or mig_strategy none.",
        )


def mig_with_time_slicing(plugin: DevicePlugin) -> Iterator[Contradiction]:
    """Time-slicing of slices that have names of their own: only nvidia.com/gpu is shared."""
    if plugin.sharing == "time-slicing" and plugin.mig_strategy == "mixed":
        problem = "shares whole GPUs only, and mig_strategy = mixed offers slices under their own names"
        yield Contradiction("sharing", plugin.sharing, problem, "Use sharing none, or mig_strategy single.")


def operator_only(plugin: DevicePlugin) -> Iterator[Contradiction]:
    """What only the GPU Operator can do, without it, or what it decides itself."""
    if plugin.driver and plugin.mode != "gpu-operator":
        problem = f"is installed by the GPU Operator only, and mode = {plugin.mode}"
        yield Contradiction(
            "driver", plugin.driver, problem, "Use mode gpu-operator, or nodes whose image has the driver."
        )
    if plugin.node_selector and plugin.mode == "gpu-operator":
        yield Contradiction(
            "node_selector",
            dict(plugin.node_selector),
            "is not asked: the GPU Operator finds the nodes with GPUs itself",
            "Leave it out.",
        )


def runtime_classes(plugin: DevicePlugin, pools: Mapping[str, GpuPool]) -> Iterator[Contradiction]:
    """Pools with different runtime classes under one device plugin, whose DaemonSet can have one."""
    classes = {name: pool.runtime_class for name, pool in pools.items()}
    if plugin.mode == "install" and len(set(classes.values())) > 1:
        said = ", ".join(f"{name}: {value}" for name, value in classes.items())
        yield Contradiction(
            "gpu_pools",
            said,
            "have different runtime classes, and one DaemonSet of the device plugin serves them all",
            "Use one runtime_class, or mode gpu-operator.",
        )


def pools(config: StackConfig) -> Iterator[Contradiction]:
    """GPUs of no pool, of a pool that does not exist, or a pool without GPUs."""
    for name, model in config.models.items():
        path, gpus = f"models.{name}.gpus.pool", model.gpus
        known = ", ".join(config.gpu_pools) or "none"
        if gpus.count and gpus.pool is None:
            problem = f"is missing, and gpus.count = {gpus.count}"
            yield Contradiction(path, None, problem, f"Name an entry of gpu_pools (there is {known}).")
        if gpus.pool is not None and gpus.pool not in config.gpu_pools:
            yield Contradiction(path, gpus.pool, "is no entry of gpu_pools", f"Use one of them: {known}.")
        if gpus.pool is not None and not gpus.count:
            problem = "is named, and the model takes none of its GPUs: gpus.count = 0"
            yield Contradiction(path, gpus.pool, problem, "Set gpus.count, or leave gpus.pool out to serve on the CPU.")


def vllm_device(model: Model) -> Iterator[Contradiction]:
    """vLLM without a GPU, which its stock image cannot do."""
    if isinstance(model.runtime, VllmRuntime) and not model.gpus.count:
        remedy = "Set gpus.count and gpus.pool, or serve on the CPU with runtime.kind transformers."
        yield Contradiction("gpus.count", 0, "gives no GPU to runtime vllm, whose stock image needs one", remedy)


def host_memory(runtime: RuntimeKind, gpus: Gpus, resources: Resources) -> Iterator[Contradiction]:
    """Less memory of the node than the processes of a server on GPUs take before they have loaded anything."""
    # One for each GPU; vLLM answers requests in one more.
    processes = gpus.count + isinstance(runtime, VllmRuntime)
    needed = processes * GPU_PROCESS_BYTES
    if gpus.count and bytes_of(resources.memory_limit) < needed:
        said = f"{needed // GIB}Gi"
        problem = f"is less than {said}, what the server takes on the node itself ({processes} x Python with CUDA)"
        yield Contradiction("resources.memory_limit", resources.memory_limit, problem, f"Use {said} at least.")


def shared_memory(memory_limit: str, shared_memory: str | None) -> Iterator[Contradiction]:
    """A /dev/shm that may fill the memory: what is in it counts against the limit."""
    if shared_memory is not None and bytes_of(shared_memory) >= bytes_of(memory_limit):
        problem = f"leaves nothing of memory_limit = {memory_limit}, against which it counts"
        yield Contradiction("shared_memory", shared_memory, problem, "Lower it, or raise memory_limit.")


def joined_shares(config: StackConfig) -> Iterator[Contradiction]:
    """Several shares of GPUs for one replica: two of one GPU are no two GPUs, and the device plugin refuses the pod."""
    sharing = config.device_plugin.sharing
    for name, model in config.models.items():
        if sharing != "none" and model.gpus.count > 1:
            yield Contradiction(
                f"models.{name}.gpus.count",
                model.gpus.count,
                f"asks for several shares, and they may be of one GPU (device_plugin.sharing = {sharing})",
                "Use 1, or device_plugin.sharing none.",
            )


def slices(config: StackConfig) -> Iterator[Contradiction]:
    """A slice (MIG profile) that the GPU does not have, that is not offered, or several that one server cannot join."""
    for name, model in config.models.items():
        profile, path = model.gpus.mig_profile, f"models.{name}.gpus.mig_profile"
        if profile is None:
            continue
        if config.device_plugin.mig_strategy == "none":
            remedy = "Set device_plugin.mig_strategy to mixed or single, or leave mig_profile out."
            yield Contradiction(path, profile, "is offered by nobody: device_plugin.mig_strategy = none", remedy)
        if model.gpus.count > 1:
            problem = f"cannot be joined: a process reaches one slice, and gpus.count = {model.gpus.count}"
            yield Contradiction(path, profile, problem, "Use a bigger profile with gpus.count 1.")
        try:
            pool = config.gpu_pools.get(model.gpus.pool or "")
            if pool is not None and not any(known_gpu(pool)):
                devices_per_gpu(model.gpus, pool, config.device_plugin)
        except UnknownGpuError as error:
            yield Contradiction(path, profile, f"is no profile of pool {model.gpus.pool}", str(error))


def one_profile(config: StackConfig) -> Iterator[Contradiction]:
    """Devices of several sizes under one name: with mig_strategy single the scheduler could not tell them apart."""
    if config.device_plugin.mig_strategy != "single":
        return
    first: dict[str, str | None] = {}
    for name, model in config.models.items():
        pool, profile = model.gpus.pool, model.gpus.mig_profile
        if pool is not None and profile != first.setdefault(pool, profile):
            problem = (
                f"is not the {first[pool] or 'whole GPU'} that another model of pool {pool} takes, and with mig_strategy = "
                "single both are nvidia.com/gpu"
            )
            remedy = "Use one profile for all models of a pool, a pool for each profile, or mig_strategy mixed."
            yield Contradiction(f"models.{name}.gpus.mig_profile", profile, problem, remedy)


def capacity(config: StackConfig) -> Iterator[Contradiction]:
    """More GPUs, slices or shares of them at the most replicas than the pool has: the last pods would wait for ever."""
    for name, model in config.models.items():
        pool = config.gpu_pools.get(model.gpus.pool or "")
        if pool is None or pool.total == "autoscaled":
            continue
        with suppress(UnknownGpuError):  # the checks before tell it
            gpus, plugin = model.gpus, config.device_plugin
            asked, offered = model.scaling.max_replicas * gpus.count, pool.total * devices_per_gpu(gpus, pool, plugin)
            if asked > offered:
                yield Contradiction(
                    f"models.{name}.scaling.max_replicas",
                    model.scaling.max_replicas,
                    f"asks for {asked} {device_words(gpus, plugin)}, and pool {gpus.pool} offers {offered}",
                    f"Use {offered // gpus.count} or less, or raise gpu_pools.{gpus.pool}.total.",
                )


def surge(config: StackConfig) -> Iterator[Contradiction]:
    """An update that starts a new pod first, on a pool without a free GPU: it would never end."""
    for name, model in config.models.items():
        gpus = model.gpus
        if model.placement.rollout != "surge" or gpus.pool not in config.gpu_pools:
            continue
        with suppress(UnknownGpuError):  # the checks before tell it
            free, words = free_devices(config, name), device_words(gpus, config.device_plugin)
            if free is not None and free < gpus.count:
                yield Contradiction(
                    f"models.{name}.placement.rollout",
                    "surge",
                    f"needs {gpus.count} free {words}, and pool {gpus.pool} has {max(0, free)} left at the most replicas",
                    "Use auto or in-place, lower max_replicas, or raise the pool's total.",
                )


def budget(config: StackConfig) -> Iterator[Contradiction]:
    """A budget, and no price to hold it against."""
    cost: Cost = config.cost
    used = {model.gpus.pool for model in config.models.values()}
    unpriced = [name for name, pool in config.gpu_pools.items() if name in used and pool.price_per_hour is None]
    if cost.budget_per_month is not None and unpriced:
        problem = f"cannot be held: gpu_pools.{unpriced[0]}.price_per_hour is missing"
        yield Contradiction("cost.budget_per_month", cost.budget_per_month, problem, "Give the pool's price.")


CHECKS = (
    Check(GpuPool, (), known_gpu),
    Check(DevicePlugin, (), sharing),
    Check(DevicePlugin, (), mig_with_mps),
    Check(DevicePlugin, (), mig_with_time_slicing),
    Check(DevicePlugin, (), operator_only),
    Check(StackConfig, ("device_plugin", "gpu_pools"), runtime_classes),
    Check(StackConfig, (), pools),
    Check(Model, (), vllm_device),
    Check(Model, ("runtime", "gpus", "resources"), host_memory),
    Check(Resources, ("memory_limit", "shared_memory"), shared_memory),
    Check(StackConfig, (), joined_shares),
    Check(StackConfig, (), slices),
    Check(StackConfig, (), one_profile),
    Check(StackConfig, (), capacity),
    Check(StackConfig, (), surge),
    Check(StackConfig, (), budget),
)
