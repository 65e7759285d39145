"""The parts of the sum: what they are for a model that can be reckoned by hand, and against what runs."""

import math
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AttentionInterface, AttentionMaskInterface

from infra.gpus import GIB
from infra.plan.fit.architecture import Architecture, Matrix, read_architecture
from infra.plan.fit.memory import (
    CUDA_CONTEXT_BYTES,
    Replica,
    activation_bytes,
    budget_bytes,
    cache_bytes,
    cached_numbers,
    longest_request,
    measure,
    overhead_bytes,
    weight_bytes,
)
from infra.plan.fit.number_format import WHILE_LOADING, Quantization
from infra.plan.fit.runtimes import RUNTIMES, RuntimeName
from service.engine import memory as server_memory
from service.engine.engine import STEP_TOKENS
from service.engine.kv_cache import SMALLEST_REGION
from service.engine.scheduler import SCORED_TOKENS

Config = dict[str, Any]

LLAMA: Config = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
GEMMA: Config = LLAMA | {"model_type": "gemma2", "head_dim": 128, "sliding_window": 4096}
LATENT: Config = LLAMA | {
    "model_type": "deepseek_v3",
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "moe_intermediate_size": 2048,
    "num_experts_per_tok": 4,
    "first_k_dense_replace": 2,
}


def replica(config: Mapping[str, object], runtime: RuntimeName = "vllm", gpus: int = 1, **changes: Any) -> Replica:
    architecture = read_architecture(config)
    assert isinstance(architecture, Architecture)
    plain = Replica(
        architecture=architecture,
        runtime=RUNTIMES[runtime],
        gpus=gpus,
        weight_dtype="bfloat16",
        quantization=None,
        prefill_tokens=2048,
        running_requests=16,
    )
    return replace(plain, **changes)


def test_keys_and_values_take_whole_pages() -> None:
    # 32 layers, 8 heads of 128 numbers for keys and for values, 2 bytes each.
    token = 32 * 8 * 2 * 128 * 2
    assert cache_bytes(replica(LLAMA), 4096) == 4096 * token
    assert cache_bytes(replica(LLAMA), 4097) == (4096 + 16) * token
    assert cache_bytes(replica(LLAMA, "transformers"), 4097) == (4096 + 256) * token


def test_keys_and_values_in_fp8_take_a_byte_for_each_number() -> None:
    assert cache_bytes(replica(LLAMA, kv_cache_dtype="fp8"), 4096) == cache_bytes(replica(LLAMA), 4096) / 2
    single = replica(LLAMA, weight_dtype="float32", kv_cache_dtype="fp8")
    assert cache_bytes(single, 4096) == cache_bytes(replica(LLAMA), 4096) / 2


def test_a_window_bounds_what_a_layer_keeps() -> None:
    token = 8 * 2 * 128 * 2
    # Every second layer keeps its window, the step that is being computed, and a page that begins before them.
    kept = math.ceil((4096 - 1 + 2048) / 16) * 16 + 16
    assert cache_bytes(replica(GEMMA), 131072) == 16 * token * (131072 + kept)
    assert cache_bytes(replica(GEMMA), 1024) == 32 * token * 1024


def test_latent_attention_keeps_one_vector_in_vllm_and_all_heads_with_us() -> None:
    assert cached_numbers(replica(LATENT)) == 512 + 64
    assert cached_numbers(replica(LATENT, gpus=8)) == 512 + 64
    assert cached_numbers(replica(LATENT, "transformers")) == 32 * (192 + 128)


def test_several_gpus_hold_a_part_each() -> None:
    one, four = replica(LLAMA), replica(LLAMA, gpus=4)
    assert weight_bytes(four) == pytest.approx(weight_bytes(one) / 4, rel=0.001)
    assert cache_bytes(four, 4096) == cache_bytes(one, 4096) / 4
    # 16 GPUs share 8 heads of keys and values: each holds one whole head.
    assert cache_bytes(replica(LLAMA, gpus=16), 4096) == cache_bytes(one, 4096) / 8


def test_our_runtime_divides_only_what_transformers_plan_divides() -> None:
    embedding = 128256 * 4096 * 2
    one, two = replica(LLAMA, "transformers"), replica(LLAMA, "transformers", gpus=2)
    assert weight_bytes(two) == pytest.approx((weight_bytes(one) + embedding) / 2, rel=0.001)
    gathered = LLAMA | {"model_type": "olmo2"}
    assert cached_numbers(replica(gathered, "transformers", gpus=2)) == cached_numbers(
        replica(gathered, "transformers")
    )
    latent = replica(LATENT, "transformers", gpus=2)
    assert cached_numbers(latent) == cached_numbers(replica(LATENT, "transformers"))


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        (Quantization(method="fp8", bits=8), 1000 * 512 + 4),
        (Quantization(method="fp8", bits=8, block=(128, 128)), 1000 * 512 + 8 * 4 * 4),
        (Quantization(method="int8", bits=8), 1000 * 512 + 1000 * 4),
        (Quantization(method="int4", bits=4, group=128), 1000 * 512 // 2 + 4 * 1000 * 2),
        (Quantization(method="awq", bits=4, group=128), 1000 * 512 // 2 + 4 * 1000 * 2 + 4 * 1000 // 2),
        (Quantization(method="gptq", bits=4, group=None), 1000 * 512 // 2 + 1000 * 2 + 1000 // 2 + 512 * 4),
        (Quantization(method="mxfp4", bits=4), 1000 * 512 // 2 + 16 * 1000),
        (Quantization(method="bitsandbytes", bits=4), 1000 * 512 * 9 // 16),  # 4.5 bits
    ],
    ids=lambda value: value.method if isinstance(value, Quantization) else "",
)
def test_scales_count(quantization: Quantization, expected: int) -> None:
    assert quantization.matrix_bytes(Matrix(part="network", inputs=512, outputs=1000, count=3)) == 3 * expected


def test_embedding_and_head_are_not_quantised() -> None:
    kept = 2 * 128256 * 4096 * 2
    plain = weight_bytes(replica(LLAMA))
    eight_bits = weight_bytes(replica(LLAMA, quantization=WHILE_LOADING["fp8"]))
    assert eight_bits == pytest.approx(kept + (plain - kept) / 2, rel=0.001)


def test_overhead_is_a_process_on_the_cpu_and_more_with_several_gpus() -> None:
    alone, together, cpu = (overhead_bytes(replica(LLAMA, gpus=count)) for count in (1, 2, 0))
    assert max(alone, cpu) < GIB < together


def test_vllm_fills_its_share_and_leaves_the_context_of_cuda() -> None:
    assert budget_bytes(replica(LLAMA), 40 * GIB, 0.9) == 36 * GIB
    assert budget_bytes(replica(LLAMA), 40 * GIB, 1.0) == 40 * GIB - CUDA_CONTEXT_BYTES


def test_our_server_takes_what_is_free_and_keeps_a_part_of_it() -> None:
    gpu = replica(LLAMA, "transformers")
    memory = measure(gpu, budget=budget_bytes(gpu, 40 * GIB, 0.9), tokens=8192)
    assert memory.budget == 40 * GIB - CUDA_CONTEXT_BYTES
    rest = memory.budget - memory.weights - memory.activations - memory.overhead
    assert memory.cache == pytest.approx(0.92 * 7 / 8 * rest)
    cpu = replica(LLAMA, "transformers", gpus=0)
    memory = measure(cpu, budget=budget_bytes(cpu, 40 * GIB, 0.9), tokens=8192)
    assert memory.budget == 40 * GIB
    assert memory.cache == pytest.approx(0.6 * 7 / 8 * (memory.budget - memory.weights - memory.overhead))


def test_a_cache_of_a_told_size_takes_no_more_than_that() -> None:
    told = replica(LLAMA, "transformers", kv_cache_bytes=8 * GIB)
    assert measure(told, budget=40 * GIB, tokens=8192).cache == 7 * GIB
    assert measure(told, budget=20 * GIB, tokens=8192).room < 8 * GIB
    assert measure(told, budget=20 * GIB, tokens=8192).cache < 7 * GIB


def test_the_parts_are_those_of_the_server() -> None:
    ours = RUNTIMES["transformers"]
    assert ours.cache_share == server_memory.CUDA_SHARE * (1 - server_memory.PREFIX_SHARE)
    assert ours.cpu_cache_share == server_memory.CPU_SHARE * (1 - server_memory.PREFIX_SHARE)
    assert ours.running_share == 1 - server_memory.PREFIX_SHARE
    assert ours.page_tokens == SMALLEST_REGION
    assert ours.cpu_prefill_tokens == STEP_TOKENS["cpu"]
    assert ours.prefill_tokens == ours.prefill_tokens_large == STEP_TOKENS["cuda"]
    assert ours.scored_tokens == SCORED_TOKENS
    cpu = replica(LLAMA, "transformers", gpus=0)
    memory = measure(cpu, budget=40 * GIB, tokens=8192)
    running, _ = server_memory.plan(
        memory.budget - memory.weights - memory.overhead,
        cache_bytes(cpu, 256) // 256,
        context_tokens=8192,
        max_running=1000,
        share=server_memory.CPU_SHARE,
    )
    assert memory.requests == running // 8192


def test_on_a_cpu_a_head_that_is_the_embedding_is_there_twice() -> None:
    tied = LLAMA | {"tie_word_embeddings": True}
    cpu, gpu = (replica(tied, "transformers", gpus=gpus) for gpus in (0, 1))
    assert overhead_bytes(cpu) == overhead_bytes(replica(LLAMA, "transformers", gpus=0)) + 128256 * 4096 * 2
    assert overhead_bytes(gpu) == overhead_bytes(replica(LLAMA, "transformers"))
    assert weight_bytes(cpu) == weight_bytes(gpu)


def test_the_longest_request_is_the_last_that_fits() -> None:
    llama = replica(LLAMA)
    for available in (0, GIB, 3 * GIB + 12345):
        tokens = longest_request(llama, available=available, requests=3, limit=131072)
        assert 3 * cache_bytes(llama, tokens) <= available
        assert 3 * cache_bytes(llama, tokens + 1) > available
    assert longest_request(llama, available=999 * GIB, requests=3, limit=131072) == 131072


# What vLLM printed when it started Llama 3.1 8B on one GPU (log lines "the current vLLM instance can use total_gpu_memory …",
# "the rest of the memory reserved for KV Cache is …", found in public logs), and today's default step on such a GPU.
@pytest.mark.parametrize(("total_gib", "rest_gib", "step"), [(79.14, 54.93, 8192), (22.07, 4.60, 2048)])
def test_what_is_left_for_the_cache_is_a_little_less_than_vllm_found(
    total_gib: float, rest_gib: float, step: int
) -> None:
    llama = replica(LLAMA, prefill_tokens=step)
    rest = measure(llama, budget=int(total_gib * 0.9 * GIB), tokens=8192).cache / GIB
    # We also leave room for graphs, which that version took from outside the share.
    assert rest_gib - 1.0 < rest < rest_gib


class Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that are alive, without those that were there before."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
        self.bytes = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor.untyped_storage())
        return result

    def count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self.forget, key, size)

    def forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.bytes -= size


def no_attention(module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any) -> Any:
    """Takes as much as attention that keeps no matrix of scores."""
    batch, heads, tokens, _width = query.shape
    return query.new_zeros(batch, tokens, heads, value.shape[-1]), None


SMALL: Config = LLAMA | {
    "hidden_size": 256,
    "intermediate_size": 896,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
RUNNING: dict[str, Config] = {
    "llama": {},
    "gemma2": {"head_dim": 128},
    "qwen3": {"head_dim": 128},
    "phi3": {},
    "olmo2": {},
    "starcoder2": {},
    "mixtral": {"num_local_experts": 8, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 32, "num_experts_per_tok": 8, "moe_intermediate_size": 96},
    "deepseek_v2": {
        **{key: LATENT[key] for key in LATENT.keys() - LLAMA.keys()},
        "kv_lora_rank": 64,
        "q_lora_rank": None,
        "qk_rope_head_dim": 16,
        "qk_nope_head_dim": 48,
        "v_head_dim": 48,
        "moe_intermediate_size": 96,
        "first_k_dense_replace": 1,
    },
}


@pytest.mark.parametrize("family", RUNNING)
def test_intermediate_results_are_an_upper_bound_and_not_a_wild_one(family: str, build: Callable[..., Any]) -> None:
    """The most bytes that were alive in a packed step, without attention, whose kernels keep nothing of that size."""
    config = SMALL | RUNNING[family] | {"model_type": family}
    AttentionInterface.register("none", no_attention)
    AttentionMaskInterface.register("none", lambda *_, **__: None)
    model = build(config, "cpu", dtype=torch.bfloat16, attn_implementation="none")
    tokens = torch.zeros(1, 512, dtype=torch.long)
    live = Live(model)
    with torch.inference_mode(), live:
        model(input_ids=tokens, position_ids=tokens, use_cache=False, logits_to_keep=16)
    ours = activation_bytes(replica(config, "transformers", prefill_tokens=512))
    assert live.peak < ours < 2 * live.peak


def test_many_rows_of_scores_can_be_the_peak() -> None:
    few, many = replica(LLAMA, running_requests=16), replica(LLAMA, running_requests=1024)
    assert activation_bytes(many) > activation_bytes(few) + 1024 * 128256 * 4
