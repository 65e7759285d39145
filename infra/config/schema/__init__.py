"""The one schema of the configuration: every group and key, its type, its default and what it means."""

from infra.config.schema.cluster import Cluster, Cost, GpuPool, Toleration
from infra.config.schema.endpoint import (
    ApiKeys,
    ClusterIpEndpoint,
    EndpointKind,
    Exposure,
    GatewayExposure,
    GeneratedKey,
    GivenKeys,
    IngressExposure,
    LoadBalancerEndpoint,
    Network,
    NodePortEndpoint,
    NoKeys,
)
from infra.config.schema.images import (
    BuildImage,
    Charts,
    FolderCharts,
    Image,
    Mirror,
    MirrorCharts,
    PrebuiltImage,
    PublisherCharts,
    Registry,
)
from infra.config.schema.model import Model
from infra.config.schema.objectives import Objectives
from infra.config.schema.platform import (
    DevicePlugin,
    ExistingMonitoring,
    GpuMetrics,
    InstallMonitoring,
    Keda,
    Monitoring,
)
from infra.config.schema.scaling import IngressRequests, QueryRequests, RequestSide, Scaling, Schedule
from infra.config.schema.server import (
    Gpus,
    Placement,
    Resources,
    RuntimeKind,
    Server,
    Timing,
    TransformersRuntime,
    VllmRuntime,
)
from infra.config.schema.stack import StackConfig
from infra.config.schema.weights import (
    BakedWeights,
    CacheVolume,
    HubWeights,
    NodeDiskWeights,
    OciWeights,
    PvcWeights,
    S3Weights,
    Weights,
)

__all__ = [
    "ApiKeys", "BakedWeights", "BuildImage", "CacheVolume", "Charts", "Cluster", "ClusterIpEndpoint", "Cost",
    "DevicePlugin", "EndpointKind", "ExistingMonitoring", "Exposure", "FolderCharts", "GatewayExposure", "GeneratedKey",
    "GivenKeys", "GpuMetrics", "GpuPool", "Gpus", "HubWeights", "Image", "IngressExposure", "IngressRequests",
    "InstallMonitoring", "Keda", "LoadBalancerEndpoint", "Mirror", "MirrorCharts", "Model", "Monitoring", "Network",
    "NoKeys", "NodeDiskWeights", "NodePortEndpoint", "Objectives", "OciWeights", "Placement", "PrebuiltImage",
    "PublisherCharts", "PvcWeights", "QueryRequests", "Registry", "RequestSide", "Resources", "RuntimeKind", "S3Weights",
    "Scaling", "Schedule", "Server", "StackConfig", "Timing", "Toleration", "TransformersRuntime", "VllmRuntime",
    "Weights",
]  # fmt: skip
