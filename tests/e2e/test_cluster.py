"""The embedded cluster as a host and a scheduler see it."""

import json
import re
import subprocess
import sys

import pytest

from local.cluster.command import Kubectl
from local.cluster.daemon import marked_processes
from local.cluster.layout import PAUSE_IMAGE
from local.paths import Paths
from local.project import ROOT

pytestmark = pytest.mark.e2e

ADDRESSES = re.compile(r"127\.|\[::1\]|10\.222\.0\.1:|10\.244\.0\.1:")  # loopback, the node's link, the pods' bridge


def up(*arguments: str) -> str:
    command = [sys.executable, "-m", "local", "up", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout


def test_nothing_listens_beyond_the_machine() -> None:
    ours = {str(process.pid) for process in marked_processes(Paths().home)}
    listeners = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout.splitlines()
    addresses = [line.split()[3] for line in listeners if ours & set(re.findall(r"pid=(\d+)", line))]
    assert any(address.startswith("10.222.0.1:") for address in addresses)
    assert [address for address in addresses if not ADDRESSES.match(address)] == []


def test_up_on_a_running_cluster_restarts_nothing() -> None:
    before = {process.pid: process.name for process in marked_processes(Paths().home)}
    up("--cluster-only")
    after = {process.pid for process in marked_processes(Paths().home)}
    assert {name for pid, name in before.items() if pid not in after} == set()


def test_fake_gpus_are_scheduled_like_real_ones(kubectl: Kubectl) -> None:
    up("--cluster-only", "--fake-gpus", "2")
    container = {
        "name": "c",
        "image": PAUSE_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    names = ["t-gpu-1", "t-gpu-2", "t-gpu-3"]
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec} for name in names]
    try:
        for pod in pods:
            kubectl("create", "-f", "-", stdin=json.dumps(pod))
        for name in names[:2]:
            kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=60s")
        reason = "{.status.conditions[?(@.type=='PodScheduled')].message}"
        assert "Insufficient nvidia.com/gpu" in kubectl.jsonpath(f"pod/{names[2]}", reason)
    finally:
        kubectl("delete", "pod", *names, "--ignore-not-found")
        up("--cluster-only")
