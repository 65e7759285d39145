"""KEDA's ScaledObjects: what they scale, and whether their questions can be answered."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import promql_parser as promql

from .manifest import UNKNOWN, Json, Resource, Violation, mapping, number, objects, same_namespace, text, value

# KEDA's own defaults (apis/keda/v1alpha1, scaledobject_types.go).
DEFAULT_MAX_REPLICAS = 100
DEFAULT_TARGET_KIND = "Deployment"
REPLICAS = "spec.replicas"
# PromQL's functions that answer where nothing is, its function that makes one number of anything, its operators that only
# drop series of their left side, and its aggregations that give as many series as they find.
ABSENT = ("absent", "absent_over_time")
SCALAR = "scalar"
FILTERS = ("and", "unless")
MANY = ("topk", "bottomk", "limitk", "limit_ratio", "count_values")


@dataclass(frozen=True, kw_only=True)
class Autoscaler:
    """A ScaledObject."""

    resource: Resource

    @property
    def max_replicas(self) -> int:
        found = number(self.resource.inputs, "spec", "maxReplicaCount")
        return DEFAULT_MAX_REPLICAS if found is None else found

    @property
    def triggers(self) -> tuple[Json, ...]:
        return objects(self.resource.inputs, "spec", "triggers")

    def scales(self, target: Resource) -> bool:
        reference = mapping(self.resource.inputs, "spec", "scaleTargetRef")
        kind = text(reference, "kind") or DEFAULT_TARGET_KIND
        return (
            target.kind == kind
            and target.name is not None
            and target.name == reference.get("name")
            and same_namespace(self.resource, target)
        )


def autoscaler_of(resource: Resource) -> Autoscaler | None:
    """The ScaledObject that a resource is, None where it is something else."""
    return Autoscaler(resource=resource) if (resource.group, resource.kind) == ("keda.sh", "ScaledObject") else None


def replicas_left_alone(resources: Iterable[Resource]) -> Iterator[Violation]:
    """Replicas of what KEDA scales are KEDA's: an update would undo what the load asked for."""
    known = tuple(resources)
    for scaler in filter(None, map(autoscaler_of, known)):
        for target in known:
            owned = value(target.inputs, "spec", "replicas") is not None and REPLICAS not in target.ignore_changes
            if owned and scaler.scales(target):
                yield Violation(
                    urn=target.urn,
                    message=f"{REPLICAS} is set, and {scaler.resource.label} scales it: each update would undo what the load "
                    "asked for. Leave it out.",
                )


def answerable(resource: Resource) -> Iterator[str]:
    """An autoscaler's questions have one answer each, and no answer is never taken for no load."""
    scaler = autoscaler_of(resource)
    if scaler is None:
        return
    asking = {index: trigger for index, trigger in enumerate(scaler.triggers) if trigger.get("type") == "prometheus"}
    if asking and value(resource.inputs, "spec", "fallback", "replicas") is None:
        yield "spec.fallback is not set: without Prometheus nothing holds the replicas. Give it failureThreshold and replicas."
    for index, trigger in asking.items():
        for fault in _faults(trigger):
            yield f"trigger {text(trigger, 'name') or index}: {fault}"


def _faults(trigger: Json) -> Iterator[str]:
    if trigger.get("metricType") is None:
        yield "metricType is not set, and KEDA's default divides by the replicas. Say AverageValue or Value."
    if value(trigger, "metadata", "ignoreNullValues") not in ("false", UNKNOWN):
        yield 'ignoreNullValues is not "false": an answer without series would count as no load.'
    query = value(trigger, "metadata", "query")
    if isinstance(query, str):
        yield from _ambiguous(query)
    elif query is None:
        yield "it has no query."


def _ambiguous(query: str) -> Iterator[str]:
    try:
        expression = promql.parse(query)
    except ValueError as error:
        yield f"the query is not PromQL: {error}"
        return
    if _invents(expression):
        yield "the query answers with a constant where no series is found, which reads as no load. Ask for the series alone."
    elif not _single(expression):
        yield "the query can give more than one series, and KEDA refuses those. Aggregate it without by: sum(…)."


def _single(expression: promql.Expr) -> bool:
    """Whether an expression gives at most one series whatever is there."""
    match expression:
        case promql.AggregateExpr():
            return str(expression.op) not in MANY and (not _labels(expression) or _single(expression.expr))
        case promql.BinaryExpr():
            return _single(expression.lhs) and (str(expression.op) in FILTERS or _single(expression.rhs))
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return _single(expression.expr)
        case promql.Call():
            if expression.func.name == "histogram_quantile":
                return _by_bucket(expression.args[-1])
            return expression.func.name in (*ABSENT, SCALAR) or all(_single(argument) for argument in expression.args)
        case promql.NumberLiteral() | promql.StringLiteral():
            return True
    return False


def _labels(expression: promql.AggregateExpr) -> list[str]:
    """What an aggregation keeps apart: the labels of `by`, or all those that `without` leaves."""
    if expression.modifier is None:
        return []
    return list(expression.modifier.labels) if expression.modifier.type == promql.AggModifierType.By else ["*"]


def _by_bucket(expression: promql.Expr) -> bool:
    """Whether a histogram's buckets were summed over everything but their bounds."""
    while isinstance(expression, promql.ParenExpr):
        expression = expression.expr
    return isinstance(expression, promql.AggregateExpr) and _labels(expression) in ([], ["le"])


def _invents(expression: promql.Expr) -> bool:
    """Whether there is an answer without any series: a constant, or `or` with one."""
    match expression:
        case promql.BinaryExpr():
            left, right = _invents(expression.lhs), _invents(expression.rhs)
            return left or right if str(expression.op) == "or" else left and (right or str(expression.op) == "unless")
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr() | promql.AggregateExpr():
            return _invents(expression.expr)
        case promql.Call():
            return expression.func.name in ABSENT or all(_invents(argument) for argument in expression.args)
        case promql.NumberLiteral() | promql.StringLiteral():
            return True
    return False
