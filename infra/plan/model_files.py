"""A model's config.json, wherever it can be read before anything is deployed."""

import json
from collections.abc import Mapping
from pathlib import Path

from infra.config.schema import HubWeights, Model
from infra.findings import Finding, Severity

ROOT = Path(__file__).resolve().parents[2]
CONFIG_FILE = "config.json"
# A preview waits no longer for the hub.
HUB_SECONDS = 5.0


def read_config(key: str, model: Model, root: Path = ROOT) -> Mapping[str, object] | Finding:
    """The model's config.json; a finding that says why its fit cannot be checked where there is none.

    A file that the configuration names comes first, so that a preview needs no network.
    """
    path = f"models.{key}"
    if model.config_file is not None:
        return _file(f"{path}.config_file", root / model.config_file)
    if isinstance(model.weights, HubWeights):
        return _from_hub(f"{path}.weights.repository", model.weights)
    return _unchecked(f"{path}.config_file", "none", "fit not checked: the model's config.json is not at hand")


def _file(key: str, file: Path) -> Mapping[str, object] | Finding:
    try:
        content = json.loads(file.read_text())
    except OSError as error:
        return _fault(key, file, f"cannot be read: {error.strerror}")
    except ValueError as error:
        return _fault(key, file, f"is not JSON: {error}")
    return content if isinstance(content, dict) else _fault(key, file, "is not a model's config.json")


def _from_hub(key: str, weights: HubWeights) -> Mapping[str, object] | Finding:
    from huggingface_hub import hf_hub_download  # half a second, for those who need it

    try:
        file = hf_hub_download(
            weights.repository,
            CONFIG_FILE,
            revision=weights.revision,
            token=weights.token,
            endpoint=weights.endpoint,
            etag_timeout=HUB_SECONDS,
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        return _unchecked(key, weights.repository, f"fit not checked: the hub gave no {CONFIG_FILE} ({reason})")
    return _file(key, Path(file))


def _fault(key: str, file: Path, problem: str) -> Finding:
    remedy = "Take config.json from the model's repository as it is."
    return Finding(severity=Severity.ERROR, key=key, value=str(file), problem=problem, remedy=remedy)


def _unchecked(key: str, value: str, problem: str) -> Finding:
    remedy = "Put a copy of the model's config.json into the project, and name it with config_file."
    return Finding(severity=Severity.WARNING, key=key, value=value, problem=problem, remedy=remedy)
