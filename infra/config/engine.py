"""The configuration of the running program, as the engine hands it over."""

import json
from collections.abc import Mapping

from pulumi.runtime.config import CONFIG, get_config_env, get_config_secret_keys_env, is_config_secret

from infra.config.parsing import PROJECT, Secret


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
