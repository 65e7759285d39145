"""A sound stack as the engine shows it to the rules, to be changed by the test."""

from typing import Any

from rules.manifest import Resource

DIGEST = f"sha256:{'ab' * 32}"
NAMESPACE = "llm"


def deployment(**spec: Any) -> Resource:
    """A model's Deployment without a fault; ``spec`` changes its pod's."""
    container = {
        "name": "server",
        "image": f"registry.example.org/server@{DIGEST}",
        "env": [{"name": "API_KEYS_FILE", "value": "/keys/keys"}],
        "resources": {
            "requests": {"cpu": "2", "memory": "8Gi", "nvidia.com/gpu": "1"},
            "limits": {"memory": "16Gi", "nvidia.com/gpu": "1"},
        },
    }
    pod = {"securityContext": {"runAsNonRoot": True, "runAsUser": 1000}, "containers": [container], **spec}
    labels = {"app.kubernetes.io/instance": "chat", "app.kubernetes.io/part-of": "llm-stack"}
    return kubernetes("apps/v1:Deployment", spec={"template": {"metadata": {"labels": labels}, "spec": pod}})


def with_container(**changes: Any) -> Resource:
    """The same, with ``changes`` to its container."""
    spec = deployment().inputs["spec"]["template"]["spec"]
    return deployment(containers=[{**spec["containers"][0], **changes}])


def scaled_object(**spec: Any) -> Resource:
    """The Deployment's autoscaler without a fault."""
    sound = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat"},
        "maxReplicaCount": 3.0,
        "fallback": {"failureThreshold": 3.0, "replicas": 1.0},
        "triggers": [trigger("sum(vllm:num_requests_waiting)")],
    }
    return kubernetes("keda.sh/v1alpha1:ScaledObject", spec={**sound, **spec})


def trigger(query: str, **changes: Any) -> dict[str, Any]:
    metadata = {
        "serverAddress": "http://prometheus:9090",
        "query": query,
        "threshold": "5",
        "ignoreNullValues": "false",
    }
    return {"type": "prometheus", "name": "waiting", "metricType": "AverageValue", "metadata": metadata, **changes}


def service(kind: str = "ClusterIP") -> Resource:
    selector = {"app.kubernetes.io/instance": "chat"}
    return kubernetes("core/v1:Service", spec={"type": kind, "selector": selector, "ports": [{"port": 8000.0}]})


def kubernetes(token: str, name: str = "chat", namespace: str = NAMESPACE, **inputs: Any) -> Resource:
    """A resource of the Kubernetes provider, by the token of its kind."""
    return Resource(
        urn=f"urn:pulumi:test::llm-stack::kubernetes:{token}::{name}",
        type=f"kubernetes:{token}",
        inputs={"metadata": {"name": name, "namespace": namespace}, **inputs},
    )
