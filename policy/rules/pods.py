"""Pods that the stack itself declares, whatever makes them. Those of a Helm release are its chart's, and opaque."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from .manifest import Json, Resource, Violation, mapping, number, objects, same_namespace, text, value

# Where each kind keeps its pod template.
TEMPLATES = {
    ("core", "Pod"): (),
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("core", "ReplicationController"): ("spec", "template"),
    ("batch", "Job"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
}
HOST_NAMESPACES = ("hostNetwork", "hostPID", "hostIPC")
# The label by which a namespace says what its pods may do: device plugins and node exporters need this level.
LEVEL_LABEL = "pod-security.kubernetes.io/enforce"
PRIVILEGED = "privileged"
ROOT = 0


@dataclass(frozen=True, kw_only=True)
class Container:
    """One container of a pod, init containers among them."""

    name: str
    manifest: Json
    init: bool

    def says(self, *path: str) -> object:
        return value(self.manifest, *path)

    def quantities(self, kind: str) -> Json:
        """What it asks for, by resource; ``kind`` is ``requests`` or ``limits``."""
        return mapping(self.manifest, "resources", kind)

    @property
    def environment(self) -> tuple[Json, ...]:
        return objects(self.manifest, "env")


@dataclass(frozen=True, kw_only=True)
class Pod:
    """The pods of one resource: their template, and the resource that they belong to."""

    owner: Resource
    template: Json

    @property
    def spec(self) -> Json:
        return mapping(self.template, "spec")

    @property
    def labels(self) -> Json:
        return mapping(self.template, "metadata", "labels")

    @property
    def containers(self) -> tuple[Container, ...]:
        return tuple(
            Container(name=text(item, "name") or "?", manifest=item, init=key == "initContainers")
            for key in ("initContainers", "containers")
            for item in objects(self.spec, key)
        )


def pod_of(resource: Resource) -> Pod | None:
    """The pods of a resource, None where it makes none."""
    if resource.package != "kubernetes":
        return None
    path = TEMPLATES.get((resource.group, resource.kind))
    return None if path is None else Pod(owner=resource, template=mapping(resource.inputs, *path))


def unprivileged(resources: Iterable[Resource], *, privileged_namespaces: Collection[str] = ()) -> Iterator[Violation]:
    """No pod is privileged, runs as root, or sees its node's namespaces and directories.

    Exempt are the namespaces that the stack itself labels as privileged, and ``privileged_namespaces``, which others made.
    """
    known = tuple(resources)
    exempt = {*privileged_namespaces, *(resource.name for resource in known if _privileged_namespace(resource))}
    for resource in known:
        pod = pod_of(resource)
        if pod is not None and resource.namespace not in exempt:
            for fault in _powers(pod):
                yield Violation(urn=resource.urn, message=fault)


def _privileged_namespace(resource: Resource) -> bool:
    labels = mapping(resource.inputs, "metadata", "labels")
    return resource.kind == "Namespace" and labels.get(LEVEL_LABEL) == PRIVILEGED


def _powers(pod: Pod) -> Iterator[str]:
    for name in HOST_NAMESPACES:
        if value(pod.spec, name) is True:
            yield f"spec.{name} is true: the pod sees what is the node's. Leave it out."
    for volume in objects(pod.spec, "volumes"):
        if value(volume, "hostPath") is not None:
            path = text(volume, "hostPath", "path") or "?"
            yield (
                f"volume {text(volume, 'name')} mounts {path} of the node (hostPath). Use a PersistentVolumeClaim, or an "
                "emptyDir for what the pod writes."
            )
    for container in pod.containers:
        if container.says("securityContext", "privileged") is True:
            yield f"container {container.name} is privileged. Leave securityContext.privileged out."
        yield from _root(pod, container)


def _root(pod: Pod, container: Container) -> Iterator[str]:
    own, shared = mapping(container.manifest, "securityContext"), mapping(pod.spec, "securityContext")
    user = number(own if "runAsUser" in own else shared, "runAsUser")
    forbids = value(own if "runAsNonRoot" in own else shared, "runAsNonRoot")
    if user == ROOT:
        yield f"container {container.name} runs as root (runAsUser 0). Name the image's own user."
    elif forbids is None or forbids is False:
        yield f"container {container.name} may run as root. Set securityContext.runAsNonRoot to true."


def behind(service: Resource, resources: Iterable[Resource]) -> list[Pod]:
    """The pods of the stack that a Service selects, none where it has no selector."""
    selector = mapping(service.inputs, "spec", "selector")
    pods = [pod for resource in resources if same_namespace(service, resource) and (pod := pod_of(resource))]
    return [pod for pod in pods if selector and selector.items() <= pod.labels.items()]
