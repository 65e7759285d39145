"""What the GPUs of a stack cost."""

from collections.abc import Iterator
from dataclasses import dataclass

from infra.accelerator import gpus_needed, gpus_taken
from infra.config.schema import GpuPool, Gpus, StackConfig
from infra.findings import Finding, Severity

# A year's hours by twelve, as the clouds reckon a month.
HOURS_PER_MONTH = 730


@dataclass(frozen=True, kw_only=True)
class GpuCost:
    """Per month, in ``currency``: with the fewest replicas all the time, and with the most."""

    currency: str
    minimum: float
    maximum: float


def gpu_cost(config: StackConfig) -> GpuCost | None:
    """The cost of the models' GPUs; None where a pool that is used has no price.

    An autoscaled pool is paid for by whole GPUs, however little of the last one replicas take. Of a fixed pool only what
    replicas take is counted: the rest is paid for whatever this stack does.
    """
    lowest = highest = 0.0
    for name, pool in config.gpu_pools.items():
        users = [model for model in config.models.values() if model.gpus.pool == name]
        if users and pool.price_per_hour is None:
            return None
        month = (pool.price_per_hour or 0.0) * HOURS_PER_MONTH
        lowest += month * _paid(config, pool, [(model.gpus, model.scaling.min_replicas) for model in users])
        highest += month * _paid(config, pool, [(model.gpus, model.scaling.max_replicas) for model in users])
    return GpuCost(currency=config.cost.currency, minimum=round(lowest, 2), maximum=round(highest, 2))


def _paid(config: StackConfig, pool: GpuPool, replicas: list[tuple[Gpus, int]]) -> float:
    """GPUs, or parts of them, that so many replicas of each kind have to be paid for."""
    plugin = config.device_plugin
    if pool.total == "autoscaled":
        return gpus_needed(replicas, pool, plugin)
    return float(sum(count * gpus_taken(gpus, pool, plugin) for gpus, count in replicas))


def findings(config: StackConfig) -> Iterator[Finding]:
    """A budget that the most replicas would break."""
    cost, budget = gpu_cost(config), config.cost.budget_per_month
    if cost is not None and budget is not None and cost.maximum > budget:
        yield Finding(
            severity=Severity.ERROR,
            key="cost.budget_per_month",
            value=f"{budget:g}",
            problem=f"is less than {cost.maximum:,.2f} {cost.currency}, the GPUs' cost per month at the most replicas",
            remedy="Lower max_replicas, use a cheaper pool or a slice, or raise the budget.",
        )
