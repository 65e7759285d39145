"""The Kubernetes stand-in does what the official plugin was seen to do, on the real API server, scheduler and kubelet."""

import json
import time
from typing import Any

import pytest
from pulumi.automation.errors import CommandError

from local.cluster.command import Kubectl
from local.cluster.layout import PAUSE_IMAGE
from local.providers.kubernetes.ready import SERVICE_PATIENCE_SECONDS
from tests.e2e.conftest import NAMESPACE, Project, Resources

pytestmark = pytest.mark.e2e

PROMETHEUS_IMAGE = "quay.io/prometheus/prometheus:v3.14.0"


def resource(
    kind: str, name: str, *, api: str = "v1", options: dict[str, Any] | None = None, **properties: Any
) -> dict[str, Any]:
    """A namespaced object called as its resource."""
    package = api if "/" in api else f"core/{api}"
    metadata = {"name": name, "namespace": NAMESPACE, **properties.pop("metadata", {})}
    return {
        "type": f"kubernetes:{package}:{kind}",
        "name": name,
        "properties": {"apiVersion": api, "kind": kind, "metadata": metadata, **properties},
        "after": ["ns"],
        **(options or {}),
    }


NAMESPACE_RESOURCE = {
    "type": "kubernetes:core/v1:Namespace",
    "name": "ns",
    "properties": {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
}

AWAY = json.dumps(
    {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "away",
        "clusters": [{"name": "away", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "away", "user": {}}],
        "contexts": [{"name": "away", "context": {"cluster": "away", "user": "away"}}],
    }
)


def provider_of(kubeconfig: str) -> dict[str, Any]:
    """The provider `p`, whose cluster stays the same one whatever its kubeconfig says."""
    properties = {"kubeconfig": kubeconfig, "clusterIdentifier": "t-stand-in"}
    return {"type": "pulumi:providers:kubernetes", "name": "p", "properties": properties}


def app(
    *,
    image: str = PAUSE_IMAGE,
    data: str = "a",
    environment: str = "a",
    label: str = "app",
    timeout: str = "60s",
    skip_await: bool = False,
) -> Resources:
    """A namespace with a ConfigMap, a Deployment and a Service."""
    container = {
        "name": "c",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "A", "value": environment}],
        "resources": {"requests": {"cpu": "10m", "memory": "8Mi"}, "limits": {"cpu": "1000m"}},
    }
    template = {
        "metadata": {"labels": {"app": label}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    }
    return [
        NAMESPACE_RESOURCE,
        resource("ConfigMap", "c", metadata={"labels": {"of": "us"}}, data={"key": data}),
        resource(
            "Deployment",
            "d",
            api="apps/v1",
            options={"timeout": timeout},
            metadata={"annotations": {"pulumi.com/skipAwait": "true"}} if skip_await else {},
            spec={"selector": {"matchLabels": {"app": label}}, "template": template},
        ),
        resource("Service", "s", spec={"selector": {"app": label}, "ports": [{"port": 80, "targetPort": 8080}]}),
    ]


def job(name: str, argument: str) -> Resources:
    """A Job that calls Prometheus with one argument."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "j", "image": PROMETHEUS_IMAGE, "args": [argument]}]}
    spec = {"backoffLimit": 0, "template": {"spec": pod}}
    return [NAMESPACE_RESOURCE, resource("Job", name, api="batch/v1", options={"timeout": "60s"}, spec=spec)]


def definition() -> dict[str, Any]:
    """A kind of its own, `Thing`."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    names = {"kind": "Thing", "plural": "things", "singular": "thing"}
    return {
        "type": "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition",
        "name": "crd",
        "properties": {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "things.stand-in.test"},
            "spec": {"group": "stand-in.test", "scope": "Namespaced", "names": names, "versions": [version]},
        },
    }


def thing(name: str, annotations: dict[str, str]) -> dict[str, Any]:
    return resource(
        "Thing",
        name,
        api="stand-in.test/v1",
        options={"after": ["ns", "crd"], "timeout": "3s"},
        metadata={"annotations": annotations},
        spec={"snake_case": "stays"},
    )


def test_life_of_an_application(project: Project, kubectl: Kubectl) -> None:
    assert project.preview(app()) == {"create": 5}
    assert project.up(app()) == {"create": 5}
    assert "Waiting for app ReplicaSet to be available (0/1 Pods available)" in project.messages
    assert "Deployment initialization complete" in project.messages
    assert "Service initialization complete" in project.messages
    assert [project.state_of(name)["id"] for name in ("ns", "d")] == [NAMESPACE, f"{NAMESPACE}/d"]
    assert project.up(app()) == {}

    # ConfigMap data: replaced, deleted first; the environment of a Deployment: updated in place.
    changed = app(data="b", environment="b")
    project.preview(changed)
    assert {"data.key", "spec.template.spec.containers[0].env[0].value"} <= project.differences
    assert project.up(changed) == {"replace": 1, "update": 1}
    assert kubectl.jsonpath("configmap/c", "{.data.key}", NAMESPACE) == "b"
    assert project.steps("c") == ["delete-replaced", "replace", "create-replacement"]
    assert project.steps("d") == ["update"]

    # Replicas that the program does not set are somebody else's.
    kubectl("scale", "deployment/d", "--replicas=2", "-n", NAMESPACE)
    assert project.preview(changed) == {}
    assert project.refresh() == {}
    assert project.up(changed) == {}
    assert kubectl.jsonpath("deployment/d", "{.spec.replicas}", NAMESPACE) == "2"

    # A label of ours changed by hand: the preview does not know, refresh sees it, the next update restores it.
    kubectl("label", "configmap/c", "of=them", "--overwrite", "-n", NAMESPACE)
    assert project.preview(changed) == {}
    assert project.refresh() == {"update": 1}
    assert project.up(changed) == {"update": 1}
    assert kubectl.jsonpath("configmap/c", "{.metadata.labels.of}", NAMESPACE) == "us"

    # Deleted by hand: refresh drops it, the next update makes it again.
    kubectl("delete", "service/s", "-n", NAMESPACE)
    assert project.refresh() == {"delete": 1}
    assert project.up(changed) == {"create": 1}

    # A selector cannot change in place.
    other = app(data="b", environment="b", label="other")
    assert project.preview(other) == {"replace": 1, "update": 1}
    assert project.up(other) == {"replace": 1, "update": 1}

    project.destroy()
    assert not kubectl.succeeds("get", "namespace", NAMESPACE)


def test_unpullable_image_fails_with_the_pods_reason_and_the_next_good_update_heals(
    project: Project, kubectl: Kubectl
) -> None:
    project.up(app())
    with pytest.raises(CommandError):
        project.up(app(image="registry.invalid/none:1", timeout="8s"))
    for words in (
        "failed to fully initialize or become live",
        "'d' timed out waiting to be Ready",
        "Minimum number of Pods to consider the application live was not attained",
        "[Pod t-stand-in/d-",
        "containers with unready status: [c][ErrImagePull]",
        "registry.invalid/none:1",
    ):
        assert words in project.messages
    assert kubectl.jsonpath("deployment/d", "{.status.availableReplicas}", NAMESPACE) == "1"
    assert project.up(app()) == {"update": 1}
    assert project.up(app(image="registry.invalid/none:1", skip_await=True)) == {"update": 1}


def test_object_that_the_server_rejects_fails_in_the_preview(project: Project) -> None:
    project.up(app())
    with pytest.raises(CommandError):
        project.preview(app(environment="b", image=""))
    assert "spec.template.spec.containers[0].image: Required value" in project.messages


def test_object_that_exists_is_not_taken_over(project: Project, kubectl: Kubectl) -> None:
    kubectl("create", "namespace", NAMESPACE)
    try:
        with pytest.raises(CommandError):
            project.up(app())
        assert "already exists" in project.messages
        assert "pulumi import" in project.messages
    finally:
        kubectl("delete", "namespace", NAMESPACE)


def test_job_is_waited_for_and_its_failure_told(project: Project) -> None:
    assert project.up(job("good", "--version"))["create"] == 3
    assert "Waiting for the Job to complete (Active: 1 | Succeeded: 0 | Failed: 0)" in project.messages
    with pytest.raises(CommandError):
        project.up(job("bad", "--no-such-flag"))
    assert "BackoffLimitExceeded" in project.messages
    assert 'container "j" completed with exit code' in project.messages


def test_service_that_no_pod_serves_is_waited_for_a_little(project: Project) -> None:
    service = resource("Service", "s", spec={"selector": {"app": "nobody"}, "ports": [{"port": 80}]})
    began = time.monotonic()
    assert project.up([NAMESPACE_RESOURCE, service]) == {"create": 3}
    assert time.monotonic() - began >= SERVICE_PATIENCE_SECONDS
    assert "[1/3] Finding Pods to direct traffic to" in project.messages


def test_custom_resource_is_verbatim_and_waited_for_when_asked(project: Project, kubectl: Kubectl) -> None:
    base = [NAMESPACE_RESOURCE, definition(), thing("thing", {})]
    project.up(base)
    assert kubectl.jsonpath("thing.stand-in.test/thing", "{.spec.snake_case}", NAMESPACE) == "stays"
    with pytest.raises(CommandError):
        project.up([*base, thing("waiting", {"pulumi.com/waitFor": "condition=Ready"})])
    assert "timed out waiting for the condition" in project.messages


def test_secret_is_nowhere_in_clear_in_the_state(project: Project, kubectl: Kubectl) -> None:
    resources = [NAMESPACE_RESOURCE, resource("Secret", "hidden", stringData={"key": "hush-hush"})]
    project.up(resources)
    assert kubectl.jsonpath("secret/hidden", "{.data.key}", NAMESPACE) == "aHVzaC1odXNo"
    states = [file.read_text() for file in project.state.rglob("*.json")]
    assert any("hidden" in state for state in states)
    assert not any("hush-hush" in state or "aHVzaC1odXNo" in state for state in states)
    assert project.up(resources) == {}
    assert project.refresh() == {}


def test_cluster_that_is_away_can_be_previewed_and_is_named_by_up(project: Project) -> None:
    kinds = [*app(), *job("j", "--version")[1:], definition(), thing("thing", {})]
    resources = [provider_of(AWAY), *({**one, "provider": "p"} for one in kinds)]
    assert project.preview(resources) == {"create": 9}
    with pytest.raises(CommandError):
        project.up(resources)
    assert "configured Kubernetes cluster is unreachable: unable to load schema information" in project.messages


def test_known_cluster_that_is_away_keeps_its_state(project: Project, kubectl: Kubectl) -> None:
    there = provider_of(kubectl.kubeconfig.read_text())
    namespace = {**NAMESPACE_RESOURCE, "provider": "p"}
    assert project.up([there, namespace]) == {"create": 3}
    assert project.preview([provider_of(AWAY), namespace]) == {"update": 1}  # the provider itself
    assert project.up([provider_of(AWAY), namespace]) == {"update": 1}
    with pytest.raises(CommandError, match="PULUMI_K8S_DELETE_UNREACHABLE"):
        project.destroy()
    assert project.up([there, namespace]) == {"update": 1}
    assert kubectl.succeeds("get", "namespace", NAMESPACE)


def test_content_is_updated_in_place_where_the_provider_is_told_so(project: Project, kubectl: Kubectl) -> None:
    provider = provider_of(kubectl.kubeconfig.read_text())
    provider["properties"]["enableSecretMutable"] = "true"

    def contents(value: str) -> Resources:
        made = (resource("Secret", "s", stringData={"k": value}), resource("ConfigMap", "m", data={"k": value}))
        return [provider, *({**one, "provider": "p"} for one in (NAMESPACE_RESOURCE, *made))]

    project.up(contents("a"))
    assert project.up(contents("b")) == {"update": 1, "replace": 1}
    assert project.steps("s") == ["update"]


def test_load_balancer_that_nobody_serves_fails_at_the_timeout(project: Project) -> None:
    service = resource(
        "Service", "s", options={"timeout": "3s"}, spec={"type": "LoadBalancer", "ports": [{"port": 80}]}
    )
    with pytest.raises(CommandError):
        project.up([NAMESPACE_RESOURCE, service])
    assert "Service was not allocated an IP address; does your cloud provider support this?" in project.messages


def test_deletion_waits_for_finalizers_and_names_them(project: Project, kubectl: Kubectl) -> None:
    held = resource(
        "ConfigMap",
        "held",
        options={"delete_timeout": "3s"},
        metadata={"finalizers": ["stand-in.test/hold"]},
        data={"a": "b"},
    )
    project.up([NAMESPACE_RESOURCE, held])
    with pytest.raises(CommandError):
        project.up([NAMESPACE_RESOURCE])
    assert "stand-in.test/hold" in project.messages
    kubectl("patch", "configmap/held", "-n", NAMESPACE, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert project.up([NAMESPACE_RESOURCE]) == {"delete": 1}
    assert not kubectl.succeeds("get", "configmap/held", "-n", NAMESPACE)


def test_object_that_exists_can_be_imported(project: Project, kubectl: Kubectl) -> None:
    project.up([NAMESPACE_RESOURCE])
    kubectl("create", "configmap", "c", "-n", NAMESPACE, "--from-literal=a=b")
    imported = resource("ConfigMap", "c", options={"import": f"{NAMESPACE}/c"}, data={"a": "b"})
    assert project.up([NAMESPACE_RESOURCE, imported]) == {"import": 1}
    assert project.up([NAMESPACE_RESOURCE, resource("ConfigMap", "c", data={"a": "c"})]) == {"replace": 1}
    assert kubectl.jsonpath("configmap/c", "{.data.a}", NAMESPACE) == "c"
