"""Waiting until an object is up, and until one is gone."""

import threading
import time
from collections.abc import Callable

from local.providers.kubernetes.cluster import Cluster
from local.providers.kubernetes.kinds import kind_of
from local.providers.kubernetes.ready import SKIP_AWAIT, WAIT_FOR, Check, FailedError, asked_for, pod_problems
from local.providers.values import Json

POLL_SECONDS = 0.5
DEFAULT_SECONDS = 600.0  # the official provider's
TIMEOUT_ANNOTATION = "pulumi.com/timeoutSeconds"
POD_OWNERS = ("Deployment", "StatefulSet", "DaemonSet", "Job")


class NotReadyError(Exception):
    """The object exists and is not up; ``live`` is its last state."""

    def __init__(self, live: Json, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.live = live
        self.reasons = reasons


def until_ready(
    cluster: Cluster, applied: Json, seconds: float, cancelled: threading.Event, report: Callable[[str], None]
) -> Json:
    """Returns the object once it is up.

    Raises:
        NotReadyError: it failed, or was not up in time, or the wait was cancelled.
    """
    annotations = applied["metadata"].get("annotations") or {}
    rule = asked_for if WAIT_FOR in annotations else kind_of(applied["kind"]).check
    if rule is None or annotations.get(SKIP_AWAIT) == "true":
        return applied
    seconds = float(annotations.get(TIMEOUT_ANNOTATION, 0)) or seconds or DEFAULT_SECONDS
    began = time.monotonic()
    told = ""
    while True:
        live = cluster.get(applied)
        if live is None:
            raise NotReadyError(applied, ["it was deleted while it was waited for"])
        check = _check(cluster, live, time.monotonic() - began)
        try:
            missing = rule(check)
        except FailedError as failed:
            raise NotReadyError(live, failed.reasons) from None
        if not missing:
            report(f"{live['kind']} initialization complete")
            return live
        if missing[0] != told:
            report(told := missing[0])
        if time.monotonic() - began > seconds:
            raise NotReadyError(live, [_timed_out(live), *_why(live, missing), *pod_problems(_not_ready(check.pods))])
        if cancelled.wait(POLL_SECONDS):
            raise NotReadyError(live, ["the wait was cancelled", *missing])


def until_gone(
    cluster: Cluster, manifest: Json, seconds: float, cancelled: threading.Event, report: Callable[[str], None]
) -> None:
    """Returns once the object is no more.

    Raises:
        NotReadyError: it is still there after ``seconds``, or the wait was cancelled.
    """
    began = time.monotonic()
    while (live := cluster.get(manifest)) is not None:
        finalizers = live["metadata"].get("finalizers") or (live.get("spec") or {}).get("finalizers") or []
        why = f"finalizers {', '.join(finalizers)}" if finalizers else "what belongs to it"
        report(f"Waiting for {why}")
        if time.monotonic() - began > (seconds or DEFAULT_SECONDS) or cancelled.wait(POLL_SECONDS):
            raise NotReadyError(
                live, [f"it was not deleted in {time.monotonic() - began:.0f} s: still waiting for {why}"]
            )


def _check(cluster: Cluster, live: Json, waited: float) -> Check:
    check = Check(live, waited=waited)
    namespace = live["metadata"].get("namespace", "")
    if live["kind"] in POD_OWNERS:
        selector = ((live.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
        check.pods = cluster.matching("/api/v1", "pods", namespace, selector) if selector else []
    elif live["kind"] == "Service":
        label = {"kubernetes.io/service-name": live["metadata"]["name"]}
        check.endpoint_slices = cluster.matching("/apis/discovery.k8s.io/v1", "endpointslices", namespace, label)
    return check


def _timed_out(live: Json) -> str:
    return f"'{live['metadata']['name']}' timed out waiting to be Ready"


def _why(live: Json, missing: list[str]) -> list[str]:
    if live["kind"] == "Deployment":
        return ["Minimum number of Pods to consider the application live was not attained", *missing]
    if WAIT_FOR in (live["metadata"].get("annotations") or {}):
        return ["timed out waiting for the condition", *missing, *_conditions(live)]
    return missing


def _conditions(live: Json) -> list[str]:
    return [
        f"condition {item['type']}={item['status']}: {item.get('message', '')}"
        for item in (live.get("status") or {}).get("conditions") or []
        if item["status"] != "True"
    ]


def _not_ready(pods: list[Json]) -> list[Json]:
    return [
        pod
        for pod in pods
        if not any(
            item["type"] == "Ready" and item["status"] == "True"
            for item in (pod.get("status") or {}).get("conditions") or []
        )
    ]
