"""A model on what it shall run on: the request as it is given, and what follows from it and the model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from infra.gpus import Accelerator
from infra.plan.fit.architecture import Architecture
from infra.plan.fit.memory import Memory, Replica, budget_bytes, longest_request, measure, weight_bytes
from infra.plan.fit.number_format import WHILE_LOADING, CacheDtype, Dtype, Quantization, QuantizationName
from infra.plan.fit.runtimes import LARGE_GPU_BYTES, RUNTIMES, RuntimeName, RuntimeRules

# What vLLM is told to fill of a GPU's memory.
DEFAULT_MEMORY_SHARE = 0.9


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """A model and what it shall run on.

    Raises:
        ValueError: a number is out of range, or there is neither a GPU nor a memory limit to compare with.
    """

    config: Mapping[str, object]
    """The model's config.json."""
    runtime: RuntimeName
    gpus_per_replica: int
    """0 serves on the CPU."""
    max_running_requests: int
    gpu: Accelerator | None = None
    memory_limit_bytes: int | None = None
    """Of the pod; compared with where there is no GPU."""
    dtype: Dtype | None = None
    """None: that of the checkpoint."""
    quantization: QuantizationName | None = None
    """None: that of the checkpoint, or none."""
    kv_cache_dtype: CacheDtype = "auto"
    """What vLLM keeps keys and values in; our server keeps them in the model's number format."""
    max_model_len: int | None = None
    """Tokens of prompt and answer; None: the model's own limit."""
    shares: int = 1
    """Pods that have a GPU or a slice between them, each with the same part of its memory."""
    kv_cache_bytes: int | None = None
    """What our server is told to keep for keys and values on each GPU; None: what is free."""
    memory_share: float = DEFAULT_MEMORY_SHARE
    """What vLLM is told to fill of the whole GPU or slice (``gpu_memory_utilization``); our server takes what is free."""
    prefill_tokens: int | None = None
    """Prompt tokens in one step; None: the runtime's default."""

    def __post_init__(self) -> None:
        if not 0 < self.memory_share <= 1:
            raise ValueError(f"memory_share = {self.memory_share}: must be above 0 and at most 1")
        for name in ("max_running_requests", "max_model_len", "prefill_tokens", "shares", "kv_cache_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value}: must be at least 1")
        if self.gpus_per_replica < 0:
            raise ValueError(f"gpus_per_replica = {self.gpus_per_replica}: must be at least 0")
        if self.gpus_per_replica and self.gpu is None:
            raise ValueError("gpu = None: name the GPU, or set gpus_per_replica to 0")
        if not self.gpus_per_replica and self.memory_limit_bytes is None:
            raise ValueError("memory_limit_bytes = None: without a GPU it is what the model must fit into")

    @property
    def accelerator(self) -> Accelerator | None:
        return self.gpu if self.gpus_per_replica else None

    @property
    def memory_bytes(self) -> int:
        """Of one GPU, or the pod's part of it where pods share it; on the CPU of the pod."""
        accelerator = self.accelerator
        return accelerator.memory_bytes // self.shares if accelerator is not None else self.memory_limit_bytes or 0


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A request and what is known of its model."""

    request: FitRequest
    architecture: Architecture
    published: Quantization | None
    """How the checkpoint is quantised."""
    stored_dtype: Dtype
    """The number format of the checkpoint, where it is not quantised."""

    @property
    def runtime(self) -> RuntimeRules:
        return RUNTIMES[self.request.runtime]

    @property
    def dtype(self) -> Dtype:
        return self.request.dtype or self.stored_dtype

    @property
    def context_tokens(self) -> int:
        """Tokens of prompt and answer of the longest request."""
        own = self.own_context_tokens
        return min(self.request.max_model_len or own, own)

    @property
    def own_context_tokens(self) -> int:
        """The most tokens that the model was made for, as the runtime sees it."""
        architecture = self.architecture
        stretches = self.runtime.stretches_positions
        return architecture.stretched_context_tokens if stretches else architecture.context_tokens

    @property
    def quantization(self) -> Quantization | None:
        """How the weights lie in memory."""
        if not self.runtime.quantizes:
            return None
        if self.published is not None:
            return self.published
        return WHILE_LOADING.get(self.request.quantization or "")

    @property
    def replica(self) -> Replica:
        request, runtime = self.request, self.runtime
        # vLLM asks how large the GPU is, not which part of it is the pod's.
        large = request.accelerator is not None and request.accelerator.memory_bytes >= LARGE_GPU_BYTES
        on_gpu = runtime.prefill_tokens_large if large else runtime.prefill_tokens
        default = runtime.cpu_prefill_tokens if request.accelerator is None else on_gpu
        return Replica(
            architecture=self.architecture,
            runtime=runtime,
            gpus=request.gpus_per_replica,
            weight_dtype=self.dtype,
            quantization=self.quantization,
            prefill_tokens=request.prefill_tokens or default,
            running_requests=request.max_running_requests,
            kv_cache_dtype=request.kv_cache_dtype,
            kv_cache_bytes=request.kv_cache_bytes,
        )

    def memory(self) -> Memory:
        """Every part of the sum, for requests of full length."""
        replica = self.replica
        # The part of a GPU that the pod may fill is the share of the whole one, times the pods that share it.
        share = self.request.memory_share * self.request.shares
        budget = budget_bytes(replica, self.request.memory_bytes, share)
        return measure(replica, budget=budget, tokens=self.context_tokens)

    def checkpoint_bytes(self) -> int:
        """Bytes of the weights as they are published."""
        stored = replace(self.replica, gpus=1, weight_dtype=self.stored_dtype, quantization=self.published)
        return weight_bytes(stored)

    def cache_room(self) -> int:
        """The bytes that our server would be told to keep for keys and values, where it is not to take what is free."""
        free = replace(self, request=replace(self.request, kv_cache_bytes=None)).memory().cache
        return int(max(free, 0) / self.runtime.running_share)

    def longest(self, requests: int) -> int:
        """The most tokens with which that many requests are held at once; 0 where not even one token each is."""
        available = self.memory().cache
        return longest_request(self.replica, available=available, requests=requests, limit=self.own_context_tokens)
