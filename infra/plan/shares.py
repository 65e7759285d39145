"""GPUs that several pods share: what each of them takes of the memory, which nobody divides for them.

Time-slicing gives every pod the whole memory, and the first takes it; MPS refuses what a pod asks for beyond its
part. Either way a server must be told its part.
"""

from collections.abc import Iterator

from infra.accelerator import device, shares_of
from infra.config.schema import StackConfig, TransformersRuntime
from infra.config.schema.server import LEAST_MEMORY_SHARE
from infra.findings import Finding, error
from infra.plan.fit import keys
from infra.plan.fit.check import Fit
from infra.plan.fit.memory import MIB, largest_share


def findings(config: StackConfig, key: str, fit: Fit | None) -> Iterator[Finding]:
    """A server that takes more of a shared GPU's memory than its part."""
    model, plugin = config.models[key], config.device_plugin
    runtime, pods = model.runtime, shares_of(plugin)
    if model.gpus.pool is None or pods == 1:
        return
    gpu = device(model.gpus, config.gpu_pools[model.gpus.pool])
    most, shared = largest_share(gpu.memory_bytes, pods), f"{pods} pods share the memory of one {gpu.name}"
    if isinstance(runtime, TransformersRuntime):
        if runtime.kv_cache_mib is None:
            room = fit.cache_room if fit is not None else None
            value = f"Set it to {room // MIB}." if room else "Set it to what the weights leave of a pod's part."
            problem = f"is missing: {shared}, and the server takes all that is free"
            yield error(f"models.{key}.{keys.KV_CACHE}", "none", problem, value)
    elif runtime.gpu_memory_utilization > most:
        possible = most >= LEAST_MEMORY_SHARE
        yield error(
            f"models.{key}.{keys.MEMORY_SHARE}",
            f"{runtime.gpu_memory_utilization:g}",
            f"is more than a pod's part without the driver's context, {most:g}: {shared}",
            f"Use {most:g}." if possible else f"Lower {keys.SHARES}: vLLM is told {LEAST_MEMORY_SHARE:g} at least.",
        )
