"""The two places a configuration is read from: the engine, inside a Pulumi program, and the project's YAML files."""

import json
from collections.abc import Mapping
from pathlib import Path

import yaml
from pulumi.runtime.config import CONFIG, get_config_env, get_config_secret_keys_env, is_config_secret

from infra.config.parsing import PROJECT, ConfigError, Encrypted, Finding, Secret

ROOT = Path(__file__).resolve().parents[2]
# How Pulumi writes an encrypted value into a stack's file.
SECURE = "secure"


def from_engine() -> dict[str, object]:
    """The whole configuration of the running program, secrets decrypted, keys of other packages left out.

    The engine says of a whole group that there is a secret in it, not where.
    """
    prefix = f"{PROJECT}:"
    entries = {**get_config_env(), **CONFIG.get()}
    secret = {*get_config_secret_keys_env(), *filter(is_config_secret, entries)}
    return {
        name.removeprefix(prefix): _kept(_decoded(value)) if name in secret else _decoded(value)
        for name, value in entries.items()
        if name.startswith(prefix)
    }


def from_files(stack: str, root: Path = ROOT) -> dict[str, object]:
    """The configuration as ``Pulumi.<stack>.yaml`` states it, each encrypted value as :class:`Encrypted`.

    Raises:
        ConfigError: where there is no such file, or it is not YAML.
    """
    path = root / f"Pulumi.{stack}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.name.split(".")[1] for file in root.glob("Pulumi.*.yaml"))) or "none"
        raise ConfigError([Finding("stack", stack, f"has no file {path.name}", f"Name one that has: {known}.")])
    try:
        document = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        problem = f"is not YAML: {' '.join(str(error).split())}"
        raise ConfigError([Finding(path.name, "the file", problem, "Mend the line that is named.")]) from error
    entries = document.get("config") if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        return {}
    return {
        str(name).removeprefix(f"{PROJECT}:"): _opaque(value) for name, value in entries.items() if _ours(str(name))
    }


def _ours(name: str) -> bool:
    return ":" not in name or name.startswith(f"{PROJECT}:")


def _decoded(value: str) -> object:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _kept(value: object) -> object:
    """The value with each of its texts as one that was kept encrypted."""
    if isinstance(value, Mapping):
        return {name: _kept(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_kept(inner) for inner in value]
    return Secret(value) if isinstance(value, str) else value


def _opaque(value: object) -> object:
    if isinstance(value, Mapping):
        if set(value) == {SECURE}:
            return Encrypted()
        return {str(name): _opaque(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_opaque(inner) for inner in value]
    return value
