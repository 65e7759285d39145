"""What goes from the program to the engine: values, and which of them are secrets."""

from collections.abc import Iterator, Mapping
from typing import Any

from pulumi.runtime.rpc import _special_secret_sig, _special_sig_key


def is_secret(value: object) -> bool:
    return isinstance(value, Mapping) and value.get(_special_sig_key) == _special_secret_sig


def clear(value: object) -> Iterator[str]:
    """Every text, keys too, that goes over the wire without being marked as a secret."""
    if isinstance(value, Mapping) and not is_secret(value):
        for name, inner in value.items():
            yield name
            yield from clear(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from clear(inner)
    elif isinstance(value, str):
        yield value


def revealed(value: Any) -> Any:
    """The value with what its secrets say in their places."""
    if isinstance(value, Mapping):
        if is_secret(value):
            return revealed(value["value"])
        return {name: revealed(inner) for name, inner in value.items()}
    return [revealed(inner) for inner in value] if isinstance(value, list) else value
