"""The Kubernetes stand-in does what the official plugin was seen to do, on the real API server, scheduler and kubelet."""

import json
from collections.abc import Callable

import pulumi
import pulumi_kubernetes as k8s
import pytest
from pulumi.automation.errors import CommandError

from local.cluster.command import Kubectl
from local.cluster.layout import PAUSE_IMAGE
from tests.e2e.conftest import Project

pytestmark = pytest.mark.e2e

NAMESPACE = "t-stand-in"
Program = Callable[[], None]


def app(
    *,
    image: str = PAUSE_IMAGE,
    data: str = "a",
    environment: str = "a",
    label: str = "app",
    timeout: str = "60s",
    skip: bool = False,
    extra: Program | None = None,
) -> Program:
    """A namespace with a ConfigMap, a Deployment and a Service."""

    def program() -> None:
        namespace = k8s.core.v1.Namespace("ns", metadata={"name": NAMESPACE})
        inside = pulumi.ResourceOptions(depends_on=[namespace])
        k8s.core.v1.ConfigMap(
            "c", metadata={"name": "c", "namespace": NAMESPACE, "labels": {"of": "us"}}, data={"key": data}, opts=inside
        )
        k8s.apps.v1.Deployment(
            "d",
            metadata={
                "name": "d",
                "namespace": NAMESPACE,
                "annotations": {"pulumi.com/skipAwait": "true"} if skip else {},
            },
            spec={
                "selector": {"matchLabels": {"app": label}},
                "template": {
                    "metadata": {"labels": {"app": label}},
                    "spec": {
                        "terminationGracePeriodSeconds": 1,
                        "containers": [
                            {
                                "name": "c",
                                "image": image,
                                "imagePullPolicy": "IfNotPresent",
                                "env": [{"name": "A", "value": environment}],
                                "resources": {"requests": {"cpu": "1000m"[:-3] + "m", "memory": "8Mi"}},
                            }
                        ],
                    },
                },
            },
            opts=pulumi.ResourceOptions(
                depends_on=[namespace], custom_timeouts=pulumi.CustomTimeouts(create=timeout, update=timeout)
            ),
        )
        k8s.core.v1.Service(
            "s",
            metadata={"name": "s", "namespace": NAMESPACE},
            spec={"selector": {"app": label}, "ports": [{"port": 80, "targetPort": 8080}]},
            opts=inside,
        )
        if extra is not None:
            extra()

    return program


def test_life_of_an_application(project: Project, kubectl: Kubectl) -> None:
    assert project.preview(app()) == {"create": 5}
    assert project.up(app()) == {"create": 5}
    assert "Waiting for app ReplicaSet to be available (0/1 Pods available)" in project.messages
    assert project.up(app()) == {}

    # ConfigMap data: replaced, deleted first; the environment of a Deployment: updated in place.
    changed = app(data="b", environment="b")
    project.preview(changed)
    assert {"data.key", "spec.template.spec.containers[0].env[0].value"} <= project.differences
    assert project.up(changed) == {"replace": 1, "update": 1}
    assert kubectl.jsonpath("configmap/c", "{.data.key}", NAMESPACE) == "b"

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
    assert project.up(app(data="b", environment="b", label="other")) == {"replace": 1, "update": 1}

    project.destroy()
    assert not kubectl.succeeds("get", "namespace", NAMESPACE)


def test_image_that_cannot_be_pulled_fails_with_the_pods_reason_and_the_next_good_update_heals(
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
        "registry.invalid/none:1",
    ):
        assert words in project.messages
    assert kubectl.jsonpath("deployment/d", "{.status.availableReplicas}", NAMESPACE) == "1"
    assert project.up(app()) == {"update": 1}
    assert project.up(app(image="registry.invalid/none:1", skip=True)) == {"update": 1}


def test_object_that_the_server_rejects_fails_in_the_preview(project: Project) -> None:
    project.up(app())
    with pytest.raises(CommandError):
        project.preview(app(environment="b", label="app", image=""))
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


def test_jobs_custom_resources_and_secrets(project: Project, kubectl: Kubectl) -> None:
    def job(name: str, arguments: list[str]) -> None:
        k8s.batch.v1.Job(
            name,
            metadata={"name": name, "namespace": NAMESPACE},
            spec={
                "backoffLimit": 0,
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [
                            {"name": "j", "image": "quay.io/prometheus/prometheus:v3.14.0", "args": arguments}
                        ],
                    }
                },
            },
        )

    definition_spec = {
        "group": "stand-in.test",
        "scope": "Namespaced",
        "names": {"kind": "Thing", "plural": "things", "singular": "thing"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    }

    def base() -> None:
        k8s.core.v1.Namespace("ns", metadata={"name": NAMESPACE})
        definition = k8s.apiextensions.v1.CustomResourceDefinition(
            "crd", metadata={"name": "things.stand-in.test"}, spec=definition_spec
        )
        k8s.apiextensions.CustomResource(
            "thing",
            api_version="stand-in.test/v1",
            kind="Thing",
            metadata={"name": "thing", "namespace": NAMESPACE},
            spec={"snake_case": "stays"},
            opts=pulumi.ResourceOptions(depends_on=[definition]),
        )
        k8s.core.v1.Secret(
            "secret",
            metadata={"name": "secret", "namespace": NAMESPACE},
            string_data={"key": pulumi.Output.secret("hush-hush")},
        )

    def with_job(arguments: list[str], name: str) -> Program:
        def program() -> None:
            base()
            job(name, arguments)

        return program

    def never_ready() -> None:
        base()
        k8s.apiextensions.CustomResource(
            "waiting",
            api_version="stand-in.test/v1",
            kind="Thing",
            metadata={
                "name": "waiting",
                "namespace": NAMESPACE,
                "annotations": {"pulumi.com/waitFor": "condition=Ready"},
            },
            opts=pulumi.ResourceOptions(custom_timeouts=pulumi.CustomTimeouts(create="3s")),
        )

    project.up(base)
    assert kubectl.jsonpath("thing.stand-in.test/thing", "{.spec.snake_case}", NAMESPACE) == "stays"
    states = [file.read_text() for file in project.state_file.rglob("*.json")]
    assert states
    assert not any("hush-hush" in text or "aHVzaC1odXNo" in text for text in states)
    assert project.up(base) == {}

    assert project.up(with_job(["--version"], "good")) == {"create": 1}
    with pytest.raises(CommandError):
        project.up(with_job(["--no-such-flag"], "bad"))
    assert "BackoffLimitExceeded" in project.messages
    assert 'container "j" completed with exit code' in project.messages

    with pytest.raises(CommandError):
        project.up(never_ready)
    assert "timed out waiting for the condition" in project.messages


def test_cluster_that_is_away_previews_and_then_says_so(project: Project, tmp_path: pytest.TempPathFactory) -> None:
    nowhere = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "away",
        "clusters": [{"name": "away", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "away", "user": {}}],
        "contexts": [{"name": "away", "context": {"cluster": "away", "user": "away"}}],
    }

    def program() -> None:
        provider = k8s.Provider("away", kubeconfig=json.dumps(nowhere), cluster_identifier="same")
        k8s.core.v1.ConfigMap(
            "c",
            metadata={"name": "c", "namespace": "default"},
            data={"a": "b"},
            opts=pulumi.ResourceOptions(provider=provider),
        )

    assert project.preview(program)["create"] >= 2
    with pytest.raises(CommandError):
        project.up(program)
    assert (
        "configured Kubernetes cluster is unreachable: unable to load schema information from the API server"
        in project.messages
    )
