"""A model's config.json, wherever it can be read before anything is deployed."""

import json
import os
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from infra.config.parsing import Encrypted
from infra.config.schema import HubWeights, Model, NodeDiskWeights
from infra.findings import Finding, Severity
from infra.project import ROOT

CONFIG_FILE = "config.json"
HUB = "https://huggingface.co"
# A preview waits no longer for the hub.
HUB_SECONDS = 5.0


def read_config(key: str, model: Model, root: Path = ROOT) -> Mapping[str, object] | Finding:
    """The model's config.json; a finding that says why its fit cannot be checked where there is none.

    A file that the configuration names comes first, so that a preview needs no network; then the model's directory, where it
    is on this machine; then the hub.
    """
    path = f"models.{key}"
    if model.config_file is not None:
        return _file(f"{path}.config_file", root / model.config_file)
    if isinstance(model.weights, NodeDiskWeights) and (file := Path(model.weights.path) / CONFIG_FILE).is_file():
        return _file(f"{path}.weights.path", file)  # the node is this machine
    if isinstance(model.weights, HubWeights):
        return _from_hub(f"{path}.weights.repository", model.weights)
    return _unchecked(f"{path}.config_file", "none", "fit not checked: the model's config.json is not at hand")


def _file(key: str, file: Path) -> Mapping[str, object] | Finding:
    try:
        return _parsed(key, str(file), file.read_text())
    except OSError as error:
        return _fault(key, str(file), f"cannot be read: {error.strerror}")


def _parsed(key: str, name: str, text: str) -> Mapping[str, object] | Finding:
    try:
        content = json.loads(text)
    except ValueError as error:
        return _fault(key, name, f"is not JSON: {error}")
    return content if isinstance(content, dict) else _fault(key, name, "is not a model's config.json")


def _from_hub(key: str, weights: HubWeights) -> Mapping[str, object] | Finding:
    hub = weights.endpoint or os.environ.get("HF_ENDPOINT") or HUB
    address = f"{hub.rstrip('/')}/{weights.repository}/resolve/{weights.revision}/{CONFIG_FILE}"
    known = weights.token is not None and not isinstance(weights.token, Encrypted)
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {weights.token}"} if known else {})
    try:
        with urllib.request.urlopen(request, timeout=HUB_SECONDS) as response:
            return _parsed(key, weights.repository, response.read().decode())
    except (OSError, ValueError) as error:
        return _unchecked(key, weights.repository, f"fit not checked: the hub gave no {CONFIG_FILE} ({error})")


def _fault(key: str, name: str, problem: str) -> Finding:
    remedy = "Take config.json from the model's repository as it is."
    return Finding(severity=Severity.ERROR, key=key, value=name, problem=problem, remedy=remedy)


def _unchecked(key: str, value: str, problem: str) -> Finding:
    remedy = "Put a copy of the model's config.json into the project, and name it with config_file."
    return Finding(severity=Severity.WARNING, key=key, value=value, problem=problem, remedy=remedy)
