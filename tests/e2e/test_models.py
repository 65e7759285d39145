"""Everything a model can be, in a second stack beside `local`: weights from S3 and from a claim, a key, closed doors, a budget
for drains, vLLM in place of our server, and a pool without a free GPU.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import openai
import pytest
import yaml
from moto.server import ThreadedMotoServer

from local.cluster.command import Kubectl
from local.cluster.layout import CONTEXT, NODE_ADDRESS
from local.project import ROOT
from local.screen import LocalError
from tests.e2e.conftest import Deployed, Project

pytestmark = pytest.mark.e2e

STACK, NAMESPACE = "parts", "llm-parts"
BUCKET, PREFIX, ACCESS_KEY, SECRET_KEY = "weights", "models/chat", "access", "hush-hush-storage"
CLAIM = "shared-weights"
CONNECT_SECONDS = 3
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True)
class Parts:
    """The deployed second stack."""

    deployed: Deployed
    kubectl: Kubectl
    image: str
    config: Path

    def up(self, **changes: object) -> str:
        """Deploys with the keys of ``changes`` (joined by two underscores below models) set to other values."""
        content = yaml.safe_load(self.config.read_text())
        for path, value in changes.items():
            *groups, last = path.split("__")
            holder = content["config"]["llm-stack:models"]
            for name in groups:
                holder = holder.setdefault(name, {})
            holder[last] = value
        file = self.config.with_name(f"changed.{STACK}.yaml")
        file.write_text(yaml.safe_dump(content))
        return self.pulumi("up", "--yes", "--skip-preview", config=file)

    def pulumi(self, *arguments: str, config: Path | None = None) -> str:
        return self.deployed.pulumi(*arguments, "--config-file", str(config or self.config), stack=STACK)

    def output(self, name: str) -> Any:
        return json.loads(self.deployed.pulumi("stack", "output", name, "--json", "--show-secrets", stack=STACK))

    def pods(self, model: str) -> list[dict[str, Any]]:
        """The pods of a model that are not on their way out."""
        listed = self.kubectl("get", "pods", "-n", NAMESPACE, "-l", f"app.kubernetes.io/instance={model}", "-o", "json")
        return [pod for pod in json.loads(listed)["items"] if "deletionTimestamp" not in pod["metadata"]]

    def address(self, model: str) -> str:
        """The model's Service as the node reaches it."""
        place = self.kubectl.jsonpath(f"service/{model}", "{.spec.clusterIP}", NAMESPACE)
        return f"http://{place}:8000"

    def connects(self, model: str, namespace: str) -> bool:
        """Whether a pod of a namespace gets an answer from the model's Service."""
        host = f"{model}.{NAMESPACE}.svc"
        program = f"import socket; socket.create_connection(('{host}', 8000), {CONNECT_SECONDS})"
        container = {
            "name": "probe",
            "image": self.image,
            "command": ["python", "-c", program],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        spec = {"restartPolicy": "Never", "securityContext": RESTRICTED, "containers": [container]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "t-probe", "namespace": namespace}, "spec": spec}
        self.kubectl("create", "-f", "-", stdin=json.dumps(pod))
        try:
            phases = "--for=jsonpath={.status.containerStatuses[0].state.terminated}"
            self.kubectl("wait", "pod/t-probe", "-n", namespace, phases, "--timeout=60s")
            code = "{.status.containerStatuses[0].state.terminated.exitCode}"
            return self.kubectl.jsonpath("pod/t-probe", code, namespace) == "0"
        finally:
            self.kubectl("delete", "pod", "t-probe", "-n", namespace, "--wait", "--grace-period=0", "--force")

    def reaches(self, model: str, host: str, port: int) -> bool:
        """Whether a pod of the model gets an answer from somewhere else."""
        program = f"import socket; socket.create_connection(('{host}', {port}), {CONNECT_SECONDS})"
        return self.kubectl.succeeds("exec", "-n", NAMESPACE, f"deployment/{model}", "--", "python", "-c", program)


def model(weights: dict[str, Any], **more: Any) -> dict[str, Any]:
    small = {"cpu": "100m", "memory": "300Mi", "memory_limit": "2Gi"}
    scaling = {"min_replicas": 1, "max_replicas": 2, "polling_seconds": 5, "down_window_seconds": 120}
    timing = {"startup_seconds": 240, "answer_seconds": 20, "pre_stop_seconds": 2, "image_pull_seconds": 0}
    base = {
        "weights": weights,
        "resources": small,
        "scaling": scaling,
        "timing": timing,
        "server": {"dtype": "float32"},
    }
    return base | more


def local_up(*arguments: str) -> None:
    command = [sys.executable, "-m", "local", "up", "--cluster-only", *arguments]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=120)


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    """An S3-compatible storage on the node, with the model of the stack `local`."""
    server = ThreadedMotoServer(ip_address=NODE_ADDRESS, port=0)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    client.create_bucket(Bucket=BUCKET)
    for file in _weights().iterdir():
        client.upload_file(str(file), BUCKET, f"{PREFIX}/{file.name}")
    yield address
    server.stop()


def _weights() -> Path:
    local = yaml.safe_load((ROOT / "Pulumi.local.yaml").read_text())["config"]["llm-stack:models"]["chat"]
    return Path(local["weights"]["path"]).resolve()


@pytest.fixture(scope="module")
def stub(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image that behaves like vLLM's towards a cluster, by digest."""
    project = Project(tmp_path_factory.mktemp("stub"), environment)
    context = Path(__file__).parent / "vllm"
    build = {"context": str(context), "dockerfile": str(context / "Dockerfile")}
    properties = {"imageName": "localhost:5001/t-parts/vllm:test", "build": build}
    project.up([{"type": "docker:index/image:Image", "name": "i", "properties": properties}])
    yield str(project.state_of("i")["outputs"]["repoDigest"])
    project.destroy()


@pytest.fixture(scope="module")
def claim(kubectl: Kubectl) -> Iterator[str]:
    """A claim in the namespace of the second stack that somebody else has made, with the model in it."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    capacity = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    volume = {
        **capacity,
        "capacity": {"storage": "1Gi"},
        "hostPath": {"path": str(_weights().parent)},
        "claimRef": {"namespace": NAMESPACE, "name": CLAIM},
    }
    request = {**capacity, "volumeName": CLAIM, "resources": {"requests": {"storage": "1Gi"}}}
    place = {"name": CLAIM, "namespace": NAMESPACE}
    for made in (
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}},
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": CLAIM}, "spec": volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": place, "spec": request},
    ):
        kubectl("apply", "-f", "-", stdin=json.dumps(made))
    yield CLAIM
    kubectl("delete", "namespace", NAMESPACE)
    kubectl("delete", "persistentvolume", CLAIM)


@pytest.fixture(scope="module")
def parts(
    deployed: Deployed,
    kubectl: Kubectl,
    storage: str,
    stub: str,
    claim: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Parts]:
    local_up("--fake-gpus", "1")
    local = yaml.safe_load((ROOT / "Pulumi.local.yaml").read_text())["config"]
    image = json.loads(deployed.pulumi("stack", "output", "image", "--json"))
    s3 = {
        "source": "s3",
        "bucket": BUCKET,
        "prefix": PREFIX,
        "endpoint": storage,
        "region": "us-east-1",
        "access_key": ACCESS_KEY,
        "size": "1Gi",
    }
    models = {
        "stored": model(s3, scaling={"min_replicas": 2, "max_replicas": 2, "polling_seconds": 5}),
        "claimed": model({"source": "pvc", "claim": claim, "directory": _weights().name}, api_keys={"source": "none"}),
        "stub": model(
            {"source": "baked", "path": "/nowhere"},
            runtime={"kind": "vllm", "image": stub},
            gpus={"count": 1, "pool": "full"},
            scaling={"min_replicas": 1, "max_replicas": 1, "polling_seconds": 5},
        ),
    }
    content = {
        "llm-stack:cluster": {
            "identifier": "llm-stack-local",
            "context": CONTEXT,
            "namespace": NAMESPACE,
            "create_namespace": False,
        },
        "llm-stack:image": {"mode": "prebuilt", "reference": image},
        "llm-stack:monitoring": {**local["llm-stack:monitoring"], "platform_alerts": False},
        "llm-stack:gpu_metrics": {"mode": "none"},
        "llm-stack:gpu_pools": {"full": {"gpu": "L4", "total": 1}},
        "llm-stack:models": models,
    }
    file = tmp_path_factory.mktemp("parts") / f"Pulumi.{STACK}.yaml"
    deployed.pulumi("stack", "init", stack=STACK)
    salted = ROOT / f"Pulumi.{STACK}.yaml"
    file.write_text(yaml.safe_dump({"config": content, **yaml.safe_load(salted.read_text())}))
    salted.unlink()
    made = Parts(deployed, kubectl, image, file)
    secret = "llm-stack:models.stored.weights.secret_key"
    made.pulumi("config", "set", "--secret", "--path", secret, SECRET_KEY)
    try:
        made.up()
        yield made
    finally:
        made.pulumi("destroy", "--yes", "--skip-preview")
        deployed.pulumi("stack", "rm", "--yes", "--preserve-config", stack=STACK)
        local_up()


def answers(address: str, key: str, name: str) -> bool:
    with openai.OpenAI(base_url=f"{address}/v1", api_key=key) as client:
        said = client.chat.completions.create(
            model=name, max_tokens=4, messages=[{"role": "user", "content": "Are you there?"}]
        )
    return bool(said.usage and said.usage.completion_tokens)


def test_weights_from_storage_and_from_a_claim_serve(parts: Parts) -> None:
    assert answers(parts.address("claimed"), "none", "claimed")
    assert answers(parts.address("stored"), parts.output("api_keys")["stored"], "stored")


def test_without_the_key_nobody_gets_an_answer(parts: Parts) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}):
        response = httpx.get(f"{parts.address('stored')}/v1/models", headers=headers)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"


def test_the_key_is_drawn_once_and_stands_nowhere_in_clear(parts: Parts) -> None:
    key = parts.output("api_keys")["stored"]
    assert key.startswith("sk-")
    parts.pulumi("preview", "--expect-no-changes")
    state = parts.deployed.pulumi("stack", "export", stack=STACK)
    for secret in (key, SECRET_KEY):
        assert secret not in state
        assert secret not in parts.config.read_text()


def test_pods_are_open_to_their_namespace_and_closed_to_others(parts: Parts) -> None:
    assert parts.connects("claimed", NAMESPACE)
    assert not parts.connects("claimed", "default")


def test_pods_reach_only_where_their_weights_come_from(parts: Parts, storage: str) -> None:
    host, _, port = storage.removeprefix("http://").partition(":")
    prometheus = ("prometheus-operated.monitoring.svc", 9090)
    assert parts.reaches("stored", host, int(port))
    assert not parts.reaches("stored", *prometheus)
    assert not parts.reaches("claimed", host, int(port))


def test_a_drained_node_takes_one_replica_at_a_time(parts: Parts) -> None:
    first, second = (pod["metadata"]["name"] for pod in parts.pods("stored"))

    def evict(pod: str) -> None:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE}}
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
        parts.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))

    evict(first)
    with pytest.raises(LocalError, match="disruption budget"):
        evict(second)
    parts.kubectl("rollout", "status", "deployment/stored", "-n", NAMESPACE, "--timeout=120s")


def test_vllm_takes_our_servers_place(parts: Parts) -> None:
    # That the stack is up proves its signals: the autoscaler reads vLLM's metrics by the same queries.
    key = parts.output("api_keys")["stub"]
    assert httpx.get(f"{parts.address('stub')}/v1/models").status_code == 401
    listed = httpx.get(f"{parts.address('stub')}/v1/models", headers={"authorization": f"Bearer {key}"}).json()
    command = shlex.join(listed["data"][0]["command"])
    assert "serve /nowhere --served-model-name stub --port 8000" in command
    (pod,) = parts.pods("stub")
    assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_an_update_ends_on_a_pool_without_a_free_gpu(parts: Parts) -> None:
    before = parts.pods("stub")
    assert "1 updated" in parts.up(stub__server__max_running_requests=32)
    after = parts.pods("stub")
    assert [pod["metadata"]["name"] for pod in after] != [pod["metadata"]["name"] for pod in before]
    assert len(after) == 1


def test_the_other_stack_stays_when_this_one_goes(parts: Parts) -> None:
    parts.pulumi("destroy", "--yes", "--skip-preview")
    assert parts.pods("stored") == []
    assert answers(parts.deployed.endpoint_url.removesuffix("/v1"), "none", "chat")
