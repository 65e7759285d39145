"""What is said of a whole stack before it is deployed."""

import copy
import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra.config.files import from_files
from infra.config.loader import parse
from infra.config.parsing import Secret
from infra.findings import Severity
from infra.gpus import find_gpu
from infra.plan import cost, examples, exposure, ineffective, nodes, rollouts, shares, timing, volumes
from infra.plan.fit.memory import CUDA_CONTEXT_BYTES, MIB
from infra.plan.plan import Plan, plan
from infra.plan.report import report
from infra.project import ROOT
from infra.rollout import IN_PLACE, SURGE, Rollout, rollout_of
from tests.places import Place, places, watched

Mapping = dict[str, Any]
EDGE: Mapping = {"kind": "ingress", "host": "chat.acme.dev"}
EAGER: Mapping = {"kind": "transformers", "enforce_eager": True}
S3: Mapping = {"source": "s3", "bucket": "models", "prefix": "chat"}
VLLM: Mapping = {"kind": "vllm", "image": f"vllm.dev/vllm/openai@sha256:{'0' * 64}"}
MORNING: Mapping = {"timezone": "Europe/Berlin", "start": "0 8 * * 1-5", "end": "0 10 * * 1-5"}
CROWD: Mapping = {"device_plugin/shares": 9}
SHARED: Mapping = {
    "device_plugin/sharing": "time-slicing",
    "device_plugin/shares": 2,
    "chat/scaling/gpu_percent": None,
}
TOLD: Mapping = {"kind": "transformers", "kv_cache_mib": 9000}
GATEWAY: Mapping = {"kind": "gateway", "host": "chat.acme.dev", "gateway": "public", "namespace": "edge", "tls": False}

# The shipped stack, what is changed in it, and what is said of that.
CASES: list[tuple[str, Mapping, str, str, str]] = [
    ("prod", {"chat/config_file": "models/none.json"}, "error", "chat.config_file", "cannot be read"),
    ("prod", {"gpu_pools/large/gpu": "T4"}, "error", "chat.server.dtype", "bfloat16"),
    ("prod", {"gpu_pools/large/gpu": "T4"}, "error", "chat.gpus.pool", "Would fit"),
    ("prod", {"chat/server/max_running_requests": 64}, "warning", "chat.server.max_running_requests", "at once"),
    ("prod", {"chat/server/max_model_len": 100_000}, "error", "chat.server.max_model_len", "40960"),
    ("prod", {"cost/budget_per_month": 100}, "error", "cost.budget_per_month", "5,548.00 USD"),
    ("prod", {"chat/timing/startup_seconds": 60}, "error", "chat.timing.startup_seconds", "82 s at 200 MB/s"),
    ("prod", {"chat/timing/drain_seconds": 30}, "warning", "chat.timing.drain_seconds", "answer_seconds = 300"),
    ("prod", {"chat/scaling/cooldown_seconds": 60}, "warning", "chat.scaling.cooldown_seconds", "no effect"),
    ("prod", {"chat/scaling/down_window_seconds": 60}, "warning", "chat.scaling.down_window_seconds", "idle"),
    ("prod", {"gpu_pools/large/spot_notice_seconds": 120}, "warning", "chat.timing.grace_seconds", "spot"),
    ("prod", {"chat/weights/cache": {"size": "40Gi"}}, "warning", "chat.weights.cache.storage_class", "several nodes"),
    ("prod", {"chat/weights/cache/access_mode": "ReadWriteOnce"}, "warning", "chat.weights.cache.access_mode", "one node"),
    ("prod", {"chat/weights/cache/size": "15Gi"}, "error", "chat.weights.cache.size", "weights, 15.3 GiB"),
    ("prod", {"chat/weights": {**S3, "size": "15Gi"}}, "error", "chat.weights.size", "weights, 15.3 GiB"),
    ("prod", {"gpu_pools/large/node_selector": {}}, "warning", "gpu_pools.large.node_selector", "runs nowhere"),
    ("prod", {"chat/exposure": EDGE}, "warning", "chat.exposure.tls_secret", "travel in clear"),
    ("prod", {"chat/exposure": {**EDGE, "class_name": "traefik"}}, "warning", "chat.exposure.class_name", "timeout"),
    ("prod", {"chat/exposure": GATEWAY}, "warning", "chat.exposure.tls", "travel in clear"),
    ("prod", {"chat/runtime": VLLM}, "warning", "chat.server.max_waiting_requests", "nobody is refused"),
    ("prod", {"chat/scaling/schedules": [{**MORNING, "replicas": 2}]}, "warning", "chat.scaling.schedules[0].replicas", "always"),
    ("prod", {**SHARED, "chat/runtime": VLLM}, "error", "chat.runtime.gpu_memory_utilization", "Use 0.48"),
    ("prod", {**SHARED, **CROWD, "chat/runtime": VLLM}, "error", "chat.runtime.gpu_memory_utilization", "Lower"),
    ("prod", SHARED, "error", "chat.runtime.kv_cache_mib", "2 pods share the memory of one L40S"),
    ("prod", {**SHARED, "chat/runtime": TOLD}, "error", "chat.runtime.kv_cache_mib", "leave"),
    (
        "prod",
        {"chat/gpus/count": 2, "gpu_pools/large/total": 9, "chat/runtime": EAGER},
        "warning",
        "chat.runtime.enforce_eager",
        "this one has 2",
    ),
    ("dev", {"gpu_pools/small/total": 1, "chat/scaling/max_replicas": 1}, "warning", "chat.placement.rollout", "downtime"),
    (
        "dev",
        {
            "chat/scaling/min_replicas": 0,
            "chat/scaling/cooldown_seconds": 60,
            "chat/scaling/request_side": {"source": "query", "query": "sum(q)", "per_replica": 1},
        },
        "error",
        "chat.scaling.cooldown_seconds",
        "go to sleep while it wakes",
    ),
]  # fmt: skip


def changed(stack: str, changes: Mapping) -> Mapping:
    """The configuration of a shipped stack with the values at paths such as ``models/chat/gpus/count`` replaced."""
    mapping: Mapping = copy.deepcopy(from_files(stack))
    for path, value in changes.items():
        *groups, last = (f"models/{path}" if path.startswith("chat/") else path).split("/")
        inner = mapping
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = value
    return mapping


def of(stack: str, changes: Mapping | None = None) -> Plan:
    return plan(parse(changed(stack, changes or {})))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str | None]]]:
    """A hub that has one file; what it was asked for, with which authorization."""
    asked: list[tuple[str, str | None]] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("authorization")))
            self.send_response(200)
            self.end_headers()
            self.wfile.write((ROOT / "models" / "Qwen3-0.6B.json").read_bytes())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield asked
        server.shutdown()


@pytest.mark.parametrize("stack", ["dev", "prod"])
def test_the_shipped_stacks_fit_and_have_nothing_open_but_their_examples(stack: str) -> None:
    found = of(stack)
    assert found.findings == found.examples
    assert "image.repository" in {finding.key for finding in found.examples}
    assert found.models["chat"].fit is not None


@pytest.mark.parametrize(("stack", "changes", "severity", "key", "says"), CASES)
def test_what_is_wrong_shows_before_it_is_paid_for(
    stack: str, changes: Mapping, severity: str, key: str, says: str
) -> None:
    key = f"models.{key}" if key.startswith("chat") else key
    found = [finding for finding in of(stack, changes).findings if finding.key == key]
    assert any(says in str(finding) and finding.severity == severity for finding in found), [str(one) for one in found]


@pytest.mark.parametrize(
    "changes",
    [
        {"chat/exposure": {**EDGE, "tls_secret": "chat-tls", "class_name": "nginx-internal"}},
        {
            "chat/exposure": {
                **EDGE,
                "tls_secret": "chat-tls",
                "class_name": "traefik",
                "annotations": {"acme.dev/wait": "1h"},
            }
        },
        {"chat/exposure": {**GATEWAY, "tls": True}},
        {"gpu_pools/large/node_selector": {}, "device_plugin/node_selector": {"acme.dev/gpu": "yes"}},
        {"gpu_pools/large/node_selector": {}, "device_plugin/mode": "existing"},
        {"chat/runtime": VLLM, "chat/server/max_waiting_requests": 64},
        {"chat/runtime": EAGER},
        {"chat/scaling/schedules": [{**MORNING, "replicas": 3}]},
        {"chat/weights/cache/size": "16Gi"},
    ],
)
def test_what_is_as_it_should_be_needs_no_word(changes: Mapping) -> None:
    found = of("prod", changes)
    assert found.findings == found.examples


def two_models(total: int = 5, most: int = 4) -> Mapping:
    mapping = changed("prod", {"gpu_pools/large/total": total, "chat/scaling/max_replicas": most})
    mapping["models"]["code"] = copy.deepcopy(mapping["models"]["chat"])
    mapping["models"]["code"]["exposure"]["host"] = "code.acme.dev"
    return mapping


def test_every_finding_of_the_plan_has_a_case() -> None:
    seen: set[Place] = set()
    for mapping in (
        two_models(),
        two_models(total=3, most=3),
        *(changed(stack, changes) for stack, changes, *_ in CASES),
    ):
        config = parse(mapping)
        found = [watched(examples.findings, seen)(config), watched(cost.findings, seen)(config)]
        found.append(watched(rollouts.shared_pools, seen)(config))
        found.append(watched(nodes.findings, seen)(config))
        for key, model in plan(config).models.items():
            found.append(watched(timing.findings, seen)(config, key, model.start))
            found.append(watched(rollouts.findings, seen)(config, key))
            found.append(watched(exposure.findings, seen)(config, key))
            found.append(watched(ineffective.findings, seen)(config, key))
            checkpoint = model.fit.checkpoint if model.fit is not None else None
            found.append(watched(volumes.findings, seen)(config, key, checkpoint))
            found.append(watched(shares.findings, seen)(config, key, model.fit))
        for finding in itertools.chain(*found):
            assert finding.key
            assert finding.value
            assert finding.remedy.endswith(".")
    assert places(timing, cost, rollouts, examples, exposure, ineffective, nodes, shares, volumes) - seen == set()


def test_models_that_count_on_the_same_gpus_are_told() -> None:
    found = {finding.key: finding for finding in plan(parse(two_models())).findings}
    assert "3 GPUs short when chat, code" in found["gpu_pools.large.total"].problem
    assert found["gpu_pools.large.total"].severity is Severity.WARNING


def test_models_whose_fewest_replicas_find_no_gpu_are_refused() -> None:
    mapping = two_models(total=3, most=3)
    (short,) = (one for one in plan(parse(mapping)).errors if one.key == "gpu_pools.large.total")
    assert "4 GPUs that chat, code need" in short.problem
    mapping["gpu_pools"]["large"]["total"] = 4
    assert "gpu_pools.large.total" not in {one.key for one in plan(parse(mapping)).errors}


@pytest.mark.parametrize(("sharing", "shares"), [("none", 1), ("time-slicing", 2)])
def test_slices_are_counted_as_parts_of_gpus(sharing: str, shares: int) -> None:
    mapping = two_models()
    mapping["device_plugin"] = {"mig_strategy": "single", "sharing": sharing, "shares": shares}
    mapping["gpu_pools"]["large"] |= {"gpu": "H100-80GB", "total": 1}
    for model in mapping["models"].values():
        model["gpus"] = {"count": 1, "pool": "large", "mig_profile": "2g.20gb"}
        model["scaling"] = {"max_replicas": 3 * shares}
    (short,) = (one for one in plan(parse(mapping)).findings if one.key == "gpu_pools.large.total")
    assert "1 GPUs short" in short.problem
    for model in mapping["models"].values():
        model["scaling"] = {"max_replicas": 1}
    assert "gpu_pools.large.total" not in {one.key for one in plan(parse(mapping)).findings}


@pytest.mark.parametrize(("profile", "total", "in_place"), [("1g.6gb", 1, 4), ("1g.6gb+me", 3, 3)])
def test_an_update_surges_where_a_slice_is_left(profile: str, total: int, in_place: int) -> None:
    slices = {"gpu_pools/small": {"gpu": "A30", "total": total}, "device_plugin/mig_strategy": "mixed"}
    slices["chat/gpus"] = {"count": 1, "pool": "small", "mig_profile": profile}
    rollout = [
        rollout_of(parse(changed("dev", {**slices, "chat/scaling/max_replicas": most})), "chat")
        for most in (in_place - 1, in_place)
    ]
    assert rollout == [SURGE, IN_PLACE]


@pytest.mark.parametrize(("mode", "rollout"), [("ReadWriteOnce", IN_PLACE), ("ReadWriteMany", SURGE)])
def test_an_update_waits_for_no_volume_that_the_old_pod_holds(mode: str, rollout: Rollout) -> None:
    cache = {"size": "10Gi", "storage_class": "gp3", "access_mode": mode}
    alone = {"chat/weights/cache": cache, "chat/scaling/max_replicas": 1}
    assert rollout_of(parse(changed("dev", alone)), "chat") == rollout
    told = {finding.key for finding in of("dev", alone).warnings}
    assert ("models.chat.placement.rollout" in told) == (rollout == IN_PLACE)
    assert "models.chat.weights.cache.access_mode" not in told


def test_a_surge_on_a_volume_of_one_node_is_told() -> None:
    cache = {"size": "10Gi", "storage_class": "gp3", "access_mode": "ReadWriteOnce"}
    surge = {"chat/scaling/max_replicas": 1, "chat/placement": {"rollout": "surge"}, "gpu_pools/small/total": 2}
    told = {finding.key: finding for finding in of("dev", {"chat/weights/cache": cache, **surge}).warnings}
    assert "update that surges" in told["models.chat.weights.cache.access_mode"].problem


def test_pods_that_share_a_gpu_have_a_part_of_its_memory_each() -> None:
    quarter = {**SHARED, "device_plugin/shares": 4}
    vllm = {**VLLM, "gpu_memory_utilization": 0.23}
    small = {"chat/config_file": "models/Qwen3-0.6B.json"}
    assert "gpus.pool = L40S, shared by 4" in str(of("prod", {**quarter, "chat/runtime": vllm}).errors[0])
    assert of("prod", {**quarter, **small, "chat/runtime": vllm}).errors == ()
    (missing,) = of("prod", {**quarter, **small}).errors
    mib = int(missing.remedy.removeprefix("Set it to ").removesuffix("."))
    found = of("prod", {**quarter, **small, "chat/runtime": {**TOLD, "kv_cache_mib": mib}})
    assert found.errors == ()
    fit = found.models["chat"].fit
    assert fit is not None
    assert fit.memory is not None
    taken = fit.memory.weights + fit.memory.activations + fit.memory.overhead + mib * MIB
    assert 4 * (taken + CUDA_CONTEXT_BYTES) <= find_gpu("L40S").memory_bytes


def test_keys_and_values_in_fp8_are_counted_so_and_offered() -> None:
    long = {"gpu_pools/large/gpu": "L4", "chat/server/max_model_len": 40960, "chat/server/max_running_requests": 16}
    (short,) = of("prod", {**long, "chat/runtime": VLLM}).errors
    assert "2.1 GiB are missing" in short.problem
    assert "runtime.kv_cache_dtype fp8" in short.remedy
    assert of("prod", {**long, "chat/runtime": {**VLLM, "kv_cache_dtype": "fp8"}}).errors == ()


def weights(quantization: str | None) -> int:
    """Bytes of the model's weights in vLLM, which has no fault to find in it."""
    fit = of("prod", {"chat/runtime": {**VLLM, "quantization": quantization}}).models["chat"].fit
    assert fit is not None
    assert fit.memory is not None
    assert fit.findings == ()
    return fit.memory.weights


def test_vllm_quantises_while_it_loads() -> None:
    assert weights("bitsandbytes") < weights("fp8") < weights(None)


def test_what_is_read_are_the_weights_as_they_are_published() -> None:
    plain, smaller, wider = (
        of("prod", changes).models["chat"].start
        for changes in (
            {"chat/runtime": VLLM},
            {"chat/runtime": {**VLLM, "quantization": "fp8"}},
            {"chat/runtime": VLLM, "chat/server/dtype": "float32"},
        )
    )
    assert plain == smaller == wider


def most_of(stack: str, changes: Mapping) -> float:
    """What the GPUs cost at the most replicas."""
    found = of(stack, changes).cost
    assert found is not None
    return found.maximum


def test_a_share_of_a_gpu_costs_a_share_where_the_pool_is_there_anyway() -> None:
    fixed = {"gpu_pools/small/total": 4}
    shared = {**fixed, "device_plugin/sharing": "time-slicing", "device_plugin/shares": 4}
    assert most_of("dev", shared) == pytest.approx(most_of("dev", fixed) / 4)


@pytest.mark.parametrize(
    ("replicas", "changes", "gpus"),
    [
        (1, {"device_plugin/sharing": "time-slicing", "device_plugin/shares": 48}, 1),
        (5, {"device_plugin/sharing": "time-slicing", "device_plugin/shares": 4}, 2),
        (7, {"device_plugin/mig_strategy": "mixed", "chat/gpus/mig_profile": "1g.10gb"}, 1),
        (8, {"device_plugin/mig_strategy": "mixed", "chat/gpus/mig_profile": "1g.10gb"}, 2),
        (3, {"device_plugin/mig_strategy": "mixed", "chat/gpus/mig_profile": "1g.10gb+me"}, 3),
    ],
)
def test_of_an_autoscaled_pool_whole_gpus_are_paid(replicas: int, changes: Mapping, gpus: int) -> None:
    small = {"gpu_pools/small/gpu": "H100-80GB", "gpu_pools/small/price_per_hour": 4.0}
    assert most_of("dev", {**small, **changes, "chat/scaling/max_replicas": replicas}) == gpus * 4.0 * 730


def test_the_models_of_a_pool_share_its_gpus() -> None:
    mapping = changed("dev", {"device_plugin/sharing": "time-slicing", "device_plugin/shares": 4})
    mapping["models"]["code"] = copy.deepcopy(mapping["models"]["chat"])
    found = plan(parse(mapping)).cost
    assert found is not None
    assert (found.minimum, found.maximum) == (511.0, 511.0)  # of 2 and of 4 shares


def test_without_a_price_there_is_no_cost_and_no_failure() -> None:
    mapping = changed("dev", {})
    del mapping["gpu_pools"]["small"]["price_per_hour"]
    assert plan(parse(mapping)).cost is None


def test_a_model_that_cannot_be_asked_about_is_a_warning() -> None:
    mapping = changed("dev", {"chat/weights/endpoint": "http://127.0.0.1:9"})
    del mapping["models"]["chat"]["config_file"]
    (finding,) = (one for one in plan(parse(mapping)).findings if one.key == "models.chat.weights.repository")
    assert finding.severity is Severity.WARNING
    assert "fit not checked" in finding.problem


def test_the_hub_is_asked_for_the_pinned_revision_with_the_token(hub: list[tuple[str, str | None]]) -> None:
    mapping = changed("dev", {"models/chat/weights/token": Secret("hf_token")})
    del mapping["models"]["chat"]["config_file"]
    found = plan(parse(mapping))
    revision = mapping["models"]["chat"]["weights"]["revision"]
    assert hub == [(f"/Qwen/Qwen3-0.6B/resolve/{revision}/config.json", "Bearer hf_token")]
    assert found.models["chat"].fit is not None


def test_weights_on_this_machine_speak_for_themselves(tmp_path: Path) -> None:
    mapping = changed("local", {"chat/weights/path": str(tmp_path)})
    config = json.loads((Path(__file__).parents[2] / "models" / "Qwen3-8B.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "models.chat.resources.memory_limit" in {finding.key for finding in plan(parse(mapping)).errors}


def test_the_report_tells_no_secret() -> None:
    mapping = changed("prod", {"chat/weights/token": Secret("hf_registry.example.org")})
    config = parse(mapping)
    found = plan(config)
    assert "models.chat.weights.token" in {finding.key for finding in found.examples}
    assert "hf_" not in report(config, found)
