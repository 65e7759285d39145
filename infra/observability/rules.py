"""The Prometheus operator's PrometheusRule, as far as the stack needs it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from infra.wire import JsonObject

# page: users are hurt now, or nothing would tell when they are. ticket: somebody looks in working hours.
Severity = Literal["page", "ticket"]


@dataclass(frozen=True, kw_only=True)
class RecordingRule:
    """A query whose answer is kept as the series ``record``."""

    record: str
    expression: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def to_spec(self) -> JsonObject:
        return {"record": self.record, "expr": self.expression, "labels": dict(self.labels)}


@dataclass(frozen=True, kw_only=True)
class AlertRule:
    """Tells somebody while ``expression`` has had an answer for ``lasting`` seconds.

    ``summary`` says what is wrong in words that need no knowledge of the stack; ``description`` gives the value and may
    use Prometheus' templates. The page of the runbook has the alert's name.
    """

    name: str
    expression: str
    severity: Severity
    lasting: int
    summary: str
    description: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def to_spec(self, runbooks: str) -> JsonObject:
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": f"{self.lasting}s",
            "labels": {**self.labels, "severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{runbooks.rstrip('/')}/{self.name}.md",
            },
        }


@dataclass(frozen=True, kw_only=True)
class RuleGroup:
    """Rules that are evaluated one after the other, every ``interval`` seconds (None: as often as Prometheus does)."""

    name: str
    rules: tuple[RecordingRule | AlertRule, ...]
    interval: int | None = None

    @property
    def alerts(self) -> tuple[AlertRule, ...]:
        return tuple(rule for rule in self.rules if isinstance(rule, AlertRule))

    def to_spec(self, runbooks: str) -> JsonObject:
        rules = [rule.to_spec(runbooks) if isinstance(rule, AlertRule) else rule.to_spec() for rule in self.rules]
        return {"name": self.name, "rules": rules, **({"interval": f"{self.interval}s"} if self.interval else {})}


def rules_spec(groups: tuple[RuleGroup, ...], runbooks: str) -> JsonObject:
    """The spec of a PrometheusRule; ``runbooks`` is the address under which the pages of docs/runbooks are read."""
    return {"groups": [group.to_spec(runbooks) for group in groups]}
