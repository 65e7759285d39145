"""How the named families of language models are built: one entry per ``model_type`` of transformers.

An entry says only where a family differs from a Llama: an embedding, then layers of attention (queries, keys, values,
output) and a gated network (gate, up, down), each after a norm, then a norm and the head. The tests compare what follows
from an entry with the model that transformers builds from the same configuration.

A family that is not here is not guessed at: one wrong assumption is a wrong size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from infra.plan.model_config import ModelConfig

LayerRule = Callable[[ModelConfig, int], bool]
"""Whether something holds for a layer; layers are counted from 0."""


def _always(config: ModelConfig, layer: int) -> bool:
    return True


def never(config: ModelConfig, layer: int) -> bool:
    return False


def _all_but_each(period: int, key: str | None = None) -> LayerRule:
    """All layers but each ``period``-th; the configuration may say another period under ``key``."""

    def rule(config: ModelConfig, layer: int) -> bool:
        return (layer + 1) % (config.whole(key, period) if key else period) != 0

    return rule


def _upper_layers(config: ModelConfig, layer: int) -> bool:
    return config.flag("use_sliding_window", False) and layer >= config.whole("max_window_layers", 28, minimum=0)


def _each_second_lower_layer(config: ModelConfig, layer: int) -> bool:
    below = layer < config.whole("max_window_layers", 28, minimum=0)
    return config.flag("use_sliding_window", False) and below and layer % 2 == 0


def _where_asked_for(config: ModelConfig, layer: int) -> bool:
    return config.flag("use_sliding_window", False)


def _layers_without_rotation(config: ModelConfig, layer: int) -> bool:
    if not config.flag("use_sliding_window", False):
        return False
    rotated = config.wholes("no_rope_layers")
    if rotated:
        return layer < len(rotated) and rotated[layer] == 0
    return (layer + 1) % config.whole("no_rope_layer_interval", 4) == 0


def _each_sparse_step(config: ModelConfig, layer: int) -> bool:
    return layer not in config.wholes("mlp_only_layers") and (layer + 1) % config.whole("decoder_sparse_step", 1) == 0


def _after_dense_layers(default: int) -> LayerRule:
    def rule(config: ModelConfig, layer: int) -> bool:
        return layer >= config.whole("first_k_dense_replace", default, minimum=0)

    return rule


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A yes or no that the configuration may decide."""

    default: bool
    key: str | None = None

    def on(self, config: ModelConfig) -> bool:
        return self.default if self.key is None else config.flag(self.key, self.default)


NO = Switch(default=False)
YES = Switch(default=True)


ATTENTION_BIAS = Switch(default=False, key="attention_bias")
MLP_BIAS = Switch(default=False, key="mlp_bias")


def _key(name: str, default: bool) -> Switch:
    return Switch(default=default, key=name)


@dataclass(frozen=True, kw_only=True)
class MixtureOfExperts:
    """Layers whose network is one of many, chosen token by token."""

    count_key: str
    width_key: str = "moe_intermediate_size"
    """The key with the inner width of one expert."""
    used_key: str = "num_experts_per_tok"
    layers: LayerRule = _always
    """The layers that have experts; the others have one network."""
    shared_width: Callable[[ModelConfig], int] = lambda config: 0
    """The inner width of what every token passes besides; 0 where there is none."""
    shared_gate: bool = False
    """Whether a number computed per token scales the shared part."""
    biased: bool = False
    """Whether experts and router have biases."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Where a family differs from a Llama."""

    keys: Mapping[str, str] = field(default_factory=dict)
    """Names of its own for what Llama calls ``hidden_size``, ``num_hidden_layers`` and so on."""
    defaults: Mapping[str, int] = field(default_factory=dict)
    """What a key means that is left out; other sizes must be given."""
    tied: bool = False
    """Whether the head is the embedding, where ``tie_word_embeddings`` is left out."""
    learned_positions: bool = False
    gated: bool = True
    free_heads: bool = True
    """Whether query heads can share keys and values, and a head be wider or narrower than its part of the hidden width."""
    qkv_bias: Switch = ATTENTION_BIAS
    output_bias: Switch = ATTENTION_BIAS
    mlp_bias: Switch = NO
    norms: int = 2
    """Norms of the hidden width in a layer; one more follows the last layer."""
    norm_vectors: int = 1
    """Vectors of one norm: its scale, and a shift; none where it has no weights."""
    query_key_norm: Literal["none", "head", "width"] = "none"
    """Norms of queries and keys: none, one scale for all heads, or one for the whole width."""
    query_key_norm_used: Switch = YES
    sinks: bool = False
    """Whether each head has a learned logit that takes attention away."""
    latent: bool = False
    """Multi-head latent attention: keys and values are made from one small vector per token."""
    experts: MixtureOfExperts | None = None
    window_layers: LayerRule = never
    """The layers that see the last ``sliding_window`` tokens only, where ``layer_types`` is left out."""
    layer_types: bool = False
    """Whether ``layer_types`` can name those layers."""
    scaled_positions: bool = True
    """Whether ``rope_scaling`` extends ``max_position_embeddings``; False where that is the extended one already."""
    split: Literal["heads", "weights", "network", "no"] = "heads"
    """What transformers' plan for several GPUs divides: the attention heads and all that belongs to them; the weights
    but not the heads (each GPU keeps all keys and values); the network after the attention only; or nothing."""


_PATTERN = "sliding_window_pattern"
_QWEN_EXPERTS = MixtureOfExperts(count_key="num_experts", layers=_each_sparse_step)


def _deepseek_experts(dense_layers: int) -> MixtureOfExperts:
    return MixtureOfExperts(
        count_key="n_routed_experts",
        layers=_after_dense_layers(dense_layers),
        shared_width=lambda config: (
            config.whole("n_shared_experts", 0, minimum=0) * config.whole("moe_intermediate_size")
        ),
    )


FAMILIES: Mapping[str, Family] = {
    "cohere": Family(
        norms=1,
        tied=True,
        query_key_norm="width",
        query_key_norm_used=_key("use_qk_norm", False),
    ),
    "cohere2": Family(
        norms=1,
        tied=True,
        defaults={"sliding_window": 4096},
        window_layers=_all_but_each(4, _PATTERN),
        layer_types=True,
    ),
    "deepseek_v2": Family(
        latent=True,
        mlp_bias=MLP_BIAS,
        experts=_deepseek_experts(0),
    ),
    "deepseek_v3": Family(
        latent=True,
        experts=_deepseek_experts(3),
        split="network",
    ),
    "gemma": Family(tied=True, defaults={"head_dim": 256, "num_key_value_heads": 16}),
    "gemma2": Family(
        tied=True,
        norms=4,
        defaults={"head_dim": 256, "num_key_value_heads": 4, "sliding_window": 4096},
        window_layers=_all_but_each(2),
        layer_types=True,
    ),
    "gemma3_text": Family(
        tied=True,
        norms=4,
        query_key_norm="head",
        defaults={
            "head_dim": 256,
            "num_key_value_heads": 4,
            "num_attention_heads": 8,
            "sliding_window": 4096,
            "vocab_size": 262_208,
            "max_position_embeddings": 131_072,
        },
        window_layers=_all_but_each(6, _PATTERN),
        layer_types=True,
        scaled_positions=False,
    ),
    "glm4": Family(output_bias=NO, qkv_bias=_key("attention_bias", True), norms=4, defaults={"head_dim": 128}),
    "gpt2": Family(
        keys={
            "hidden_size": "n_embd",
            "num_hidden_layers": "n_layer",
            "num_attention_heads": "n_head",
            "intermediate_size": "n_inner",
            "max_position_embeddings": "n_positions",
        },
        tied=True,
        learned_positions=True,
        gated=False,
        free_heads=False,
        qkv_bias=YES,
        output_bias=YES,
        mlp_bias=YES,
        norm_vectors=2,
        split="no",
    ),
    "gpt_neox": Family(
        gated=False,
        free_heads=False,
        qkv_bias=_key("attention_bias", True),
        output_bias=_key("attention_bias", True),
        mlp_bias=YES,
        norm_vectors=2,
    ),
    "gpt_oss": Family(
        qkv_bias=_key("attention_bias", True),
        output_bias=_key("attention_bias", True),
        sinks=True,
        defaults={"head_dim": 64, "num_key_value_heads": 8, "sliding_window": 128},
        experts=MixtureOfExperts(count_key="num_local_experts", width_key="intermediate_size", biased=True),
        window_layers=_all_but_each(2),
        layer_types=True,
        split="no",
    ),
    "granite": Family(mlp_bias=MLP_BIAS),
    "granitemoe": Family(
        experts=MixtureOfExperts(count_key="num_local_experts", width_key="intermediate_size"),
        split="no",
    ),
    "llama": Family(mlp_bias=MLP_BIAS),
    "ministral3": Family(
        qkv_bias=NO, output_bias=NO, defaults={"head_dim": 128, "num_key_value_heads": 8}, window_layers=_always
    ),
    "mistral": Family(
        qkv_bias=NO, output_bias=NO, defaults={"num_key_value_heads": 8, "sliding_window": 4096}, window_layers=_always
    ),
    "mixtral": Family(
        qkv_bias=NO,
        output_bias=NO,
        defaults={"num_key_value_heads": 8},
        experts=MixtureOfExperts(count_key="num_local_experts", width_key="intermediate_size"),
        window_layers=_always,
    ),
    "olmo": Family(norm_vectors=0),
    "olmo2": Family(query_key_norm="width", split="weights"),
    "olmo3": Family(
        query_key_norm="width",
        defaults={"sliding_window": 4096},
        window_layers=_all_but_each(4),
        layer_types=True,
        split="weights",
    ),
    "olmoe": Family(
        query_key_norm="width",
        experts=MixtureOfExperts(count_key="num_experts", width_key="intermediate_size"),
        split="weights",
    ),
    "phi3": Family(qkv_bias=NO, output_bias=NO, window_layers=_always, split="weights"),
    "qwen2": Family(
        qkv_bias=YES,
        output_bias=NO,
        defaults={"num_key_value_heads": 32, "sliding_window": 4096},
        window_layers=_upper_layers,
        layer_types=True,
    ),
    "qwen2_moe": Family(
        qkv_bias=_key("qkv_bias", True),
        output_bias=NO,
        defaults={"num_key_value_heads": 16, "sliding_window": 4096},
        experts=MixtureOfExperts(
            count_key="num_experts",
            layers=_each_sparse_step,
            shared_width=lambda config: config.whole("shared_expert_intermediate_size"),
            shared_gate=True,
        ),
        window_layers=_each_second_lower_layer,
        layer_types=True,
    ),
    "qwen3": Family(
        query_key_norm="head",
        defaults={"head_dim": 128, "num_key_value_heads": 32, "sliding_window": 4096},
        window_layers=_upper_layers,
        layer_types=True,
    ),
    "qwen3_moe": Family(
        query_key_norm="head",
        defaults={"num_key_value_heads": 4, "sliding_window": 4096},
        experts=_QWEN_EXPERTS,
        window_layers=_where_asked_for,
    ),
    "seed_oss": Family(
        qkv_bias=_key("attention_bias", True),
        output_bias=_key("attention_out_bias", False),
        mlp_bias=MLP_BIAS,
        defaults={"head_dim": 128, "num_key_value_heads": 8},
    ),
    "smollm3": Family(
        mlp_bias=MLP_BIAS,
        tied=True,
        defaults={"num_key_value_heads": 4},
        window_layers=_layers_without_rotation,
        layer_types=True,
    ),
    "starcoder2": Family(
        tied=True,
        gated=False,
        qkv_bias=_key("use_bias", True),
        output_bias=_key("use_bias", True),
        mlp_bias=_key("use_bias", True),
        norm_vectors=2,
        defaults={"num_key_value_heads": 2},
        window_layers=_always,
    ),
}
