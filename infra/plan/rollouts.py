"""What an update and the pool's size mean for a model's users."""

from collections.abc import Iterator

from infra.accelerator import gpus_needed
from infra.config.schema import StackConfig
from infra.findings import Finding, Severity, error
from infra.rollout import IN_PLACE, SURGE, free_gpus, rollout_of
from infra.weights import cache_of, on_one_node


def findings(config: StackConfig, key: str) -> Iterator[Finding]:
    """Downtime, GPUs that several models count on, and volumes that cannot be in two places."""
    model, path = config.models[key], f"models.{key}"
    rollout, one_node = rollout_of(config, key), on_one_node(model.weights)
    if rollout == IN_PLACE and model.scaling.min_replicas <= 1:
        yield Finding(
            severity=Severity.WARNING,
            key=f"{path}.placement.rollout",
            value=model.placement.rollout,
            problem="takes the only replica away before the next one is ready: every update is a downtime of a start",
            remedy="Use a cache that several nodes can use at once (ReadWriteMany), or keep two replicas."
            if one_node
            else "Leave one more GPU free in the pool, or keep two replicas.",
        )
    cache = cache_of(model.weights)
    if cache is not None and cache.access_mode == "ReadWriteMany" and cache.storage_class is None:
        yield Finding(
            severity=Severity.WARNING,
            key=f"{path}.weights.cache.storage_class",
            value="the cluster's default",
            problem="must be one that several nodes can use at once, which the default of EKS, GKE and AKS is not",
            remedy="Name one, such as that of EFS, Filestore, Azure Files or NFS.",
        )
    if one_node and (model.scaling.max_replicas > 1 or rollout == SURGE):
        yield Finding(
            severity=Severity.WARNING,
            key=f"{path}.weights.cache.access_mode",
            value="ReadWriteOnce",
            problem="lets one node use the volume: replicas, and new pods of an update that surges, wait for ever on others",
            remedy="Use ReadWriteMany, or a pool of one node.",
        )


def shared_pools(config: StackConfig) -> Iterator[Finding]:
    """Pools whose models would together ask for more than there is."""
    for name in config.gpu_pools:
        users = {key: model for key, model in config.models.items() if model.gpus.pool == name}
        pool, free = config.gpu_pools[name], free_gpus(config, name)
        fewest = [(model.gpus, model.scaling.min_replicas) for model in users.values()]
        needed = gpus_needed(fewest, pool, config.device_plugin)
        if len(users) > 1 and pool.total != "autoscaled" and needed > pool.total:
            yield error(
                f"gpu_pools.{name}.total",
                pool.total,
                f"is less than the {needed} GPUs that {', '.join(users)} need with their fewest replicas: some never start",
                "Lower min_replicas, or raise the total.",
            )
        elif len(users) > 1 and free is not None and free < 0:
            yield Finding(
                severity=Severity.WARNING,
                key=f"gpu_pools.{name}.total",
                value=str(pool.total),
                problem=f"is {float(-free):.3g} GPUs short when {', '.join(users)} all run their most replicas: the last wait "
                "for a GPU",
                remedy="Lower max_replicas, or raise the total.",
            )
