"""One model with everything that serves it."""

from dataclasses import dataclass

import pulumi

from infra.components.endpoint import Endpoint, EndpointArgs
from infra.components.monitor import ModelMonitor, ModelMonitorArgs
from infra.components.platform import Platform
from infra.components.scaler import ModelScaler, ModelScalerArgs
from infra.components.server import ModelServer, ModelServerArgs
from infra.components.weights import NodeDiskVolume, NodeDiskVolumeArgs
from infra.config import schema
from infra.lifecycle import Lifecycle
from infra.weights import ModelSource
from infra.workload import Workload


@dataclass(frozen=True, kw_only=True)
class ModelArgs:
    """The model, and what it stands on."""

    workload: Workload
    model: schema.Model
    monitoring: schema.Monitoring
    platform: Platform
    image: pulumi.Input[str]
    namespace: pulumi.Input[str]


class Model(pulumi.ComponentResource):
    """Weights, server, endpoint, monitor and scaler of one model."""

    endpoint: Endpoint

    def __init__(self, name: str, args: ModelArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:components:Model", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        workload, model, namespace = args.workload, args.model, args.namespace
        weights: tuple[pulumi.Resource, ...] = ()
        if isinstance(model.weights, schema.NodeDiskWeights):
            volume = NodeDiskVolumeArgs(workload=workload, weights=model.weights, namespace=namespace)
            weights = (NodeDiskVolume(f"{name}-weights", volume, child),)
        server = ModelServer(
            name,
            ModelServerArgs(
                workload=workload,
                model=model,
                source=ModelSource.of(model.weights, workload),
                image=args.image,
                namespace=namespace,
                after=weights,
            ),
            child,
        )
        endpoint = EndpointArgs(
            workload=workload,
            kind=model.endpoint,
            timeout=Lifecycle.of(model.timing, model.scaling).deployment_timeout,
            namespace=namespace,
        )
        self.endpoint = Endpoint(name, endpoint, child)
        monitor = ModelMonitor(
            name, ModelMonitorArgs(workload=workload, monitoring=args.monitoring, namespace=namespace), child
        )
        ModelScaler(
            name,
            ModelScalerArgs(
                workload=workload,
                scaling=model.scaling,
                monitoring=args.monitoring,
                namespace=namespace,
                after=(args.platform.keda, server.deployment, self.endpoint.service, monitor.service_monitor),
            ),
            child,
        )
        self.register_outputs({"endpoint_url": self.endpoint.url})
