"""The Pulumi program: reads the configuration, builds the stack, exports what its users need."""

import pulumi

from infra.config.loader import parse
from infra.config.parsing import ConfigError
from infra.config.readers import from_engine
from infra.config.schema import StackConfig
from infra.stack import LlmStack, LlmStackArgs, providers


def read() -> StackConfig:
    """The stack's configuration; a faulty one ends the program before anything is registered."""
    try:
        return parse(from_engine())
    except ConfigError as error:
        raise pulumi.RunError(str(error)) from error


def main() -> None:
    config = read()
    stack = LlmStack(
        "llm",
        LlmStackArgs(config=config, tag=pulumi.get_stack()),
        pulumi.ResourceOptions(providers=providers(config)),
    )
    pulumi.export("endpoint_url", next(iter(stack.endpoints.values())))
    pulumi.export("endpoints", stack.endpoints)
    pulumi.export("namespace", stack.namespace)
    pulumi.export("image", stack.image)
    pulumi.export("prometheus_url", stack.prometheus_url)


main()
