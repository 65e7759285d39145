"""``python3 -m infra.plan -s prod``: what a stack will do and cost, without engine, cluster or secrets."""

import argparse
import sys

from infra.config.loader import parse
from infra.config.parsing import ConfigError
from infra.config.readers import from_files
from infra.plan.plan import plan
from infra.plan.report import report


def main() -> int:
    """Prints the plan; 1 where the stack must not be deployed."""
    arguments = argparse.ArgumentParser(prog="python3 -m infra.plan", description="Says what a stack will do and cost.")
    arguments.add_argument("-s", "--stack", required=True, help="the stack, such as prod")
    try:
        config = parse(from_files(arguments.parse_args().stack))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    found = plan(config)
    print(report(config, found))
    return 1 if found.errors else 0


if __name__ == "__main__":
    sys.exit(main())
