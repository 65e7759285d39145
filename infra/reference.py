"""``python3 -m infra.reference``: writes docs/configuration.md and docs/checks.md from the schema and the checks themselves."""

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import getdoc
from typing import Any, Literal

from infra.config.checks import CHECKS
from infra.config.parsing import NAMES, RULES, Rules, tagged
from infra.config.schema import StackConfig
from infra.plan import cost, examples, exposure, ineffective, nodes, rollouts, shares, timing, volumes
from infra.plan.fit import check as fit
from infra.project import ROOT

DOCS = ROOT / "docs"
NOTE = "<!-- Made by `python3 -m infra.reference`; change the code, not this file. -->"
# What the plan finds besides: each of these says it in its docstring.
PLAN = (
    fit,
    timing.findings,
    cost.findings,
    rollouts.findings,
    rollouts.shared_pools,
    shares.findings,
    volumes.findings,
    nodes.findings,
    exposure.findings,
    ineffective.findings,
    examples.findings,
)


def configuration() -> str:
    """Every key of a stack's configuration: its type, its default, what it means."""
    lines = [
        "# Configuration",
        "",
        NOTE,
        "",
        "The keys of `Pulumi.<stack>.yaml`, below `llm-stack:`. A secret is set with "
        "`pulumi config set --secret --path 'llm-stack:<key>'`. `python3 -m infra.config -s <stack>` names every fault at once, "
        "`python3 -m infra.plan -s <stack>` says what the stack will do and cost.",
    ]
    seen: set[type] = set()
    for path, cls in _groups("", StackConfig, seen):
        lines += ["", f"## {path or 'Top level'}", "", getdoc(cls) or "", ""]
        lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
        hints = typing.get_type_hints(cls)
        lines += [_row(member, hints[member.name]) for member in fields(cls)]
    return "\n".join(lines) + "\n"


def checks() -> str:
    """Every contradiction that is refused, and what the plan looks for."""
    lines = [
        "# Checks",
        "",
        NOTE,
        "",
        "## What is refused before anything is registered",
        "",
        "Besides unknown keys, wrong types, values out of range and placeholders:",
        "",
        "| looks at | refuses |",
        "|---|---|",
    ]
    for check in CHECKS:
        where = ", ".join(f"`{key}`" for key in check.keys) or "all of it"
        lines.append(f"| {check.group.__name__}: {where} | {_summary(check.find)} |")
    lines += ["", "## What the plan finds", "", "| part | what it says |", "|---|---|"]
    lines += [f"| {_part(part)} | {_summary(part)} |" for part in PLAN]
    return "\n".join(lines) + "\n"


def _groups(path: str, cls: type, seen: set[type]) -> Iterator[tuple[str, type]]:
    """The group and those within, each class once."""
    if cls in seen:
        return
    seen.add(cls)
    yield path, cls
    for name, hint in typing.get_type_hints(cls).items():
        if name == "TAG":
            continue
        place = f"{path}.{name}" if path else name
        rules = next(member.metadata[RULES] for member in fields(cls) if member.name == name)
        for inner, label in _classes(hint, rules):
            yield from _groups(f"{place}{label}", inner, seen)


def _classes(hint: Any, rules: Rules) -> Iterator[tuple[type, str]]:
    """The schema classes that a key's value may be, each with what its heading adds to the key."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        yield hint, f" ({rules.tag}: {tagged(hint)})" if rules.tag else ""
    elif origin in (typing.Union, types.UnionType):
        for member in arguments:
            yield from _classes(member, rules)
    elif origin is Mapping:
        yield from ((cls, f".<name>{label}") for cls, label in _classes(arguments[1], rules))
    elif origin is tuple:
        yield from ((cls, f"[]{label}") for cls, label in _classes(arguments[0], rules))


def _row(member: "Field[Any]", hint: Any) -> str:
    rules: Rules = member.metadata[RULES]
    return f"| `{member.name}` | {_type(hint, rules)} | {_default(member)} | {rules.doc}{_limits(rules)} |"


def _type(hint: Any, rules: Rules) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        members = [member for member in arguments if member is not types.NoneType]
        if rules.tag:
            return f"a group; `{rules.tag}` is " + ", ".join(f"`{tagged(member)}`" for member in members)
        return " or ".join(_type(member, rules) for member in members)
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if origin is Mapping:
        return f"a mapping of {_type(arguments[1], rules)}"
    if origin is tuple:
        return f"a list of {_type(arguments[0], rules)}"
    if is_dataclass(hint):
        return "a group"
    return f"{NAMES[hint]}{', secret' if rules.secret else ''}"


def _default(member: "Field[Any]") -> str:
    if member.default is MISSING:
        return "**required**" if member.default_factory is MISSING else "empty"
    if member.default is None or member.default == ():
        return ""
    if is_dataclass(member.default):
        return f"`{tagged(type(member.default))}`" if "TAG" in type(member.default).__dict__ else "as below"
    if isinstance(member.default, bool):
        return f"`{str(member.default).lower()}`"
    if isinstance(member.default, tuple):
        return ", ".join(f"`{value}`" for value in member.default)
    return f"`{member.default:g}`" if isinstance(member.default, float) else f"`{member.default}`"


def _limits(rules: Rules) -> str:
    limits = (("from", rules.minimum), ("to", rules.maximum))
    said = " ".join(f"{word} {limit:g}" for word, limit in limits if limit is not None)
    return f" ({said})" if said else ""


def _summary(documented: object) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((getdoc(documented) or "").partition("\n\n")[0].split())


def _part(part: Any) -> str:
    return str(part.__name__ if isinstance(part, types.ModuleType) else part.__module__).removeprefix("infra.plan.")


def main() -> None:
    for name, text in (("configuration.md", configuration()), ("checks.md", checks())):
        (DOCS / name).write_text(text)
        print(f"wrote docs/{name}")


if __name__ == "__main__":
    main()
