"""What the GPUs of a stack cost."""

from collections.abc import Iterator
from dataclasses import dataclass

from infra.accelerator import gpus_taken
from infra.config.schema import StackConfig
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

    Only what replicas take is counted: a GPU of a fixed pool that no replica uses is paid for whatever this stack does.
    """
    lowest = highest = 0.0
    for model in config.models.values():
        if model.gpus.pool is None:
            continue
        pool = config.gpu_pools[model.gpus.pool]
        if pool.price_per_hour is None:
            return None
        taken = float(gpus_taken(model.gpus, pool, config.device_plugin))
        replica = pool.price_per_hour * HOURS_PER_MONTH * taken
        lowest += replica * model.scaling.min_replicas
        highest += replica * model.scaling.max_replicas
    return GpuCost(currency=config.cost.currency, minimum=round(lowest, 2), maximum=round(highest, 2))


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
