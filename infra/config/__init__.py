"""The configuration of a stack: one schema, one parser, two readers."""

from typing import cast

from infra.config.checks import CHECKS
from infra.config.parsing import ConfigError, Finding, Parser
from infra.config.readers import from_engine, from_files
from infra.config.schema import StackConfig

__all__ = ["ConfigError", "Finding", "StackConfig", "from_engine", "from_files", "parse"]


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
