"""The verdict on a model and its GPUs, and what is said about it."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from infra.findings import Finding, Severity
from infra.gpus import GIB, GPUS, Accelerator, find_gpu
from infra.plan.fit.candidate import FitRequest
from infra.plan.fit.check import Fit, Verdict, check_fit

Config = dict[str, Any]

PUBLISHED: list[Config] = yaml.safe_load(Path(__file__).with_name("published_models.yaml").read_text())

LLAMA_8B: Config = {
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
LLAMA_70B: Config = LLAMA_8B | {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
}
QWEN_7B: Config = LLAMA_8B | {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}
QWEN_MOE: Config = LLAMA_8B | {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
}
GPT_OSS: Config = LLAMA_8B | {
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "head_dim": 64,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "vocab_size": 201088,
    "sliding_window": 128,
}
MXFP4: Config = {"quantization_config": {"quant_method": "mxfp4"}}
FP8: Config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
TENSORS: Config = {
    "quantization_config": {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"weights": {"type": "float", "num_bits": 8}}},
    }
}
AWQ: Config = {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}


def request(config: Config, gpu: str | None = "A100-80GB", **changes: Any) -> FitRequest:
    """``gpu``: a name of the table, with a slice's profile after a slash; none serves on the CPU."""
    name, _, profile = (gpu or "").partition("/")
    whole = find_gpu(name) if gpu else None
    plain = FitRequest(
        config=config,
        runtime="vllm",
        gpus_per_replica=1 if gpu else 0,
        gpu=whole.slice(profile) if whole and profile else whole,
        memory_limit_bytes=None if gpu else 8 * GIB,
        max_running_requests=16,
        max_model_len=8192,
    )
    return replace(plain, **changes)


def only(fit: Fit, severity: Severity) -> Finding:
    """The one finding there is, of that severity."""
    assert [finding.severity for finding in fit.findings] == [severity]
    return fit.findings[0]


def test_what_fits_has_nothing_to_say_and_shows_its_sum() -> None:
    fit = check_fit(request(LLAMA_8B))
    assert (fit.verdict, fit.findings, fit.parameters) == (Verdict.FITS, (), 8_030_261_248)
    memory = fit.memory
    assert memory is not None
    assert memory.cache_per_request == GIB
    parts = memory.weights + memory.activations + memory.overhead + memory.reserve + memory.cache_per_request
    assert parts + memory.headroom == memory.budget <= 0.9 * find_gpu("A100-80GB").memory_bytes
    assert fit.max_requests == memory.requests >= 16
    assert fit.context_tokens == 8192
    assert fit.max_context_tokens is not None
    assert fit.max_context_tokens > 8192


def test_too_many_requests_is_a_warning_with_how_many_there_can_be() -> None:
    fit = check_fit(request(LLAMA_8B, "L4"))
    finding = only(fit, Severity.WARNING)
    assert fit.verdict is Verdict.FITS_FEWER
    assert (finding.key, finding.value) == ("server.max_running_requests", "16")
    assert f"{fit.max_requests} requests of 8192 tokens fit at once" in finding.problem
    assert f"server.max_running_requests {fit.max_requests}" in finding.remedy
    assert f"server.max_model_len {fit.max_context_tokens}" in finding.remedy


def test_one_request_that_does_not_fit_is_an_error_with_what_would() -> None:
    fit = check_fit(request(LLAMA_70B, "H100-80GB"))
    finding = only(fit, Severity.ERROR)
    assert fit.verdict is Verdict.DOES_NOT_FIT
    assert (finding.key, finding.value) == ("gpus.pool", "H100-80GB")
    assert "weights 131.4 GiB, keys and values of one request of 8192 tokens 2.5 GiB" in finding.problem
    assert finding.remedy == "Would fit: gpus.count 2; or a pool of B200."


def any_request(random: Random) -> FitRequest:
    accelerators: list[Accelerator] = [
        *GPUS.values(),
        *(slice_ for gpu in GPUS.values() for slice_ in gpu.mig.values()),
    ]
    on_gpu = random.random() < 0.8
    return FitRequest(
        config=random.choice(PUBLISHED)["config"],
        runtime=random.choice(["vllm", "transformers"]),
        gpu=random.choice(accelerators),
        gpus_per_replica=random.choice([1, 1, 2, 4, 8]) if on_gpu else 0,
        memory_limit_bytes=random.choice([2, 8, 64, 200]) * GIB,
        max_running_requests=random.choice([1, 4, 16, 64]),
        max_model_len=random.choice([None, 1000]),
    )


def test_whatever_is_said_to_fit_does() -> None:
    """Published models on any GPU, slice or pod: every suggestion, followed, holds what was asked."""
    random = Random(4)
    followed = 0
    for _ in range(150):
        asked = any_request(random)
        fit = check_fit(asked)
        assert fit.memory is not None
        for change in fit.would_fit:
            needed = 1 if fit.memory.headroom < 0 else change.request.max_running_requests
            changed = check_fit(change.request)
            assert changed.max_requests is not None
            assert changed.max_requests >= needed, (asked, change.text)
            followed += 1
    assert followed > 100


def test_a_bigger_slice_is_the_smallest_that_holds_it() -> None:
    asked = request(LLAMA_8B, "H100-80GB/1g.10gb", max_running_requests=1)
    remedy = only(check_fit(asked), Severity.ERROR).remedy
    assert "the slice 1g.20gb of H100-80GB" in remedy
    assert "a pool of A10." in remedy
    assert check_fit(request(LLAMA_8B, "H100-80GB/1g.20gb", max_running_requests=1)).verdict is Verdict.FITS


def test_what_would_fit_of_a_shared_gpu_is_fewer_pods_on_it() -> None:
    asked = request(LLAMA_8B, shares=5, memory_share=0.19, max_running_requests=1)
    assert (
        "device_plugin.shares 4 with runtime.gpu_memory_utilization 0.24; or a pool of"
        in only(check_fit(asked), Severity.ERROR).remedy
    )
    assert check_fit(replace(asked, shares=4, memory_share=0.24)).verdict is Verdict.FITS
    alone = only(check_fit(replace(asked, gpu=find_gpu("L4"), shares=2)), Severity.ERROR).remedy
    assert "device_plugin.sharing none with runtime.gpu_memory_utilization 0.9; or" in alone


def test_too_small_a_cache_is_told_with_the_size_that_holds_the_requests() -> None:
    asked = request(LLAMA_8B, runtime="transformers", kv_cache_bytes=2 * GIB)
    remedy = only(check_fit(asked), Severity.WARNING).remedy
    assert "runtime.kv_cache_mib 18725" in remedy  # 16 GiB, and an eighth for the prefix cache
    assert check_fit(replace(asked, kv_cache_bytes=18725 * 2**20)).verdict is Verdict.FITS


@pytest.mark.parametrize(
    ("gpu", "would"), [(None, "resources.memory_limit 18Gi"), ("H100-80GB/1g.10gb", "a pool of A10")]
)
def test_where_the_memory_is_short_too_both_are_told(gpu: str | None, would: str) -> None:
    tiny = {"runtime": "transformers", "max_running_requests": 4, "kv_cache_bytes": 2**20}
    remedy = only(check_fit(request(LLAMA_8B, gpu, **tiny)), Severity.ERROR).remedy
    assert f"{would} with runtime.kv_cache_mib 1171" in remedy


def test_nothing_of_the_table_holds_it() -> None:
    huge = LLAMA_70B | {"num_hidden_layers": 4000}
    assert only(check_fit(request(huge)), Severity.ERROR).remedy.startswith("No GPU of the table holds it")


def test_the_number_format_decides_the_size() -> None:
    sizes = [check_fit(request(LLAMA_8B, dtype=dtype)).memory for dtype in (None, "float16", "float32")]
    stored, half, single = (memory.weights for memory in sizes if memory is not None)
    assert stored == half == single // 2
    unsaid = check_fit(request({key: value for key, value in LLAMA_8B.items() if key != "torch_dtype"})).memory
    assert unsaid is not None
    assert unsaid.weights == single


@pytest.mark.parametrize(
    ("asked", "severity", "key", "value", "says"),
    [
        # Length.
        (
            request(LLAMA_8B, max_model_len=200_000),
            "error",
            "server.max_model_len",
            "200000",
            "131072 tokens that the model",
        ),
        # Number formats and GPUs.
        (request(GPT_OSS | MXFP4, "T4", max_model_len=256), "error", "server.dtype", "auto", "in which the checkpoint"),
        (
            request(LLAMA_8B, "T4", dtype="bfloat16"),
            "error",
            "server.dtype",
            "bfloat16",
            "T4 does not compute bfloat16",
        ),
        (request(LLAMA_8B, quantization="fp8"), "warning", "runtime.quantization", "fp8", "nothing gets faster"),
        (request(LLAMA_8B, "T4", quantization="fp8"), "error", "runtime.quantization", "fp8", "T4 cannot compute"),
        (request(LLAMA_8B, quantization="awq"), "error", "runtime.quantization", "awq", "takes a checkpoint"),
        (request(LLAMA_8B | AWQ, quantization="fp8"), "error", "runtime.quantization", "fp8", "stored as awq"),
        (
            request(LLAMA_8B | TENSORS, quantization="fp8"),
            "error",
            "runtime.quantization",
            "fp8",
            "stored as compressed-tensors",
        ),
        (
            request(LLAMA_8B | FP8, quantization="compressed-tensors"),
            "error",
            "runtime.quantization",
            "compressed-tensors",
            "stored as fp8",
        ),
        (
            request(LLAMA_8B, quantization="compressed-tensors"),
            "error",
            "runtime.quantization",
            "compressed-tensors",
            "takes a checkpoint",
        ),
        # Our runtime.
        (
            request(LLAMA_8B | AWQ, runtime="transformers"),
            "error",
            "runtime",
            "transformers",
            "does not compute with awq",
        ),
        (request(LLAMA_8B, runtime="transformers", quantization="fp8"), "error", "runtime", "transformers", "with fp8"),
        (request(GPT_OSS | MXFP4, runtime="transformers"), "warning", "runtime", "transformers", "unpacks"),
        # Division among GPUs.
        (request(QWEN_7B, gpus_per_replica=8), "error", "gpus.count", "8", "28 attention heads"),
        (request(LLAMA_8B, gpus_per_replica=3), "error", "gpus.count", "3", "the intermediate size of 14336"),
        (
            request(LLAMA_8B, gpus_per_replica=16, runtime="transformers"),
            "error",
            "gpus.count",
            "16",
            "8 key-value heads",
        ),
        (request(QWEN_MOE | FP8, gpus_per_replica=8), "error", "gpus.count", "8", "leaves 96 of the experts'"),
        (
            request(GPT_OSS, gpus_per_replica=2, runtime="transformers"),
            "error",
            "gpus.count",
            "2",
            "no plan for dividing",
        ),
        (request(LLAMA_8B, "H100-80GB/3g.40gb", gpus_per_replica=2), "error", "gpus.count", "2", "slices of a GPU"),
        # Parts that are not counted.
        (
            request({"model_type": "mistral3", "text_config": LLAMA_8B, "vision_config": {}}),
            "warning",
            "config_file",
            "vision_config",
            "only the language model (llama)",
        ),
    ],
)
def test_what_does_not_go_together(asked: FitRequest, severity: str, key: str, value: str, says: str) -> None:
    fit = check_fit(asked)
    found = [finding for finding in fit.findings if says in finding.problem]
    assert [(finding.severity, finding.key, finding.value) for finding in found] == [(severity, key, value)]
    assert found[0].remedy.endswith(".")
    assert (fit.verdict is Verdict.DOES_NOT_FIT) == any(found.severity is Severity.ERROR for found in fit.findings)


@pytest.mark.parametrize(
    "asked",
    [
        request(LLAMA_8B, "T4", dtype="float16", max_model_len=128, max_running_requests=1, quantization=None),
        # 16 GPUs of vLLM hold a copy of each of 8 heads twice.
        request(LLAMA_8B, gpus_per_replica=16),
        request(QWEN_MOE | FP8, gpus_per_replica=2),
        request(LLAMA_8B | AWQ, "T4", dtype="float16", max_running_requests=1),
        request(GPT_OSS | MXFP4, "L4", max_running_requests=1),
        request(LLAMA_8B, "T4", dtype="float16", quantization="bitsandbytes", max_running_requests=1),
    ],
)
def test_what_goes_together_is_let_alone(asked: FitRequest) -> None:
    errors = [finding for finding in check_fit(asked).findings if finding.severity is Severity.ERROR]
    assert [error.key for error in errors if error.key != "gpus.pool"] == []


def test_our_server_knows_the_models_own_limit_and_vllm_a_stretched_one() -> None:
    stretched = LLAMA_8B | {"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}
    limits = [
        check_fit(request(stretched, runtime=runtime, max_model_len=None)).context_tokens
        for runtime in ("transformers", "vllm")
    ]
    assert limits == [4096, 16384]


def test_mxfp4_is_a_quarter_in_vllm_and_unpacked_with_us() -> None:
    packed, unpacked = (
        check_fit(request(GPT_OSS | MXFP4, runtime=runtime)).memory for runtime in ("vllm", "transformers")
    )
    assert packed is not None
    assert unpacked is not None
    assert packed.weights == 13_761_264_768
    assert unpacked.weights == 2 * 20_914_757_184


def test_the_cpu_is_compared_with_the_pods_limit() -> None:
    small = LLAMA_8B | {"num_hidden_layers": 4, "vocab_size": 32000}
    fits = check_fit(request(small, None, runtime="transformers", max_running_requests=4))
    assert fits.verdict is Verdict.FITS
    fit = check_fit(request(LLAMA_8B, None, runtime="transformers", max_running_requests=2))
    finding = only(fit, Severity.ERROR)
    assert (finding.key, finding.value) == ("resources.memory_limit", "8.0 GiB")
    assert finding.remedy == "Would fit: resources.memory_limit 18Gi."
    enough = request(LLAMA_8B, None, runtime="transformers", max_running_requests=1, memory_limit_bytes=18 * GIB)
    assert check_fit(enough).verdict is Verdict.FITS
    too_small = check_fit(replace(enough, memory_limit_bytes=17 * GIB))
    assert too_small.verdict is Verdict.DOES_NOT_FIT


@pytest.mark.parametrize(
    ("config", "severity", "key", "says"),
    [
        ({"model_type": "mamba2"}, "warning", "config_file: model_type", "fit not checked"),
        (
            LLAMA_8B | {"quantization_config": {"quant_method": "bitsandbytes"}},
            "warning",
            "config_file: quantization_config",
            "fit not checked",
        ),
        (
            {"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064}},
            "warning",
            "config_file: hidden_size",
            "fit not checked: is missing",
        ),
        (LLAMA_8B | {"num_hidden_layers": None}, "error", "config_file: num_hidden_layers", "is missing"),
        (LLAMA_8B | {"torch_dtype": "int3"}, "error", "config_file: torch_dtype", "is none of float32"),
    ],
)
def test_what_cannot_be_told_is_said(config: Config, severity: str, key: str, says: str) -> None:
    fit = check_fit(request(config))
    assert (fit.verdict, fit.memory) == (Verdict.NOT_CHECKED, None)
    finding = only(fit, Severity(severity))
    assert finding.key == key
    assert says in finding.problem


@pytest.mark.parametrize(
    ("scheme", "method"),
    [
        ({"type": "float", "num_bits": 8, "strategy": "channel"}, "fp8"),
        ({"type": "int", "num_bits": 8, "strategy": "channel"}, "int8"),
        ({"type": "int", "num_bits": 4, "group_size": 128}, "int4"),
    ],
)
def test_compressed_tensors_are_read(scheme: Config, method: str) -> None:
    stored = {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": scheme}}}
    fit = check_fit(request(LLAMA_8B | {"quantization_config": stored}, runtime="transformers"))
    assert f"does not compute with {method} weights" in fit.findings[0].problem
    fit = check_fit(request(LLAMA_8B | {"quantization_config": stored}, quantization="compressed-tensors"))
    assert Severity.ERROR not in {finding.severity for finding in fit.findings}
    plain = check_fit(request(LLAMA_8B)).memory
    assert fit.memory is not None
    assert plain is not None
    assert fit.memory.weights < 0.6 * plain.weights


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"memory_share": 0.0}, "memory_share"),
        ({"max_running_requests": 0}, "max_running_requests"),
        ({"gpu": None}, "name the GPU"),
        ({"gpus_per_replica": 0}, "memory_limit_bytes"),
    ],
)
def test_a_request_that_says_nothing_to_compare_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(request(LLAMA_8B), **changes)


def test_a_finding_reads_as_a_sentence() -> None:
    text = str(check_fit(request(LLAMA_8B, max_model_len=200_000)).findings[0])
    assert text.startswith("server.max_model_len = 200000: is more than the 131072 tokens")
