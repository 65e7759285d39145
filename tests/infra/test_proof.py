"""The proof's Job, and what its script says of a Prometheus that answers only some of its questions."""

import json
import os
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from pulumi.runtime import mocks as pulumi_mocks

from infra.components.proof import SCRIPT
from infra.components.scaler import DISCOVERY_SECONDS
from tests.infra.conftest import Deploy

Mapping = dict[str, Any]
SLEEPS: Mapping = {
    "min_replicas": 0,
    "request_side": {"source": "query", "query": "sum(gateway_queue)", "per_replica": 1},
}


@pytest.fixture
def prometheus() -> Iterator[str]:
    """The address of one that knows the pods and a gateway, and no kube-state-metrics."""

    class Prometheus(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            (query,) = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["query"]
            known = not query.startswith("sum(kube_")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"data": {"result": [{"value": [0, "1"]}] if known else []}}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Prometheus) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def bounds(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """How long the engine was told to wait, at most, for the last resource of each type."""
    found: dict[str, str] = {}
    register: Callable[[Any, Any], Any] = pulumi_mocks.MockMonitor.RegisterResource

    def registered(monitor: Any, request: Any) -> Any:
        found[request.type.rpartition(":")[2]] = request.customTimeouts.create
        return register(monitor, request)

    monkeypatch.setattr(pulumi_mocks.MockMonitor, "RegisterResource", registered)
    return found


def told(job: Mapping) -> dict[str, str]:
    (only,) = job["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in only["env"]}


def run(job: Mapping, prometheus: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, **told(job), "PROMETHEUS": prometheus, "PATIENCE_SECONDS": "0"}
    return subprocess.run([sys.executable, SCRIPT], env=environment, capture_output=True, text=True, check=False)


def test_a_model_that_may_sleep_is_refused_where_nobody_tells_that_it_sleeps(
    deploy: Deploy, sound: Mapping, prometheus: str
) -> None:
    done = run(deploy(sound).only("Job"), prometheus)
    assert done.returncode == 0, done.stdout + done.stderr
    sound["models"]["chat"]["scaling"] = SLEEPS
    done = run(deploy(sound).only("Job"), prometheus)
    assert done.returncode == 1, done.stdout + done.stderr
    (failed,) = [line for line in done.stdout.splitlines() if not line.endswith(": measured")]
    assert failed.startswith("wanted replicas (kube-state-metrics, scraped with honorLabels): no series")
    assert 'kube_deployment_spec_replicas{namespace="llm",deployment="chat"}' in failed


def test_nobody_is_asked_for_sleep_that_no_signal_reads(deploy: Deploy, sound: Mapping, prometheus: str) -> None:
    outside_only = {**SLEEPS, "waiting_per_replica": None, "running_per_replica": None}
    sound["models"]["chat"]["scaling"] = outside_only
    assert [name for name, _ in json.loads(told(deploy(sound).only("Job"))["QUESTIONS"])] == ["requests"]


def test_the_job_of_a_model_that_sleeps_is_awaited_for_as_long_as_a_node_takes_to_come(
    deploy: Deploy, sound: Mapping, bounds: dict[str, str]
) -> None:
    model = sound["models"]["chat"]
    sound["gpu_pools"] = {
        "l4": {"gpu": "L4", "total": "autoscaled", "provisioning_seconds": 1000, "node_selector": {"gpu": "l4"}}
    }
    model |= {"gpus": {"count": 1, "pool": "l4"}, "timing": {"image_pull_seconds": 900}, "scaling": SLEEPS}
    job = deploy(sound).only("Job")
    assert job["spec"]["template"]["spec"]["nodeSelector"] == {"gpu": "l4"}  # where the image belongs
    patience = float(told(job)["PATIENCE_SECONDS"])
    assert float(bounds["Job"].removesuffix("s")) > 1000 + 900 + patience


@pytest.mark.parametrize("interval", [1, 15, 120])
def test_a_pod_that_is_new_has_time_to_be_found_and_scraped_twice(
    deploy: Deploy, sound: Mapping, bounds: dict[str, str], interval: int
) -> None:
    sound["monitoring"]["scrape_interval_seconds"] = interval
    patience = float(told(deploy(sound).only("Job"))["PATIENCE_SECONDS"])
    # Just after a scrape it is found, and the first two samples are an interval each.
    assert patience > DISCOVERY_SECONDS + 2 * interval
    assert float(bounds["Job"].removesuffix("s")) > patience
