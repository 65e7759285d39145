"""``python3 -m infra.rollback -s prod``: back to the images and the models of the deployment before.

Writes both into the stack's file, where a review sees them, and runs `pulumi up`. What the file no longer has, such as a model
that was removed since, stays away.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping

from infra.config.files import from_files
from infra.config.parsing import PROJECT, ConfigError
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


def _gone(pins: Mapping[str, str], config: Mapping[str, object]) -> tuple[str, ...]:
    """The pins whose keys the configuration no longer has: set alone, they would be half a model."""
    return tuple(key for key in pins if not _has(config, key))


def _has(config: Mapping[str, object], key: str) -> bool:
    found: object = config
    for name in key.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return False
        found = found[name]
    return True


def main() -> int:
    """Returns the exit status of `pulumi up`; 1 where there is nothing to go back to, or no file to write it into."""
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
    try:
        missing = _gone(release["pins"], from_files(stack.rpartition("/")[2]))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    for key in missing:
        print(
            f"{key} = {release['pins'][key]}: is not set, the stack's file has no such key any more.", file=sys.stderr
        )
    release["pins"] = {key: value for key, value in release["pins"].items() if key not in missing}
    print(f"Back to {release['image']}" + "".join(f", {key} {value}" for key, value in release["pins"].items()))
    for command in commands(stack, release):
        subprocess.run(command, check="set" in command)
    return subprocess.run(["pulumi", "up", "-s", stack, *(["--yes"] if given.yes else [])], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
