"""``python3 -m infra.config -s dev``: checks a stack's file without engine, cluster or secrets."""

import argparse
import sys

from infra.config.loader import parse
from infra.config.parsing import ConfigError
from infra.config.readers import from_files


def main() -> int:
    """Prints what is wrong with the stack's configuration; 1 where something is."""
    arguments = argparse.ArgumentParser(
        prog="python3 -m infra.config", description="Checks the configuration of a stack."
    )
    arguments.add_argument("-s", "--stack", required=True, help="the stack, such as local")
    stack: str = arguments.parse_args().stack
    try:
        config = parse(from_files(stack))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The configuration of stack {stack} is sound: {', '.join(config.models)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
