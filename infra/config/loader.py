"""From plain data to a configuration that holds."""

from typing import cast

from infra.config.checks import CHECKS
from infra.config.parsing import ConfigError, Parser
from infra.config.schema import StackConfig


def parse(mapping: dict[str, object]) -> StackConfig:
    """The typed configuration.

    Raises:
        ConfigError: with every finding, each naming key, value and remedy.
    """
    parser = Parser(CHECKS)
    config = parser.build(StackConfig, "", mapping)
    if parser.findings:
        raise ConfigError(parser.findings)
    return cast(StackConfig, config)
