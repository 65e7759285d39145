"""What the program makes of sound configurations breaks no rule."""

from typing import Any

import pytest
from rules import autoscalers, charts, credentials, endpoints, gpus, images, limits, pods
from rules.manifest import Resource

from infra.config.parsing import Secret
from tests.infra.conftest import DIGEST, Deploy, deploy, sound, under_mocks

__all__ = ["deploy", "sound", "under_mocks"]

POOL = {"gpu": "L4", "total": 8}
IMAGE = f"registry.acme.dev/llm/vllm@{DIGEST}"
S3 = {
    "source": "s3",
    "bucket": "models",
    "prefix": "chat",
    "access_key": "a",
    "secret_key": Secret("b"),
    "size": "20Gi",
}
CHANGES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "our server on GPUs behind a load balancer": {
        "gpus": {"count": 1, "pool": "l4"},
        "api_keys": {"source": "generated"},
        "endpoint": {"type": "LoadBalancer", "tls": True},
    },
    "vLLM behind an Ingress": {
        "runtime": {"kind": "vllm", "image": IMAGE},
        "gpus": {"count": 1, "pool": "l4"},
        "api_keys": {"source": "given", "keys": Secret("one")},
        "exposure": {"kind": "ingress", "host": "chat.acme.dev", "tls_secret": "chat-tls"},
    },
    "weights from a storage behind a Gateway": {
        "weights": S3,
        "api_keys": {"source": "generated"},
        "exposure": {"kind": "gateway", "host": "chat.acme.dev", "gateway": "public", "namespace": "gateways"},
    },
    "woken by its Ingress": {
        "api_keys": {"source": "generated"},
        "exposure": {"kind": "ingress", "host": "chat.acme.dev", "tls_secret": "chat-tls"},
        "scaling": {"min_replicas": 0, "request_side": {"source": "ingress-nginx", "per_replica": 1}},
    },
    "every signal": {
        "gpus": {"count": 1, "pool": "l4"},
        "scaling": {
            "kv_cache_percent": 80,
            "gpu_percent": 60,
            "schedules": [{"timezone": "Europe/Berlin", "start": "0 8 * * *", "end": "0 18 * * *", "replicas": 2}],
        },
    },
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_sound_configuration_breaks_no_rule(deploy: Deploy, sound: dict[str, Any], changes: dict[str, Any]) -> None:
    sound["models"]["chat"] |= changes
    sound["gpu_pools"] = {"l4": POOL}
    sound["device_plugin"] = {"mode": "install"}
    sound["gpu_metrics"] = {"mode": "install"}
    shown = [
        Resource(urn=registered.name, type=registered.type, inputs=registered.inputs)
        for registered in deploy(sound).resources
    ]
    by_itself = (images.pinned, limits.limited, credentials.sealed, charts.versioned, autoscalers.answerable)
    assert [message for resource in shown for rule in by_itself for message in rule(resource)] == []
    assert list(autoscalers.replicas_left_alone(shown)) == []
    assert list(pods.unprivileged(shown)) == []
    assert list(gpus.bounded(shown, maximum=6)) == []
    assert list(endpoints.guarded(shown)) == []
    assert any(autoscalers.autoscaler_of(resource) for resource in shown)
