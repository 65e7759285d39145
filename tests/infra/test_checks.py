"""Every contradiction that is refused has a case here."""

import copy
import zoneinfo
from typing import Any

import pytest

from infra import cron
from infra.config.checks import CHECKS, endpoint, gpus, scaling, server
from infra.config.loader import parse
from infra.config.parsing import Check, ConfigError, Encrypted, Parser, Secret
from infra.config.schema import StackConfig
from tests.infra.conftest import SOUND
from tests.places import Place, places, watched

Group = dict[str, Any]
HUB = {"source": "hub", "repository": "owner/name", "revision": "0" * 40}
S3 = {"source": "s3", "bucket": "models", "prefix": "chat", "size": "20Gi"}
ONE_NODE = {**HUB, "cache": {"size": "10Gi", "storage_class": "gp3", "access_mode": "ReadWriteOnce"}}
INGRESS = {"kind": "ingress", "host": "chat.acme.dev"}
SMALL: Group = {"memory": "256Mi", "memory_limit": "256Mi"}
ALMOST: Group = {"memory": "1Gi", "memory_limit": "2047Mi"}
KEYS: Group = {"api_keys": {"source": "generated"}}
ON_GPUS: Group = {"gpus": {"count": 1, "pool": "l4"}}
MEDIA_SLICE: Group = {"count": 1, "pool": "l4", "mig_profile": "1g.6gb+me"}
ON_SLICES: Group = {"gpus": {"count": 1, "pool": "l4", "mig_profile": "1g.6gb"}}
SINGLE: Group = {"device_plugin": {"mig_strategy": "single"}}
MIXED: Group = {"device_plugin": {"mig_strategy": "mixed"}}
VLLM = {"kind": "vllm", "image": f"vllm.dev/vllm/openai@sha256:{'0' * 64}"}
NODE_PORT = {"type": "NodePort", "port": 30080, "host": "10.0.0.1"}
OPEN: Group = {"policy": False}
CLIENTS: Group = {"client_cidrs": ["203.0.113.0/24"]}
EVENING = {"timezone": "UTC", "start": "0 8 * * *", "end": "0 18 * * *", "replicas": 2}
AWAKE = {"request_side": {"source": "query", "query": "sum(q)", "per_replica": 1}}
NO_TARGETS = {"waiting_per_replica": None, "running_per_replica": None}


def pool(**keys: object) -> Group:
    return {"gpu_pools": {"l4": {"gpu": "L4", "total": 4, **keys}}}


def chat(**keys: object) -> Group:
    """Changes of the model; ``None`` stands for no such key."""
    return {"models": {"chat": keys}}


def evening(**keys: object) -> Group:
    return chat(scaling={"schedules": [{**EVENING, **keys}]})


def asking(query: str) -> Group:
    return chat(scaling={"request_side": {"source": "query", "query": query, "per_replica": 1}})


def counted(**exposure: str) -> Group:
    """Requests that ingress-nginx counts at the model's exposure."""
    scaling = {"request_side": {"source": "ingress-nginx", "per_replica": 1}}
    return chat(scaling=scaling, exposure={**INGRESS, **exposure}, **KEYS)


def also(second: Group | None = None, **keys: object) -> Group:
    """A second model like the first, or with other changes."""
    return {"models": {"chat": keys, "code": {**SOUND["models"]["chat"], **(second or keys)}}}


# What is changed in a sound configuration, the key that is told, and what is said of it.
CASES: list[tuple[Group, str, str]] = [
    ({"models": {"chat": None}}, "models", "names no model"),
    (chat(resources={"memory": "4Gi"}), "models.chat.resources.memory", "more than memory_limit"),
    (chat(resources={"shared_memory": "2Gi"}), "models.chat.resources.shared_memory", "leaves nothing"),
    ({**pool(), **chat(**ON_GPUS, resources=SMALL)}, "models.chat.resources.memory_limit", "less than 1Gi"),
    ({**pool(), **chat(**ON_GPUS, resources=ALMOST, runtime=VLLM)}, "models.chat.resources.memory_limit", "less than 2Gi"),
    (chat(timing={"grace_seconds": 100}), "models.chat.timing.grace_seconds", "still answers"),
    (chat(objectives={"first_token_seconds": 2.6}), "models.chat.objectives.first_token_seconds", "no bucket"),
    (chat(objectives={"inter_token_p99_seconds": 0.6}), "models.chat.objectives.inter_token_p99_seconds", "no bucket"),
    (chat(objectives={"first_token_seconds": 20}), "models.chat.objectives.first_token_p99_seconds", "95 % do"),
    (chat(weights={**S3, "access_key": "a"}), "models.chat.weights.secret_key", "weights.access_key is given"),
    (chat(weights={**S3, "size": None}), "models.chat.weights.size", "is missing"),
    (chat(weights={**S3, "cache": {"size": "40Gi"}}), "models.chat.weights.size", "whose size is 40Gi"),
    (chat(weights={"source": "pvc", "claim": "c"}), "cluster.create_namespace", "makes the namespace llm"),
    ({"keda": {"mode": "install", "namespace": "llm"}}, "cluster.namespace", "for keda.namespace"),
    ({"cluster": {"namespace": "default"}}, "cluster.namespace", "set cluster.create_namespace to false"),
    ({"keda": {"mode": "install", "namespace": "kube-system"}}, "keda.namespace", "is in every cluster"),
    ({"monitoring": {"mode": "install", "namespace": "kube-public"}}, "monitoring.namespace", "is in every cluster"),
    ({"cluster": {"namespace": "dcgm-exporter"}, "gpu_metrics": {"mode": "install"}}, "cluster.namespace", "for gpu_metrics"),
    (chat(scaling={"min_replicas": 4}), "models.chat.scaling.min_replicas", "more than max_replicas"),
    (chat(scaling={"fallback_replicas": 4}), "models.chat.scaling.fallback_replicas", "outside min_replicas"),
    (chat(scaling={"min_replicas": 0}), "models.chat.scaling.min_replicas", "nothing that could wake"),
    (
        chat(scaling={"request_side": {"source": "ingress-nginx", "per_replica": 1}}),
        "models.chat.scaling.request_side.source",
        "no such exposure",
    ),
    (counted(class_name="traefik"), "models.chat.scaling.request_side.source", "no such exposure"),
    (asking("sum(gw_queue) by (queue)"), "models.chat.scaling.request_side.query", "has by after its closing bracket"),
    (chat(scaling={**NO_TARGETS, "max_replicas": 1}), "models.chat.scaling.waiting_per_replica", "no signal"),
    (evening(end="0 8 * * *"), "models.chat.scaling.schedules[0].end", "begins"),
    (evening(timezone="Europe/Belin"), "models.chat.scaling.schedules[0].timezone", "Europe/Berlin"),
    (evening(timezone="Mars"), "models.chat.scaling.schedules[0].timezone", "IANA"),
    (evening(start="99 8 * * 1-5"), "models.chat.scaling.schedules[0].start", "99 as its minute"),
    (evening(end="0 25 * * *"), "models.chat.scaling.schedules[0].end", "25 as its hour"),
    (evening(replicas=9), "models.chat.scaling.schedules[0].replicas", "more than"),
    (chat(scaling={"running_per_replica": 15}), "models.chat.scaling.running_per_replica", "never exceeded"),
    (chat(scaling={"waiting_per_replica": 60}), "models.chat.scaling.waiting_per_replica", "never exceeded"),
    (chat(scaling={"gpu_percent": 60}), "models.chat.scaling.gpu_percent", "the model has none"),
    (
        {**pool(), **chat(**ON_GPUS, scaling={"gpu_percent": 60}), "device_plugin": {"sharing": "mps", "shares": 2}},
        "models.chat.scaling.gpu_percent",
        "2 pods share",
    ),
    (
        {**pool(), **chat(**ON_GPUS, scaling={"gpu_percent": 60}), "gpu_metrics": {"mode": "none"}},
        "models.chat.scaling.gpu_percent",
        "measured by nobody",
    ),
    (chat(exposure=INGRESS), "models.chat.api_keys.source", "its exposure is public"),
    (chat(endpoint={"type": "LoadBalancer", "tls": True}), "models.chat.api_keys.source", "its endpoint is public"),
    (chat(endpoint={**NODE_PORT, "host": "node"}), "models.chat.api_keys.source", "who reaches a node"),
    (chat(endpoint={**NODE_PORT, "host": "8.8.8.8"}), "models.chat.api_keys.source", "who reaches a node"),
    (chat(endpoint=NODE_PORT, network={**OPEN, **CLIENTS}), "models.chat.network.client_cidrs", "keeps nobody out"),
    (chat(network={**OPEN, "client_namespaces": ["edge"]}), "models.chat.network.client_namespaces", "keeps nobody out"),
    (
        chat(endpoint={"type": "LoadBalancer", "tls": True}, network={**OPEN, "client_cidrs": []}, **KEYS),
        "models.chat.network.client_cidrs",
        "keeps nobody out",
    ),
    (chat(api_keys={"source": "given", "keys": Secret("# none\n")}), "models.chat.api_keys.keys", "has no key"),
    (
        {**pool(), **chat(**ON_GPUS, runtime=VLLM, api_keys={"source": "given", "keys": Secret("# two\none\ntwo\n")})},
        "models.chat.api_keys.keys",
        "are several",
    ),
    (chat(endpoint={"type": "LoadBalancer"}, **KEYS), "models.chat.endpoint.tls", "travel in clear"),
    (chat(endpoint={"type": "LoadBalancer", "internal": True}), "models.chat.endpoint.internal", "by itself"),
    (
        chat(endpoint={"type": "LoadBalancer", "tls": True}, exposure=INGRESS, **KEYS),
        "models.chat.endpoint.type",
        "second way in",
    ),
    (chat(exposure={**INGRESS, "issuer": "le"}, **KEYS), "models.chat.exposure.issuer", "tls_secret is missing"),
    (chat(exposure={**INGRESS, "timeout_seconds": 9}, **KEYS), "models.chat.exposure.timeout_seconds", "cut off"),
    (also(endpoint=NODE_PORT), "models.code.endpoint.port", "models.chat.endpoint"),
    (also(exposure=INGRESS, **KEYS), "models.code.exposure.host", "models.chat.exposure"),
    (chat(network={"client_cidrs": ["10.0.0.1/8"]}), "models.chat.network.client_cidrs[0]", "host bits"),
    (chat(network={"client_cidrs": ["10.0.0.1"]}), "models.chat.network.client_cidrs[0]", "how many of its bits"),
    (pool(gpu="L5"), "gpu_pools.l4.gpu", "no GPU that is known"),
    ({"device_plugin": {"shares": 2}}, "device_plugin.shares", "sharing = none"),
    ({"device_plugin": {"sharing": "mps"}}, "device_plugin.shares", "without effect"),
    ({"device_plugin": {"sharing": "mps", "shares": 2, "mig_strategy": "single"}}, "device_plugin.sharing", "refuses MPS"),
    (
        {"device_plugin": {"sharing": "time-slicing", "shares": 2, "mig_strategy": "mixed"}},
        "device_plugin.sharing",
        "whole GPUs only",
    ),
    ({"device_plugin": {"driver": True}}, "device_plugin.driver", "GPU Operator only"),
    ({"device_plugin": {"mode": "gpu-operator", "node_selector": {"a": "b"}}}, "device_plugin.node_selector", "itself"),
    (
        {
            "gpu_pools": {"a": {"gpu": "L4", "total": 1}, "b": {"gpu": "L4", "total": 1, "runtime_class": "nvidia"}},
            "device_plugin": {"mode": "install"},
        },
        "gpu_pools",
        "different runtime classes",
    ),
    (chat(gpus={"count": 1}), "models.chat.gpus.pool", "is missing"),
    (chat(gpus={"count": 1, "pool": "h100"}), "models.chat.gpus.pool", "no entry of gpu_pools"),
    ({**pool(), **chat(gpus={"pool": "l4"})}, "models.chat.gpus.pool", "gpus.count = 0"),
    (chat(runtime=VLLM), "models.chat.gpus.count", "stock image needs one"),
    (
        {**pool(), **chat(gpus={"count": 2, "pool": "l4"}), "device_plugin": {"sharing": "mps", "shares": 2}},
        "models.chat.gpus.count",
        "several shares",
    ),
    (
        {**pool(gpu="A30"), **chat(gpus={"count": 1, "pool": "l4", "mig_profile": "1g.6gb"})},
        "models.chat.gpus.mig_profile",
        "offered by nobody",
    ),
    (
        {**pool(gpu="A30"), **chat(gpus={"count": 2, "pool": "l4", "mig_profile": "1g.6gb"})},
        "models.chat.gpus.mig_profile",
        "cannot be joined",
    ),
    (
        {**pool(gpu="A30"), **chat(gpus={"count": 1, "pool": "l4", "mig_profile": "1g.7gb"})},
        "models.chat.gpus.mig_profile",
        "no profile of pool l4",
    ),
    ({**pool(gpu="A30"), **SINGLE, **also(**ON_SLICES, second=ON_GPUS)}, "models.code.gpus.mig_profile", "not the 1g.6gb"),
    ({**pool(gpu="A30"), **SINGLE, **also(**ON_GPUS, second=ON_SLICES)}, "models.code.gpus.mig_profile", "not the whole GPU"),
    ({**pool(total=2), **chat(**ON_GPUS)}, "models.chat.scaling.max_replicas", "asks for 3 GPUs"),
    (
        {**pool(gpu="A30", total=1), **MIXED, **chat(**ON_SLICES, scaling={"max_replicas": 5})},
        "models.chat.scaling.max_replicas",
        "asks for 5 slices 1g.6gb, and pool l4 offers 4",
    ),
    (
        {**pool(gpu="A30", total=1), **MIXED, **chat(gpus=MEDIA_SLICE, scaling={"max_replicas": 2})},
        "models.chat.scaling.max_replicas",
        "asks for 2 slices 1g.6gb+me, and pool l4 offers 1",
    ),
    (
        {**pool(total=1), **chat(**ON_GPUS), "device_plugin": {"sharing": "mps", "shares": 2}},
        "models.chat.scaling.max_replicas",
        "asks for 3 shares of GPUs, and pool l4 offers 2",
    ),
    (
        {**pool(gpu="A30", total=1), **MIXED, **chat(**ON_SLICES, scaling={"max_replicas": 4}, placement={"rollout": "surge"})},
        "models.chat.placement.rollout",
        "needs 1 free slices 1g.6gb, and pool l4 has 0 left",
    ),
    (
        {**pool(total=3), **chat(**ON_GPUS, placement={"rollout": "surge"})},
        "models.chat.placement.rollout",
        "needs 1 free GPUs",
    ),
    (
        {**pool(total="autoscaled"), **chat(**ON_GPUS, weights=ONE_NODE, placement={"rollout": "surge"})},
        "models.chat.placement.rollout",
        "keeps the volume on the old pod's node",
    ),
    ({**pool(), **chat(**ON_GPUS), "cost": {"budget_per_month": 9}}, "cost.budget_per_month", "price_per_hour is missing"),
]  # fmt: skip


def changed(changes: Group) -> Group:
    """The sound configuration with the changes merged into its groups; a choice of another kind replaces the group."""
    return merged(copy.deepcopy(SOUND), changes)


def merged(group: Group, changes: Group) -> Group:
    for name, value in changes.items():
        before = group.get(name)
        if isinstance(before, dict) and isinstance(value, dict) and not {"source", "type", "kind"} & value.keys():
            merged(before, value)
        elif value is None and isinstance(before, dict):
            del group[name]
        else:
            group[name] = copy.deepcopy(value)
    return group


@pytest.mark.parametrize(("changes", "key", "says"), CASES, ids=[f"{key}: {says}" for _, key, says in CASES])
def test_a_contradiction_names_key_value_and_remedy(changes: Group, key: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(changed(changes))
    found = [finding for finding in refused.value.findings if finding.key == key and says in str(finding)]
    assert found, str(refused.value)
    assert found[0].value
    assert found[0].remedy.endswith((".", "?"))


@pytest.mark.parametrize(
    ("time", "taken"),
    [
        ("0 8 * * 1-5", True),
        ("*/5 7 1 JAN,jul ?", True),
        ("0-30/10,45 22/2 1-15 1-12 sun-sat", True),
        ("59 23 31 12 6", True),
        ("0 22-6 * * *", False),  # over midnight
        ("0 8 * * 7", False),  # Sunday is 0
        ("0 8 * * fri-mon", False),
        ("0 8 0 * *", False),
        ("0 8 * 13 *", False),
        ("0 8 * mon *", False),
        ("*/0 8 * * *", False),
        ("TZ=UTC 0 8 * *", False),
    ],
)
def test_times_are_what_keda_takes(time: str, taken: bool) -> None:
    assert (cron.refused(time) is None) == taken


@pytest.mark.parametrize(
    ("query", "taken"),
    [
        ("sum(gw_queue)", True),
        ("sum(max(gw_queue) by (queue))", True),
        ('sum(rate(gw{a=") by ("}[2m])) or vector(0)', True),
        ("sum(gw_queue) / count(gw_up == 1)", True),
        ("sum(gw_queue) BY(queue) or vector(0)", False),
        ("sum(gw_queue) without (pod)", False),
        ("sum(gw_queue)\n  by (pod)", False),
        ("sum(gw_queue) by (queue) + sum(gw_running)", False),
    ],
)
def test_a_query_of_ones_own_gives_one_series(query: str, taken: bool) -> None:
    assert (not list(scaling.one_series(query))) == taken


def test_a_host_without_time_zones_refuses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    parse(changed(evening(timezone="Europe/Belin")))


def test_models_of_different_pools_have_slices_of_different_sizes_under_one_name() -> None:
    pools = {"gpu_pools": {"l4": {"gpu": "A30", "total": 4}, "l40": {"gpu": "L4", "total": 4}}}
    parse(changed({**pools, **SINGLE, **also(**ON_SLICES, second={"gpus": {"count": 1, "pool": "l40"}})}))


def test_slices_that_a_pool_has_are_not_refused() -> None:
    free = {"scaling": {"max_replicas": 3}, "placement": {"rollout": "surge"}}
    parse(changed({**pool(gpu="A30", total=1), **MIXED, **chat(**ON_SLICES, **free)}))


@pytest.mark.parametrize(
    "changes",
    [
        chat(weights={**S3, "size": None, "cache": {"size": "40Gi"}}),
        chat(resources={**SMALL, "shared_memory": "255Mi"}),
        {**pool(), **chat(**ON_GPUS, runtime=VLLM, scaling={"waiting_per_replica": 200})},
        {**pool(), **chat(**ON_GPUS, runtime=VLLM, api_keys={"source": "given", "keys": Secret("# one\none\n")})},
        chat(api_keys={"source": "given", "keys": Secret("one\ntwo\n")}),
        counted(),
        counted(class_name="nginx-internal"),
        {"cluster": {"namespace": "default", "create_namespace": False}, "keda": {"namespace": "kube-system"}},
        chat(endpoint={**NODE_PORT, "host": "node"}, network=CLIENTS),
        chat(endpoint={**NODE_PORT, "host": "node"}, **KEYS),
        chat(endpoint={**NODE_PORT, "host": "localhost"}),
        chat(endpoint={"type": "LoadBalancer", "tls": True}, network={**OPEN, **CLIENTS}, **KEYS),
        {**pool(total="autoscaled"), **chat(**ON_GPUS, weights=ONE_NODE)},
        {**pool(total="autoscaled"), **chat(**ON_GPUS, weights=HUB, placement={"rollout": "surge"})},
        chat(weights=ONE_NODE, placement={"rollout": "surge"}),
        chat(objectives={"first_token_seconds": 20, "first_token_p99_seconds": None}),
    ],
    ids=[
        "a cache is room",
        "little memory on a CPU",
        "vLLM's queue has no end",
        "one key for vLLM",
        "two keys",
        "nginx",
        "its own class",
        "namespaces of the cluster's own that are not made",
        "a node port for some",
        "a node port with a key",
        "a node port of this machine",
        "a balancer for some",
        "one node in place",
        "a surge without cache",
        "a surge that may stay on its node",
        "no tail",
    ],
)
def test_what_goes_together_is_not_refused(changes: Group) -> None:
    parse(changed(changes))


def test_of_encrypted_keys_nothing_is_said() -> None:
    mapping = changed({**pool(), **chat(**ON_GPUS, runtime=VLLM)})
    mapping["models"]["chat"]["api_keys"] = {"source": "given", "keys": Encrypted()}
    parse(mapping)


def test_a_gpu_that_nobody_knows_is_told_once() -> None:
    with pytest.raises(ConfigError) as refused:
        parse(changed({**pool(gpu="L5", total=1), **MIXED, **chat(**ON_SLICES, placement={"rollout": "surge"})}))
    assert [finding.key for finding in refused.value.findings] == ["gpu_pools.l4.gpu"]


def test_every_check_has_a_case() -> None:
    seen: set[Place] = set()
    checks = [Check(check.group, check.keys, watched(check.find, seen)) for check in CHECKS]
    for changes, *_ in CASES:
        Parser(checks).build(StackConfig, "", changed(changes))
    assert places(endpoint, gpus, scaling, server) - seen == set()
