"""What there is to say about a configuration before it is deployed."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    ERROR = "error"
    """It cannot work: the deployment must not be made."""
    WARNING = "warning"
    """It works, and not as one may expect."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing to know: which key, its value, what is to be said about it, and what to do.

    ``key`` is a path in the configuration.
    """

    severity: Severity
    key: str
    value: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.key} = {self.value}: {self.problem}. {self.remedy}"


def error(key: str, value: object, problem: str, remedy: str) -> Finding:
    return Finding(severity=Severity.ERROR, key=key, value=str(value), problem=problem, remedy=remedy)


def warning(key: str, value: object, problem: str, remedy: str) -> Finding:
    return Finding(severity=Severity.WARNING, key=key, value=str(value), problem=problem, remedy=remedy)
