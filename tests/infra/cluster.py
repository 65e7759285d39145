"""What a cluster asks of manifests beyond their schemas, as pure functions: each yields what it would refuse."""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]
Labels = Mapping[str, str]

# Of Kubernetes' own validation: names of objects, keys and values of labels, quantities above zero.
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(rf"{LABEL.pattern}(\.{LABEL.pattern})*")
SUBDOMAIN_LENGTH = 253
NAME_PART = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
QUALIFIED_NAME = re.compile(rf"({SUBDOMAIN.pattern}/)?{NAME_PART}")
LABEL_VALUE = re.compile(rf"({NAME_PART})?")
QUANTITY = re.compile(r"(?!0+(\.0+)?[A-Za-z]*$)[0-9]+(\.[0-9]+)?(m|k|[MGTPE]|[KMGTPE]i)?")
# Their names are labels: in DNS, or of the pods that they make.
SHORT_NAMED = ("Namespace", "Service", "Job")
# A pod's name is cut to 58 characters before its own five come: a Deployment's, a dash, up to ten of the ReplicaSet's hash and
# a dash. The query for GPU utilisation finds pods by names that were not cut.
DEPLOYMENT_LENGTH = 58 - len("-0123456789-")
# Gateway API, GEP-2257.
GATEWAY_DURATION = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}")

# Pod Security Standards, `restricted`.
HARMLESS_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
SECCOMP = {"RuntimeDefault", "Localhost"}
SELINUX = {"container_t", "container_init_t", "container_kvm_t", "container_engine_t", ""}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One object as the API server would be sent it, with its secrets."""

    model: str  # the entry of the configuration that it belongs to; empty for what all share
    document: Document

    @property
    def kind(self) -> str:
        return str(self.document["kind"])

    @property
    def name(self) -> str:
        return str(self.document["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.document["metadata"].get("namespace", ""))

    @property
    def spec(self) -> Document:
        spec: Document = self.document.get("spec", {})
        return spec

    @property
    def labels(self) -> Labels:
        labels: Labels = self.document["metadata"].get("labels", {})
        return labels

    @property
    def template(self) -> Document | None:
        """Of its pods, where it makes some."""
        return self.spec["template"] if self.kind in ("Deployment", "Job") else None

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def restricted(template: Document) -> Iterator[str]:
    """What Pod Security's level `restricted` (which includes `baseline`) forbids of a pod; of Linux only."""
    pod = template["spec"]
    containers = [*pod.get("initContainers", ()), *pod["containers"], *pod.get("ephemeralContainers", ())]
    own = pod.get("securityContext", {})
    contexts = [own, *(container.get("securityContext", {}) for container in containers)]
    yield from (key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key))
    for volume in pod.get("volumes", ()):
        yield from (f"volume {kind}" for kind in set(volume) - {"name"} - HARMLESS_VOLUMES)
    yield from (f"sysctl {sysctl['name']}" for sysctl in own.get("sysctls", ()))  # some are safe; none is needed here
    for context in contexts:
        if context.get("windowsOptions", {}).get("hostProcess"):
            yield "hostProcess"
        if context.get("runAsUser") == 0 or context.get("runAsNonRoot") is False:
            yield "may run as root"
        if context.get("seccompProfile", {"type": "RuntimeDefault"}).get("type") not in SECCOMP:
            yield "seccomp"
        if context.get("appArmorProfile", {}).get("type") == "Unconfined":
            yield "AppArmor"
        options = context.get("seLinuxOptions", {})
        if options.get("type", "") not in SELINUX or options.get("user") or options.get("role"):
            yield "SELinux"
    for container in containers:
        context = container.get("securityContext", {})
        capabilities = context.get("capabilities", {})
        if not (own.get("runAsNonRoot") or context.get("runAsNonRoot")):
            yield "is not said to run as another user than root"
        if "seccompProfile" not in own and "seccompProfile" not in context:
            yield "no seccomp profile"
        if context.get("privileged") or context.get("allowPrivilegeEscalation") is not False:
            yield "privileges"
        if "ALL" not in capabilities.get("drop", ()) or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
            yield "capabilities"
        if context.get("procMount", "Default") != "Default":
            yield "procMount"
        yield from (f"host port {port['hostPort']}" for port in container.get("ports", ()) if port.get("hostPort"))
        yield from _host_handlers(container)


def _host_handlers(container: Document) -> Iterator[str]:
    """Probes and hooks that call another host than the pod."""
    hooks = container.get("lifecycle", {})
    probes = ("startupProbe", "readinessProbe", "livenessProbe")
    for handler in (*(container.get(probe, {}) for probe in probes), *hooks.values()):
        yield from (f"{kind}.host" for kind in ("httpGet", "tcpSocket") if handler.get(kind, {}).get("host"))


def well_formed(manifest: Manifest) -> Iterator[str]:
    """Names, labels, quantities and addresses that the API server, and not a schema, would refuse."""
    if manifest.kind in SHORT_NAMED:
        yield from _unlike(LABEL, "name", [manifest.name])
    if manifest.kind == "Deployment" and len(manifest.name) > DEPLOYMENT_LENGTH:
        yield f"name {manifest.name!r}: its pods' names are cut"
    yield from _below("", manifest.document)


def _below(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from _group(key, value)
        for name, inner in value.items():
            yield from _below(name, inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            yield from _below(key, inner)
    elif key in ("name", "secretName", "claimName", "storageClassName", "ingressClassName", "priorityClassName"):
        # The empty storage class is a choice of its own.
        yield from () if (key, value) == ("storageClassName", "") else _no_subdomain(key, str(value))
    elif key in ("sizeLimit", "storage", "cpu", "memory"):
        yield from _unlike(QUANTITY, key, [str(value)])
    elif key == "cidr":
        try:
            ipaddress.ip_network(str(value))
        except ValueError as error:
            yield f"{key}: {error}"


def _group(key: str, group: Document) -> Iterator[str]:
    if key in ("labels", "matchLabels", "nodeSelector"):
        yield from _unlike(QUALIFIED_NAME, f"key of {key}", group)
        yield from _unlike(LABEL_VALUE, f"value of {key}", group.values())
    if key == "annotations":
        yield from _unlike(QUALIFIED_NAME, "key of annotations", (name.lower() for name in group))
    if key == "tolerations":
        yield from _unlike(QUALIFIED_NAME, "key of a taint", [group["key"]])
        yield from _unlike(LABEL_VALUE, "value of a taint", [group.get("value", "")])
    if key == "matchExpressions":
        yield from _unlike(LABEL_VALUE, "value of an expression", group["values"])
    if key in ("limits", "requests"):
        yield from _unlike(QUALIFIED_NAME, "resource", group)
    if key == "timeouts":
        yield from _unlike(GATEWAY_DURATION, "timeout", group.values())


def _unlike(pattern: re.Pattern[str], what: str, values: Iterable[str]) -> Iterator[str]:
    yield from (f"{what} {value!r}" for value in values if not pattern.fullmatch(value))


def _no_subdomain(what: str, value: str) -> Iterator[str]:
    # Variables of containers are called otherwise.
    if len(value) > SUBDOMAIN_LENGTH or not (SUBDOMAIN.fullmatch(value) or re.fullmatch("[A-Z][A-Z0-9_]*", value)):
        yield f"{what} {value!r}"


def astray(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Selectors that miss what they should find, or find what is another model's."""
    deployments = {manifest.model: manifest for manifest in manifests if manifest.kind == "Deployment"}
    services = {manifest.model: manifest for manifest in manifests if manifest.kind == "Service"}
    pods = [(manifest, manifest.template["metadata"]["labels"]) for manifest in manifests if manifest.template]
    for manifest in manifests:
        for selector in _pod_selectors(manifest):
            found = [owner for owner, labels in pods if selector.items() <= labels.items()]
            if found != [deployments[manifest.model]]:
                yield f"{manifest}: {dict(selector)} finds the pods of {[str(one) for one in found]}"
        if manifest.kind == "ServiceMonitor":
            selector, places = (
                manifest.spec["selector"]["matchLabels"],
                manifest.spec["namespaceSelector"]["matchNames"],
            )
            seen = [
                one for one in services.values() if selector.items() <= one.labels.items() and one.namespace in places
            ]
            if seen != [services[manifest.model]]:
                yield f"{manifest}: finds {[str(one) for one in seen]}"


def _pod_selectors(manifest: Manifest) -> Iterator[Labels]:
    match manifest.kind:
        case "Service":
            yield manifest.spec["selector"]
        case "PodDisruptionBudget":
            yield manifest.spec["selector"]["matchLabels"]
        case "NetworkPolicy":
            yield manifest.spec["podSelector"]["matchLabels"]
        case "Deployment":
            yield manifest.spec["selector"]["matchLabels"]
            for constraint in manifest.spec["template"]["spec"].get("topologySpreadConstraints", ()):
                yield constraint["labelSelector"]["matchLabels"]


def dangling(manifests: Sequence[Manifest], given: frozenset[str]) -> Iterator[str]:
    """References to objects of the models' namespace that nobody makes; ``given``: names of those that the user has."""
    made = {(manifest.kind, manifest.name) for manifest in manifests if manifest.model or manifest.kind == "Secret"}
    for manifest in manifests:
        for kind, name in _references(manifest):
            if (kind, name) not in made and name not in given:
                yield f"{manifest}: {kind} {name}"


def _references(manifest: Manifest) -> Iterator[tuple[str, str]]:
    if manifest.kind == "ScaledObject":
        target = manifest.spec["scaleTargetRef"]
        yield target["kind"], target["name"]
        for trigger in manifest.spec["triggers"]:
            if reference := trigger.get("authenticationRef"):
                yield "TriggerAuthentication", reference["name"]
    if manifest.kind == "TriggerAuthentication":
        yield from (("Secret", reference["name"]) for reference in manifest.spec["secretTargetRef"])
    if manifest.kind == "Ingress":
        yield from (
            ("Service", path["backend"]["service"]["name"])
            for rule in manifest.spec["rules"]
            for path in rule["http"]["paths"]
        )
    if manifest.kind == "HTTPRoute":
        yield from (("Service", backend["name"]) for rule in manifest.spec["rules"] for backend in rule["backendRefs"])
    if manifest.template is not None:
        yield from _pod_references(manifest.template["spec"])


def _pod_references(pod: Document) -> Iterator[tuple[str, str]]:
    if "serviceAccountName" in pod:
        yield "ServiceAccount", pod["serviceAccountName"]
    yield from (("Secret", secret["name"]) for secret in pod.get("imagePullSecrets", ()))
    sources = {
        "secret": ("Secret", "secretName"),
        "configMap": ("ConfigMap", "name"),
        "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
    }
    for volume in pod.get("volumes", ()):
        yield from ((kind, volume[source][key]) for source, (kind, key) in sources.items() if source in volume)
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        for variable in container["env"]:
            if reference := variable.get("valueFrom"):
                yield "Secret", reference["secretKeyRef"]["name"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        missing = mounted - {volume["name"] for volume in pod.get("volumes", ())}
        yield from (("volume of the pod", name) for name in missing)


def twice(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Objects of which there are two, and doors that two models share: the later one takes the earlier one's place."""
    seen: set[object] = set()
    for manifest in manifests:
        hosts = [rule["host"] for rule in manifest.spec["rules"]] if manifest.kind == "Ingress" else ()
        for identity in (str(manifest), *hosts, *manifest.spec.get("hostnames", ())):
            if identity in seen:
                yield str(identity)
            seen.add(identity)
