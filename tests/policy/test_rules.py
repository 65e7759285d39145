"""What each rule lets pass and what it refuses."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from rules import autoscalers, charts, credentials, endpoints, gpus, images, limits, pods
from rules.manifest import UNKNOWN, Resource, Violation

from tests.policy.conftest import DIGEST, deployment, kubernetes, scaled_object, service, trigger, with_container


def only(messages: Iterable[str]) -> str:
    (message,) = messages
    return message


def broken(violations: Iterable[Violation]) -> Violation:
    (violation,) = violations
    return violation


@pytest.mark.parametrize("image", ["server", "server:1.2.3", f"server@{DIGEST[:-1]}", "server:latest", None])
def test_image_without_a_digest_is_refused(image: str | None) -> None:
    message = only(images.pinned(with_container(image=image)))
    assert message.startswith("container server: ")
    assert "@sha256:<digest>" in message


def test_image_that_is_yet_to_be_built_is_judged_in_the_update() -> None:
    assert list(images.pinned(with_container(image=UNKNOWN))) == []
    assert list(images.pinned(with_container(image=f"server:1@{DIGEST}"))) == []


def template(token: str) -> Resource:
    """A workload of another kind, with one init container whose image is named by a tag."""
    pod: Any = {
        "spec": {
            **deployment().inputs["spec"]["template"]["spec"],
            "initContainers": [{"name": "load", "image": "a:1"}],
        }
    }
    spec = {"jobTemplate": {"spec": {"template": pod}}} if token.endswith("CronJob") else {"template": pod}
    return kubernetes(token, **(pod if token.endswith(":Pod") else {"spec": spec}))


@pytest.mark.parametrize(
    "token",
    [
        "apps/v1:Deployment",
        "apps/v1:StatefulSet",
        "apps/v1:DaemonSet",
        "batch/v1:Job",
        "batch/v1:CronJob",
        "core/v1:Pod",
    ],
)
def test_every_kind_of_workload_and_its_init_containers_are_seen(token: str) -> None:
    assert only(images.pinned(template(token))).startswith("container load: a:1 ")


def test_volume_from_an_image_counts_as_an_image() -> None:
    volume = {"name": "weights", "image": {"reference": "registry.example.org/weights:1"}}
    assert only(images.pinned(deployment(volumes=[volume]))).startswith("volume weights: ")


@pytest.mark.parametrize(
    ("resources", "named"),
    [
        ({"requests": {"cpu": "1", "memory": "1Gi"}}, "resources.limits.memory"),
        ({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}, "resources.requests.memory"),
        ({"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}}, "resources.requests.cpu"),
    ],
)
def test_missing_request_or_limit_is_named(resources: dict[str, Any], named: str) -> None:
    assert named in only(limits.limited(with_container(resources=resources)))


@pytest.mark.parametrize(
    ("asked", "limit", "refused"),
    [("1", "1", False), (None, "1", False), (1.0, "1", False), ("1", "2", True), ("1", None, True)],
)
def test_devices_are_requested_as_they_are_limited(asked: Any, limit: Any, refused: bool) -> None:
    resources = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
    for kind, count in (("requests", asked), ("limits", limit)):
        if count is not None:
            resources[kind]["nvidia.com/mig-1g.10gb"] = count
    messages = list(limits.limited(with_container(resources=resources)))
    assert [("nvidia.com/mig-1g.10gb" in message) for message in messages] == [True] * refused


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"hostPID": True}, "hostPID"),
        ({"volumes": [{"name": "disk", "hostPath": {"path": "/data"}}]}, "/data"),
        ({"securityContext": {}}, "runAsNonRoot"),
        ({"securityContext": {"runAsNonRoot": True, "runAsUser": 0.0}}, "runAsUser 0"),
    ],
)
def test_power_over_the_node_is_refused(spec: dict[str, Any], named: str) -> None:
    assert named in broken(pods.unprivileged([deployment(**spec)])).message


def test_container_answers_for_itself_before_its_pod() -> None:
    assert "privileged" in broken(pods.unprivileged([with_container(securityContext={"privileged": True})])).message
    assert "runAsUser 0" in broken(pods.unprivileged([with_container(securityContext={"runAsUser": 0.0})])).message


def test_namespace_that_is_labelled_as_privileged_is_exempt() -> None:
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    namespace = kubernetes("core/v1:Namespace", "llm")
    namespace = replace(namespace, inputs={"metadata": {"name": "llm", "labels": labels}})
    faulty = deployment(hostPID=True)
    assert list(pods.unprivileged([faulty, namespace])) == []
    assert list(pods.unprivileged([faulty], privileged_namespaces=["llm"])) == []
    assert broken(pods.unprivileged([faulty], privileged_namespaces=["other"])).urn == faulty.urn


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("sum(a)", None),
        ("100 * max(a) / sum(b)", None),
        ("avg by () (a)", None),
        ("sum(max by (pod) (a))", None),
        ("histogram_quantile(0.95, sum by (le) (rate(a_bucket[1m])))", None),
        ("sum(a) unless on() b", None),
        ("sum(a) or sum(b)", None),
        ("a", "more than one series"),
        ("sum by (pod) (a)", "more than one series"),
        ("sum without (pod) (a)", "more than one series"),
        ("topk(1, a)", "more than one series"),
        ("rate(a[1m])", "more than one series"),
        ("sum(a) + b", "more than one series"),
        ("histogram_quantile(0.95, rate(a_bucket[1m]))", "more than one series"),
        ("sum(a) or vector(0)", "reads as no load"),
        ("absent(a)", "reads as no load"),
        ("vector(1)", "reads as no load"),
        ("sum(a", "not PromQL"),
    ],
)
def test_query_has_one_answer_or_none(query: str, fault: str | None) -> None:
    messages = list(autoscalers.answerable(scaled_object(triggers=[trigger(query)])))
    assert messages == [] if fault is None else fault in only(messages)


def test_trigger_that_could_mislead_is_refused() -> None:
    lax = trigger("sum(a)", metricType=None, metadata={"query": "sum(a)"})
    missing, empty = autoscalers.answerable(scaled_object(triggers=[lax]))
    assert "trigger waiting: metricType" in missing
    assert "trigger waiting: ignoreNullValues" in empty
    assert "fallback" in only(autoscalers.answerable(scaled_object(fallback=None)))
    cron = {"type": "cron", "metadata": {}}
    assert list(autoscalers.answerable(scaled_object(triggers=[cron], fallback=None))) == []


def replicated(count: float, *ignored: str) -> Resource:
    sound = deployment()
    return replace(
        sound, inputs={**sound.inputs, "spec": {**sound.inputs["spec"], "replicas": count}}, ignore_changes=ignored
    )


def test_replicas_of_what_is_scaled_are_left_to_its_autoscaler() -> None:
    owned = replicated(2.0)
    assert broken(autoscalers.replicas_left_alone([scaled_object(), owned])).urn == owned.urn
    assert list(autoscalers.replicas_left_alone([owned])) == []
    assert list(autoscalers.replicas_left_alone([scaled_object(), replicated(2.0, "spec.replicas")])) == []
    other = replace(owned, inputs={**owned.inputs, "metadata": {"name": "chat", "namespace": "elsewhere"}})
    assert list(autoscalers.replicas_left_alone([scaled_object(), other])) == []


def test_gpus_are_counted_at_the_most_replicas() -> None:
    both = [deployment(), scaled_object()]
    assert list(gpus.bounded(both, maximum=3)) == []
    assert list(gpus.bounded(both, maximum=0, vendors=["amd.com"])) == []
    assert "hold 3 GPUs (Deployment chat 3), and 2 are allowed" in broken(gpus.bounded(both, maximum=2)).message
    assert "hold 2 GPUs" in broken(gpus.bounded([replicated(2.0)], maximum=1)).message
    assert (
        "hold 100 GPUs" in broken(gpus.bounded([deployment(), scaled_object(maxReplicaCount=None)], maximum=16)).message
    )


def test_devices_of_a_pod_are_the_larger_of_before_and_while_it_runs() -> None:
    container = deployment().inputs["spec"]["template"]["spec"]["containers"][0]
    two = deployment(containers=[container, {**container, "name": "other"}], initContainers=[container])
    assert list(gpus.bounded([two], maximum=2)) == []
    assert "hold 2 GPUs" in broken(gpus.bounded([two], maximum=1)).message


BACKEND = {"service": {"name": "chat", "port": {"number": 8000.0}}}
ENTRANCES = {
    "load balancer": service("LoadBalancer"),
    "ingress": kubernetes(
        "networking.k8s.io/v1:Ingress", spec={"rules": [{"http": {"paths": [{"backend": BACKEND}]}}]}
    ),
    "default backend": kubernetes("networking.k8s.io/v1:Ingress", spec={"defaultBackend": BACKEND}),
    "route": kubernetes(
        "gateway.networking.k8s.io/v1:HTTPRoute", spec={"rules": [{"backendRefs": [{"name": "chat", "port": 8000.0}]}]}
    ),
}


@pytest.mark.parametrize("entrance", ENTRANCES.values(), ids=ENTRANCES)
def test_public_endpoint_wants_a_server_that_demands_a_key(entrance: Resource) -> None:
    inside = [] if entrance.kind == "Service" else [service()]
    secret = {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "key"}}}
    for keyed in (deployment(), with_container(env=[secret])):
        assert list(endpoints.guarded([entrance, *inside, keyed])) == []
    violation = broken(endpoints.guarded([entrance, *inside, with_container(env=[])]))
    assert violation.urn == entrance.urn
    assert "demands no API key" in violation.message
    assert "selects no pod of this stack" in broken(endpoints.guarded([entrance, *inside])).message


def test_endpoint_inside_the_cluster_or_network_needs_no_key() -> None:
    annotations = {"networking.gke.io/load-balancer-type": "Internal"}
    balancer = service("LoadBalancer")
    internal = replace(balancer, inputs={**balancer.inputs, "metadata": {"name": "chat", "annotations": annotations}})
    assert list(endpoints.guarded([service(), service("NodePort"), internal, with_container(env=[])])) == []


@pytest.mark.parametrize(
    ("chart", "version", "passes"),
    [
        ("keda", "2.20.2", True),
        ("oci://registry.example.org/charts/keda", "v2.20.2-rc.1", True),
        ("charts/keda-2.20.2.tgz", None, True),
        ("../charts/keda", None, True),
        ("keda", None, False),
        ("kedacore/keda", None, False),
        ("keda", "^2.20", False),
        ("keda", "2.x", False),
        ("https://example.org/keda-2.20.2.tgz", None, False),
    ],
)
def test_chart_is_one_version(chart: str, version: str | None, passes: bool) -> None:
    inputs = {"chart": chart} if version is None else {"chart": chart, "version": version}
    release = Resource(urn="urn:keda", type="kubernetes:helm.sh/v3:Release", inputs=inputs)
    assert (list(charts.versioned(release)) == []) is passes


@pytest.mark.parametrize("name", ["HF_TOKEN", "VLLM_API_KEY", "AWS_SECRET_ACCESS_KEY", "api_keys", "GRAFANA_PASSWORD"])
def test_plain_secret_is_refused_and_its_value_never_said(name: str) -> None:
    (told,) = credentials.sealed(with_container(env=[{"name": name, "value": "hunter2"}]))
    assert "hunter2" not in told
    assert only(credentials.sealed(kubernetes("core/v1:ConfigMap", data={name: "hunter2"}))).startswith(f"data.{name} ")


@pytest.mark.parametrize(
    "variable",
    [
        {"name": "API_KEYS_FILE", "value": "/keys/keys"},
        {"name": "MAX_TOKENS", "value": "8"},
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
    ],
)
def test_path_number_and_reference_are_no_secrets(variable: dict[str, Any]) -> None:
    assert list(credentials.sealed(with_container(env=[variable]))) == []
