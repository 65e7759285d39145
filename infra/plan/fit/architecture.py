"""What a model's config.json says of its size: parameters, and what the cache keeps for each token.

The families are described in :mod:`infra.plan.fit.families`. Everything here is exact for them; a ``model_type`` that is not
among them gives an :class:`UnknownArchitecture`, which is an answer and not a fault.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from infra.plan.fit.families import FAMILIES, Family
from infra.plan.fit.model_config import ModelConfig, ModelConfigError

Part = Literal["embedding", "head", "attention", "network", "experts", "router"]
CHECKED_FAMILIES = tuple(FAMILIES)

# What models for images and sound call the configuration of their language model, and what else they are made of.
TEXT_GROUPS = ("text_config", "llm_config", "language_config")
OTHER_GROUPS = ("vision_config", "audio_config", "speech_config", "projector_config")
# The model_type that such a group means when it leaves it out.
TEXT_TYPES: Mapping[str, str] = {"gemma3": "gemma3_text", "mistral3": "mistral"}

# Ways of stretching rotary positions that make the model's limit longer by their factor; YaRN does by that of another limit.
STRETCHING = ("linear", "dynamic")
YARN = "yarn"


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """``count`` weight matrices of ``inputs`` times ``outputs`` numbers."""

    part: Part
    inputs: int
    outputs: int
    count: int = 1
    pieces: int | None = None
    """Into how many pieces several GPUs can divide it (1: each keeps a copy); as many as there are GPUs when None."""

    @property
    def parameters(self) -> int:
        return self.inputs * self.outputs * self.count


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Widths of one attention layer."""

    heads: int
    kv_heads: int
    key_width: int
    """Numbers in a key of one head."""
    value_width: int
    latent_width: int | None = None
    """With latent attention: numbers that are enough to make the keys and values of all heads again."""

    @property
    def cached(self) -> int:
        """Numbers for the keys and values of one token."""
        return self.kv_heads * (self.key_width + self.value_width)


@dataclass(frozen=True, kw_only=True)
class Experts:
    """The mixture of experts of a layer."""

    count: int
    used: int
    """Experts that one token passes."""
    width: int
    shared_width: int


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A model of a known family."""

    model_type: str
    hidden: int
    vocabulary: int
    context_tokens: int
    """Tokens of prompt and answer that the model was made for, or that YaRN stretches it to."""
    stretched_context_tokens: int
    """The same with whatever ``rope_scaling`` adds."""
    attention: Attention
    width: int
    """Inner width of the network of layers without experts; 0 where all have experts."""
    experts: Experts | None
    windows: tuple[int | None, ...]
    """For each layer: the last tokens that it sees; None where it sees all."""
    matrices: tuple[Matrix, ...]
    vector_parameters: int
    """Norms, biases and the like."""
    split: Literal["heads", "weights", "network", "no"]
    """What transformers' plan for several GPUs divides."""
    not_counted: tuple[str, ...]
    """Parts of the model besides the language model, by their key in config.json."""

    @property
    def layers(self) -> int:
        return len(self.windows)

    @property
    def parameters(self) -> int:
        return sum(matrix.parameters for matrix in self.matrices) + self.vector_parameters


@dataclass(frozen=True, kw_only=True)
class UnknownArchitecture:
    """A model whose size cannot be told from its configuration."""

    model_type: str


def text_config(config: ModelConfig) -> ModelConfig:
    """The keys of the language model, which models for images and sound keep in a group of their own."""
    return _text_model(config)[0]


def read_architecture(config: Mapping[str, object]) -> Architecture | UnknownArchitecture:
    """What the mapping of a config.json says.

    Raises:
        ModelConfigError: a key is missing or wrong; names it.
    """
    whole = ModelConfig(config)
    text, model_type = _text_model(whole)
    family = FAMILIES.get(model_type)
    if family is None:
        return UnknownArchitecture(model_type=model_type)
    others = tuple(key for key in OTHER_GROUPS if whole.has(key))
    return _Reader(text, model_type, family, others).read()


def _text_model(config: ModelConfig) -> tuple[ModelConfig, str]:
    outer = config.text("model_type")
    for key in TEXT_GROUPS:
        group = config.group(key)
        if group is None:
            continue
        model_type = group.text("model_type") if group.has("model_type") else TEXT_TYPES.get(outer, outer)
        # Whether the head is the embedding is said beside the group by models that are older than the group's key.
        shared = (
            {"tie_word_embeddings": config.values["tie_word_embeddings"]}
            if "tie_word_embeddings" in config.values
            else {}
        )
        return ModelConfig({**shared, **group.values}), model_type
    return config, outer


class _Reader:
    """Turns the keys of one configuration into an :class:`Architecture`."""

    def __init__(self, config: ModelConfig, model_type: str, family: Family, not_counted: tuple[str, ...]) -> None:
        self.config = config
        self.model_type = model_type
        self.family = family
        self.not_counted = not_counted
        self.hidden = self.size("hidden_size")
        self.layers = self.size("num_hidden_layers")
        self.heads = self.size("num_attention_heads")
        self.vocabulary = self.size("vocab_size")
        self.attention = self.latent_attention() if family.latent else self.plain_attention()
        self.experts = self.read_experts()
        self.sparse = [
            family.experts is not None and family.experts.layers(config, layer) for layer in range(self.layers)
        ]
        dense = self.sparse.count(False)
        self.width = self.network_width() if dense else 0

    def read(self) -> Architecture:
        tied = self.config.flag("tie_word_embeddings", self.family.tied)
        matrices = (
            Matrix(part="embedding", inputs=self.hidden, outputs=self.vocabulary),
            *self.position_matrices(),
            *self.attention_matrices(),
            *self.network_matrices(),
            *(() if tied else (Matrix(part="head", inputs=self.hidden, outputs=self.vocabulary),)),
        )
        return Architecture(
            model_type=self.model_type,
            hidden=self.hidden,
            vocabulary=self.vocabulary,
            context_tokens=self.context_tokens(),
            stretched_context_tokens=self.stretched_context_tokens(),
            attention=self.attention,
            width=self.width,
            experts=self.experts,
            windows=self.windows(),
            matrices=matrices,
            vector_parameters=self.vectors(),
            split=self.family.split,
            not_counted=self.not_counted,
        )

    def key(self, name: str) -> str:
        return self.family.keys.get(name, name)

    def size(self, name: str) -> int:
        return self.config.whole(self.key(name), self.family.defaults.get(name))

    def plain_attention(self) -> Attention:
        if not self.family.free_heads:
            head = self.hidden_per_head()
            return Attention(heads=self.heads, kv_heads=self.heads, key_width=head, value_width=head)
        head = self.config.whole("head_dim", self.family.defaults.get("head_dim", 0) or self.hidden_per_head())
        return Attention(heads=self.heads, kv_heads=self.read_kv_heads(), key_width=head, value_width=head)

    def read_kv_heads(self) -> int:
        key = "num_key_value_heads"
        # Left out means the family's default; null means one for each query head.
        default = self.heads if key in self.config.values else self.family.defaults.get(key, self.heads)
        kv_heads = self.config.whole(key, default)
        if self.heads % kv_heads:
            raise ModelConfigError(key, kv_heads, f"must divide {self.key('num_attention_heads')} = {self.heads}")
        return kv_heads

    def hidden_per_head(self) -> int:
        if not self.config.has("head_dim") and self.hidden % self.heads:
            heads_key = self.key("num_attention_heads")
            raise ModelConfigError(
                heads_key,
                self.heads,
                f"must divide {self.key('hidden_size')} = {self.hidden} where head_dim is not given",
            )
        return self.hidden // self.heads

    def latent_attention(self) -> Attention:
        rotated = self.size("qk_rope_head_dim")
        return Attention(
            heads=self.heads,
            kv_heads=self.heads,
            key_width=self.size("qk_nope_head_dim") + rotated,
            value_width=self.size("v_head_dim"),
            latent_width=self.size("kv_lora_rank") + rotated,
        )

    def read_experts(self) -> Experts | None:
        moe = self.family.experts
        if moe is None:
            return None
        count = self.config.whole(moe.count_key)
        used = self.config.whole(moe.used_key)
        if used > count:
            raise ModelConfigError(moe.used_key, used, f"must not be more than {moe.count_key} = {count}")
        return Experts(
            count=count,
            used=used,
            width=self.config.whole(moe.width_key),
            shared_width=moe.shared_width(self.config),
        )

    def network_width(self) -> int:
        key = self.key("intermediate_size")
        # GPT-2 leaves it out for four times the hidden width.
        return self.config.whole(key, 4 * self.hidden if self.family.learned_positions else None)

    def context_tokens(self) -> int:
        made_for = self.size("max_position_embeddings")
        scaling = self.scaling()
        if scaling is None or _scaling_kind(scaling) != YARN or not scaling.has("original_max_position_embeddings"):
            return made_for
        return max(made_for, int(scaling.whole("original_max_position_embeddings") * scaling.number("factor")))

    def stretched_context_tokens(self) -> int:
        scaling = self.scaling()
        if scaling is not None and _scaling_kind(scaling) in STRETCHING:
            return int(self.size("max_position_embeddings") * scaling.number("factor"))
        return self.context_tokens()

    def scaling(self) -> ModelConfig | None:
        """How positions are stretched, where they are."""
        scaling = self.config.group("rope_scaling") or self.config.group("rope_parameters")
        stretches = scaling is not None and self.family.scaled_positions and scaling.has("factor")
        return scaling if stretches else None

    def windows(self) -> tuple[int | None, ...]:
        # Null turns windows off; a key that is left out means the family's default.
        window = (
            self.config.optional_whole("sliding_window")
            if "sliding_window" in self.config.values
            else self.family.defaults.get("sliding_window")
        )
        if window is None:
            return (None,) * self.layers
        return tuple(window if narrow else None for narrow in self.narrow_layers())

    def narrow_layers(self) -> tuple[bool, ...]:
        if not (self.family.layer_types and self.config.has("layer_types")):
            return tuple(self.family.window_layers(self.config, layer) for layer in range(self.layers))
        kinds = self.config.texts("layer_types", length=self.layers)
        for kind in kinds:
            if kind not in ("full_attention", "sliding_attention"):
                raise ModelConfigError("layer_types", kind, "is neither full_attention nor sliding_attention")
        return tuple(kind == "sliding_attention" for kind in kinds)

    def position_matrices(self) -> tuple[Matrix, ...]:
        if not self.family.learned_positions:
            return ()
        positions = self.size("max_position_embeddings")
        return (Matrix(part="embedding", inputs=self.hidden, outputs=positions, pieces=1),)

    def attention_matrices(self) -> tuple[Matrix, ...]:
        shape = self.attention
        queries, values = shape.heads * shape.key_width, shape.heads * shape.value_width

        def matrix(inputs: int, outputs: int, pieces: int | None = shape.heads) -> Matrix:
            return Matrix(part="attention", inputs=inputs, outputs=outputs, count=self.layers, pieces=pieces)

        output = matrix(values, self.hidden)
        if shape.latent_width is None:
            kv_width = shape.kv_heads * shape.key_width
            key_or_value = matrix(self.hidden, kv_width, shape.kv_heads)
            return (matrix(self.hidden, queries), key_or_value, key_or_value, output)
        rank = self.config.whole("kv_lora_rank")
        unrotated = self.config.whole("qk_nope_head_dim")
        squeezed = self.config.optional_whole("q_lora_rank")
        make_queries = (
            (matrix(self.hidden, queries),)
            if squeezed is None
            else (matrix(self.hidden, squeezed, 1), matrix(squeezed, queries))
        )
        return (
            *make_queries,
            matrix(self.hidden, shape.latent_width, 1),
            matrix(rank, shape.heads * (unrotated + shape.value_width)),
            output,
        )

    def network_matrices(self) -> tuple[Matrix, ...]:
        dense, sparse = self.sparse.count(False), self.sparse.count(True)
        plain = self.network("network", self.width, dense) if dense else ()
        if self.experts is None or not sparse:
            return plain
        experts = self.experts
        moe = self.family.experts
        gate = (Matrix(part="router", inputs=self.hidden, outputs=1, count=sparse, pieces=1),)
        return (
            *plain,
            *self.network("experts", experts.width, sparse * experts.count),
            *(self.network("network", experts.shared_width, sparse) if experts.shared_width else ()),
            *(gate if moe is not None and moe.shared_gate else ()),
            Matrix(part="router", inputs=self.hidden, outputs=experts.count, count=sparse, pieces=1),
        )

    def network(self, part: Part, width: int, count: int) -> tuple[Matrix, ...]:
        into = Matrix(part=part, inputs=self.hidden, outputs=width, count=count)
        out = Matrix(part=part, inputs=width, outputs=self.hidden, count=count)
        return (into, into, out) if self.family.gated else (into, out)

    def vectors(self) -> int:
        """Parameters of norms, biases and sinks."""
        family, shape = self.family, self.attention
        queries, kv = shape.heads * shape.key_width, shape.kv_heads * shape.key_width
        hidden_norms = self.layers * family.norms + 1
        a_layer = self.attention_biases() + self.latent_norms()
        if family.query_key_norm_used.on(self.config):
            a_layer += {"none": 0, "head": 2 * shape.key_width, "width": queries + kv}[family.query_key_norm]
        a_layer += shape.heads if family.sinks else 0
        return hidden_norms * self.hidden * family.norm_vectors + self.layers * a_layer + self.network_biases()

    def attention_biases(self) -> int:
        shape = self.attention
        output = self.hidden if self.family.output_bias.on(self.config) else 0
        if not self.family.qkv_bias.on(self.config):
            return output
        if shape.latent_width is None:
            return output + shape.heads * shape.key_width + 2 * shape.kv_heads * shape.key_width
        return output + shape.latent_width + (self.config.optional_whole("q_lora_rank") or 0)

    def latent_norms(self) -> int:
        if not self.family.latent:
            return 0
        return self.config.whole("kv_lora_rank") + (self.config.optional_whole("q_lora_rank") or 0)

    def network_biases(self) -> int:
        dense, sparse = self.sparse.count(False), self.sparse.count(True)
        ways_in = 2 if self.family.gated else 1
        biases = 0
        if self.family.mlp_bias.on(self.config):
            biases += dense * (ways_in * self.width + self.hidden)
            if self.experts is not None and self.experts.shared_width:
                biases += sparse * (ways_in * self.experts.shared_width + self.hidden)
        if self.experts is not None and self.family.experts is not None and self.family.experts.biased:
            biases += sparse * self.experts.count * (ways_in * self.experts.width + self.hidden + 1)
        return biases


def _scaling_kind(scaling: ModelConfig) -> object:
    """Under its newer key or its older one."""
    return scaling.values.get("rope_type", scaling.values.get("type"))
