"""The manifests that a configuration becomes, under Pulumi's mock engine."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from infra.components.image import ServerImage, ServerImageArgs
from infra.components.server import KEYS_VERSION, STAY
from infra.config.files import from_files
from infra.config.parsing import Secret
from infra.config.schema import NodeDiskWeights, PrebuiltImage, Registry
from infra.weights import node_disk_claim
from infra.workload import Workload
from tests.infra.conftest import SECRET_VERSION, Program

Mapping = dict[str, Any]
Deploy = Callable[[Mapping], Any]
VLLM: Mapping = {"kind": "vllm", "image": f"vllm.dev/vllm/openai@sha256:{'0' * 64}"}
NODE_DISK_CLAIM = node_disk_claim(
    NodeDiskWeights(path="/disk/m", node="n"), Workload(namespace="llm", name="chat", served_model="chat")
)


def container(deployment: Mapping) -> Mapping:
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(only)


def environment(deployment: Mapping) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container(deployment)["env"]}


def test_the_local_stack_registers_these_resources_under_these_names(deploy: Deploy) -> None:
    # A changed name, type or parent makes Pulumi delete and create: it needs an alias, and this list.
    # The mock engine writes only the nearest parent's type into a URN.
    urns = {urn.partition("::llm-stack::")[2] for urn in deploy(from_files("local")).urns}
    short = {urn.removeprefix("pulumi:pulumi:Stack$").replace("llm-stack:components:", "") for urn in urns}
    assert {urn for urn in short if not urn.startswith("pulumi:pulumi:Stack")} == {
        "pulumi:providers:kubernetes::cluster",
        "pulumi:providers:docker::builder",
        "llm-stack:index:LlmStack::llm",
        "llm-stack:index:LlmStack$Platform::platform",
        "Platform$Keda::keda",
        "Platform$Monitoring::monitoring",
        "Platform$NvidiaDevicePlugin::device-plugin",
        "Platform$GpuMetrics::gpu-metrics",
        "llm-stack:index:LlmStack$kubernetes:core/v1:Namespace::models",
        "llm-stack:index:LlmStack$ServerImage::server",
        "ServerImage$docker:index/image:Image::server",
        "llm-stack:index:LlmStack$Model::chat",
        "Model$NodeDiskVolume::chat-weights",
        "NodeDiskVolume$kubernetes:core/v1:PersistentVolume::chat-weights-volume",
        "NodeDiskVolume$kubernetes:core/v1:PersistentVolumeClaim::chat-weights-claim",
        "Model$ModelServer::chat",
        "ModelServer$kubernetes:core/v1:ServiceAccount::chat",
        "ModelServer$kubernetes:apps/v1:Deployment::chat",
        "ModelServer$kubernetes:policy/v1:PodDisruptionBudget::chat",
        "Model$Endpoint::chat",
        "Endpoint$kubernetes:core/v1:Service::chat",
        "Endpoint$kubernetes:networking.k8s.io/v1:NetworkPolicy::chat",
        "Model$ModelMonitor::chat",
        "ModelMonitor$kubernetes:monitoring.coreos.com/v1:ServiceMonitor::chat",
        "Platform$PlatformAlerts::alerts",
        "PlatformAlerts$kubernetes:monitoring.coreos.com/v1:PrometheusRule::alerts",
        "PlatformAlerts$kubernetes:core/v1:ConfigMap::alerts-dashboard",
        "Model$ModelAlerts::chat",
        "ModelAlerts$kubernetes:monitoring.coreos.com/v1:PrometheusRule::chat",
        "Model$SignalProof::chat",
        "SignalProof$kubernetes:core/v1:ConfigMap::chat",
        "SignalProof$kubernetes:batch/v1:Job::chat",
        "Model$ModelScaler::chat",
        "ModelScaler$kubernetes:keda.sh/v1alpha1:ScaledObject::chat",
    }


def test_every_resource_names_its_provider(deploy: Deploy, sound: Mapping) -> None:
    for resource in deploy(sound).resources:
        if resource.type.startswith("kubernetes:"):
            assert "::cluster::" in resource.provider, resource
        if resource.type.startswith("docker:"):
            assert "::builder::" in resource.provider, resource


def test_the_provider_survives_a_new_kubeconfig(deploy: Deploy, sound: Mapping) -> None:
    inputs = deploy(sound).only("kubernetes")
    assert inputs["clusterIdentifier"] == "test"
    assert inputs["context"] == "test"
    assert "kubeconfig" not in inputs


def test_the_place_of_the_kubeconfig_is_no_input(
    deploy: Deploy, sound: Mapping, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two people, or a person and CI, keep it in different places: that is no difference of the stack.
    monkeypatch.setenv("KUBECONFIG", "/home/somebody/config")
    assert "kubeconfig" not in deploy(sound).only("kubernetes")


def test_replicas_are_left_to_the_autoscaler(deploy: Deploy, sound: Mapping) -> None:
    assert "replicas" not in deploy(sound).only("Deployment")["spec"]


def test_pods_satisfy_the_level_that_the_namespace_enforces(deploy: Deploy, sound: Mapping) -> None:
    recorder = deploy(sound)
    assert recorder.only("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = recorder.only("Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert all(set(volume) - {"name"} <= {"emptyDir", "persistentVolumeClaim"} for volume in pod["volumes"])
    security = container(recorder.only("Deployment"))["securityContext"]
    assert security == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_writable_root_can_be_asked_for(deploy: Deploy, sound: Mapping) -> None:
    sound["models"]["chat"]["read_only_root"] = False
    assert container(deploy(sound).only("Deployment"))["securityContext"]["readOnlyRootFilesystem"] is False


def test_the_local_deployment_gives_up_after_two_minutes(deploy: Deploy) -> None:
    deployment = deploy(from_files("local")).only("Deployment")
    assert deployment["spec"]["progressDeadlineSeconds"] == 120
    probe = container(deployment)["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 90


def test_a_pod_serves_on_then_drains_then_has_a_margin(deploy: Deploy, sound: Mapping) -> None:
    sound["models"]["chat"]["timing"] = {"pre_stop_seconds": 7, "drain_seconds": 40}
    deployment = deploy(sound).only("Deployment")
    assert container(deployment)["lifecycle"] == {"preStop": {"sleep": {"seconds": 7}}}
    assert environment(deployment)["DRAIN_TIMEOUT_SECONDS"] == "40"
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 47


def test_an_update_takes_no_pod_away_before_the_next_is_ready(deploy: Deploy, sound: Mapping) -> None:
    strategy = deploy(sound).only("Deployment")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert container(deploy(sound).only("Deployment"))["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert container(deploy(sound).only("Deployment"))["livenessProbe"]["httpGet"]["path"] == "/health"


def test_a_built_image_is_deployed_by_its_digest(deploy: Deploy, sound: Mapping) -> None:
    recorder = deploy(sound)
    assert recorder.only("Image")["imageName"] == "registry.acme.dev/llm/server:test"
    assert recorder.only("Image")["build"]["context"] == ".."  # of the program's directory: no path of this machine
    assert container(recorder.only("Deployment"))["image"] == recorder.outputs["image"]
    assert recorder.outputs["image"].startswith("registry.acme.dev/llm/server@sha256:")


def test_a_prebuilt_image_needs_no_builder(deploy: Deploy, sound: Mapping) -> None:
    reference = f"registry.acme.dev/llm/server@sha256:{'0' * 64}"
    sound["image"] = {"mode": "prebuilt", "reference": reference}
    recorder = deploy(sound)
    assert not [resource for resource in recorder.resources if "docker" in resource.type]
    assert container(recorder.only("Deployment"))["image"] == reference


@pytest.mark.parametrize(("stack", "secret"), [("prod", "prod"), ("Prod_EU", "prod-eu"), ("a..b", "a--b")])
def test_whatever_a_stack_is_called_its_registry_secret_has_a_name_that_a_cluster_takes(
    under_mocks: Program, stack: str, secret: str
) -> None:
    registry = Registry(server="registry.acme.dev", username="robot", password=Secret("s"))
    source = PrebuiltImage(reference=f"registry.acme.dev/llm@sha256:{'0' * 64}", registry=registry)
    given = ServerImageArgs(source=source, tag=stack, namespace="llm")
    recorder = under_mocks(lambda: ServerImage("server", given) and None)
    assert recorder.only("Secret")["metadata"]["name"] == f"llm-stack-{secret}-registry"


@pytest.mark.parametrize(
    ("weights", "model", "claim"),
    [
        ({"source": "node-disk", "path": "/disk/m", "node": "n"}, "/models", NODE_DISK_CLAIM),
        ({"source": "pvc", "claim": "shared"}, "/models", "shared"),
        ({"source": "pvc", "claim": "shared", "directory": "a/b"}, "/models/a/b", "shared"),
        ({"source": "hub", "repository": "owner/name", "revision": "1" * 40}, "owner/name", None),
    ],
)
def test_the_server_is_told_where_its_weights_are(
    deploy: Deploy, sound: Mapping, weights: Mapping, model: str, claim: str | None
) -> None:
    sound["models"]["chat"]["weights"] = weights
    sound["cluster"]["create_namespace"] = weights["source"] != "pvc"
    deployment = deploy(sound).only("Deployment")
    assert environment(deployment)["MODEL"] == model
    assert environment(deployment).get("MODEL_REVISION") == weights.get("revision")
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]
    assert claims == ([claim] if claim else [])


def test_another_directory_or_node_is_another_volume_and_claim(deploy: Deploy, sound: Mapping) -> None:
    # A claim that pods use cannot go before they do: what replaces it needs a name of its own.
    names = set()
    for change in ({}, {"path": "/models/other"}, {"node": "node-2"}):
        sound["models"]["chat"]["weights"] = {"source": "node-disk", "path": "/models/chat", "node": "node-1", **change}
        recorder = deploy(sound)
        kinds = ("PersistentVolume", "PersistentVolumeClaim")
        names.add(tuple(recorder.only(kind)["metadata"]["name"] for kind in kinds))
    assert len(names) == 3


def test_another_class_or_mode_is_another_cache_and_a_larger_one_the_same(deploy: Deploy, sound: Mapping) -> None:
    names = []
    for change in ({}, {"size": "80Gi"}, {"storage_class": "efs"}, {"access_mode": "ReadWriteOnce"}):
        cache = {"size": "40Gi", "storage_class": "nfs", **change}
        hub = {"source": "hub", "repository": "owner/name", "revision": "1" * 40, "cache": cache}
        sound["models"]["chat"]["weights"] = hub
        recorder = deploy(sound)
        names.append(recorder.only("PersistentVolumeClaim")["metadata"]["name"])
        volumes = recorder.only("Deployment")["spec"]["template"]["spec"]["volumes"]
        assert {"name": "weights", "persistentVolumeClaim": {"claimName": names[-1], "readOnly": False}} in volumes
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_keys_that_were_given_are_no_generated_ones_later(deploy: Deploy, sound: Mapping) -> None:
    # A generated key's Secret keeps its content whatever the program says: given keys in the same resource would stay.
    made = {}
    for source in ({"source": "given", "keys": Secret("one")}, {"source": "generated"}):
        sound["models"]["chat"]["api_keys"] = source
        recorder = deploy(sound)
        (secret,) = (found for found in recorder.resources if found.type.endswith(":Secret"))
        name = secret.inputs["metadata"]["name"]
        volumes = recorder.only("Deployment")["spec"]["template"]["spec"]["volumes"]
        assert {"name": "api-keys", "secret": {"secretName": name}} in volumes
        made[source["source"]] = (secret.name, name)
    assert made == {"given": ("chat-given", "chat-given-keys"), "generated": ("chat", "chat-api-keys")}


@pytest.mark.parametrize(
    ("runtime", "source", "once"),
    [(VLLM, "given", True), (VLLM, "generated", False), ({"kind": "transformers"}, "given", False)],
)
def test_pods_that_read_their_keys_once_follow_the_version_of_the_secret(
    deploy: Deploy, sound: Mapping, runtime: Mapping, source: str, once: bool
) -> None:
    keys = {"keys": Secret("one")} if source == "given" else {}
    sound["gpu_pools"] = {"big": {"gpu": "L4", "total": 8}}
    sound["models"]["chat"] |= {
        "runtime": runtime,
        "gpus": {"count": 1, "pool": "big"},
        "api_keys": {"source": source, **keys},
    }
    template = deploy(sound).only("Deployment")["spec"]["template"]
    assert template["metadata"]["annotations"] == {**STAY, **({KEYS_VERSION: SECRET_VERSION} if once else {})}
    assert "one" not in json.dumps(template)


def test_a_namespace_of_others_is_neither_made_nor_removed(deploy: Deploy, sound: Mapping) -> None:
    sound["cluster"]["create_namespace"] = False
    recorder = deploy(sound)
    assert recorder.all("Namespace") == []
    assert recorder.only("Deployment")["metadata"]["namespace"] == "llm"


def test_a_node_disk_volume_is_tied_to_its_node_and_its_claim(deploy: Deploy, sound: Mapping) -> None:
    recorder = deploy(sound)
    volume, claim = recorder.only("PersistentVolume"), recorder.only("PersistentVolumeClaim")
    assert volume["spec"]["local"] == {"path": "/models/chat"}
    (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-1"]}]
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    assert claim["spec"]["storageClassName"] == volume["spec"]["storageClassName"] == ""
    assert volume["spec"]["claimRef"] == {
        "name": claim["metadata"]["name"],
        "namespace": claim["metadata"]["namespace"],
    }


def test_gpus_are_asked_for_only_where_configured(deploy: Deploy, sound: Mapping) -> None:
    on_cpu = deploy(sound).only("Deployment")
    assert container(on_cpu)["resources"]["limits"] == {"memory": "2Gi"}
    assert environment(on_cpu)["DEVICE"] == "cpu"
    sound["gpu_pools"] = {"big": {"gpu": "H100-80GB", "total": 8, "node_selector": {"gpu": "h100"}}}
    sound["models"]["chat"]["gpus"] = {"count": 2, "pool": "big"}
    sound["models"]["chat"]["resources"]["memory_limit"] = "4Gi"
    sound["models"]["chat"]["runtime"] = VLLM
    on_gpus = deploy(sound).only("Deployment")
    assert container(on_gpus)["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert container(on_gpus)["resources"]["requests"]["nvidia.com/gpu"] == "2"
    assert container(on_gpus)["command"][-20:].index("--tensor-parallel-size") >= 0
    pod = on_gpus["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"gpu": "h100"}
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    assert {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}} in pod["volumes"]


def test_our_server_divides_a_model_among_several_gpus(deploy: Deploy, sound: Mapping) -> None:
    sound["gpu_pools"] = {"big": {"gpu": "H100-80GB", "total": 8}}
    sound["models"]["chat"]["gpus"] = {"count": 1, "pool": "big"}
    assert "TENSOR_PARALLEL" not in environment(deploy(sound).only("Deployment"))
    sound["models"]["chat"]["gpus"]["count"] = 2
    deployment = deploy(sound).only("Deployment")
    assert environment(deployment)["TENSOR_PARALLEL"] == "2"
    assert container(deployment)["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in container(deployment)["volumeMounts"]


def test_our_server_is_told_how_much_it_keeps_for_keys_and_values(deploy: Deploy, sound: Mapping) -> None:
    assert "KV_CACHE_MIB" not in environment(deploy(sound).only("Deployment"))
    sound["models"]["chat"]["runtime"] = {"kind": "transformers", "kv_cache_mib": 512}
    assert environment(deploy(sound).only("Deployment"))["KV_CACHE_MIB"] == "512"


def test_cuda_graphs_are_left_out_of_either_runtime_by_the_same_key(deploy: Deploy, sound: Mapping) -> None:
    sound["gpu_pools"] = {"big": {"gpu": "H100-80GB", "total": 8}}
    sound["models"]["chat"]["gpus"] = {"count": 1, "pool": "big"}
    assert "CUDA_GRAPHS" not in environment(deploy(sound).only("Deployment"))
    sound["models"]["chat"]["runtime"] = {"kind": "transformers", "enforce_eager": True}
    assert environment(deploy(sound).only("Deployment"))["CUDA_GRAPHS"] == "off"
    sound["models"]["chat"]["runtime"] = {**VLLM, "enforce_eager": True}
    assert "--enforce-eager" in container(deploy(sound).only("Deployment"))["command"]


@pytest.mark.parametrize(("strategy", "resource"), [("mixed", "nvidia.com/mig-1g.10gb"), ("single", "nvidia.com/gpu")])
def test_a_slice_is_asked_for_as_it_is_offered(deploy: Deploy, sound: Mapping, strategy: str, resource: str) -> None:
    sound["gpu_pools"] = {"big": {"gpu": "H100-80GB", "total": 1}}
    sound["device_plugin"] = {"mig_strategy": strategy}
    sound["models"]["chat"]["gpus"] = {"count": 1, "pool": "big", "mig_profile": "1g.10gb"}
    limits = container(deploy(sound).only("Deployment"))["resources"]["limits"]
    assert limits == {"memory": "2Gi", resource: "1"}


def test_doors_that_are_open_to_everywhere_are_so_to_both_kinds_of_addresses(deploy: Deploy, sound: Mapping) -> None:
    hub = {"source": "hub", "repository": "owner/name", "revision": "0" * 40}
    sound["models"]["chat"] |= {"weights": hub, "endpoint": {"type": "NodePort", "port": 30080, "host": "10.0.0.1"}}
    policy = deploy(sound).only("NetworkPolicy")["spec"]
    https = next(rule for rule in policy["egress"] if {"protocol": "TCP", "port": 443} in rule["ports"])
    for peers in (policy["ingress"][0]["from"], https["to"]):
        assert [peer["ipBlock"]["cidr"] for peer in peers if "ipBlock" in peer] == ["0.0.0.0/0", "::/0"]


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ({"type": "ClusterIP"}, "http://chat.llm.svc:8000/v1"),
        ({"type": "NodePort", "port": 30080, "host": "10.0.0.1"}, "http://10.0.0.1:30080/v1"),
        ({"type": "LoadBalancer", "internal": True, "annotations": {"lb": "internal"}}, "http://192.0.2.1:8000/v1"),
    ],
)
def test_the_endpoint_is_printed_as_clients_reach_it(
    deploy: Deploy, sound: Mapping, endpoint: Mapping, url: str
) -> None:
    sound["models"]["chat"]["endpoint"] = endpoint
    recorder = deploy(sound)
    service = recorder.only("Service")
    assert recorder.outputs["endpoints"] == {"chat": url}
    assert service["spec"]["type"] == endpoint["type"]
    assert service["spec"]["ports"][0].get("nodePort") == endpoint.get("port")


def test_selectors_and_ports_agree_from_pod_to_scaler(deploy: Deploy, sound: Mapping) -> None:
    recorder = deploy(sound)
    deployment, service = recorder.only("Deployment"), recorder.only("Service")
    monitor, scaler = recorder.only("ServiceMonitor"), recorder.only("ScaledObject")
    pod_labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"]):
        assert selector.items() <= pod_labels.items()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["namespaceSelector"]["matchNames"] == [service["metadata"]["namespace"]]
    (port,) = service["spec"]["ports"]
    (endpoint,) = monitor["spec"]["endpoints"]
    (pod_port,) = container(deployment)["ports"]
    assert endpoint["port"] == port["name"]
    assert port["targetPort"] == pod_port["name"]
    assert environment(deployment)["PORT"] == str(int(pod_port["containerPort"]))
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    for trigger in scaler["spec"]["triggers"]:
        assert f'service="{service["metadata"]["name"]}"' in trigger["metadata"]["query"]
        assert f'model_name="{environment(deployment)["SERVED_MODEL_NAME"]}"' in trigger["metadata"]["query"]


def test_two_models_share_nothing_but_namespace_and_image(deploy: Deploy, sound: Mapping) -> None:
    sound["models"]["code"] = copy.deepcopy(sound["models"]["chat"])
    recorder = deploy(sound)
    first, second = recorder.all("Deployment")
    assert not first["spec"]["selector"]["matchLabels"].items() <= second["metadata"]["labels"].items()
    assert container(first)["image"] == container(second)["image"]
    assert set(recorder.outputs["endpoints"]) == {"chat", "code"}
    assert len(recorder.all("Image")) == 1


def test_a_missing_answer_never_scales_down(deploy: Deploy, sound: Mapping) -> None:
    spec = deploy(sound).only("ScaledObject")["spec"]
    assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert spec["advanced"]["restoreToOriginalReplicaCount"] is False
    for trigger in spec["triggers"]:
        assert trigger["metricType"] == "AverageValue"
        assert trigger["metadata"]["ignoreNullValues"] == "false"
        assert all(isinstance(value, str) for value in trigger["metadata"].values())


def test_the_scaler_is_awaited_and_bounded(deploy: Deploy, sound: Mapping) -> None:
    sound["models"]["chat"]["scaling"] = {"min_replicas": 2, "max_replicas": 4, "down_window_seconds": 600}
    scaler = deploy(sound).only("ScaledObject")
    assert json.loads(scaler["metadata"]["annotations"]["pulumi.com/waitFor"]) == [
        "condition=Ready",
        "jsonpath={.status.health['s0-prometheus'].status}=Happy",
        "jsonpath={.status.health['s1-prometheus'].status}=Happy",
    ]
    assert (scaler["spec"]["minReplicaCount"], scaler["spec"]["maxReplicaCount"]) == (2, 4)
    assert scaler["spec"]["fallback"]["replicas"] == 2
    behavior = scaler["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 600


def test_service_monitor_labels_are_the_ones_prometheus_selects(deploy: Deploy, sound: Mapping) -> None:
    sound["monitoring"]["service_monitor_labels"] = {"release": "kps"}
    monitor = deploy(sound).only("ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "kps"
    assert monitor["spec"]["endpoints"][0]["interval"] == "15s"
