"""Custom resources against the schemas of their own definitions, and the signals against promtool."""

import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import yaml

from infra.config.readers import from_files

Mapping = dict[str, Any]


def strict(schema: Any) -> Any:
    """The schema with unknown keys refused, which the API server would only prune."""
    if isinstance(schema, list):
        return [strict(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(inner) for name, inner in schema.items()}
    if "properties" in closed and "x-kubernetes-preserve-unknown-fields" not in closed:
        closed.setdefault("additionalProperties", False)
    return closed


@pytest.mark.engine
@pytest.mark.parametrize("stack", ["local", "sound"])
@pytest.mark.parametrize(
    ("kind", "file"),
    [("ScaledObject", "keda.sh_scaledobjects"), ("ServiceMonitor", "monitoring.coreos.com_servicemonitors")],
)
def test_specs_are_valid(
    deploy: Callable[[Mapping], Any],
    sound: Mapping,
    crd_schema: Callable[[str], Mapping],
    kind: str,
    file: str,
    stack: str,
) -> None:
    resource = deploy(from_files("local") if stack == "local" else sound).only(kind)
    # The mock engine hands every number over as a float.
    spec = yaml.safe_load(re.sub(r"(?<=\d)\.0\b", "", yaml.safe_dump(resource["spec"])))
    jsonschema.validate(spec, strict(crd_schema(file)["properties"]["spec"]))
