"""Between the engine and the rules: what it shows becomes resources, and what a rule says becomes a violation."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pulumi_policy import (
    PolicyConfigSchema,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError
from rules.manifest import UNKNOWN, Json, Resource, Violation

ResourceRule = Callable[[Resource], Iterator[str]]
StackRule = Callable[..., Iterator[Violation]]


class Inputs:
    """What the program asked for, by URN.

    A policy of the whole stack is shown outputs, in which the API server's defaults and KEDA's replicas stand beside what the
    program wrote. The rules judge the program; so the inputs are kept as the engine shows each of them.
    """

    def __init__(self) -> None:
        self._seen: dict[str, Resource] = {}

    def keep(self, args: ResourceValidationArgs, report: ReportViolation) -> None:
        self._seen[args.urn] = resource(args)

    def of(self, urns: Iterable[str]) -> list[Resource]:
        return [self._seen[urn] for urn in urns if urn in self._seen]


def resource(args: ResourceValidationArgs) -> Resource:
    """The resource that the engine shows."""
    return Resource(
        urn=args.urn,
        type=args.resource_type,
        inputs=_object(args.props),
        ignore_changes=tuple(args.opts.ignore_changes),
    )


def resource_policy(name: str, rule: ResourceRule) -> ResourceValidationPolicy:
    """A policy that judges each resource by itself, before it is made; its description is the rule's own first line."""

    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        for message in rule(resource(args)):
            report(message, None)

    return ResourceValidationPolicy(name=name, description=_summary(rule), validate=validate)


def stack_policy(
    name: str, rule: StackRule, inputs: Inputs, settings: Mapping[str, Mapping[str, Any]] | None = None
) -> StackValidationPolicy:
    """A policy that judges resources by each other, once all are known; ``settings``: the rule's keywords, as JSON schema."""

    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        for violation in rule(inputs.of(shown.urn for shown in args.resources), **args.get_config()):
            report(violation.message, violation.urn)

    schema = PolicyConfigSchema(properties={key: dict(value) for key, value in settings.items()}) if settings else None
    return StackValidationPolicy(name=name, description=_summary(rule), validate=validate, config_schema=schema)


def recorder(inputs: Inputs) -> ResourceValidationPolicy:
    """Refuses nothing: remembers what is shown for the policies of the whole stack."""
    return ResourceValidationPolicy(
        name="inputs-seen",
        description="Remembers each resource for the policies of the whole stack.",
        validate=inputs.keep,
    )


def _summary(rule: Callable[..., object]) -> str:
    return (rule.__doc__ or rule.__name__).strip().splitlines()[0]


def _object(shown: Mapping[str, Any]) -> Json:
    return {name: _plain(shown, name) for name in shown}


def _plain(holder: Any, key: Any) -> object:
    """The value of ``key``, which the policy SDK refuses to give where it is not known yet."""
    try:
        found = holder[key]
    except UnknownValueError:
        return UNKNOWN
    if isinstance(found, Mapping):
        return _object(found)
    if isinstance(found, Sequence) and not isinstance(found, str):
        return tuple(_plain(found, index) for index in range(len(found)))
    return found
