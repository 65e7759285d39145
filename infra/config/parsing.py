"""From plain data to frozen dataclasses, with every fault reported at once.

The dataclasses of :mod:`infra.config.schema` are the only description of the configuration. This module reads their
field types and the rules given to :func:`key`; it knows none of the keys itself.
"""

import difflib
import math
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Literal

from infra.findings import Finding, Severity

PROJECT = "llm-stack"
RULES = "rules"
# A value in angle brackets stands for one that only the user knows.
PLACEHOLDER = re.compile(r"<[^<>]*>")
NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


class Secret(str):
    """A text that was kept encrypted; messages never show it."""

    def __repr__(self) -> str:
        return "[secret]"


class Encrypted(Secret):
    """A secret that was not decrypted: nothing about its content is known."""

    def __new__(cls) -> "Encrypted":
        return super().__new__(cls, "[secret]")


class ConfigError(Exception):
    """The configuration cannot be used; carries every finding."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = tuple(findings)
        count = len(findings)
        heading = f"The configuration has {count} fault{'' if count == 1 else 's'}; nothing was touched:"
        super().__init__("\n".join([heading, *(f"  {finding}" for finding in findings)]))


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What a key's value must satisfy beyond its type."""

    doc: str
    minimum: float | None = None
    maximum: float | None = None
    pattern: re.Pattern[str] | None = None  # of a text; of each text of a list; of the names of a mapping
    looks: str = ""  # the pattern in words
    inner: re.Pattern[str] | None = None  # of the texts in a mapping
    inner_looks: str = ""
    tag: str = ""  # of a union of dataclasses: the key whose value says which one
    secret: bool = False  # only accepted when it was kept encrypted


def key(
    doc: str,
    *,
    default: object = MISSING,
    default_factory: Callable[[], object] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    pattern: str | None = None,
    looks: str = "",
    inner: str | None = None,
    inner_looks: str = "",
    tag: str = "",
    secret: bool = False,
) -> typing.Any:  # as dataclasses.field: the annotation of the attribute says the type
    """A field of a schema class; without ``default`` or ``default_factory`` the user must give the key."""
    # ASCII: what receives these texts takes no other digits and letters.
    compiled, compiled_inner = (re.compile(given, re.ASCII) if given else None for given in (pattern, inner))
    rules = Rules(
        doc=doc,
        minimum=minimum,
        maximum=maximum,
        pattern=compiled,
        looks=looks,
        inner=compiled_inner,
        inner_looks=inner_looks,
        tag=tag,
        secret=secret,
    )
    if default_factory is not None:
        return field(default_factory=default_factory, metadata={RULES: rules})
    return field(default=default, metadata={RULES: rules})


def shown(value: object) -> str:
    """A value as a message shows it: short, and never a secret."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def fault(path: str, value: object, problem: str, remedy: str) -> Finding:
    """A finding that ends the program."""
    return Finding(severity=Severity.ERROR, key=path, value=shown(value), problem=problem, remedy=remedy)


@dataclass(frozen=True)
class Contradiction:
    """What a :class:`Check` found: the key (of the group it looked at), its value, the problem and the remedy."""

    key: str
    value: object
    problem: str
    remedy: str


@dataclass(frozen=True)
class Check:
    """A rule between several keys of one group; it runs when each of them is sound by itself.

    ``find`` is called with the values of ``keys``, or, where none are named, with the whole group; its docstring says what it
    refuses, and is what the table of all checks shows.
    """

    group: type
    keys: tuple[str, ...]
    find: Callable[..., Iterator[Contradiction]]


# What a faulty value becomes: no value of any schema type.
UNSOUND = object()


class Parser:
    """Turns plain data into instances of schema classes and collects what is wrong with it."""

    def __init__(self, checks: Sequence[Check] = ()) -> None:
        self.findings: list[Finding] = []
        self._checks = checks

    def report(self, path: str, value: object, problem: str, remedy: str) -> object:
        """Records a finding; returns what stands for the faulty value."""
        self.findings.append(fault(path, value, problem, remedy))
        return UNSOUND

    def build(self, cls: type, path: str, data: object) -> object:
        """An instance of the schema class ``cls``; UNSOUND, with findings, where that cannot be."""
        if not isinstance(data, dict):
            return self.report(
                path, data, f"is {_kind(data)}, must be a group of keys", f"Write its keys under {path}: {_names(cls)}."
            )
        hints = typing.get_type_hints(cls)
        known = {member.name: member for member in fields(cls)}
        for name in data:
            if name not in known:
                self._unknown(_under(path, name), data[name], name, list(known))
        values: dict[str, object] = {}
        for name, member in known.items():
            rules: Rules = member.metadata[RULES]
            optional = member.default is not MISSING or member.default_factory is not MISSING
            # The engine gives an empty group for one that the stack's file leaves out.
            if name in data and not (optional and data[name] == {}):
                values[name] = self.value(hints[name], rules, _under(path, name), data[name])
            elif member.default is not MISSING:
                values[name] = member.default
            elif member.default_factory is not MISSING:
                values[name] = member.default_factory()
            else:
                values[name] = self.report(_under(path, name), None, "is missing", f"Set it: {rules.doc}.")
        built = UNSOUND if UNSOUND in values.values() else cls(**values)
        self._cross(cls, path, values, built)
        return built

    def value(self, hint: object, rules: Rules, path: str, data: object) -> object:
        """One value of the annotated type ``hint``, or UNSOUND."""
        origin = typing.get_origin(hint)
        if isinstance(data, Secret) and not isinstance(data, Encrypted) and not rules.secret:
            data = str(data)  # it only stands beside a secret, and may be shown
        if origin in (typing.Union, types.UnionType):
            return self._union(typing.get_args(hint), rules, path, data)
        if origin is Literal:
            choices = typing.get_args(hint)
            if data in choices:
                return data
            return self.report(path, data, "is not one of the choices", f"Use {' or '.join(map(str, choices))}.")
        if origin is Mapping:
            return self._mapping(typing.get_args(hint)[1], rules, path, data)
        if origin is tuple:
            return self._list(typing.get_args(hint)[0], rules, path, data)
        if isinstance(hint, type) and is_dataclass(hint):
            return self.build(hint, path, data)
        return self._scalar(typing.cast(type, hint), rules, path, data)

    def _cross(self, cls: type, path: str, values: dict[str, object], built: object) -> None:
        for check in self._checks:
            if check.group is not cls:
                continue
            seen = [values[name] for name in check.keys] or [built]
            # Of what is encrypted nothing can be said.
            blind = UNSOUND in seen or any(isinstance(value, Encrypted) for value in seen)
            for found in () if blind else check.find(*seen):
                self.report(_under(path, found.key), found.value, found.problem, found.remedy)

    def _union(self, members: tuple[object, ...], rules: Rules, path: str, data: object) -> object:
        if data is None and types.NoneType in members:
            return None
        members = tuple(member for member in members if member is not types.NoneType)
        if rules.tag:
            classes = [member for member in members if isinstance(member, type)]
            return self._tagged({tagged(cls): cls for cls in classes}, rules.tag, path, data)
        words = [word for member in members if typing.get_origin(member) is Literal for word in typing.get_args(member)]
        if data in words and len(members) > 1:
            return data
        member = members[0]
        if words and len(members) > 1 and isinstance(data, str):
            return self.report(
                path,
                data,
                "is not one of the choices",
                f"Use {NAMES[typing.cast(type, member)]} or {' or '.join(words)}.",
            )
        return self.value(member, rules, path, data)

    def _tagged(self, classes: dict[str, type], tag: str, path: str, data: object) -> object:
        choices = " or ".join(classes)
        if not isinstance(data, dict) or tag not in data:
            return self.report(path, data, f"does not say its {tag}", f"Set {path}.{tag} to {choices}.")
        chosen = data[tag]
        if not isinstance(chosen, str) or chosen not in classes:
            return self.report(f"{path}.{tag}", chosen, "is not one of the choices", f"Use {choices}.")
        keys = {name: value for name, value in data.items() if name != tag}
        for name in list(keys):
            owners = [other for other, cls in classes.items() if name in _keys(cls)]
            if owners and chosen not in owners:
                value, problem = keys.pop(name), f"is no key of {tag} {chosen}"
                self.report(
                    _under(path, name), value, problem, f"Remove it, or set {path}.{tag} to {' or '.join(owners)}."
                )
        return self.build(classes[chosen], path, keys)

    def _mapping(self, member: object, rules: Rules, path: str, data: object) -> object:
        if not isinstance(data, dict):
            return self.report(
                path, data, f"is {_kind(data)}, must be a mapping", f"Write one key per entry: {rules.doc}."
            )
        inner = Rules(doc=rules.doc, pattern=rules.inner, looks=rules.inner_looks)
        values: dict[str, object] = {}
        for name, value in data.items():
            if rules.pattern is not None and not rules.pattern.fullmatch(str(name)):
                self.report(_under(path, name), name, f"is not {rules.looks}", "Rename the entry.")
            values[str(name)] = self.value(member, inner, _under(path, name), value)
        return UNSOUND if UNSOUND in values.values() else values

    def _list(self, member: object, rules: Rules, path: str, data: object) -> object:
        if not isinstance(data, (list, tuple)):
            return self.report(path, data, f"is {_kind(data)}, must be a list", f"Give a list: {rules.doc}.")
        inner = Rules(doc=rules.doc, pattern=rules.pattern, looks=rules.looks)
        values = tuple(self.value(member, inner, f"{path}[{index}]", value) for index, value in enumerate(data))
        return UNSOUND if UNSOUND in values else values

    def _scalar(self, kind: type, rules: Rules, path: str, data: object) -> object:
        if kind is float and type(data) is int:
            data = float(data)
        if not isinstance(data, kind) or (kind is not bool and isinstance(data, bool)):
            remedy = "Write it in quotes:" if kind is str and _lacks_quotes(data, rules) else "Give"
            seen = Encrypted() if rules.secret else data
            return self.report(path, seen, f"is {_kind(data)}, must be {NAMES[kind]}", f"{remedy} {rules.doc}.")
        if rules.secret and not isinstance(data, Secret):
            remedy = f"Run: pulumi config set --secret --path '{PROJECT}:{path}'"
            return self.report(path, Encrypted(), "is a secret that stands in clear in the stack's file", f"{remedy}.")
        if isinstance(data, Encrypted):
            return data
        if isinstance(data, str):
            return self._text(data, rules, path)
        if isinstance(data, (int, float)):
            return self._range(data, rules, path)
        return data

    def _text(self, data: str, rules: Rules, path: str) -> object:
        if PLACEHOLDER.search(data):
            return self.report(path, data, "is still a placeholder", f"Put in {rules.doc}.")
        if not (rules.pattern.fullmatch(data) if rules.pattern else data):
            return self.report(path, data, f"is not {rules.looks or 'a value'}", f"Give {rules.doc}.")
        return data

    def _range(self, data: float, rules: Rules, path: str) -> object:
        if not math.isfinite(data):
            return self.report(path, data, "is no number to reckon with", f"Give {rules.doc}.")
        if rules.minimum is not None and data < rules.minimum:
            return self.report(
                path, data, f"is less than {rules.minimum:g}", f"Use {rules.minimum:g} or more: {rules.doc}."
            )
        if rules.maximum is not None and data > rules.maximum:
            return self.report(
                path, data, f"is more than {rules.maximum:g}", f"Use {rules.maximum:g} or less: {rules.doc}."
            )
        return data

    def _unknown(self, path: str, value: object, name: object, known: list[str]) -> None:
        near = difflib.get_close_matches(str(name), known, n=1)
        remedy = f"Did you mean {near[0]}?" if near else f"Remove it, or use one of: {', '.join(known)}."
        self.report(path, value, "is not a key that exists here", remedy)


def tagged(cls: type) -> str:
    """The value of the tag that chooses ``cls`` in a union of schema classes."""
    return str(cls.__dict__["TAG"])


def _lacks_quotes(value: object, rules: Rules) -> bool:
    """Whether YAML read a number, true or false where the same characters in quotes would do."""
    if not isinstance(value, bool | int | float):
        return False
    return rules.pattern is None or bool(rules.pattern.fullmatch(str(value).lower()))


def _under(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _names(cls: type) -> str:
    return ", ".join(_keys(cls))


def _keys(cls: type) -> list[str]:
    return [member.name for member in fields(cls)]


def _kind(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a group of keys"
    if isinstance(value, list):
        return "a list"
    return NAMES.get(type(value), "text" if isinstance(value, str) else type(value).__name__)
