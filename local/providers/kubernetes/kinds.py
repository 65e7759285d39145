"""What is particular to a kind: which fields cannot change in place, and how one knows that an object is there.

The fields are those that the API server refuses to change (or, for ConfigMaps and Secrets, whose change no pod would notice);
the official provider replaces on the same ones.
"""

from collections.abc import Callable
from dataclasses import dataclass

from local.providers.kubernetes import ready
from local.providers.kubernetes.ready import Check

EVERY_KIND = ("apiVersion", "kind", "metadata.name", "metadata.namespace")
CLUSTER_SCOPED = frozenset({
    "Namespace", "PersistentVolume", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "StorageClass",
    "PriorityClass", "RuntimeClass", "IngressClass", "APIService", "Node",
    "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration",
})  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """``fixed``: paths whose change replaces the object; ``check``: tells what an object still waits for."""

    fixed: tuple[str, ...] = ()
    check: Callable[[Check], list[str]] | None = None


CLAIM_FIXED = ("spec.accessModes", "spec.selector", "spec.storageClassName", "spec.volumeName", "spec.volumeMode")
VOLUME_FIXED = ("spec.local", "spec.hostPath", "spec.csi", "spec.nfs", "spec.nodeAffinity", "spec.storageClassName")
STATEFUL_FIXED = ("spec.selector", "spec.serviceName", "spec.podManagementPolicy", "spec.volumeClaimTemplates")

KINDS = {
    "ConfigMap": Kind(("data", "binaryData", "immutable")),
    "Secret": Kind(("data", "stringData", "type", "immutable")),
    "Deployment": Kind(("spec.selector",), ready.deployment),
    "StatefulSet": Kind(STATEFUL_FIXED, ready.stateful_set),
    "DaemonSet": Kind(("spec.selector",), ready.daemon_set),
    "Job": Kind(("spec.selector", "spec.template", "spec.completions", "spec.completionMode"), ready.job),
    "Pod": Kind(("spec",), ready.pod),
    "Service": Kind(("spec.clusterIP",), ready.service),
    "PersistentVolumeClaim": Kind(CLAIM_FIXED, ready.claim),
    "PersistentVolume": Kind(VOLUME_FIXED),
    "CustomResourceDefinition": Kind((), ready.definition),
    "RoleBinding": Kind(("roleRef",)),
    "ClusterRoleBinding": Kind(("roleRef",)),
    "StorageClass": Kind(("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode")),
}
OTHER = Kind()


def kind_of(name: str) -> Kind:
    return KINDS.get(name, OTHER)
