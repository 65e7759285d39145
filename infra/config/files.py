"""The configuration as the project's YAML files state it: no engine, and secrets unseen."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from infra.config.parsing import PROJECT, ConfigError, Encrypted, fault
from infra.project import ROOT

# How Pulumi writes an encrypted value into a stack's file.
SECURE = "secure"


def from_files(stack: str, root: Path = ROOT) -> dict[str, object]:
    """The configuration as ``Pulumi.<stack>.yaml`` states it, each encrypted value as :class:`Encrypted`.

    Raises:
        ConfigError: where there is no such file, or it is not YAML.
    """
    path = root / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.name.split(".")[1] for file in root.glob("Pulumi.*.yaml"))) or "none"
        raise ConfigError([fault("stack", stack, f"has no file {path.name}", f"Name one that has: {known}.")])
    try:
        document = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        problem = f"is not YAML: {' '.join(str(error).split())}"
        raise ConfigError([fault(path.name, "the file", problem, "Mend the line that is named.")]) from error
    entries = document.get("config") if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        return {}
    return {
        str(name).removeprefix(f"{PROJECT}:"): _opaque(value) for name, value in entries.items() if _ours(str(name))
    }


def _ours(name: str) -> bool:
    return ":" not in name or name.startswith(f"{PROJECT}:")


def _opaque(value: object) -> object:
    if isinstance(value, Mapping):
        if set(value) == {SECURE}:
            return Encrypted()
        return {str(name): _opaque(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_opaque(inner) for inner in value]
    return value
