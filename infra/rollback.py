"""``python3 -m infra.rollback -s prod``: back to the images and the models of the deployment before.

Writes both into the stack's file, where a review sees them, and runs `pulumi up`.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator

from infra.config.parsing import PROJECT
from infra.last import Release

# What a built image has and a prebuilt one has not.
BUILD_KEYS = ("repository", "base_image", "platform", "cache_from")


def commands(stack: str, release: Release) -> Iterator[list[str]]:
    """The commands that put a release into the stack's file; those that remove a key may find none."""
    for key in BUILD_KEYS:
        yield ["pulumi", "config", "rm", "-s", stack, "--path", f"{PROJECT}:image.{key}"]
    values = {"image.mode": "prebuilt", "image.reference": release["image"]}
    for key, value in (values | release["pins"]).items():
        yield ["pulumi", "config", "set", "-s", stack, "--path", f"{PROJECT}:{key}", value]


def main() -> int:
    """Returns the exit status of `pulumi up`; 1 where there is nothing to go back to."""
    arguments = argparse.ArgumentParser(
        prog="python3 -m infra.rollback", description="Goes back to the release before."
    )
    arguments.add_argument("-s", "--stack", required=True, help="the stack, such as prod")
    arguments.add_argument("--yes", action="store_true", help="do not ask before the update")
    given = arguments.parse_args()
    stack: str = given.stack
    told = subprocess.run(
        ["pulumi", "stack", "output", "previous_release", "--json", "-s", stack],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    release: Release | None = json.loads(told.stdout) if told.returncode == 0 else None
    if release is None:
        print(f"Stack {stack} knows no release before this one: there is nothing to go back to.", file=sys.stderr)
        return 1
    print(f"Back to {release['image']}" + "".join(f", {key} {value}" for key, value in release["pins"].items()))
    for command in commands(stack, release):
        subprocess.run(command, check="set" in command)
    return subprocess.run(["pulumi", "up", "-s", stack, *(["--yes"] if given.yes else [])], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
