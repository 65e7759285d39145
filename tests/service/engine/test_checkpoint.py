"""What is read of a model's files; what is no whole model is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from service.engine import checkpoint
from service.engine.gate import UnsupportedModelError
from tests.service.engine.networks import SPREAD, Packed, generated

Weights = dict[str, torch.Tensor]
QUERIES = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def directory(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "model"))


def read(directory: Path) -> Any:
    return checkpoint.read_network(str(directory), checkpoint.read_config(str(directory)))


def changed(directory: Path, change: Callable[[Weights], Weights]) -> Path:
    file = directory / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return directory


def configured(directory: Path, **values: object) -> Path:
    file = directory / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    return directory


def without(*names: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: weight for name, weight in weights.items() if name not in names}


def test_whole_model_is_read(directory: Path) -> None:
    assert type(read(directory)).__name__ == "Qwen3ForCausalLM"
    assert checkpoint.read_tokenizer(str(directory)).chat_template


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (without(QUERIES), QUERIES),
        (lambda weights: {f"base.{name}": weight for name, weight in weights.items()}, "lm_head.weight"),
    ],
    ids=["one is missing", "all have other names"],
)
def test_weights_that_are_missing_are_no_noise(
    directory: Path, change: Callable[[Weights], Weights], missing: str
) -> None:
    with pytest.raises(
        UnsupportedModelError, match=rf"Qwen3ForCausalLM: the files lack \d+ of its weights, such as {missing}"
    ):
        read(changed(directory, change))


def test_layer_or_head_that_the_files_do_not_have_is_no_noise(directory: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="such as lm_head"):
        read(configured(directory, tie_word_embeddings=False))
    with pytest.raises(UnsupportedModelError, match=r"such as model\.layers\.2"):
        read(configured(directory, tie_word_embeddings=True, num_hidden_layers=3, layer_types=None))


@pytest.mark.parametrize("name", ["weight_scale", "weight_scale_inv", "input_scale", "qweight"])
def test_scales_are_not_left_aside(directory: Path, name: str) -> None:
    scale = f"model.layers.1.self_attn.q_proj.{name}"
    with pytest.raises(UnsupportedModelError, match=f"quantised in a way .* {scale} would be left aside"):
        read(changed(directory, lambda weights: weights | {scale: torch.ones(1)}))


def test_further_tensors_are_left_aside(directory: Path) -> None:
    others = {"model.layers.1.self_attn.k_scale": torch.ones(1), "model.layers.1.rotary_emb.inv_freq": torch.ones(4)}
    assert read(changed(directory, lambda weights: weights | others))


def test_directory_without_vocabulary_is_refused(directory: Path) -> None:
    (directory / "tokenizer.json").unlink()
    (directory / "tokenizer_config.json").unlink()
    with pytest.raises(UnsupportedModelError, match=r"there is none of .*tokenizer\.json.*vocab\.json.*; copy"):
        checkpoint.read_tokenizer(str(directory))


def test_tokenizer_of_an_older_form_is_told_from_one_that_is_missing(directory: Path) -> None:
    (directory / "tokenizer.json").rename(directory / "tokenizer.model")
    (directory / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    with pytest.raises(UnsupportedModelError, match=r"no tokenizer\.json"):
        checkpoint.read_tokenizer(str(directory))


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_quantised_weights_are_refused_by_their_method(directory: Path, method: str) -> None:
    quantised = {"quant_method": method, "bits": 4, "group_size": 128}
    with pytest.raises(UnsupportedModelError, match=f"quantised as {method} are not served; vLLM does"):
        read(configured(directory, quantization_config=quantised))


def test_adapter_is_refused_as_one(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UnsupportedModelError, match="is an adapter; merge it"):
        checkpoint.read_config(str(tmp_path))


def test_model_that_writes_no_text_is_refused(tmp_path: Path) -> None:
    transformers.BertConfig(num_hidden_layers=1).save_pretrained(tmp_path)
    config = transformers.T5Config()
    with pytest.raises(UnsupportedModelError, match="of the kind t5 do not write text"):
        checkpoint.read_network(str(tmp_path), config)


def test_template_may_have_a_file_of_its_own(directory: Path) -> None:
    settings = directory / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"chat_template": None}))
    (directory / "chat_template.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert checkpoint.read_tokenizer(str(directory)).chat_template == "{{ messages }}"


@pytest.mark.parametrize(
    ("values", "longest"),
    [
        ({"max_position_embeddings": 40_960}, 40_960),
        ({"max_position_embeddings": 40_960, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}, 40_960),
        (
            {
                "max_position_embeddings": 40_960,
                "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768},
            },
            131_072,
        ),
        (
            {
                "max_position_embeddings": 163_840,
                "rope_scaling": {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096},
            },
            163_840,
        ),
    ],
)
def test_context_is_what_the_model_was_made_for_or_stretched_to(values: dict[str, Any], longest: int) -> None:
    assert checkpoint.longest(transformers.Qwen3Config(**values)) == longest


_TEXT = {
    "vocab_size": 256, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": None,
    "eos_token_id": None,
}  # fmt: skip
_EYES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
SEEING: dict[str, dict[str, Any]] = {
    "mistral3": {
        "image_token_index": 10,
        "text_config": {**_TEXT, "model_type": "mistral"},
        "vision_config": {**_EYES, "model_type": "pixtral", "head_dim": 16},
    },
    "qwen2_5_vl": {
        "text_config": {
            **{key: value for key, value in _TEXT.items() if key != "head_dim"},
            "model_type": "qwen2_5_vl_text",
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]},
        },
        "vision_config": {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 64,
        },
    },
    "llava": {
        "image_token_index": 250,
        "text_config": {**_TEXT, "model_type": "llama"},
        "vision_config": {**_EYES, "model_type": "clip_vision_model", "projection_dim": 32},
    },
}


@pytest.mark.parametrize("kind", SEEING)
def test_models_that_see_answer_texts(kind: str, tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model(kind, **SEEING[kind])
    made: Any = transformers.AutoModelForImageTextToText.from_config(config)  # type: ignore[no-untyped-call]
    random = torch.Generator().manual_seed(3)
    for parameter in made.parameters():
        about = 1.0 if parameter.dim() == 1 and parameter.mean() > 0.5 else 0.0
        parameter.data = torch.randn(parameter.shape, generator=random) * SPREAD + about
    made.save_pretrained(tmp_path)
    prompts = [list(range(20, 20 + length)) for length in (5, 40)]
    wanted = [generated(read(tmp_path).eval(), prompt, 12) for prompt in prompts]
    packed = Packed.of(read(tmp_path).eval())
    assert [sequence.tokens[-12:] for sequence in packed.run(prompts, 12, step_tokens=24, chunk_tokens=16)] == wanted
