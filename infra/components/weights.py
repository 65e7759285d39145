"""Volumes and secrets for the weights of a model."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra.config.schema import CacheVolume, HubWeights, NodeDiskWeights, S3Weights, Weights
from infra.weights import HUB_TOKEN, S3_SECRET, cache_claim, node_disk_claim, weights_secret
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


@dataclass(frozen=True, kw_only=True)
class CacheArgs:
    """Which volume, for which model."""

    workload: Workload
    cache: CacheVolume
    namespace: pulumi.Input[str]


class WeightsCache(pulumi.ComponentResource):
    """A claim in which downloaded weights outlive their pods."""

    claim: k8s.core.v1.PersistentVolumeClaim

    def __init__(self, name: str, args: CacheArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:WeightsCache", name, None, opts)
        workload, cache = args.workload, args.cache
        self.claim = k8s.core.v1.PersistentVolumeClaim(
            name,
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=cache_claim(cache, workload),
                namespace=args.namespace,
                labels=workload.labels,
                # Many storage classes bind a volume when its first pod comes, which waits for this claim in turn.
                annotations={"pulumi.com/skipAwait": "true"},
            ),
            spec=k8s.core.v1.PersistentVolumeClaimSpecArgs(
                access_modes=[cache.access_mode],
                storage_class_name=cache.storage_class,
                resources=k8s.core.v1.VolumeResourceRequirementsArgs(requests={"storage": cache.size}),
            ),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


@dataclass(frozen=True, kw_only=True)
class WeightsSecretArgs:
    """Whose secrets: by keys of the Secret."""

    workload: Workload
    values: dict[str, str]
    namespace: pulumi.Input[str]


class WeightsSecret(pulumi.ComponentResource):
    """What the storage of the weights asks for: the hub's token, or the secret of an access key."""

    secret: k8s.core.v1.Secret

    def __init__(self, name: str, args: WeightsSecretArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:WeightsSecret", name, None, opts)
        workload = args.workload
        self.secret = k8s.core.v1.Secret(
            name,
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=weights_secret(workload), namespace=args.namespace, labels=workload.labels
            ),
            string_data={key: pulumi.Output.secret(value) for key, value in args.values.items()},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({})


def stored_secrets(weights: Weights) -> dict[str, str]:
    """What of the weights' configuration is kept in a Secret, by its key there."""
    match weights:
        case HubWeights(token=str() as token):
            return {HUB_TOKEN: token}
        case S3Weights(secret_key=str() as secret_key):
            return {S3_SECRET: secret_key}
        case _:
            return {}


def _only_on(node: str) -> k8s.core.v1.VolumeNodeAffinityArgs:
    expression = k8s.core.v1.NodeSelectorRequirementArgs(key=HOSTNAME_LABEL, operator="In", values=[node])
    term = k8s.core.v1.NodeSelectorTermArgs(match_expressions=[expression])
    return k8s.core.v1.VolumeNodeAffinityArgs(required=k8s.core.v1.NodeSelectorArgs(node_selector_terms=[term]))
