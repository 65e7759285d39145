"""A registry's credentials as pods need them to pull from it."""

import base64
import json

import pulumi
import pulumi_kubernetes as k8s

from infra.config.schema import Registry

TYPE = "kubernetes.io/dockerconfigjson"
KEY = ".dockerconfigjson"


def pull_secret(
    resource: str, name: str, namespace: pulumi.Input[str], registry: Registry, opts: pulumi.ResourceOptions
) -> k8s.core.v1.Secret:
    """The Secret ``name``, by which pods of the namespace pull; ``resource`` is its name in the stack."""
    return k8s.core.v1.Secret(
        resource,
        metadata=k8s.meta.v1.ObjectMetaArgs(name=name, namespace=namespace),
        type=TYPE,
        string_data={KEY: pulumi.Output.secret(_docker_config(registry))},
        opts=opts,
    )


def _docker_config(registry: Registry) -> str:
    login = base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
    return json.dumps({"auths": {registry.server: {"auth": login}}})
