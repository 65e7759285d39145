"""A directory on a node's disk as a volume that a restricted pod may mount."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra.config.schema import NodeDiskWeights
from infra.weights import node_disk_claim
from infra.workload import Workload

HOSTNAME_LABEL = "kubernetes.io/hostname"
# Required by the API and measured by nobody: a local volume is as big as the directory's disk.
NOMINAL_CAPACITY = "1Gi"
ACCESS_MODES = ("ReadOnlyMany",)


@dataclass(frozen=True, kw_only=True)
class NodeDiskVolumeArgs:
    """Which directory, for which model."""

    workload: Workload
    weights: NodeDiskWeights
    namespace: pulumi.Input[str]


class NodeDiskVolume(pulumi.ComponentResource):
    """A PersistentVolume tied to one node and one claim, and that claim.

    Pod Security's restricted level forbids hostPath in pods, and allows a claim.
    """

    claim: pulumi.Output[str]

    def __init__(self, name: str, args: NodeDiskVolumeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:NodeDiskVolume", name, None, opts)
        workload = args.workload
        claim_name = node_disk_claim(args.weights, workload)
        volume_name = f"{workload.namespace}-{claim_name}"  # volumes have no namespace
        volume = k8s.core.v1.PersistentVolume(
            f"{name}-volume",
            metadata=k8s.meta.v1.ObjectMetaArgs(name=volume_name, labels=workload.labels),
            spec=k8s.core.v1.PersistentVolumeSpecArgs(
                capacity={"storage": NOMINAL_CAPACITY},
                access_modes=ACCESS_MODES,
                # No provisioner: neither this volume nor its claim may be matched with anything else.
                storage_class_name="",
                persistent_volume_reclaim_policy="Retain",
                claim_ref=k8s.core.v1.ObjectReferenceArgs(namespace=workload.namespace, name=claim_name),
                local=k8s.core.v1.LocalVolumeSourceArgs(path=args.weights.path),
                node_affinity=_only_on(args.weights.node),
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        claim = k8s.core.v1.PersistentVolumeClaim(
            f"{name}-claim",
            metadata=k8s.meta.v1.ObjectMetaArgs(name=claim_name, namespace=args.namespace, labels=workload.labels),
            spec=k8s.core.v1.PersistentVolumeClaimSpecArgs(
                access_modes=ACCESS_MODES,
                storage_class_name="",
                volume_name=volume_name,
                resources=k8s.core.v1.VolumeResourceRequirementsArgs(requests={"storage": NOMINAL_CAPACITY}),
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[volume]),
        )
        self.claim = claim.id.apply(lambda _: claim_name)
        self.register_outputs({"claim": self.claim})


def _only_on(node: str) -> k8s.core.v1.VolumeNodeAffinityArgs:
    expression = k8s.core.v1.NodeSelectorRequirementArgs(key=HOSTNAME_LABEL, operator="In", values=[node])
    term = k8s.core.v1.NodeSelectorTermArgs(match_expressions=[expression])
    return k8s.core.v1.VolumeNodeAffinityArgs(required=k8s.core.v1.NodeSelectorArgs(node_selector_terms=[term]))
