"""Parameters and cache of every family, compared with the model that transformers builds from the same configuration."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, DynamicCache

from infra.plan.fit.architecture import Architecture, UnknownArchitecture, read_architecture
from infra.plan.fit.families import FAMILIES, never
from infra.plan.fit.model_config import ModelConfigError

Config = dict[str, Any]
Build = Callable[..., Any]

LAYERS = 6
SMALL: Config = {
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 130,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
LATENT: Config = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 12,
    "v_head_dim": 20,
    "n_routed_experts": 8,
    "moe_intermediate_size": 24,
    "num_experts_per_tok": 2,
}
# What a family needs besides.
OWN: dict[str, Config] = {
    "deepseek_v2": LATENT | {"q_lora_rank": None, "n_shared_experts": 2, "first_k_dense_replace": 1},
    "deepseek_v3": LATENT
    | {"q_lora_rank": 24, "n_shared_experts": 1, "first_k_dense_replace": 2, "n_group": 2, "topk_group": 1},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "rope_parameters": {"rope_type": "default"}},
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 40,
    },
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
}
# Keys that many families have, with values that are not the usual ones. A family that does not read one ignores it.
ODD: dict[str, Config] = {
    "as it is": {},
    "one key-value head for each query head": {"num_key_value_heads": 4},
    "width of a head that is not hidden by heads": {"head_dim": 24},
    "all biases and norms": {
        "attention_bias": True,
        "attention_out_bias": True,
        "mlp_bias": True,
        "qkv_bias": True,
        "use_bias": True,
        "use_qk_norm": True,
    },
    "no bias": {"attention_bias": False, "mlp_bias": False, "qkv_bias": False, "use_bias": False},
    "tied": {"tie_word_embeddings": True, "q_lora_rank": None, "n_shared_experts": 3},
    "not tied": {"tie_word_embeddings": False},
    "dense layers between": {"decoder_sparse_step": 2, "mlp_only_layers": [3], "first_k_dense_replace": 4},
    "sliding": {"sliding_window": 32, "use_sliding_window": True, "max_window_layers": 2, "sliding_window_pattern": 3},
    "not sliding": {"sliding_window": None},
    "layers named": {
        "sliding_window": 32,
        "use_sliding_window": True,
        "layer_types": ["sliding_attention", "full_attention", "full_attention"] * 2,
    },
}
# transformers builds no model from these, or one that cannot run.
IMPOSSIBLE = {
    ("gemma2", "not sliding"),
    ("gemma3_text", "not sliding"),
    ("gpt_oss", "not sliding"),
    ("olmo3", "not sliding"),
    ("cohere2", "not sliding"),
    ("olmoe", "width of a head that is not hidden by heads"),
}


def config_of(family: str, odd: str = "as it is") -> Config:
    if family == "gpt2":
        own = {"n_embd": 64, "n_layer": LAYERS, "n_head": 4, "n_positions": 256, "vocab_size": 130}
        special = {"bos_token_id": 0, "eos_token_id": 0}
        return {"model_type": family, **own, **special, **({"n_inner": 96} if odd == "no bias" else {}), **ODD[odd]}
    return {"model_type": family, **SMALL, **OWN.get(family, {}), **ODD[odd]}


def reads(family: str, odd: str) -> bool:
    """Whether the family's configuration has one of the keys at all."""
    return not ODD[odd] or any(hasattr(CONFIG_MAPPING[family], key) for key in ODD[odd])


def cases() -> list[tuple[str, str]]:
    pairs = [(family, odd) for family in FAMILIES for odd in ODD if reads(family, odd)]
    return [pair for pair in pairs if pair not in IMPOSSIBLE]


def architecture(config: Config) -> Architecture:
    read = read_architecture(config)
    assert isinstance(read, Architecture)
    return read


@pytest.mark.parametrize(("family", "odd"), cases())
def test_parameters_and_windows_are_those_of_the_built_model(family: str, odd: str, build: Build) -> None:
    config = config_of(family, odd)
    ours, model = architecture(config), build(config)
    assert ours.parameters == sum(parameter.numel() for parameter in model.parameters())
    if "sliding_window" not in ODD[odd] or slides(family, odd):
        layers = DynamicCache(config=model.config).layers
        assert list(ours.windows) == ([getattr(layer, "sliding_window", None) for layer in layers] or [None] * LAYERS)


def slides(family: str, odd: str) -> bool:
    """Whether the family's own code reads the keys; transformers' cache reads them for any family."""
    described = FAMILIES[family]
    return described.layer_types or ("layer_types" not in ODD[odd] and described.window_layers is not never)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "phi3", "olmo2", "granite", "smollm3", "cohere"])
@pytest.mark.parametrize("config", [{"num_key_value_heads": None}, {}], ids=["null", "left out"])
def test_key_value_heads_may_be_left_out(family: str, config: Config, build: Build) -> None:
    keys = config_of(family)
    del keys["num_key_value_heads"]
    keys |= config | {"num_attention_heads": 32, "head_dim": 4}
    assert architecture(keys).parameters == sum(parameter.numel() for parameter in build(keys).parameters())


def test_latent_attention_caches_a_small_vector_or_all_heads() -> None:
    attention = architecture(config_of("deepseek_v3")).attention
    assert attention.latent_width == 16 + 8
    assert attention.cached == 4 * (12 + 8 + 20)


def test_numbers_per_token_are_what_the_built_cache_holds(build: Build) -> None:
    """One step of a model with weights: the cache has so many numbers for each of its tokens."""
    for family in ("llama", "gemma2", "gpt2", "deepseek_v2"):
        config = config_of(family) | {"n_shared_experts": 1}
        ours = architecture(config)
        with torch.inference_mode():
            cache = build(config, "cpu")(torch.zeros(1, 7, dtype=torch.long), use_cache=True).past_key_values
        for layer in cache.layers:
            kept = ours.attention.latent_width or ours.attention.cached
            assert (layer.keys.numel() + layer.values.numel()) / 7 == kept, family


def test_another_family_is_an_answer() -> None:
    assert read_architecture({"model_type": "mamba2"}) == UnknownArchitecture(model_type="mamba2")


def test_a_model_for_images_is_its_language_model_and_says_what_is_not_counted() -> None:
    text = config_of("gemma3_text")
    del text["model_type"]
    whole = {"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 32}}
    read = architecture(whole)
    assert read.model_type == "gemma3_text"
    assert read.not_counted == ("vision_config",)
    assert read.parameters == architecture(config_of("gemma3_text")).parameters


def test_a_short_group_means_the_familys_defaults(build: Build) -> None:
    """As Gemma 3 is published: the group of its language model has few keys."""
    group = {"hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 7, "sliding_window": 1024}
    built = build(group | {"model_type": "gemma3_text"})
    read = architecture({"model_type": "gemma3", "text_config": group})
    assert read.parameters == sum(parameter.numel() for parameter in built.parameters())
    assert read.windows == (1024,) * 5 + (None, 1024)


@pytest.mark.parametrize(
    ("family", "keys", "tokens", "stretched"),
    [
        ("llama", {}, 256, 256),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, 256, 512),
        ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 256, 256),
        (
            "qwen2",
            {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}},
            1024,
            1024,
        ),
        (
            "gpt_oss",
            {"rope_scaling": {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64}},
            256,
            256,
        ),
        ("gemma3_text", {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}, 256, 256),
    ],
)
def test_scaled_positions_stretch_the_limit(family: str, keys: Config, tokens: int, stretched: int) -> None:
    read = architecture(config_of(family) | keys)
    assert (read.context_tokens, read.stretched_context_tokens) == (tokens, stretched)


@pytest.mark.parametrize(
    ("family", "keys", "names", "says"),
    [
        ("llama", {"hidden_size": None}, "hidden_size", "is missing"),
        ("llama", {"num_hidden_layers": "6"}, "num_hidden_layers", "whole number"),
        ("llama", {"vocab_size": 0}, "vocab_size", "from 1"),
        ("llama", {"num_key_value_heads": 3}, "num_key_value_heads", "must divide num_attention_heads = 4"),
        (
            "llama",
            {"num_attention_heads": 3, "num_key_value_heads": 3},
            "num_attention_heads",
            "must divide hidden_size",
        ),
        ("llama", {"tie_word_embeddings": "no"}, "tie_word_embeddings", "true or false"),
        ("llama", {"rope_scaling": 2}, "rope_scaling", "group of keys"),
        ("gpt2", {"n_embd": None}, "n_embd", "is missing"),
        ("gemma2", {"layer_types": ["full_attention"]}, "layer_types", "6 layers, has 1"),
        ("gemma2", {"layer_types": ["linear_attention"] * 6}, "layer_types", "neither"),
        ("mixtral", {"num_experts_per_tok": 9}, "num_experts_per_tok", "not be more than num_local_experts = 4"),
        ("qwen3_moe", {"mlp_only_layers": [-1]}, "mlp_only_layers", "whole numbers"),
        ("llama", {"model_type": None}, "model_type", "must be a text"),
    ],
)
def test_a_wrong_key_is_named(family: str, keys: Config, names: str, says: str) -> None:
    with pytest.raises(ModelConfigError, match=says) as caught:
        read_architecture(config_of(family) | keys)
    assert caught.value.key == names


def test_transformers_plan_divides_what_is_said() -> None:
    """Only families with a plan can be divided, and keys and values only where the plan divides the heads."""
    for family, described in FAMILIES.items():
        plan = getattr(CONFIG_MAPPING[family], "base_model_tp_plan", None) or {}
        attention = {way for key, way in plan.items() if "attn" in key or "attention" in key}
        heads = any(way == "colwise" for way in attention)
        network = any("mlp" in key for key in plan)
        expected = "heads" if heads else "weights" if attention else "network" if network else "no"
        assert described.split == expected, family
