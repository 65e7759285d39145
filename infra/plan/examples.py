"""Values of the shipped stack files that only their user can know."""

import dataclasses
import re
from collections.abc import Iterator, Mapping

from infra.findings import Finding, Severity

# Names that nobody can own (RFC 2606): they preview, and lead nowhere.
RESERVED = re.compile(r"(^|[./@])example\.(org|com|net)\b|\.example\b")


def findings(group: object, path: str = "") -> Iterator[Finding]:
    """A warning for every value, label and annotation that names a reserved domain."""
    if isinstance(group, str):
        if RESERVED.search(group):
            yield Finding(
                severity=Severity.WARNING,
                key=path,
                value=repr(group),
                problem="is an example: it previews, and no update will start with it",
                remedy="Put in your own.",
            )
    elif isinstance(group, Mapping):
        for name, inner in group.items():
            yield from findings(name, _under(path, name))  # names of labels and annotations are someone's, too
            yield from findings(inner, _under(path, name))
    elif isinstance(group, tuple):
        for index, inner in enumerate(group):
            yield from findings(inner, f"{path}[{index}]")
    elif dataclasses.is_dataclass(group):
        for member in dataclasses.fields(group):
            yield from findings(getattr(group, member.name), _under(path, member.name))


def _under(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
