"""A Helm chart in the cluster, wherever charts and images come from."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s

from infra.config.schema import Charts, FolderCharts, Mirror, MirrorCharts, PublisherCharts
from infra.versions import Chart
from infra.workload import MANAGED_BY_LABEL, PART_OF_LABEL

ROOT = Path(__file__).resolve().parents[2]
# Images of several hundred megabytes, pods that wait for each other: twice Helm's own default of five minutes.
TIMEOUT_SECONDS = 600
PRIVILEGED = {"pod-security.kubernetes.io/enforce": "privileged"}


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where charts and the images they bring come from."""

    charts: Charts
    mirror: Mirror | None

    def image(self, registry: str, repository: str) -> str:
        """The repository of an image, with the mirror in place of its registry."""
        return f"{self.registry(registry)}/{repository}"

    def registry(self, registry: str) -> str:
        return self.mirror.images if self.mirror else registry

    @property
    def pull_secrets(self) -> list[dict[str, str]]:
        return [{"name": self.mirror.pull_secret}] if self.mirror and self.mirror.pull_secret else []


@dataclass(frozen=True, kw_only=True)
class ReleaseArgs:
    """Which chart, in which namespace, with which values."""

    chart: Chart
    namespace: pulumi.Input[str]
    values: Mapping[str, pulumi.Input[object]]
    sources: Sources
    skip_crds: bool = False


def release(name: str, args: ReleaseArgs, opts: pulumi.ResourceOptions) -> k8s.helm.v3.Release:
    """The Helm release ``name``; the update waits until its workloads are ready, and a failed install leaves nothing behind."""
    chart = args.chart
    location = k8s.helm.v3.RepositoryOptsArgs(repo=chart.repository)
    match args.sources.charts:
        case FolderCharts(path=path):
            return _release(name, args, _relative(ROOT / path / f"{chart.name}-{chart.version}.tgz"), None, opts)
        case MirrorCharts(registry=registry):
            return _release(name, args, f"{registry}/{chart.name}", None, opts)
        case PublisherCharts():
            return _release(name, args, chart.name, location, opts)


def _release(
    name: str,
    args: ReleaseArgs,
    chart: str,
    repository: k8s.helm.v3.RepositoryOptsArgs | None,
    opts: pulumi.ResourceOptions,
) -> k8s.helm.v3.Release:
    return k8s.helm.v3.Release(
        name,
        name=name,
        chart=chart,
        version=args.chart.version,
        repository_opts=repository,
        namespace=args.namespace,
        values=dict(args.values),
        skip_crds=args.skip_crds,
        atomic=True,
        timeout=TIMEOUT_SECONDS,
        opts=opts,
    )


def namespace(name: str, labels: Mapping[str, str], opts: pulumi.ResourceOptions) -> k8s.core.v1.Namespace:
    """A namespace of the platform."""
    own = {PART_OF_LABEL: "llm-stack", MANAGED_BY_LABEL: "pulumi"}
    return k8s.core.v1.Namespace(
        name, metadata=k8s.meta.v1.ObjectMetaArgs(name=name, labels={**own, **labels}), opts=opts
    )


def _relative(path: Path) -> str:
    # Relative to the program's directory: another checkout has the same inputs.
    return os.path.relpath(path, ROOT / "infra")
