"""The benchmarks' model in the format of llama.cpp: the same weights, the same tokens.

`python -m bench.gguf_model MODEL FILE --dtype float16`
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import gguf
from safetensors.numpy import load_file

Dtype = Literal["float32", "float16", "bfloat16"]
TYPES: Mapping[Dtype, tuple[gguf.GGMLQuantizationType, gguf.LlamaFileType]] = {
    "float32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "float16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bfloat16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
}
ARCHITECTURE = gguf.MODEL_ARCH.QWEN3
BYTE_LEVEL = "gpt2"  # the kind of tokenizer, and below how it splits texts into words: as tokenizers' ByteLevel does
GPT2_SPLIT = "gpt-2"


def create(model: Path, file: Path, dtype: Dtype) -> None:
    """Writes ``file`` from the directory ``model``, as :mod:`bench.model` makes it."""
    config: dict[str, Any] = json.loads((model / "config.json").read_text())
    weight_type, file_type = TYPES[dtype]
    # By its final name only when it is whole: who finds it finds a model.
    unfinished = file.with_suffix(".unfinished")
    writer = gguf.GGUFWriter(unfinished, gguf.MODEL_ARCH_NAMES[ARCHITECTURE])
    writer.add_file_type(file_type)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    _add_tokenizer(writer, model, config)
    names = gguf.get_tensor_name_map(ARCHITECTURE, config["num_hidden_layers"])
    for name, tensor in load_file(model / "model.safetensors").items():
        # llama.cpp computes norms in float32 whatever the type of the matrices, and takes theirs in no other.
        tensor_type = weight_type if tensor.ndim > 1 else gguf.GGMLQuantizationType.F32
        renamed = names.get_name(name, try_suffixes=(".weight",))
        assert renamed is not None, f"{name}: no tensor of {writer.arch}"
        writer.add_tensor(renamed, gguf.quantize(tensor, tensor_type), raw_dtype=tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.rename(file)


def provide(model: Path, dtype: Dtype) -> Path:
    """The file beside the model's own, written when it is not there or older than they are."""
    file = model / f"model.{dtype}.gguf"
    if not file.exists() or file.stat().st_mtime_ns < (model / "model.safetensors").stat().st_mtime_ns:
        create(model, file, dtype)
    return file


def _add_tokenizer(writer: gguf.GGUFWriter, model: Path, config: Mapping[str, Any]) -> None:
    described = json.loads((model / "tokenizer.json").read_text())
    # Every row of the embeddings needs a token: those beyond the vocabulary have one that no text contains.
    tokens = [f"[PAD{number}]" for number in range(config["vocab_size"])]
    types = [gguf.TokenType.UNUSED] * len(tokens)
    for token, number in described["model"]["vocab"].items():
        tokens[number], types[number] = token, gguf.TokenType.NORMAL
    for added in described["added_tokens"]:
        tokens[added["id"]], types[added["id"]] = added["content"], gguf.TokenType.CONTROL
    writer.add_tokenizer_model(BYTE_LEVEL)
    writer.add_tokenizer_pre(GPT2_SPLIT)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in described["model"]["merges"]])
    writer.add_add_bos_token(False)
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_chat_template(json.loads((model / "tokenizer_config.json").read_text())["chat_template"])


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gguf_model", description=__doc__)
    parser.add_argument("model", type=Path, metavar="MODEL", help="directory of `python -m bench.model`")
    parser.add_argument("file", type=Path, metavar="FILE", help="such as model.gguf")
    parser.add_argument("--dtype", choices=get_args(Dtype), default="float32")
    options = parser.parse_args(arguments)
    create(options.model, options.file, options.dtype)


if __name__ == "__main__":
    main(sys.argv[1:])
