"""Declares the resources of a file beside it: a list of {type, name, properties} with, where wanted,
timeout (of create and update), delete_timeout, after, provider and import.
"""

import json
from pathlib import Path

import pulumi

declared: dict[str, pulumi.Resource] = {}
for one in json.loads(Path("resources.json").read_text()):
    if one["type"].startswith("pulumi:providers:"):
        declared[one["name"]] = pulumi.ProviderResource(one["type"].rpartition(":")[2], one["name"], one["properties"])
        continue
    declared[one["name"]] = pulumi.CustomResource(
        one["type"],
        one["name"],
        {
            key: pulumi.Output.secret(value) if key == "stringData" else value
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
