"""The Deployment of a model."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from infra.components.pod import PodArgs, pod
from infra.lifecycle import Lifecycle
from infra.rollout import Rollout

# Karpenter's and the cluster autoscaler's: a node with a serving pod is not removed to save money.
STAY = {"karpenter.sh/do-not-disrupt": "true", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}

# An annotation of pods that read their keys once: new keys are other pods.
KEYS_VERSION = "llm-stack/api-keys-version"


@dataclass(frozen=True, kw_only=True)
class ModelServerArgs:
    """Which pods, replaced how; ``after``: what must be there first.

    ``keys_version``: of the keys, where pods read them once; a preview may not know it.
    """

    pod: PodArgs
    rollout: Rollout
    lifecycle: Lifecycle
    annotations: Mapping[str, str]  # of the ServiceAccount
    keys_version: pulumi.Output[str | None] | None
    namespace: pulumi.Input[str]
    after: tuple[pulumi.Resource, ...]


class ModelServer(pulumi.ComponentResource):
    """The Deployment of a model, the identity its pods run under, and what a drained node may take of it."""

    deployment: k8s.apps.v1.Deployment

    def __init__(self, name: str, args: ModelServerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:ModelServer", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        workload, placement = args.pod.workload, args.pod.model.placement
        lifecycle = args.lifecycle
        metadata = k8s.meta.v1.ObjectMetaArgs(name=workload.name, namespace=args.namespace, labels=workload.labels)
        selector = k8s.meta.v1.LabelSelectorArgs(match_labels=workload.selector)
        account = k8s.core.v1.ServiceAccount(
            name,
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=workload.name,
                namespace=args.namespace,
                labels=workload.labels,
                annotations=dict(args.annotations) or None,
            ),
            automount_service_account_token=False,
            opts=child,
        )
        timeout = f"{lifecycle.deployment_timeout}s"
        self.deployment = k8s.apps.v1.Deployment(
            name,
            metadata=metadata,
            # No `replicas`: they are the autoscaler's.
            spec=k8s.apps.v1.DeploymentSpecArgs(
                selector=selector,
                strategy=k8s.apps.v1.DeploymentStrategyArgs(
                    type="RollingUpdate",
                    rolling_update=k8s.apps.v1.RollingUpdateDeploymentArgs(
                        max_unavailable=args.rollout.max_unavailable, max_surge=args.rollout.max_surge
                    ),
                ),
                progress_deadline_seconds=lifecycle.progress_deadline,
                template=k8s.core.v1.PodTemplateSpecArgs(
                    metadata=k8s.meta.v1.ObjectMetaArgs(
                        labels=workload.labels,
                        annotations=_annotations(STAY if placement.stay else {}, args.keys_version),
                    ),
                    spec=pod(args.pod),
                ),
            ),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[account, *args.after],
                custom_timeouts=pulumi.CustomTimeouts(create=timeout, update=timeout),
            ),
        )
        if placement.disruption_budget:
            k8s.policy.v1.PodDisruptionBudget(
                name,
                metadata=metadata,
                spec=k8s.policy.v1.PodDisruptionBudgetSpecArgs(
                    selector=selector,
                    # One at a time, even of a single replica: a budget that allows none holds up every node's drain.
                    max_unavailable=1,
                    unhealthy_pod_eviction_policy="AlwaysAllow",
                ),
                opts=child,
            )
        self.register_outputs({})


def _annotations(
    fixed: Mapping[str, str], keys_version: pulumi.Output[str | None] | None
) -> pulumi.Input[Mapping[str, pulumi.Input[str]]] | None:
    if keys_version is None:
        return fixed or None
    return keys_version.apply(lambda version: {**fixed, KEYS_VERSION: version} if version else fixed)
