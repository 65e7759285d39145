"""What can be reached from outside the cluster."""

from collections.abc import Iterable, Iterator

from .manifest import Json, Resource, Violation, mapping, objects, same_namespace, text, value
from .pods import Pod, behind

# Variables by which a server demands keys: this project's own server reads a file, vLLM one key.
KEY_VARIABLES = ("API_KEYS_FILE", "VLLM_API_KEY")
# By which clouds (GKE, EKS and its older controller, AKS) are told that a load balancer is for one's own network only.
INTERNAL = {
    "networking.gke.io/load-balancer-type": "internal",
    "service.beta.kubernetes.io/aws-load-balancer-scheme": "internal",
    "service.beta.kubernetes.io/aws-load-balancer-internal": "true",
    "service.beta.kubernetes.io/azure-load-balancer-internal": "true",
}


def guarded(resources: Iterable[Resource]) -> Iterator[Violation]:
    """What can be reached from outside demands an API key.

    Outside is a LoadBalancer that no annotation calls internal, an external address, an Ingress, or a route of a Gateway. One
    that leads to nothing in this stack is refused as well: nothing shows that a key guards it.
    """
    known = tuple(resources)
    services = [resource for resource in known if (resource.group, resource.kind) == ("core", "Service")]
    for entrance in known:
        for name in _backends(entrance):
            pods = [
                pod
                for service in services
                if service.name == name and same_namespace(entrance, service)
                for pod in behind(service, known)
            ]
            if not pods:
                yield Violation(
                    urn=entrance.urn,
                    message=f"Service {name} is reachable from outside and selects no pod of this stack, so nothing shows that "
                    "an API key guards it. Make both in one stack.",
                )
            for pod in pods:
                if not _demands_key(pod):
                    yield Violation(
                        urn=entrance.urn,
                        message=f"{pod.owner.label} is reachable from outside through Service {name} and demands no API key. "
                        f"Give its container {' or '.join(KEY_VARIABLES)}, or keep the Service inside (ClusterIP).",
                    )


def _demands_key(pod: Pod) -> bool:
    return any(
        variable.get("name") in KEY_VARIABLES and (variable.get("value") or variable.get("valueFrom"))
        for container in pod.containers
        if not container.init
        for variable in container.environment
    )


def _backends(resource: Resource) -> tuple[str, ...]:
    """The Services that a resource makes reachable from outside, each once."""
    spec = mapping(resource.inputs, "spec")
    match resource.group, resource.kind:
        case "core", "Service":
            names = [resource.name] if _is_public(resource) else []
        case "networking.k8s.io", "Ingress":
            paths = [path for rule in objects(spec, "rules") for path in objects(rule, "http", "paths")]
            backends = [mapping(spec, "defaultBackend"), *(mapping(path, "backend") for path in paths)]
            names = [text(backend, "service", "name") for backend in backends]
        case "gateway.networking.k8s.io", kind if kind.endswith("Route"):
            routed = [reference for rule in objects(spec, "rules") for reference in objects(rule, "backendRefs")]
            names = [text(reference, "name") for reference in routed if _is_service(reference)]
        case _:
            names = []
    return tuple(dict.fromkeys(name for name in names if name))


def _is_public(service: Resource) -> bool:
    annotations = mapping(service.inputs, "metadata", "annotations")
    internal = any(str(annotations.get(name)).lower() == said for name, said in INTERNAL.items())
    balanced = text(service.inputs, "spec", "type") == "LoadBalancer" and not internal
    return balanced or bool(value(service.inputs, "spec", "externalIPs"))


def _is_service(reference: Json) -> bool:
    return value(reference, "kind") in (None, "Service")
