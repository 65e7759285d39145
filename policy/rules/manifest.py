"""What a resource asks for, as the engine hands it over before anything is touched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

Json = Mapping[str, Any]
"""One JSON object of a manifest: its shape is Kubernetes', and each reader takes what it knows."""


@final
class Unknown:
    """A value that only the update gives, such as the digest of an image that is yet to be built.

    No rule judges it in a preview. The engine shows the pack every resource again in the update, with the value, before the
    resource is made.
    """


UNKNOWN: Final = Unknown()


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource of a stack: ``type`` as the engine writes it (``kubernetes:apps/v1:Deployment``), ``inputs`` as declared."""

    urn: str
    type: str
    inputs: Json
    ignore_changes: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        return self.type.partition(":")[0]

    @property
    def group(self) -> str:
        """The API group, without its version; ``core`` has none of its own name in Kubernetes, and one here."""
        return self.type.split(":")[1].partition("/")[0]

    @property
    def kind(self) -> str:
        return self.type.rpartition(":")[2]

    @property
    def name(self) -> str | None:
        return text(self.inputs, "metadata", "name")

    @property
    def namespace(self) -> str | Unknown:
        metadata = mapping(self.inputs, "metadata")
        found = metadata.get("namespace", "default")
        return found if isinstance(found, str | Unknown) else "default"

    @property
    def label(self) -> str:
        """How a message calls it."""
        return f"{self.kind} {self.name or self.urn.rpartition('::')[2]}"


@dataclass(frozen=True, kw_only=True)
class Violation:
    """A broken rule: of which resource, and what is wrong with what remedy."""

    urn: str
    message: str


def same_namespace(one: Resource, other: Resource) -> bool:
    """Whether two resources may meet: a namespace that is not known yet counts as the same."""
    first, second = one.namespace, other.namespace
    return isinstance(first, Unknown) or isinstance(second, Unknown) or first == second


def value(data: Json, *path: str) -> Any:
    """What stands at ``path``; None where there is nothing, :data:`UNKNOWN` where it or what holds it is not known yet."""
    found: Any = data
    for name in path:
        if isinstance(found, Unknown):
            return UNKNOWN
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def mapping(data: Json, *path: str) -> Json:
    """The object at ``path``, empty where there is none or it is not known yet."""
    found = value(data, *path)
    return found if isinstance(found, Mapping) else {}


def objects(data: Json, *path: str) -> tuple[Json, ...]:
    """The objects of the list at ``path``."""
    found = value(data, *path)
    items = found if isinstance(found, Sequence) and not isinstance(found, str) else ()
    return tuple(item for item in items if isinstance(item, Mapping))


def text(data: Json, *path: str) -> str | None:
    """The text at ``path``, None where there is none or it is not known yet."""
    found = value(data, *path)
    return found if isinstance(found, str) else None


def number(data: Json, *path: str) -> int | None:
    """The whole number at ``path``, written as a number or as text; None where there is none or it is not known yet."""
    found = value(data, *path)
    if isinstance(found, str):
        return int(found) if found.isascii() and found.isdigit() else None
    return int(found) if isinstance(found, int | float) and not isinstance(found, bool) else None
