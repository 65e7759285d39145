"""The whole stack: one platform, one namespace, one image, and the models."""

import os
from dataclasses import dataclass

import pulumi
import pulumi_docker as docker
import pulumi_kubernetes as k8s

from infra.components.image import ServerImage, ServerImageArgs
from infra.components.model import Model, ModelArgs
from infra.components.platform import Platform, PlatformArgs
from infra.config import schema
from infra.config.schema import StackConfig
from infra.workload import MANAGED_BY_LABEL, PART_OF_LABEL, Workload


@dataclass(frozen=True, kw_only=True)
class LlmStackArgs:
    """What to deploy; ``tag`` tells this stack's image from those of others in the same repository."""

    config: StackConfig
    tag: str


class LlmStack(pulumi.ComponentResource):
    """Everything that a configuration asks for."""

    endpoints: dict[str, pulumi.Output[str]]  # by the models' names, in the configuration's order
    api_keys: dict[str, pulumi.Output[str]]  # secrets, of the models that ask for one
    image: pulumi.Output[str]
    served: list[pulumi.Output[str]]  # known once the models' pods serve
    namespace: str
    prometheus_url: str

    def __init__(self, name: str, args: LlmStackArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llm-stack:index:LlmStack", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        config = args.config
        platform = Platform(
            "platform",
            PlatformArgs(
                device_plugin=config.device_plugin,
                gpu_metrics=config.gpu_metrics,
                keda=config.keda,
                monitoring=config.monitoring,
                gpu_pools=config.gpu_pools,
                charts=config.charts,
                mirror=config.mirror,
            ),
            child,
        )
        self.namespace = config.cluster.namespace
        self.prometheus_url = platform.prometheus.address
        namespace = self._namespace(child) if config.cluster.create_namespace else self.namespace
        image = ServerImage("server", ServerImageArgs(source=config.image, tag=args.tag, namespace=namespace), child)
        models = {
            key: Model(
                key,
                ModelArgs(
                    key=key,
                    config=config,
                    workload=Workload(namespace=self.namespace, name=key, served_model=model.served_name or key),
                    platform=platform,
                    image=image,
                    namespace=namespace,
                ),
                child,
            )
            for key, model in config.models.items()
        }
        self.image = image.reference
        self.served = [model.server.deployment.id for model in models.values()]
        self.endpoints = {key: model.endpoint.url for key, model in models.items()}
        self.api_keys = {key: model.api_keys for key, model in models.items() if model.api_keys is not None}
        self.register_outputs({"endpoints": self.endpoints, "image": self.image})

    def _namespace(self, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
        namespace = k8s.core.v1.Namespace(
            "models",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=self.namespace,
                labels={
                    PART_OF_LABEL: "llm-stack",
                    MANAGED_BY_LABEL: "pulumi",
                    "pod-security.kubernetes.io/enforce": "restricted",
                },
            ),
            opts=opts,
        )
        return namespace.metadata.name


def providers(config: StackConfig) -> list[pulumi.ProviderResource]:
    """The only ways out of the program: the cluster that is configured, and the builder where an image is built."""
    # The SDK would write the path into the state, and every other machine would show a difference; the plugin reads the
    # variable itself.
    os.environ.pop("KUBECONFIG", None)
    cluster = k8s.Provider(
        "cluster",
        # Without it a changed kubeconfig would look like another cluster, and everything would be replaced.
        cluster_identifier=config.cluster.identifier,
        context=config.cluster.context,
        enable_server_side_apply=True,
        # New keys and a new dashboard are updates: what mounts them sees them without a moment in which they are gone.
        enable_secret_mutable=True,
        enable_config_map_mutable=True,
    )
    if isinstance(config.image, schema.PrebuiltImage):
        return [cluster]
    # A preview needs no builder; without one the build itself says so.
    return [cluster, docker.Provider("builder", disable_docker_daemon_check=True)]
