"""What the two runtimes do with memory besides holding the weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from infra.gpus import GIB

RuntimeName = Literal["transformers", "vllm"]


@dataclass(frozen=True, kw_only=True)
class RuntimeMemory:
    """How a runtime keeps keys and values, and how it divides a model among GPUs."""

    page_tokens: int
    """Tokens in a page of the cache on a GPU; a request takes whole pages."""
    page_tokens_cpu: int
    latent_cache: bool
    """Whether latent attention keeps the small vector, or the keys and values of all heads."""
    window_bounds_cache: bool
    """Whether a layer that sees a window gives the pages before it back."""
    shares_kv_heads: bool
    """Whether several GPUs can hold a copy of the same head of keys and values each."""
    splits_by_plan: bool
    """Whether it divides only what transformers' plan for the family divides."""
    prefill_tokens: int
    """Prompt tokens in one step."""
    prefill_tokens_large: int
    """The same on a GPU with at least LARGE_GPU_BYTES."""
    quantizes: bool
    """Whether it computes with quantised weights."""


# From this size on vLLM takes more prompt tokens into a step (its engine arguments tell an H100 or larger from an A100 by
# 70 GiB of memory, and by name, since they leave out the A100 with 80 GB, which is counted as large here: it is safe).
LARGE_GPU_BYTES = 70 * GIB

RUNTIMES: Mapping[RuntimeName, RuntimeMemory] = {
    # Our own server. The page sizes are those of its attention: FlashAttention's block table takes multiples of 256, and
    # on the CPU a page is an accounting unit. One page table serves all layers, and transformers' code hands over
    # whole keys and values.
    "transformers": RuntimeMemory(
        page_tokens=256,
        page_tokens_cpu=16,
        latent_cache=False,
        window_bounds_cache=False,
        shares_kv_heads=False,
        splits_by_plan=True,
        prefill_tokens=2048,
        prefill_tokens_large=2048,
        quantizes=False,
    ),
    # vLLM's CacheConfig.DEFAULT_BLOCK_SIZE, its hybrid KV cache manager, and max_num_batched_tokens of `vllm serve`.
    "vllm": RuntimeMemory(
        page_tokens=16,
        page_tokens_cpu=16,
        latent_cache=True,
        window_bounds_cache=True,
        shares_kv_heads=True,
        splits_by_plan=False,
        prefill_tokens=2048,
        prefill_tokens_large=8192,
        quantizes=True,
    ),
}
