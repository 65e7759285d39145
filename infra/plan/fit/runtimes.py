"""What the two runtimes do with memory besides holding the weights, and how long a text they let a model take."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from infra.gpus import GIB

RuntimeName = Literal["transformers", "vllm"]


@dataclass(frozen=True, kw_only=True)
class RuntimeRules:
    """How a runtime keeps keys and values, and how it divides a model among GPUs."""

    page_tokens: int
    """A request takes room for a multiple of so many tokens."""
    fills_a_share: bool
    """Whether it is told a share of a GPU's memory to fill; otherwise it takes what is free."""
    cache_share: float
    """Of what weights, overhead and intermediate results leave on a GPU: the part that running requests can have."""
    cpu_cache_share: float
    """The same on a CPU, where intermediate results must fit into the other part."""
    running_share: float
    """Of a cache whose size it is told: the part that running requests can have."""
    latent_cache: bool
    """Whether latent attention keeps the small vector, or the keys and values of all heads."""
    window_bounds_cache: bool
    """Whether a layer that sees a window gives back what is before it."""
    shares_kv_heads: bool
    """Whether several GPUs can hold a copy of the same head of keys and values each."""
    splits_by_plan: bool
    """Whether it divides only what transformers' plan for the family divides."""
    stretches_positions: bool
    """Whether it lets a text be as long as any ``rope_scaling`` allows; otherwise only YaRN's counts."""
    cpu_prefill_tokens: int
    """Prompt tokens in one step."""
    prefill_tokens: int
    """The same on a GPU."""
    prefill_tokens_large: int
    """The same on a GPU with at least LARGE_GPU_BYTES."""
    scored_tokens: int
    """Of these, how many may have their scores in memory at one time, beside those that get a token."""
    quantizes: bool
    """Whether it computes with quantised weights, and with keys and values in fp8."""


# From this size on vLLM takes more prompt tokens into a step. (It leaves out the A100 by name; that the one with 80 GB is
# counted as large here takes 1 GiB more for a model of 8 billion parameters, so it is on the safe side.)
LARGE_GPU_BYTES = 70 * GIB

RUNTIMES: Mapping[RuntimeName, RuntimeRules] = {
    # Our own server. The region of a request is a multiple of 256 tokens; a GPU is filled to 0.92 of what a measured step
    # leaves, a pod on the CPU to 0.6 of what is free, and an eighth of either is for the prefix cache. All layers share
    # one map of places.
    "transformers": RuntimeRules(
        page_tokens=256,
        fills_a_share=False,
        cache_share=0.92 * 7 / 8,
        cpu_cache_share=0.6 * 7 / 8,
        running_share=7 / 8,
        latent_cache=False,
        window_bounds_cache=False,
        shares_kv_heads=False,
        splits_by_plan=True,
        stretches_positions=False,
        cpu_prefill_tokens=512,
        prefill_tokens=2048,
        prefill_tokens_large=2048,
        scored_tokens=512,
        quantizes=False,
    ),
    # vLLM: CacheConfig.DEFAULT_BLOCK_SIZE, its hybrid manager of keys and values, `gpu_memory_utilization`, and
    # `max_num_batched_tokens` of `vllm serve`. Its prefix cache lies in the same blocks and makes way.
    "vllm": RuntimeRules(
        page_tokens=16,
        fills_a_share=True,
        cache_share=1.0,
        cpu_cache_share=1.0,
        running_share=1.0,
        latent_cache=True,
        window_bounds_cache=True,
        shares_kv_heads=True,
        splits_by_plan=False,
        stretches_positions=True,
        cpu_prefill_tokens=2048,
        prefill_tokens=2048,
        prefill_tokens_large=8192,
        scored_tokens=0,
        quantizes=True,
    ),
}
