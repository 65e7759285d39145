"""Declares the resources of a file beside it: a list of {type, name, properties} with, where wanted,
timeout (of create and update), delete_timeout, after, provider and import. In properties, {"secret": value} is a secret and
{"output": [name, attribute]} what another resource will have come to.
"""

import json
from pathlib import Path
from typing import Any

import pulumi

declared: dict[str, pulumi.Resource] = {}


def resolved(value: Any) -> Any:
    """The value with its secrets and outputs."""
    match value:
        case {"secret": hidden}:
            return pulumi.Output.secret(hidden)
        case {"output": [name, attribute]}:
            return getattr(declared[name], attribute)
        case dict():
            return {key: resolved(item) for key, item in value.items()}
        case list():
            return [resolved(item) for item in value]
    return value


for one in json.loads(Path("resources.json").read_text()):
    if one["type"].startswith("pulumi:providers:"):
        declared[one["name"]] = pulumi.ProviderResource(one["type"].rpartition(":")[2], one["name"], one["properties"])
        continue
    declared[one["name"]] = pulumi.CustomResource(
        one["type"],
        one["name"],
        {
            key: pulumi.Output.secret(value) if key == "stringData" else resolved(value)
            for key, value in one["properties"].items()
        },
        pulumi.ResourceOptions(
            depends_on=[declared[name] for name in one.get("after", [])],
            custom_timeouts=pulumi.CustomTimeouts(
                create=one.get("timeout"), update=one.get("timeout"), delete=one.get("delete_timeout")
            ),
            import_=one.get("import"),
            provider=declared.get(one.get("provider", "")),  # type: ignore[arg-type]
        ),
    )
