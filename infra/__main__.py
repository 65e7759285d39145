"""The Pulumi program: reads the configuration, plans, builds the stack, exports what its users need."""

from dataclasses import asdict

import pulumi

from infra.config.engine import from_engine
from infra.config.loader import parse
from infra.config.parsing import ConfigError
from infra.config.schema import StackConfig
from infra.last import LastDeployment, release
from infra.plan.plan import Plan, plan
from infra.plan.report import cost_words, fit_words, scaling_words
from infra.stack import LlmStack, LlmStackArgs, providers


def read() -> StackConfig:
    """The stack's configuration; a faulty one ends the program before anything is registered."""
    try:
        return parse(from_engine())
    except ConfigError as error:
        raise pulumi.RunError(str(error)) from error


def checked(config: StackConfig) -> Plan:
    """The plan: its warnings are shown, its errors end the program, and so do examples where a preview becomes an update."""
    found = plan(config)
    refused = found.errors if pulumi.runtime.is_dry_run() else (*found.errors, *found.examples)
    for warning in found.warnings:
        pulumi.log.warn(str(warning))
    if refused:
        heading = f"The stack cannot be deployed for {len(refused)} reason{'' if len(refused) == 1 else 's'}:"
        raise pulumi.RunError("\n".join([heading, *(f"  {finding}" for finding in refused)]))
    return found


def main() -> None:
    config = read()
    found = checked(config)
    stack = LlmStack(
        "llm",
        LlmStackArgs(config=config, tag=pulumi.get_stack()),
        pulumi.ResourceOptions(providers=providers(config)),
    )
    pulumi.export("endpoint_url", next(iter(stack.endpoints.values())))
    pulumi.export("endpoints", stack.endpoints)
    pulumi.export("api_keys", stack.api_keys)
    pulumi.export("namespace", stack.namespace)
    pulumi.export("image", stack.image)
    pulumi.export("prometheus_url", stack.prometheus_url)
    last, now = LastDeployment(), release(config, stack.image, stack.served)
    pulumi.export("gpu_cost_per_month", last.output("gpu_cost").apply(lambda before: cost_words(found.cost, before)))
    pulumi.export("gpu_cost", None if found.cost is None else asdict(found.cost))
    pulumi.export("fits", {key: fit_words(found.models[key].fit) for key in config.models})
    pulumi.export("release", now)
    pulumi.export("previous_release", last.previous(now))
    pulumi.export("scaling", {key: scaling_words(model) for key, model in config.models.items()})


main()
