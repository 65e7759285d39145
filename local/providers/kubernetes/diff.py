"""What changed between two sets of inputs, property by property, and whether the object can take it in place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from local.providers.values import Json


class Change(Enum):
    ADD = "add"
    DELETE = "delete"
    UPDATE = "update"


@dataclass(frozen=True)
class Difference:
    """One property; ``path`` as the engine writes it (`spec.containers[0].image`)."""

    path: str
    change: Change
    replaces: bool


def differences(old: Json, new: Json, fixed: Sequence[str]) -> list[Difference]:
    """Every difference of the leaves; those below a path of ``fixed`` replace the object."""
    return [Difference(path, change, any(_within(path, one) for one in fixed)) for path, change in _walk("", old, new)]


def _within(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith((f"{prefix}.", f"{prefix}["))


def _walk(path: str, old: Any, new: Any) -> Iterator[tuple[str, Change]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            name = f'["{key}"]' if "." in key or "/" in key else f".{key}" if path else key
            yield from _entry(f"{path}{name}", old, new, key in old, key in new, key)
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            yield from _entry(f"{path}[{index}]", old, new, index < len(old), index < len(new), index)
    elif old != new:
        yield path, Change.UPDATE


def _entry(path: str, old: Any, new: Any, in_old: bool, in_new: bool, key: str | int) -> Iterator[tuple[str, Change]]:
    if in_old and in_new:
        yield from _walk(path, old[key], new[key])
    else:
        yield path, Change.DELETE if in_old else Change.ADD
