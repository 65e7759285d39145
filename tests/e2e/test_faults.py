"""What goes wrong while the stack comes up: one sentence that says what to do, and the next `up` works."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from local import ask
from local.cluster.daemon import marked_processes
from local.paths import Paths
from local.project import ROOT
from tests.e2e.conftest import Deployed, PulumiFailedError

pytestmark = pytest.mark.e2e

UP_SECONDS = 180.0
FOUND_SECONDS = 90.0  # in which `up` must have noticed what happened


def start_up() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "local", "up"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        # As at a terminal, also where the tests run in the background of a shell that ignores Ctrl-C for them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def up_works() -> None:
    up = start_up()
    said, _ = up.communicate(timeout=UP_SECONDS)
    assert up.returncode == 0, said
    endpoint = re.search(r"base_url=(\S+)", said)
    assert endpoint
    assert "".join(ask.chat(endpoint.group(1), "Are you there?", max_tokens=4))


def kill(*names: str) -> None:
    pids = [process.pid for process in marked_processes(Paths().home) if process.name in names]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def half_up(deployed: Deployed) -> Iterator[subprocess.Popen[str]]:
    """An `up` whose engine has begun to make a stack that was not there."""
    deployed.pulumi("destroy", "--yes", "--skip-preview")
    up = start_up()
    while not deployed.kubectl.succeeds("get", "namespace", deployed.namespace):
        assert up.poll() is None, up.stdout and up.stdout.read()
        time.sleep(0.2)
    yield up
    if up.poll() is None:
        os.killpg(up.pid, signal.SIGKILL)
        up.wait()
    up.communicate()
    up_works()


def test_api_server_killed_during_up(half_up: subprocess.Popen[str]) -> None:
    kill("kube-apiserver")
    said, _ = half_up.communicate(timeout=FOUND_SECONDS)
    assert half_up.returncode == 1
    assert "the API server does not answer" in said
    assert "run the command again" in said


def test_ctrl_c_in_up(half_up: subprocess.Popen[str]) -> None:
    os.killpg(half_up.pid, signal.SIGINT)
    said, _ = half_up.communicate(timeout=FOUND_SECONDS)
    assert half_up.returncode == 130
    assert "`make up` goes on from here; `make down` removes what is there." in said
    assert "Traceback" not in said


def test_killed_up(half_up: subprocess.Popen[str]) -> None:
    os.killpg(half_up.pid, signal.SIGKILL)


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("names", [("containerd", "buildkitd"), ("kubelet",), ("etcd", "kube-apiserver")])
def test_killed_processes_are_started_again(names: tuple[str, ...]) -> None:
    kill(*names)
    up_works()


def test_engine_without_a_cluster_says_what_to_do(deployed: Deployed) -> None:
    kill("kube-apiserver")
    try:
        with pytest.raises(PulumiFailedError, match="cluster is unreachable"):
            deployed.pulumi("up", "--yes", "--skip-preview", config={"models.chat.server.max_waiting_requests": 65})
    finally:
        up_works()


def test_faults_of_the_configuration_are_told_at_once(deployed: Deployed) -> None:
    with pytest.raises(PulumiFailedError) as failed:
        deployed.pulumi(
            "preview",
            config={
                "cluster.contxt": "typo",
                "models.chat.scaling.max_replicas": 0,
                "models.chat.scaling.polling_seconds": "often",
                "models.chat.weights": {"source": "node-disk", "node": "llm-stack"},
            },
        )
    for fault in ("cluster.contxt", "max_replicas", "polling_seconds", "weights.path", "4 faults; nothing was touched"):
        assert fault in str(failed.value)
