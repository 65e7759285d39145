"""What serves a model, with what, and how long its life takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from infra.config.parsing import key
from infra.config.schema.cluster import Toleration
from infra.config.schema.names import (
    BY_DIGEST,
    CPU_QUANTITY,
    DAY_SECONDS,
    DNS_LABEL,
    IMAGE_DIGEST,
    MEMORY_QUANTITY,
    labels,
)

# Below this part of a GPU there is hardly room for a model beside what vLLM takes with any.
LEAST_MEMORY_SHARE = 0.1
ENFORCE_EAGER = "whether CUDA graphs are left out: a quicker start, a slower answer"


@dataclass(frozen=True, kw_only=True)
class TransformersRuntime:
    """This project's own server."""

    TAG: ClassVar[str] = "transformers"

    enforce_eager: bool = key(ENFORCE_EAGER, default=False)
    kv_cache_mib: int | None = key(
        "MiB for keys and values on each GPU; what is free there when left out, which only a GPU that no other pod shares allows",
        default=None,
        minimum=1,
    )


@dataclass(frozen=True, kw_only=True)
class VllmRuntime:
    """A stock vLLM image; metrics and scaling are the same."""

    TAG: ClassVar[str] = "vllm"

    image: str = key("vLLM's image, repository@sha256:<64 hex digits>", pattern=IMAGE_DIGEST, looks=BY_DIGEST)
    quantization: Literal["fp8", "awq", "gptq", "bitsandbytes", "compressed-tensors"] | None = key(
        "how the weights are quantised; as the model's files say when left out", default=None
    )
    kv_cache_dtype: Literal["auto", "fp8"] = key("the number format of the KV cache", default="auto")
    gpu_memory_utilization: float = key(
        "the share of the GPU's memory that vLLM takes", default=0.9, minimum=LEAST_MEMORY_SHARE, maximum=0.98
    )
    prefix_caching: bool = key("whether common beginnings of prompts are computed once", default=True)
    enforce_eager: bool = key(ENFORCE_EAGER, default=False)
    tool_call_parser: str | None = key("vLLM's parser of tool calls for the model", default=None)
    reasoning_parser: str | None = key("vLLM's parser of reasoning for the model", default=None)


RuntimeKind = TransformersRuntime | VllmRuntime


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """The accelerators of one replica."""

    count: int = key("devices for each replica; 0 serves on the CPU", default=0, minimum=0, maximum=8)
    pool: str | None = key("the pool of gpu_pools that they come from", default=None)
    mig_profile: str | None = key(
        "the slice of a GPU that one device is, such as 1g.10gb; whole GPUs when left out",
        default=None,
        pattern=r"\d+g\.\d+gb(\+me)?",
        looks="a MIG profile",
    )


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one replica asks of its node."""

    cpu: str = key("cores that are reserved, such as 300m or 4", pattern=CPU_QUANTITY, looks="a CPU quantity")
    memory: str = key("memory that is reserved, such as 700Mi", pattern=MEMORY_QUANTITY, looks="a memory quantity")
    memory_limit: str = key(
        "memory at which the kernel ends the server", pattern=MEMORY_QUANTITY, looks="a memory quantity"
    )
    shared_memory: str | None = key(
        "the size of /dev/shm, which processes of several GPUs talk through; 1Gi for each GPU beyond the first when left out",
        default=None,
        pattern=MEMORY_QUANTITY,
        looks="a memory quantity",
    )


@dataclass(frozen=True, kw_only=True)
class Server:
    """The limits of one server."""

    max_running_requests: int = key("requests that one server computes together", default=16, minimum=1, maximum=1024)
    max_waiting_requests: int = key(
        "requests that may queue in one server; more are refused with status 429 (runtime transformers: vLLM's queue has no end)",
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
class Timing:
    """How long a replica may take to start, to answer and to stop."""

    startup_seconds: int = key(
        "seconds a pod may need from its creation until it is ready: image, weights, first step",
        default=900,
        minimum=10,
        maximum=7200,
    )
    storage_mb_per_second: int = key(
        "megabytes per second at which weights are read or fetched, to foresee how long a start takes",
        default=200,
        minimum=1,
    )
    image_pull_seconds: int = key("seconds until a new node has the image", default=120, minimum=0, maximum=3600)
    answer_seconds: int = key(
        "seconds that one answer may take at most; the server ends it then (vLLM does not: there only the proxies of an exposure "
        "do, and a pod that stops)",
        default=300,
        minimum=1,
        maximum=7200,
    )
    pre_stop_seconds: int = key(
        "seconds a pod serves on after it left the endpoints, until every proxy knows",
        default=5,
        minimum=1,
        maximum=120,
    )
    drain_seconds: int | None = key(
        "seconds that requests in flight get to finish; answer_seconds when left out",
        default=None,
        minimum=1,
        maximum=7200,
    )
    grace_seconds: int | None = key(
        "seconds until the pod is killed; pre-stop and drain with a margin when left out",
        default=None,
        minimum=1,
        maximum=DAY_SECONDS,
    )


@dataclass(frozen=True, kw_only=True)
class Placement:
    """On which nodes the replicas run, and what may move them."""

    node_selector: Mapping[str, str] = labels("labels that a node must have, besides the pool's")
    tolerations: tuple[Toleration, ...] = key("taints that the pods put up with, besides the pool's", default=())
    priority_class: str | None = key(
        "the PriorityClass of the pods", default=None, pattern=DNS_LABEL, looks="a DNS label"
    )
    spread: Literal["node", "zone", "none"] = key(
        "what the replicas are spread over, as far as they can be", default="node"
    )
    rollout: Literal["auto", "surge", "in-place"] = key(
        "surge: a new pod before an old one goes (needs free GPUs); in-place: an old one goes first; auto: as the pool and "
        "the weights' volume allow",
        default="auto",
    )
    disruption_budget: bool = key(
        "whether drained nodes take one replica at a time (PodDisruptionBudget)", default=True
    )
    stay: bool = key("whether node autoscalers leave serving pods where they are", default=True)
