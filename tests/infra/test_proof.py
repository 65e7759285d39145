"""The proof's Job, and what its script says of a Prometheus that answers only some of its questions."""

import json
import os
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from infra.components.proof import SCRIPT
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
