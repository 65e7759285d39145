"""Secrets reach a server from Secrets only."""

import re
from collections.abc import Iterator

from .manifest import Resource, mapping, text
from .pods import pod_of

# Names under which programs look for a secret: those of the model hub, of vLLM and of S3's clients, and the usual endings.
# `API_KEYS_FILE` and its like name a path, which is none.
SECRET_NAME = re.compile(
    r"(?i)(.*_)?(api_?keys?|secret(_access)?_key|(hf|hub|access|auth|session)_token|password|passwd)"
)


def sealed(resource: Resource) -> Iterator[str]:
    """What is named like a secret stands in a Secret, not in a ConfigMap or a container's environment."""
    if (resource.group, resource.kind) == ("core", "ConfigMap"):
        for name in mapping(resource.inputs, "data"):
            if SECRET_NAME.fullmatch(name):
                yield f"data.{name} is a secret by its name, and everybody may read a ConfigMap. Put it into a Secret."
    pod = pod_of(resource)
    for container in pod.containers if pod else ():
        for variable in container.environment:
            name = text(variable, "name") or ""
            if SECRET_NAME.fullmatch(name) and variable.get("value"):
                yield (
                    f"container {container.name}: the value of {name} stands in the manifest, where everybody who may see "
                    "the pod reads it. Use valueFrom.secretKeyRef."
                )
