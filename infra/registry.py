"""A registry's credentials as Kubernetes keeps them."""

import base64
import json

from infra.config.schema import Registry

PULL_SECRET_TYPE = "kubernetes.io/dockerconfigjson"
PULL_SECRET_KEY = ".dockerconfigjson"


def docker_config(registry: Registry) -> str:
    """The content of a pull Secret."""
    login = base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
    return json.dumps({"auths": {registry.server: {"auth": login}}})
