"""KEDA in the cluster."""

from dataclasses import dataclass

import pulumi

from infra.charts import keda
from infra.components.release import NamespaceArgs, ReleaseArgs, Sources, namespace, release
from infra.config import schema
from infra.prometheus import Prometheus
from infra.versions import KEDA


@dataclass(frozen=True, kw_only=True)
class KedaArgs:
    """Who installs KEDA, and which Prometheus scrapes it."""

    keda: schema.Keda
    prometheus: Prometheus
    sources: Sources
    after: tuple[pulumi.Resource, ...] = ()


class Keda(pulumi.ComponentResource):
    """KEDA, or nothing where the cluster has it; every scaler depends on it.

    On destroy its definitions stay, and with them the ScaledObjects of other stacks; nothing works on those any more.
    """

    def __init__(self, name: str, args: KedaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:Keda", name, None, opts)
        if args.keda.mode == "install":
            child = pulumi.ResourceOptions(parent=self)
            where = NamespaceArgs(sources=args.sources, pod_security="restricted")
            release(
                KEDA.name,
                ReleaseArgs(
                    chart=KEDA,
                    namespace=namespace(args.keda.namespace, where, child),
                    values=keda.values(args.prometheus, args.sources.images),
                    sources=args.sources,
                    after=args.after,
                ),
                child,
            )
        self.register_outputs({"mode": args.keda.mode})
