"""A Helm chart in the cluster, and the namespace it lives in, wherever charts and images come from."""

from dataclasses import dataclass
from typing import Literal

import pulumi
import pulumi_kubernetes as k8s

from infra.charts.images import PULL_SECRET, Images
from infra.components.pull_secret import pull_secret
from infra.config.schema import Charts, FolderCharts, Mirror, MirrorCharts, PublisherCharts
from infra.project import ROOT, from_program
from infra.versions import Chart
from infra.wire import JsonObject
from infra.workload import MANAGED_BY_LABEL, PART_OF_LABEL

# Images of several hundred megabytes, pods that wait for each other: twice Helm's own default of five minutes.
TIMEOUT_SECONDS = 600
# GKE lets pods of these priorities into a namespace only if it has a quota for them. No cluster has as many GPU nodes:
# the quota is there to be there, and limits nothing.
CRITICAL_PRIORITIES = ["system-node-critical", "system-cluster-critical"]
CRITICAL_PODS = 10_000


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where charts and the images they bring come from."""

    charts: Charts
    mirror: Mirror | None

    @property
    def images(self) -> Images:
        return Images(mirror=self.mirror)


@dataclass(frozen=True, kw_only=True)
class ReleaseArgs:
    """Which chart, in which namespace, with which values; ``after``: what must be there first."""

    chart: Chart
    namespace: pulumi.Input[str]
    values: JsonObject
    sources: Sources
    after: tuple[pulumi.Resource, ...] = ()


def release(name: str, args: ReleaseArgs, opts: pulumi.ResourceOptions) -> k8s.helm.v3.Release:
    """The Helm release ``name``.

    The update waits until its workloads are ready; a failed install leaves nothing behind, a failed upgrade what was
    there before. The name never changes: by it a new install takes over the definitions that an earlier one left.
    """
    chart, repository = _location(args.chart, args.sources.charts)
    return k8s.helm.v3.Release(
        name,
        name=name,
        chart=chart,
        version=args.chart.version,
        repository_opts=repository,
        namespace=args.namespace,
        values=args.values,
        atomic=True,
        timeout=TIMEOUT_SECONDS,
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=args.after)),
    )


def _location(chart: Chart, charts: Charts) -> tuple[str, k8s.helm.v3.RepositoryOptsArgs | None]:
    match charts:
        case FolderCharts(path=path):
            return from_program(ROOT / path / chart.file), None
        case MirrorCharts(registry=registry):
            return f"{registry}/{chart.name}", None
        case PublisherCharts():
            return chart.name, k8s.helm.v3.RepositoryOptsArgs(repo=chart.repository)


@dataclass(frozen=True, kw_only=True)
class NamespaceArgs:
    """A namespace for charts: how far its pods may reach into their node, and whether they outrank others."""

    sources: Sources
    pod_security: Literal["privileged", "restricted"]
    critical: bool = False


def namespace(name: str, args: NamespaceArgs, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    """The name of a namespace of the platform, once everything that its pods need is in it."""
    made = k8s.core.v1.Namespace(
        name,
        metadata=k8s.meta.v1.ObjectMetaArgs(
            name=name,
            labels={
                PART_OF_LABEL: "llm-stack",
                MANAGED_BY_LABEL: "pulumi",
                "pod-security.kubernetes.io/enforce": args.pod_security,
            },
        ),
        opts=opts,
    )
    ready: list[pulumi.Output[str]] = [made.metadata.name]
    if args.critical:
        ready.append(_critical_quota(name, made.metadata.name, opts))
    if args.sources.mirror and args.sources.mirror.registry:
        secret = pull_secret(f"{name}-mirror", PULL_SECRET, made.metadata.name, args.sources.mirror.registry, opts)
        ready.append(secret.metadata.name)
    return pulumi.Output.all(*ready).apply(lambda names: str(names[0]))


def _critical_quota(name: str, namespace: pulumi.Output[str], opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    quota = k8s.core.v1.ResourceQuota(
        f"{name}-critical-pods",
        metadata=k8s.meta.v1.ObjectMetaArgs(name="critical-pods", namespace=namespace),
        spec=k8s.core.v1.ResourceQuotaSpecArgs(
            hard={"pods": str(CRITICAL_PODS)},
            scope_selector=k8s.core.v1.ScopeSelectorArgs(
                match_expressions=[
                    k8s.core.v1.ScopedResourceSelectorRequirementArgs(
                        scope_name="PriorityClass", operator="In", values=CRITICAL_PRIORITIES
                    )
                ]
            ),
        ),
        opts=opts,
    )
    return quota.metadata.name
