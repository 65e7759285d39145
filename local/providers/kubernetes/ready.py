"""Whether an object is up, from what the cluster says of it: every function lists what is still missing, in words.

The rules are those of `kubectl rollout status` and of Kubernetes' own conditions.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from local.providers.values import Json

# A Service whose pods never come is not an error: the official provider gives up looking after as long.
SERVICE_PATIENCE_SECONDS = 10.0
WAIT_FOR = "pulumi.com/waitFor"
SKIP_AWAIT = "pulumi.com/skipAwait"


class FailedError(Exception):
    """The object has failed for good: waiting longer is of no use. The messages say why."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


@dataclass
class Check:
    """An object as it is, the objects that belong to it, and for how many seconds it has been waited for."""

    live: Json
    pods: list[Json] = field(default_factory=list)
    endpoint_slices: list[Json] = field(default_factory=list)
    waited: float = 0.0

    @property
    def spec(self) -> Json:
        return self.live.get("spec") or {}

    @property
    def status(self) -> Json:
        return self.live.get("status") or {}

    @property
    def seen(self) -> bool:
        """Whether the controller has looked at the latest change."""
        return bool(self.status.get("observedGeneration", 0) >= self.live["metadata"].get("generation", 0))

    def condition(self, kind: str) -> Json:
        return next((item for item in self.status.get("conditions") or [] if item["type"] == kind), {})


def deployment(check: Check) -> list[str]:
    wanted = check.spec.get("replicas", 1)
    status = check.status
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if not check.seen or updated < wanted or available < wanted:
        waiting = f"Waiting for app ReplicaSet to be available ({min(updated, available)}/{wanted} Pods available)"
        # Past its progress deadline a Deployment goes on trying, so the update's timeout decides, and not this condition.
        progressing = check.condition("Progressing")
        late = check.seen and progressing.get("status") == "False"
        return [waiting, f"[{progressing['reason']}] {progressing['message']}"] if late else [waiting]
    if status.get("replicas", 0) > updated:
        return [f"Waiting for {status['replicas'] - updated} old Pods to end"]
    return []


def stateful_set(check: Check) -> list[str]:
    wanted = check.spec.get("replicas", 1)
    there = min(check.status.get("readyReplicas", 0), check.status.get("updatedReplicas", 0))
    return [] if check.seen and there >= wanted else [f"Waiting for {there}/{wanted} Pods to be ready"]


def daemon_set(check: Check) -> list[str]:
    wanted, there = check.status.get("desiredNumberScheduled", 0), check.status.get("numberReady", 0)
    return [] if check.seen and there >= wanted else [f"Waiting for {there}/{wanted} Pods to be ready"]


def job(check: Check) -> list[str]:
    if check.condition("Complete").get("status") == "True":
        return []
    failed = check.condition("Failed")
    if failed.get("status") == "True":
        raise FailedError([*pod_problems(check.pods), f"[{failed.get('reason')}] {failed.get('message')}"])
    counts = " | ".join(
        f"{name.capitalize()}: {check.status.get(name, 0)}" for name in ("active", "succeeded", "failed")
    )
    return [f"Waiting for the Job to complete ({counts})"]


def pod(check: Check) -> list[str]:
    if check.status.get("phase") == "Succeeded" or check.condition("Ready").get("status") == "True":
        return []
    return ["Waiting for the Pod to be ready", *pod_problems([check.live])]


def service(check: Check) -> list[str]:
    kind = check.spec.get("type", "ClusterIP")
    if kind == "LoadBalancer" and not (check.status.get("loadBalancer") or {}).get("ingress"):
        return ["Service was not allocated an IP address; does your cloud provider support this?"]
    if kind == "ExternalName" or not check.spec.get("selector") or check.waited > SERVICE_PATIENCE_SECONDS:
        return []
    endpoints = [endpoint for piece in check.endpoint_slices for endpoint in piece.get("endpoints") or []]
    if any((endpoint.get("conditions") or {}).get("ready") for endpoint in endpoints):
        return []
    return ["[1/3] Finding Pods to direct traffic to"]


def claim(check: Check) -> list[str]:
    # A claim of a class that binds with its first pod stays Pending until that pod comes, which may wait for us.
    by_provisioner = check.spec.get("storageClassName") != "" and not check.spec.get("volumeName")
    return [] if by_provisioner or check.status.get("phase") == "Bound" else ["Waiting for the claim to be bound"]


def definition(check: Check) -> list[str]:
    return (
        []
        if check.condition("Established").get("status") == "True"
        else ["Waiting for the definition to be established"]
    )


def asked_for(check: Check) -> list[str]:
    """What the annotation `pulumi.com/waitFor` asks for: one condition or JSONPath, or a JSON list of which all must hold."""
    wanted = (check.live["metadata"].get("annotations") or {})[WAIT_FOR]
    every = json.loads(wanted) if wanted.startswith("[") else [wanted]
    return [f"Waiting for {one}" for one in every if not _holds(check, one)]


def _holds(check: Check, wanted: str) -> bool:
    kind, _, rest = wanted.partition("=")
    if kind == "condition":
        name, _, status = rest.partition("=")
        return bool(check.condition(name).get("status", "").lower() == (status or "True").lower())
    if kind == "jsonpath":
        path, _, value = rest.partition("=")
        found = [str(item) for item in _at(check.live, path.strip("{}").strip("."))]
        return value in found if value else bool(found)
    raise FailedError([f"{WAIT_FOR}: {wanted!r} is neither condition=TYPE[=STATUS] nor jsonpath={{.PATH}}[=VALUE]"])


def _at(value: Any, path: str) -> Iterator[Any]:
    """The values at a path of keys and list positions (`status.conditions[0].type`, `status.health['a-b']`)."""
    for part in filter(None, re.split(r"[.\[\]'\"]+", path)):
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, ValueError, TypeError):
            return
    yield value


def pod_problems(pods: list[Json]) -> list[str]:
    """Why pods are not ready, in the kubelet's and the scheduler's words."""
    problems = []
    for one in pods:
        name = f"[Pod {one['metadata'].get('namespace', '')}/{one['metadata']['name']}]"
        status = one.get("status") or {}
        problems += [
            f"{name}: {condition.get('reason')}: {condition.get('message')}"
            for condition in status.get("conditions") or []
            if condition["type"] == "PodScheduled" and condition["status"] == "False"
        ]
        for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
            state = container.get("state") or {}
            waiting, ended = state.get("waiting"), state.get("terminated")
            if waiting and waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
                reason = f"[{container['name']}][{waiting['reason']}] {waiting.get('message', '')}".rstrip()
                problems.append(f"{name}: containers with unready status: {reason}")
                if before := (container.get("lastState") or {}).get("terminated"):
                    problems.append(_ended(name, container["name"], before))
            elif ended and ended.get("exitCode"):
                problems.append(_ended(name, container["name"], ended))
            elif state.get("running") and not container.get("ready", True):
                problems.append(f"{name}: containers with unready status: [{container['name']}] it runs")
    return problems


def _ended(pod: str, container: str, state: Json) -> str:
    words = (state.get("message") or "").strip().splitlines()[-1:]
    return ": ".join([f'{pod}: container "{container}" completed with exit code {state.get("exitCode")}', *words])
