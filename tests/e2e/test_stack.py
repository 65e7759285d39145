"""The stack `local` as its users meet it: the OpenAI endpoint, scaling under load, and every kind of update."""

import time
from collections.abc import Callable, Iterator

import httpx
import openai
import pytest

from infra.workload import MANAGED_BY_LABEL
from tests.e2e.clients import Clients
from tests.e2e.conftest import Deployed, PulumiFailedError

pytestmark = pytest.mark.e2e

SERVING_SECONDS = 60.0  # in which clients that keep their connections must reach a new pod
SCALED_UP_SECONDS = 120.0
SCALED_DOWN_SECONDS = 240.0  # a window of 30 s, then one pod each 30 s, each of which drains
DEPLOYMENT_SECONDS = 120.0  # of Pulumi.local.yaml: its start-up time for one replica, and a margin
NO_SUCH_IMAGE = "localhost:5001/llm-stack/service@sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def as_configured(deployed: Deployed) -> Iterator[None]:
    """Each test begins and ends with the stack as Pulumi.local.yaml has it."""
    yield
    deployed.pulumi("up", "--yes", "--skip-preview")


def until(what: str, holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not in {seconds:.0f} s: {what}"
        time.sleep(1)


def generated_tokens(address: str) -> float:
    """Of the pod at an address since its start; 0 while it does not answer."""
    try:
        text = httpx.get(f"http://{address}:8000/metrics", timeout=10).text
    except httpx.HTTPError:
        return 0.0
    return sum(
        float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith("vllm:generation_tokens_total")
    )


def test_official_client_streams(deployed: Deployed) -> None:
    with openai.OpenAI(base_url=deployed.endpoint_url, api_key="none") as client:
        chunks = list(
            client.chat.completions.create(
                model="chat",
                messages=[{"role": "user", "content": "Say hello."}],
                max_tokens=16,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert reasons in (["stop"], ["length"])
    assert chunks[-1].usage
    assert 1 <= chunks[-1].usage.completion_tokens <= 16
    assert sum(bool(choice.delta.content) for chunk in chunks for choice in chunk.choices) > 1


def test_load_adds_replicas_that_all_serve_and_idleness_removes_them(deployed: Deployed) -> None:
    assert len(deployed.ready_pods()) == 1
    with Clients(deployed.endpoint_url, count=24, tokens=64) as clients:
        until("a second ready pod", lambda: len(deployed.ready_pods()) > 1, SCALED_UP_SECONDS)
        pods = deployed.ready_pods()
        until("tokens from every pod", lambda: all(map(generated_tokens, pods)), SERVING_SECONDS)
    assert clients.failures == []
    assert clients.answers
    until("one pod", lambda: len(deployed.ready_pods()) == 1, SCALED_DOWN_SECONDS)


def test_update_without_a_change_changes_nothing(deployed: Deployed) -> None:
    deployed.pulumi("preview", "--expect-no-changes")
    deployed.pulumi("up", "--yes", "--expect-no-changes")


def test_replicas_are_the_autoscalers(deployed: Deployed) -> None:
    deployed.kubectl("scale", "deployment/chat", "--replicas=2", "-n", deployed.namespace)
    deployed.pulumi("preview", "--expect-no-changes")
    deployed.pulumi("refresh", "--yes", "--expect-no-changes")
    deployed.pulumi("up", "--yes", "--expect-no-changes")


def test_setting_is_rolled_out_without_a_failed_request(deployed: Deployed) -> None:
    before = deployed.ready_pods()
    with Clients(deployed.endpoint_url, count=4, tokens=16) as clients:
        deployed.pulumi("up", "--yes", "--skip-preview", config={"models.chat.server.max_waiting_requests": 65})
        until("the old pods' end", lambda: not set(deployed.ready_pods()) & set(before), SCALED_UP_SECONDS)
        answers = clients.answers
        until("answers of the new pod", lambda: clients.answers > answers + 10, SERVING_SECONDS)
    assert clients.failures == []


def test_wrong_image_fails_with_the_pods_reason_while_the_old_pods_serve(deployed: Deployed) -> None:
    began = time.monotonic()
    with Clients(deployed.endpoint_url, count=1, tokens=4) as clients, pytest.raises(PulumiFailedError) as failed:
        deployed.pulumi(
            "up", "--yes", "--skip-preview", config={"image": {"mode": "prebuilt", "reference": NO_SUCH_IMAGE}}
        )
    said = str(failed.value)
    assert DEPLOYMENT_SECONDS <= time.monotonic() - began < 1.5 * DEPLOYMENT_SECONDS
    assert "'chat' timed out waiting to be Ready" in said
    assert "ErrImagePull" in said or "ImagePullBackOff" in said
    assert NO_SUCH_IMAGE in said
    assert clients.failures == []
    deployed.pulumi("up", "--yes", "--skip-preview")
    deployed.pulumi("preview", "--expect-no-changes")


def test_label_changed_by_hand_is_seen_by_refresh_and_restored_by_up(deployed: Deployed) -> None:
    label = f"{{.metadata.labels['{MANAGED_BY_LABEL.replace('.', chr(92) + '.')}']}}"
    ours = deployed.kubectl.jsonpath("service/chat", label, deployed.namespace)
    assert ours
    deployed.kubectl("label", "service/chat", f"{MANAGED_BY_LABEL}=somebody", "--overwrite", "-n", deployed.namespace)
    assert "1 updated" in deployed.pulumi("refresh", "--yes")
    assert "1 updated" in deployed.pulumi("up", "--yes", "--skip-preview")
    assert deployed.kubectl.jsonpath("service/chat", label, deployed.namespace) == ours


def test_signals_that_nobody_answers_fail_the_update_and_leave_the_autoscaler(deployed: Deployed) -> None:
    elsewhere = "http://prometheus-operated.monitoring.svc:9090/nowhere"
    with pytest.raises(PulumiFailedError) as failed:
        deployed.pulumi("up", "--yes", "--skip-preview", config={"monitoring.prometheus_address": elsewhere})
    assert "chat-proof-" in str(failed.value)
    address = "{.spec.triggers[0].metadata.serverAddress}"
    assert not deployed.kubectl.jsonpath("scaledobject/chat", address, deployed.namespace).endswith("nowhere")


def test_destroy_removes_the_namespace(deployed: Deployed) -> None:
    deployed.pulumi("destroy", "--yes", "--skip-preview")
    assert not deployed.kubectl.succeeds("get", "namespace", deployed.namespace)
