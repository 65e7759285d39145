"""The plan in words."""

from infra.config.schema import Model, StackConfig
from infra.plan.cost import GpuCost
from infra.plan.fit import Fit, Verdict
from infra.plan.plan import ModelPlan, Plan
from infra.plan.timing import ColdStart

GIB = 2**30


def cost_words(cost: GpuCost | None) -> str:
    """The GPUs' cost per month at the fewest and the most replicas."""
    if cost is None:
        return "not known: a pool has no price_per_hour"
    return f"{cost.minimum:,.2f} to {cost.maximum:,.2f} {cost.currency} per month"


def fit_words(fit: Fit | None) -> str:
    """Whether a model fits, in one line."""
    if fit is None or fit.memory is None or fit.verdict is Verdict.NOT_CHECKED:
        return str(Verdict.NOT_CHECKED)
    memory = fit.memory
    return (
        f"{fit.verdict}: weights {memory.weights / GIB:.1f} GiB of {memory.budget / GIB:.1f}, {fit.max_requests} requests of "
        f"{fit.context_tokens} tokens at once"
    )


def scaling_words(model: Model) -> str:
    """What a model is scaled on, in one line."""
    scaling = model.scaling
    targets = {
        "waiting requests": scaling.waiting_per_replica,
        "running requests": scaling.running_per_replica,
        "% of the KV cache": scaling.kv_cache_percent,
        "% of the GPU": scaling.gpu_percent,
        "requests from outside": scaling.request_side.per_replica if scaling.request_side else None,
    }
    said = [f"{target:g} {what}" for what, target in targets.items() if target is not None]
    said += [f"{schedule.replicas} replicas by schedule" for schedule in scaling.schedules]
    return f"{scaling.min_replicas} to {scaling.max_replicas} replicas; each carries {', '.join(said)}"


def start_words(start: ColdStart) -> str:
    """How long a replica takes to come, in one line."""
    parts = [f"node {start.provisioning} s"] if start.provisioning else []
    parts.append(f"image {start.image_pull} s")
    parts.append("weights not known" if start.weights is None else f"weights {start.weights:.0f} s")
    parts.append(f"warm-up {start.warm_up} s")
    return f"{start.total:.0f} s from nothing ({', '.join(parts)})"


def report(config: StackConfig, plan: Plan) -> str:
    """The whole plan, for a terminal."""
    lines = [f"GPUs     {cost_words(plan.cost)}"]
    for key, model in config.models.items():
        lines += ["", key, *_model(model, plan.models[key])]
    for heading, findings in (("Warnings", plan.warnings), ("Errors", plan.errors)):
        if findings:
            lines += ["", heading, *(f"  {finding}" for finding in findings)]
    return "\n".join(lines)


def _model(model: Model, plan: ModelPlan) -> list[str]:
    return [
        f"  fit      {fit_words(plan.fit)}",
        f"  scaling  {scaling_words(model)}",
        f"  start    {start_words(plan.start)}",
    ]
