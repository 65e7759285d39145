"""How long a replica takes to come, and what that asks of the other times of a model."""

from infra.config.schema import StackConfig


def provisioning_seconds(config: StackConfig, key: str) -> int:
    """Seconds until the model ``key`` has a node for one more replica."""
    pool = config.models[key].gpus.pool
    if pool is None or config.gpu_pools[pool].total != "autoscaled":
        return 0
    return config.gpu_pools[pool].provisioning_seconds


def cold_start_budget(config: StackConfig, key: str) -> int:
    """Seconds that a replica may take to come: a new node, and everything that a pod does until it is ready."""
    return provisioning_seconds(config, key) + config.models[key].timing.startup_seconds


def cooldown_seconds(config: StackConfig, key: str) -> int:
    """Seconds without load before the last replica goes; a model that sleeps sooner than it wakes would never serve."""
    return config.models[key].scaling.cooldown_seconds or cold_start_budget(config, key)
