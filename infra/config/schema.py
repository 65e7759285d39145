"""The one schema of the configuration: every group and key, its type, its default and what it means."""

# ruff: noqa: RUF009 -- key() makes the field itself; it is no default that instances would share

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from infra.config.parsing import key

# RFC 1123, as Kubernetes asks of names of namespaces and Services; a Service's begins with a letter.
DNS_LABEL = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
# KEDA names its autoscaler `keda-hpa-<name>`, and a name has at most 63 characters.
MODEL_NAME = r"[a-z]([-a-z0-9]{0,52}[a-z0-9])?"
CPU_QUANTITY = r"\d+m|\d+(\.\d+)?"
MEMORY_QUANTITY = r"\d+(Ki|Mi|Gi|Ti)"
# The API server's default range for node ports.
NODE_PORT_FIRST, NODE_PORT_LAST = 30000, 32767


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Which cluster, and where in it."""

    identifier: str = key("a name for the cluster that never changes, so that a new kubeconfig replaces nothing")
    context: str = key("the context of the kubeconfig (file named by KUBECONFIG) to deploy to")
    namespace: str = key("the namespace of the models", pattern=DNS_LABEL, looks="a DNS label")
    create_namespace: bool = key(
        "whether the stack makes the namespace, and removes it with everything in it when it is destroyed", default=True
    )


@dataclass(frozen=True, kw_only=True)
class BuildImage:
    """The server's image is built from this repository and pushed."""

    TAG: ClassVar[str] = "build"

    repository: str = key(
        "the image repository to push to, without a tag, such as registry.example.org/team/llm-server",
        pattern=r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+",
        looks="registry/path without a tag",
    )
    base_image: str | None = key("the image to build on; the Dockerfile's own when left out", default=None)
    platform: Literal["linux/amd64", "linux/arm64"] | None = key(
        "the nodes' platform; the builder's own when left out", default=None
    )


@dataclass(frozen=True, kw_only=True)
class PrebuiltImage:
    """The server's image exists already."""

    TAG: ClassVar[str] = "prebuilt"

    reference: str = key(
        "an image reference that names a digest, repository@sha256:<64 hex digits>",
        pattern=r"[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)+(:[\w.-]+)?@sha256:[0-9a-f]{64}",
        looks="a reference by digest (a tag can move under a running model)",
    )


@dataclass(frozen=True, kw_only=True)
class Keda:
    """The autoscaler that the cluster has."""

    mode: Literal["existing"] = key("who installs KEDA; existing: it is there already", default="existing")


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """The Prometheus that scrapes the models and answers KEDA."""

    mode: Literal["existing"] = key(
        "who installs Prometheus; existing: it and its operator are there already", default="existing"
    )
    prometheus_address: str = key(
        "the address of Prometheus as seen from KEDA's pods, such as http://prometheus-operated.monitoring.svc:9090",
        pattern=r"https?://[^/\s]+(/\S*)?",
        looks="an http or https address",
    )
    scrape_interval_seconds: int = key(
        "seconds between two scrapes of a model's pod", default=15, minimum=1, maximum=120
    )
    service_monitor_labels: Mapping[str, str] = key(
        "labels by which Prometheus selects ServiceMonitors (a kube-prometheus-stack often asks for `release`)",
        default_factory=dict,
    )


@dataclass(frozen=True, kw_only=True)
class NodeDiskWeights:
    """A directory on one node's disk, offered to the pods by a PersistentVolume that the stack makes."""

    TAG: ClassVar[str] = "node-disk"

    path: str = key("the model's directory on the node", pattern=r"/\S+", looks="an absolute path")
    node: str = key("the node's label kubernetes.io/hostname")


@dataclass(frozen=True, kw_only=True)
class PvcWeights:
    """A PersistentVolumeClaim that is there already, in the stack's namespace."""

    TAG: ClassVar[str] = "pvc"

    claim: str = key("the name of the PersistentVolumeClaim", pattern=DNS_LABEL, looks="a DNS label")
    directory: str | None = key(
        "the model's directory in the volume; its root when left out",
        default=None,
        pattern=r"[^/\s]\S*",
        looks="a relative path",
    )


@dataclass(frozen=True, kw_only=True)
class HubWeights:
    """A repository of the model hub, downloaded by each pod when it starts."""

    TAG: ClassVar[str] = "hub"

    repository: str = key("the repository, owner/name", pattern=r"[\w.-]+/[\w.-]+", looks="owner/name")
    revision: str = key(
        "the commit of the repository", pattern=r"[0-9a-f]{40}", looks="a commit of 40 hex digits (a branch can move)"
    )


Weights = NodeDiskWeights | PvcWeights | HubWeights


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """The accelerators of one replica."""

    count: int = key("devices for each replica; 0 serves on the CPU", default=0, minimum=0, maximum=8)
    resource: str = key(
        "the extended resource that the device plugin offers",
        default="nvidia.com/gpu",
        pattern=r"[\w.-]+/[\w.-]+",
        looks="domain/name",
    )


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one replica asks of its node."""

    cpu: str = key("cores that are reserved, such as 300m or 4", pattern=CPU_QUANTITY, looks="a CPU quantity")
    memory: str = key("memory that is reserved, such as 700Mi", pattern=MEMORY_QUANTITY, looks="a memory quantity")
    memory_limit: str = key(
        "memory at which the kernel ends the server", pattern=MEMORY_QUANTITY, looks="a memory quantity"
    )


@dataclass(frozen=True, kw_only=True)
class Server:
    """The limits of one server."""

    max_running_requests: int = key("requests that one server computes together", default=16, minimum=1, maximum=1024)
    max_waiting_requests: int = key(
        "requests that may queue in one server; more are refused with status 429",
        default=64,
        minimum=1,
        maximum=100_000,
    )
    max_model_len: int | None = key(
        "tokens of prompt and answer together; the model's own when left out", default=None, minimum=2
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = key(
        "the number format of weights and arithmetic", default="auto"
    )


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How many replicas, and what decides it."""

    min_replicas: int = key(
        "replicas without load (no series exists without a pod, so at least one)", default=1, minimum=1
    )
    max_replicas: int = key("replicas at most", default=3, minimum=1)
    waiting_per_replica: float = key(
        "queued requests per replica above which one more is wanted", default=5.0, minimum=0.1
    )
    running_per_replica: float = key(
        "running requests per replica above which one more is wanted", default=12.0, minimum=0.1
    )
    polling_seconds: int = key("seconds between KEDA's own looks at the signals", default=15, minimum=1)
    up_window_seconds: int = key(
        "seconds for which load must last before replicas are added", default=0, minimum=0, maximum=3600
    )
    down_window_seconds: int = key(
        "seconds for which load must be low before replicas are removed", default=300, minimum=0, maximum=3600
    )
    fallback_failures: int = key(
        "failed looks at Prometheus in a row before the fallback applies", default=3, minimum=1
    )
    fallback_replicas: int | None = key(
        "replicas to hold at least while Prometheus does not answer; min_replicas when left out",
        default=None,
        minimum=1,
    )


@dataclass(frozen=True, kw_only=True)
class ClusterIpEndpoint:
    """Reachable in the cluster only."""

    TAG: ClassVar[str] = "ClusterIP"


@dataclass(frozen=True, kw_only=True)
class NodePortEndpoint:
    """Reachable on a port of every node."""

    TAG: ClassVar[str] = "NodePort"

    port: int = key("the port on the nodes", minimum=NODE_PORT_FIRST, maximum=NODE_PORT_LAST)
    host: str = key(
        "a node's address or name, for the address that the stack prints",
        pattern=r"[^\s/:]+",
        looks="a host without scheme or port",
    )


@dataclass(frozen=True, kw_only=True)
class LoadBalancerEndpoint:
    """Reachable at an address that the cluster's load balancer gives."""

    TAG: ClassVar[str] = "LoadBalancer"


EndpointKind = ClusterIpEndpoint | NodePortEndpoint | LoadBalancerEndpoint


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long a replica may take to start and to stop."""

    startup_seconds: int = key(
        "seconds a pod may need from its creation until it is ready: image, weights, first step",
        default=900,
        minimum=10,
        maximum=7200,
    )
    pre_stop_seconds: int = key(
        "seconds a pod serves on after it left the endpoints, until every proxy knows",
        default=5,
        minimum=1,
        maximum=120,
    )
    drain_seconds: int = key("seconds that requests in flight get to finish", default=120, minimum=1, maximum=3600)
    grace_seconds: int | None = key(
        "seconds until the pod is killed; pre-stop and drain with a margin when left out", default=None, minimum=1
    )


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model and everything that serves it."""

    weights: Weights = key("where the weights come from", tag="source")
    resources: Resources = key("what one replica reserves")
    served_name: str | None = key(
        "the model's name in requests; the entry's own name when left out",
        default=None,
        pattern=r"[\w./:-]+",
        looks="a name without spaces",
    )
    gpus: Gpus = key("the accelerators of one replica", default=Gpus())
    server: Server = key("the limits of one server", default=Server())
    scaling: Scaling = key("how many replicas, and what decides it", default=Scaling())
    endpoint: EndpointKind = key("how clients reach the model", default=ClusterIpEndpoint(), tag="type")
    timing: Timing = key("how long a replica may take to start and to stop", default=Timing())
    read_only_root: bool = key(
        "whether the container's root file system is read-only (some GPU runtimes write to it at start)", default=True
    )


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """Everything that a stack can be told."""

    cluster: Cluster = key("which cluster, and where in it")
    image: BuildImage | PrebuiltImage = key("the server's image", tag="mode")
    monitoring: Monitoring = key("the Prometheus that scrapes the models and answers KEDA")
    models: Mapping[str, Model] = key(
        "one entry per model, by name",
        pattern=MODEL_NAME,
        looks="a name of lower-case letters, digits and dashes, at most 54 long",
    )
    keda: Keda = key("the autoscaler", default=Keda())
