"""When an object counts as up, and what is said while it does not."""

from typing import Any

import pytest

from local.providers.kubernetes import ready
from local.providers.kubernetes.ready import WAIT_FOR, Check, FailedError

Json = dict[str, Any]


def live(*, generation: int = 1, spec: Json | None = None, annotations: Json | None = None, **status: Any) -> Json:
    metadata = {"name": "x", "namespace": "n", "generation": generation, "annotations": annotations or {}}
    return {"metadata": metadata, "spec": spec or {}, "status": status}


UP = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, None),
        ({"observedGeneration": 0}, "(2/2 Pods available)"),
        ({"updatedReplicas": 1}, "Waiting for app ReplicaSet to be available (1/2 Pods available)"),
        ({"availableReplicas": 0}, "(0/2 Pods available)"),
        ({"replicas": 3}, "Waiting for 1 old Pods to end"),
    ],
)
def test_deployment_is_up_when_all_its_pods_are_new_and_available(changed: Json, says: str | None) -> None:
    missing = ready.deployment(Check(live(spec={"replicas": 2}, **{**UP, **changed})))
    assert (says is None and missing == []) or (says is not None and says in missing[0])


def test_deployment_past_its_deadline_is_waited_for_and_says_so() -> None:
    condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too late"}
    missing = ready.deployment(Check(live(conditions=[condition], observedGeneration=1)))
    assert missing == [
        "Waiting for app ReplicaSet to be available (0/1 Pods available)",
        "[ProgressDeadlineExceeded] too late",
    ]


def test_pod_that_cannot_start_says_what_the_kubelet_says() -> None:
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    ended = {"terminated": {"exitCode": 3, "message": "starting\nno such model\n"}}
    pod = live(
        initContainerStatuses=[{"name": "i", "ready": False, "state": ended}],
        containerStatuses=[{"name": "c", "ready": False, "state": waiting}],
    )
    assert ready.pod_problems([pod]) == [
        '[Pod n/x]: container "i" completed with exit code 3: no such model',
        "[Pod n/x]: containers with unready status: [c][ErrImagePull] no such image",
    ]


def test_pod_that_no_node_takes_says_what_the_scheduler_says() -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes have a GPU",
    }
    assert ready.pod_problems([live(conditions=[condition])]) == ["[Pod n/x]: Unschedulable: 0/1 nodes have a GPU"]


def test_service_is_up_with_a_ready_endpoint_or_after_some_patience() -> None:
    there = live(spec={"selector": {"app": "a"}})
    endpoints = [{"endpoints": [{"conditions": {"ready": True}}]}]
    assert ready.service(Check(there, endpoint_slices=endpoints)) == []
    assert ready.service(Check(there, waited=1)) == ["[1/3] Finding Pods to direct traffic to"]
    assert ready.service(Check(there, waited=ready.SERVICE_PATIENCE_SECONDS + 1)) == []
    assert ready.service(Check(live(spec={"type": "ExternalName"}))) == []


@pytest.mark.parametrize(
    ("wanted", "met"),
    [
        ("condition=Ready", True),
        ("condition=Ready=false", False),
        ("condition=Absent", False),
        ("jsonpath={.status.phase}=Running", True),
        ("jsonpath={.status.phase}=Pending", False),
        ("jsonpath={.status.conditions[0].type}", True),
        ("jsonpath={.status.nothing}", False),
        ("jsonpath={.status.health['s0-x'].status}=Happy", True),
        ("jsonpath={.status.health['s1-x'].status}=Happy", False),
        ('["condition=Ready", "jsonpath={.status.phase}=Running"]', True),
        ('["condition=Ready", "condition=Absent"]', False),
    ],
)
def test_condition_that_the_program_asks_for(wanted: str, met: bool) -> None:
    ready_condition = {"type": "Ready", "status": "True"}
    health = {"s0-x": {"status": "Happy"}, "s1-x": {"status": "Failing"}}
    one = live(annotations={WAIT_FOR: wanted}, phase="Running", conditions=[ready_condition], health=health)
    assert (ready.asked_for(Check(one)) == []) is met


def test_condition_that_nobody_can_read_fails_at_once() -> None:
    with pytest.raises(FailedError, match="neither condition="):
        ready.asked_for(Check(live(annotations={WAIT_FOR: "Ready"})))
