"""What the signals ask of Prometheus, and what it answers, by promtool."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from infra.config.schema import GpuMetrics, IngressRequests, QueryRequests, Scaling
from infra.signals import RATE_WINDOW, Signal, signals
from infra.workload import Workload
from local.toolchain import Tools
from service import metric_names

WORKLOAD = Workload(namespace="llm", name="chat", served_model='org/"chat"')
EVERY = Scaling(kv_cache_percent=80.0, gpu_percent=60.0)
# The namespace of the model's Ingress, as a scrape of ingress-nginx renames or keeps it.
RENAMED = {"exported_namespace": "llm", "namespace": "ingress-nginx"}
KEPT = {"namespace": "llm"}
Ask = Callable[..., None]


def found(name: str, scaling: Scaling = EVERY, metrics: GpuMetrics | None = None, *, sliced: bool = False) -> Signal:
    (signal,) = (one for one in signals(scaling, WORKLOAD, metrics or GpuMetrics(), sliced=sliced) if one.name == name)
    return signal


@pytest.fixture
def ask(tmp_path: Path, tools: Tools) -> Ask:
    """Asks promtool for the value of a query over series that stay as they are; None: no series."""

    def run(query: str, series: dict[str, str], value: float | None, minutes: int = 3) -> None:
        sample = [] if value is None else [{"labels": "{}", "value": value}]
        test = {
            "interval": "15s",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [{"expr": query, "eval_time": f"{minutes}m", "exp_samples": sample}],
        }
        file = tmp_path / "signal.yaml"
        file.write_text(
            yaml.safe_dump({"rule_files": [], "evaluation_interval": "15s", "fuzzy_compare": True, "tests": [test]})
        )
        command = [str(tools.promtool), "test", "rules", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def series(metric: str, **labels: str) -> str:
    pairs = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{metric}{{{pairs}}}"


def pod(metric: str, name: str, **labels: str) -> str:
    every = {"namespace": "llm", "service": "chat", "model_name": 'org/\\"chat\\"', "pod": name, **labels}
    return series(metric, **every)


def gpu(name: str, prefix: str = "", metric: str = "DCGM_FI_DEV_GPU_UTIL", **labels: str) -> str:
    workload = {"namespace": "llm", "pod": name, **labels}
    own = {"namespace": "gpu-metrics", "pod": "dcgm-abcde"} if prefix else {}
    return series(metric, gpu="0", **own, **{f"{prefix}{label}": value for label, value in workload.items()})


def test_queue_and_running_requests_lead_and_every_target_is_per_replica() -> None:
    assert [signal.name for signal in signals(Scaling(), WORKLOAD, GpuMetrics())] == ["waiting", "running"]
    for signal in signals(EVERY, WORKLOAD, GpuMetrics()):
        assert signal.metric_type == "AverageValue"
    assert metric_names.REQUESTS_WAITING in found("waiting").query


@pytest.mark.engine
@pytest.mark.parametrize(
    ("name", "metric", "value"),
    [
        ("waiting", metric_names.REQUESTS_WAITING, 7),
        ("running", metric_names.REQUESTS_RUNNING, 7),
        ("kv-cache", metric_names.KV_CACHE_USAGE, 700),
    ],
)
def test_a_query_gives_one_series_for_many_pods_and_none_for_no_pod(
    ask: Ask, name: str, metric: str, value: float
) -> None:
    others = {pod(metric, "c", namespace="other"): "50x20", pod(metric, "d", service="code"): "60x20"}
    ask(found(name).query, {pod(metric, "a"): "3x20", pod(metric, "b"): "4x20", **others}, value)
    ask(found(name).query, others, None)


@pytest.mark.engine
@pytest.mark.parametrize(("honor_labels", "prefix"), [(True, ""), (False, "exported_")])
def test_gpu_utilisation_counts_each_pod_of_the_model_once(ask: Ask, honor_labels: bool, prefix: str) -> None:
    query = found("gpu", metrics=GpuMetrics(honor_labels=honor_labels)).query
    mine = {
        gpu("chat-7d9f8c-abcde", prefix): "90x20",
        gpu("chat-7d9f8c-abcde", prefix, UUID="second"): "70x20",
        gpu("chat-7d9f8c-fghij", prefix): "30x20",
    }
    others = {
        gpu("chat-long-7d9f8c-abcde", prefix): "100x20",
        gpu("chat-7d9f8c-abcde", prefix, namespace="other"): "100x20",
        series("DCGM_FI_DEV_GPU_UTIL", gpu="7"): "100x20",  # idle: of no pod
    }
    ask(query, {**mine, **others}, 120)
    ask(query, others, None)


@pytest.mark.engine
def test_slices_of_a_gpu_are_measured_by_their_engines(ask: Ask) -> None:
    query = found("gpu", sliced=True).query
    metric = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
    ask(query, {gpu("chat-7d9f8c-abcde", metric=metric, GPU_I_ID="3"): "0.6x20", gpu("chat-7d9f8c-abcde"): "0x20"}, 60)


@pytest.mark.engine
def test_a_sleeping_model_reads_as_no_load_and_a_blind_one_does_not(ask: Ask) -> None:
    scaling = Scaling(min_replicas=0, request_side=QueryRequests(query="sum(gateway_queue)", per_replica=1.0))
    query = found("waiting", scaling).query
    wanted = series("kube_deployment_spec_replicas", namespace="llm", deployment="chat")
    other = series("kube_deployment_spec_replicas", namespace="llm", deployment="code")
    ask(query, {wanted: "0x20"}, 0)
    ask(query, {wanted: "2x20"}, None)  # it should have pods, and none was scraped
    ask(query, {other: "0x20"}, None)
    ask(query, {wanted: "2x20", pod(metric_names.REQUESTS_WAITING, "a"): "5x20"}, 5)


@pytest.mark.engine
@pytest.mark.parametrize("labels", [RENAMED, KEPT], ids=["renamed", "kept"])
def test_requests_at_the_ingress_are_a_rate_that_the_first_one_counts_in(ask: Ask, labels: dict[str, str]) -> None:
    scaling = Scaling(min_replicas=0, request_side=IngressRequests(per_replica=2.0))
    query = found("requests", scaling).query
    mine = series("nginx_ingress_controller_requests", ingress="chat", status="503", **labels)
    other = series("nginx_ingress_controller_requests", ingress="code", status="200", **labels)
    controller = series("nginx_ingress_controller_build_info", pod="controller-1")
    ask(query, {mine: "0+30x20", other: "0+900x20", controller: "1x20"}, 2)
    ask(query, {other: "0+900x20", controller: "1x20"}, 0)
    first = {mine: "_x9 1x20"}
    ask(query, {**first, controller: "1x20"}, 1 / RATE_WINDOW)
    ask(query, {**first, controller: "1x20", mine.replace("503", "200"): "0+30x20"}, 2 + 1 / RATE_WINDOW)
    # A controller in the model's own namespace, and Ingresses of other namespaces that are called alike.
    alike = ({**RENAMED, "exported_namespace": "other", "namespace": "llm"}, {"namespace": "other"})
    namesakes = {
        series("nginx_ingress_controller_requests", ingress="chat", status="503", **place): "0+900x20"
        for place in alike
    }
    ask(query, {mine: "0+30x20", **namesakes, controller: "1x20"}, 2)
    ask(query, {other: "0+900x20"}, None)  # nobody scrapes a controller: that is not no load
    # Prometheus was away, or the controller is another one: what it counted before is no load of now.
    ask(query, {mine: "_x9 9000x20", controller: "_x9 1x20"}, 0)


@pytest.mark.engine
@pytest.mark.parametrize(("lowest", "value"), [(0, 1 / 1200), (1, 0)])
def test_a_request_is_seen_however_seldom_the_sleeping_model_is_looked_at(ask: Ask, lowest: int, value: float) -> None:
    scaling = Scaling(min_replicas=lowest, polling_seconds=600, request_side=IngressRequests(per_replica=2.0))
    query = found("requests", scaling).query
    request = series("nginx_ingress_controller_requests", ingress="chat", status="503", **RENAMED)
    controller = series("nginx_ingress_controller_build_info", pod="controller-1")
    # Once, in the eleventh of 25 minutes; KEDA looked just before it.
    ask(query, {request: "_x43 1x100", controller: "1x200"}, value, minutes=25)


@pytest.mark.engine
def test_several_controllers_count_together_and_a_new_one_brings_no_load_with_it(ask: Ask) -> None:
    scaling = Scaling(min_replicas=0, request_side=IngressRequests(per_replica=2.0))
    query = found("requests", scaling).query

    def requests(instance: str) -> str:
        return series("nginx_ingress_controller_requests", ingress="chat", status="200", instance=instance, **RENAMED)

    def controller(instance: str) -> str:
        return series("nginx_ingress_controller_build_info", pod=f"controller-{instance}", instance=instance)

    both = {controller("a"): "1x20", controller("b"): "1x20"}
    ask(query, {**both, requests("a"): "0+30x20", requests("b"): "0+60x20"}, 6)
    ask(query, {**both, requests("a"): "0+30x20", requests("b"): "_x9 3x20"}, 2 + 3 / RATE_WINDOW)
    kept = series("nginx_ingress_controller_requests", ingress="chat", status="200", instance="b", **KEPT)
    ask(query, {**both, requests("a"): "0+30x20", kept: "0+60x20"}, 6)
    ask(query, {**both, requests("a"): "0+30x20", kept: "_x9 3x20"}, 2 + 3 / RATE_WINDOW)
    moved = {controller("a"): "1x20", controller("b"): "_x9 1x20"}
    ask(query, {**moved, requests("a"): "0+30x20", requests("b"): "_x9 9000x20"}, 2)
