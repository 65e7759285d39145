"""What llama.cpp is given is the model that the other servers load."""

import json
import os
from pathlib import Path
from typing import Any

import gguf
import httpx
import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from bench import gguf_model, model
from bench.measures.setting import Setting, prompts
from bench.processes import HOST, serving

LLAMA_SERVER = os.environ.get("LLM_STACK_LLAMA_SERVER", "")
OUTPUT_TOKENS = 32


def network(directory: Path, **options: object) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, **options)


def test_another_reader_finds_the_same_weights(directory: Path) -> None:
    file = gguf_model.provide(directory, "float32")
    # transformers takes 128 for the size of every head, whatever the file says: the configuration is looked at below.
    read = network(directory, gguf_file=file.name, config=AutoConfig.from_pretrained(directory)).state_dict()
    expected = network(directory).state_dict()
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], expected[name]) for name in expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_matrices_are_rounded_and_norms_are_not(directory: Path, dtype: gguf_model.Dtype) -> None:
    expected = network(directory).state_dict()
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(gguf_model.provide(directory, dtype)).tensors}
    assert len(tensors) == len(expected)
    for name, original in (("blk.1.ffn_down", "layers.1.mlp.down_proj"), ("output_norm", "norm")):
        tensor, weight = tensors[f"{name}.weight"], expected[f"model.{original}.weight"]
        rounded = weight.to(getattr(torch, dtype)).float() if weight.ndim > 1 else weight
        assert np.array_equal(gguf.dequantize(tensor.data, tensor.tensor_type).reshape(weight.shape), rounded)


def test_configuration_is_that_of_the_model(directory: Path) -> None:
    config = AutoConfig.from_pretrained(directory)
    reader = gguf.GGUFReader(gguf_model.provide(directory, "float32"))
    expected = {
        "general.architecture": "qwen3",
        "qwen3.vocab_size": config.vocab_size,
        "qwen3.context_length": config.max_position_embeddings,
        "qwen3.embedding_length": config.hidden_size,
        "qwen3.feed_forward_length": config.intermediate_size,
        "qwen3.block_count": config.num_hidden_layers,
        "qwen3.attention.head_count": config.num_attention_heads,
        "qwen3.attention.head_count_kv": config.num_key_value_heads,
        "qwen3.attention.key_length": config.head_dim,
        "qwen3.attention.value_length": config.head_dim,
        "qwen3.attention.layer_norm_rms_epsilon": pytest.approx(config.rms_norm_eps),
        "qwen3.rope.freq_base": config.rope_parameters["rope_theta"],
        "tokenizer.ggml.eos_token_id": config.eos_token_id,
        "tokenizer.ggml.add_bos_token": False,
    }
    fields = {name: reader.get_field(name) for name in expected}
    assert {name: field.contents() for name, field in fields.items() if field is not None} == expected


def test_another_reader_makes_the_same_tokens(directory: Path) -> None:
    file = gguf_model.provide(directory, "float32")
    ours: Any = AutoTokenizer.from_pretrained(directory)
    read: Any = AutoTokenizer.from_pretrained(directory, gguf_file=file.name)
    for text in (prompts(seed=1).text(50), f"Zwölf Boxkämpfer, 1234\n\n{model.TURN_START}user\nbaba{model.TURN_END}"):
        assert read(text)["input_ids"] == ours(text)["input_ids"]
    tokens = gguf.GGUFReader(file).get_field("tokenizer.ggml.tokens")
    assert tokens is not None
    assert len(set(tokens.contents())) == model.VOCABULARY


def test_file_is_written_again_when_the_model_was(directory: Path) -> None:
    file = gguf_model.provide(directory, "float32")
    written = file.stat().st_mtime_ns
    assert gguf_model.provide(directory, "float32").stat().st_mtime_ns == written
    older = (directory / "model.safetensors").stat().st_mtime_ns - 1
    os.utime(file, ns=(older, older))
    assert gguf_model.provide(directory, "float32").stat().st_mtime_ns > older


@pytest.mark.skipif(not LLAMA_SERVER, reason="needs LLM_STACK_LLAMA_SERVER, built as bench/README.md says")
def test_llama_cpp_generates_what_transformers_generates(tmp_path: Path) -> None:
    setting = Setting(
        model=model.provide(tmp_path / "model"), directory=tmp_path, logs=tmp_path, runs=1, mixed_requests=1,
        llama_server=Path(LLAMA_SERVER),
    )  # fmt: skip
    loaded, tokenizer = network(setting.model), AutoTokenizer.from_pretrained(setting.model)
    with serving(setting.llama_cpp("float32"), setting.log("llama.cpp")) as server:
        for length in (1, 7, 128, 450):
            text = prompts(seed=length).text(length)
            asked = {"prompt": text, "n_predict": OUTPUT_TOKENS, "return_tokens": True, **server.command.options}
            answer = httpx.post(f"http://{HOST}:{server.port}/completion", content=json.dumps(asked), timeout=60).json()
            words = tokenizer(text, return_tensors="pt")
            expected = loaded.generate(**words, max_new_tokens=OUTPUT_TOKENS, do_sample=False)[0, length:]
            assert answer["tokens"] == expected.tolist()
