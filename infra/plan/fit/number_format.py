"""How weights are stored: number formats, quantisation, and what one matrix takes in bytes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from infra.plan.fit.architecture import Matrix, Part
from infra.plan.fit.model_config import ModelConfig, ModelConfigError

Dtype = Literal["float32", "bfloat16", "float16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

# What keys and values are kept in: the model's own format (auto), or a byte for each number.
CacheDtype = Literal["auto", "fp8"]
FP8_BYTES = 1

Method = Literal["fp8", "int8", "awq", "gptq", "int4", "mxfp4", "bitsandbytes"]
METHODS: tuple[Method, ...] = get_args(Method)
# What vLLM is told, as its users write it; what a compressed-tensors checkpoint is quantised to stands in the checkpoint.
QuantizationName = Literal["fp8", "awq", "gptq", "bitsandbytes", "compressed-tensors"]

# What is quantised: the matrices of the layers. Embedding, head, routers, norms and biases stay as they are.
LAYERS: frozenset[Part] = frozenset({"attention", "network", "experts"})
EXPERTS: frozenset[Part] = frozenset({"experts"})

# AWQ and GPTQ checkpoints share a scale among this many inputs unless they say otherwise.
DEFAULT_GROUP = 128
# MXFP4 of the OCP Microscaling specification: blocks of 32 numbers of 4 bits share a scale of 8 bits.
MXFP4_BLOCK = 32
MXFP4_SCALE_BYTES = 1
# The four-bit formats keep scales in 16 bits; AWQ and GPTQ also a zero point of the weights' own width for each,
# and GPTQ the number of the group of each input, as int32.
SCALE_BYTES = 2
# What vLLM makes with bitsandbytes: blocks of 64 numbers of 4 bits (NF4) with a float32 scale each, 4.5 bits for a weight.
# Its loader unpacks scales that bitsandbytes has packed again, so that those of all checkpoints take as much.
NF4_BLOCK = 64
NF4_SCALE_BYTES = 4
GROUP_INDEX_BYTES = 4
# Scales of fp8 blocks, of fp8 tensors and of int8 rows are float32.
WIDE_SCALE_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How the matrices of the layers are stored instead of in the model's number format."""

    method: Method
    bits: int
    group: int | None = None
    """Inputs that share a scale (awq, gptq, int4); all of them when None."""
    block: tuple[int, int] | None = None
    """Outputs and inputs that share a scale (fp8); the whole matrix when None."""
    name: str | None = None
    """What the checkpoint calls it (``quant_method``); None where the runtime quantises while it loads."""

    @property
    def parts(self) -> frozenset[Part]:
        return EXPERTS if self.method == "mxfp4" else LAYERS

    def matrix_bytes(self, matrix: Matrix) -> int:
        """Bytes of all copies of the matrix with their scales."""
        inputs, outputs = matrix.inputs, matrix.outputs
        numbers = math.ceil(inputs * outputs * self.bits / 8)
        return matrix.count * (numbers + self._scale_bytes(inputs, outputs))

    def _scale_bytes(self, inputs: int, outputs: int) -> int:
        match self.method:
            case "mxfp4":
                return outputs * math.ceil(inputs / MXFP4_BLOCK) * MXFP4_SCALE_BYTES
            case "bitsandbytes":
                return math.ceil(outputs * inputs / NF4_BLOCK) * NF4_SCALE_BYTES
            case "fp8":
                rows, columns = self.block or (outputs, inputs)
                return math.ceil(outputs / rows) * math.ceil(inputs / columns) * WIDE_SCALE_BYTES
            case "int8":
                return outputs * WIDE_SCALE_BYTES
            case "int4":
                return math.ceil(inputs / (self.group or inputs)) * outputs * SCALE_BYTES
            case "awq" | "gptq":
                groups = math.ceil(inputs / (self.group or inputs))
                scales = groups * outputs * SCALE_BYTES + math.ceil(groups * outputs * self.bits / 8)
                return scales + (inputs * GROUP_INDEX_BYTES if self.method == "gptq" else 0)


@dataclass(frozen=True, kw_only=True)
class UnknownQuantization:
    """The checkpoint is stored in a way whose size is not known here."""

    method: str


# What vLLM makes of a checkpoint that is not quantised, by the name that it is told; of others it makes nothing.
WHILE_LOADING: Mapping[str, Quantization] = {
    "fp8": Quantization(method="fp8", bits=8),
    "bitsandbytes": Quantization(method="bitsandbytes", bits=4),
}


def published_quantization(config: ModelConfig) -> Quantization | UnknownQuantization | None:
    """What ``quantization_config`` says of the checkpoint.

    Raises:
        ModelConfigError: a key is wrong; names it.
    """
    group = config.group("quantization_config")
    if group is None:
        return None
    method = group.text("quant_method")
    if method == "fp8":
        return Quantization(method="fp8", bits=8, block=_block(group), name=method)
    if method == "mxfp4":
        return Quantization(method="mxfp4", bits=4, name=method)
    grouped: tuple[Method, ...] = ("awq", "gptq")
    for known in grouped:
        if method == known:
            return Quantization(method=known, bits=group.whole("bits", 4), group=_group(group), name=method)
    if method == "compressed-tensors":
        return _compressed_tensors(group)
    return UnknownQuantization(method=method)


def _compressed_tensors(group: ModelConfig) -> Quantization | UnknownQuantization:
    """One format for all layers, of those that published models have; others are not known."""
    schemes = group.group("config_groups")
    scheme = schemes.group(next(iter(schemes.values))) if schemes is not None and len(schemes.values) == 1 else None
    weights = scheme.group("weights") if scheme is not None else None
    if weights is None:
        return UnknownQuantization(method="compressed-tensors of several kinds")
    kind, bits = weights.text("type"), weights.whole("num_bits")
    methods: dict[tuple[str, int], Method] = {("float", 8): "fp8", ("int", 8): "int8", ("int", 4): "int4"}
    if (kind, bits) not in methods:
        return UnknownQuantization(method=f"compressed-tensors {kind}{bits}")
    method = methods[kind, bits]
    inputs = _group(weights) if method == "int4" else None
    return Quantization(method=method, bits=bits, group=inputs, name="compressed-tensors")


def _block(group: ModelConfig) -> tuple[int, int] | None:
    if not group.has("weight_block_size"):
        return None
    sizes = group.wholes("weight_block_size")
    if len(sizes) != 2 or 0 in sizes:
        raise ModelConfigError("weight_block_size", list(sizes), "must be two whole numbers from 1")
    return sizes[0], sizes[1]


def _group(group: ModelConfig) -> int | None:
    # -1 means one scale for all inputs.
    if group.values.get("group_size") == -1:
        return None
    return group.whole("group_size", DEFAULT_GROUP)


def published_dtype(outer: ModelConfig, text: ModelConfig) -> Dtype:
    """The number format that the checkpoint was stored in.

    The oldest models do not say; they are float32.
    """
    for config in (text, outer):
        for key in ("dtype", "torch_dtype"):
            if config.has(key):
                name = config.text(key).removeprefix("torch.")
                for dtype in DTYPES:
                    if name == dtype:
                        return dtype
                raise ModelConfigError(key, name, f"is none of {', '.join(DTYPES)}")
    return "float32"
