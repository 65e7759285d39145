"""Where the memory of one replica goes: weights, cache, intermediate results, and what is there with any model.

All figures are for one GPU of the replica, the fullest; a replica on the CPU counts as one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from infra.gpus import GIB
from infra.plan.fit.architecture import Architecture, Matrix
from infra.plan.fit.number_format import BYTES, FP8_BYTES, CacheDtype, Dtype, Quantization
from infra.plan.fit.runtimes import RuntimeRules

MIB = 2**20

# What the driver keeps for a process that uses CUDA: context and loaded kernels, about half a GiB on recent GPUs. It is
# no part of the share that a runtime is told to fill, but must be left free beside it.
CUDA_CONTEXT_BYTES = GIB // 2
# Workspaces of cuBLAS and attention, and what the allocator cannot use: vLLM prints 0.05 to 0.2 GiB for one GPU as
# "non_torch_memory".
LIBRARIES_BYTES = GIB // 4
# Graphs of the decoding step for each batch size: vLLM prints 0.1 to 1 GiB ("Graph capturing finished in 18 secs, took
# 0.96 GiB"), most of it below this.
GRAPHS_BYTES = GIB // 2
# Buffers of NCCL and of the direct all-reduce, with two GPUs or more: "non_torch_memory" is then 1.1 to 1.4 GiB.
COLLECTIVES_BYTES = GIB * 5 // 4
# Python with torch, transformers and the server after a first step on the CPU: 748 MiB resident, measured with torch 2.15
# and transformers 5.23 (425 MiB of it anonymous memory).
CPU_PROCESS_BYTES = 768 * MIB

# oneDNN's kernels for our server's linear layers, one for each shape and number of rows: 0.7 MB each, for a layer's six
# shapes and the numbers of rows up to 544 (see service/engine/linear.py).
CPU_KERNELS_BYTES = 128 * MIB

# One row of scores becomes: the scores as float32, probabilities as float32, and where the nucleus needs it the sorted
# scores (float32) with their places (int64); besides the scores in the model's own format.
SAMPLER_BYTES_PER_SCORE = 4 + 4 + 4 + 8
FLOAT32_BYTES = 4
# A norm computes in float32: its input and the result before it is scaled.
NORM_BYTES = 2 * FLOAT32_BYTES


@dataclass(frozen=True, kw_only=True)
class Replica:
    """A model as one replica runs it."""

    architecture: Architecture
    runtime: RuntimeRules
    gpus: int
    """0 for a replica on the CPU."""
    weight_dtype: Dtype
    quantization: Quantization | None
    prefill_tokens: int
    """Prompt tokens in one step."""
    running_requests: int
    kv_cache_dtype: CacheDtype = "auto"
    kv_cache_bytes: int | None = None
    """What the runtime is told to keep for keys and values on one GPU; None: what is free."""

    @property
    def ranks(self) -> int:
        """Processes among which the model is divided."""
        return max(self.gpus, 1)


def weight_bytes(replica: Replica) -> int:
    """Bytes of all weights on one GPU."""
    number = BYTES[replica.weight_dtype]
    quantization = replica.quantization
    total = replica.architecture.vector_parameters * number
    for matrix in replica.architecture.matrices:
        quantized = quantization is not None and matrix.part in quantization.parts
        whole = quantization.matrix_bytes(matrix) if quantization and quantized else matrix.parameters * number
        total += math.ceil(whole / _pieces(replica, matrix))
    return total


def _pieces(replica: Replica, matrix: Matrix) -> int:
    """Among how many GPUs the matrix is divided."""
    most = replica.ranks if matrix.pieces is None else min(replica.ranks, matrix.pieces)
    if not replica.runtime.splits_by_plan or replica.ranks == 1:
        return most
    divided = {
        "heads": {"attention", "network", "experts", "head"},
        "weights": {"attention", "network", "experts", "head"},
        "network": {"network", "experts", "head"},
        "no": set[str](),
    }[replica.architecture.split]
    return most if matrix.part in divided else 1


def cached_numbers(replica: Replica) -> int:
    """Numbers that one layer keeps for one token on one GPU."""
    attention = replica.architecture.attention
    if attention.latent_width is not None and replica.runtime.latent_cache:
        return attention.latent_width
    if replica.runtime.splits_by_plan and replica.architecture.split != "heads":
        return attention.cached
    return attention.cached // attention.kv_heads * math.ceil(attention.kv_heads / replica.ranks)


def cache_bytes(replica: Replica, tokens: int) -> int:
    """Bytes for the keys and values of one request of ``tokens`` tokens on one GPU."""
    number = FP8_BYTES if replica.kv_cache_dtype == "fp8" else BYTES[replica.weight_dtype]
    page_bytes = replica.runtime.page_tokens * cached_numbers(replica) * number
    pages = sum(_pages(replica, tokens, window) for window in replica.architecture.windows)
    return pages * page_bytes


def _pages(replica: Replica, tokens: int, window: int | None) -> int:
    pages = math.ceil(tokens / replica.runtime.page_tokens)
    if window is None or not replica.runtime.window_bounds_cache:
        return pages
    # The first token of a step still sees the window before it, and the window need not begin with a page.
    kept = math.ceil((window - 1 + replica.prefill_tokens) / replica.runtime.page_tokens) + 1
    return min(pages, kept)


def activation_bytes(replica: Replica) -> int:
    """Bytes of intermediate results at the peak of a step, on one GPU.

    A step is one packed row of prompt and answer tokens. The peak is in the widest layer or, after the last one, in the
    scores of the rows that get a token.
    """
    architecture, number = replica.architecture, BYTES[replica.weight_dtype]
    tokens = max(replica.prefill_tokens, replica.running_requests)
    # The residual, the normed input of the block and its output.
    stream = architecture.hidden * (3 * number + NORM_BYTES)
    in_layers = tokens * (stream + max(_attention_bytes(replica), _network_bytes(replica)))
    drawn = replica.running_requests * (SAMPLER_BYTES_PER_SCORE + number)
    scores = architecture.vocabulary * (drawn + min(replica.runtime.scored_tokens, tokens) * number)
    return max(in_layers, scores + tokens * stream)


def _attention_bytes(replica: Replica) -> int:
    """For one token: queries, keys and values, the first two also rotated, and what attention gives."""
    attention = replica.architecture.attention
    queries = attention.heads * attention.key_width
    keys, values = attention.kv_heads * attention.key_width, attention.kv_heads * attention.value_width
    given = attention.heads * attention.value_width
    divided = not replica.runtime.splits_by_plan or replica.architecture.split == "heads"
    numbers = 2 * queries + 2 * keys + values + given
    return math.ceil(numbers / (replica.ranks if divided else 1)) * BYTES[replica.weight_dtype]


def _network_bytes(replica: Replica) -> int:
    """For one token: both ways in (often one matrix), the gate after its activation, and their product."""
    architecture, number = replica.architecture, BYTES[replica.weight_dtype]
    one = 4 * math.ceil(architecture.width / replica.ranks) * number
    if architecture.experts is None:
        return one
    experts, hidden = architecture.experts, architecture.hidden
    inside = hidden * number + 4 * math.ceil(experts.width / replica.ranks) * number
    # What an expert gives is weighted in float32, and put back in the order of the tokens.
    after = 2 * hidden * number + 2 * hidden * FLOAT32_BYTES
    # A row is copied to each expert that its token passes.
    return max(one, experts.used * max(inside, after) + 4 * experts.shared_width * number)


def overhead_bytes(replica: Replica) -> int:
    """Bytes that are taken beside weights, cache and intermediate results."""
    if replica.gpus == 0:
        return CPU_PROCESS_BYTES + CPU_KERNELS_BYTES + _second_embedding_bytes(replica)
    return LIBRARIES_BYTES + GRAPHS_BYTES + (COLLECTIVES_BYTES if replica.gpus > 1 else 0)


def _second_embedding_bytes(replica: Replica) -> int:
    """On the CPU our server keeps the head in the order of its kernels: where the embedding is the head, beside it."""
    architecture = replica.architecture
    if any(matrix.part == "head" for matrix in architecture.matrices):
        return 0
    return architecture.hidden * architecture.vocabulary * BYTES[replica.weight_dtype]


def budget_bytes(replica: Replica, memory_bytes: int, share: float) -> int:
    """What of the memory may be filled; ``share`` is what the runtime is told, if it is."""
    free = memory_bytes - (CUDA_CONTEXT_BYTES if replica.gpus else 0)
    return min(int(memory_bytes * share), free) if replica.runtime.fills_a_share else free


def largest_share(memory_bytes: int, shares: int) -> float:
    """The most of a GPU that each of the pods that share it can be told to fill: all keep a context of CUDA besides."""
    return math.floor((1 / shares - CUDA_CONTEXT_BYTES / memory_bytes) * 100) / 100


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The parts, in bytes on one GPU (or in the pod, on the CPU)."""

    budget: int
    """What may be filled."""
    weights: int
    activations: int
    """Intermediate results."""
    overhead: int
    reserve: int
    """What the runtime keeps of the rest for its prefix cache, and free."""
    cache_per_request: int
    """Keys and values of one request of full length."""

    @property
    def room(self) -> int:
        """What there is for keys and values of running requests, those that are kept after them, and a margin."""
        return self.budget - self.weights - self.activations - self.overhead

    @property
    def cache(self) -> int:
        """What is left for keys and values; negative where the rest does not fit by itself."""
        return self.room - self.reserve

    @property
    def requests(self) -> int:
        """Requests of full length whose keys and values are held at once."""
        return max(self.cache, 0) // self.cache_per_request

    @property
    def headroom(self) -> int:
        """What is left when one request of full length runs; negative: what is missing."""
        return self.cache - self.cache_per_request


def measure(replica: Replica, *, budget: int, tokens: int) -> Memory:
    """Every part for requests of ``tokens`` tokens."""
    weights, activations, overhead = weight_bytes(replica), activation_bytes(replica), overhead_bytes(replica)
    return Memory(
        budget=budget,
        weights=weights,
        activations=activations,
        overhead=overhead,
        reserve=_reserve(replica, budget - weights - overhead, activations),
        cache_per_request=cache_bytes(replica, tokens),
    )


def _reserve(replica: Replica, rest: int, activations: int) -> int:
    """What is not for running requests, besides intermediate results, of what weights and overhead leave."""
    if replica.kv_cache_bytes is not None:
        room = max(0, rest - activations)
        return room - int(min(replica.kv_cache_bytes, room) * replica.runtime.running_share)
    if replica.gpus:
        return max(0, math.ceil((rest - activations) * (1 - replica.runtime.cache_share)))
    # Intermediate results are part of what is kept, as long as they fit into it.
    return max(0, math.ceil(rest * (1 - replica.runtime.cpu_cache_share)) - activations)


def longest_request(replica: Replica, *, available: int, requests: int, limit: int) -> int:
    """The most tokens, up to ``limit``, with which that many requests are held at once in ``available`` bytes; 0 for none."""
    return _last(limit, lambda tokens: requests * cache_bytes(replica, tokens) <= available)


def _last(limit: int, holds: Callable[[int], bool]) -> int:
    """The largest number from 1 to ``limit`` for which ``holds``, which no larger one does after the first that fails."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
