"""The model of the benchmarks: Qwen3 with 39 million random weights, and a tokenizer of which every word is one token.

`python -m bench.model DIRECTORY`. Its end token has weights of zero and so a score of 0, below the best of thousands of
random ones: no answer ends before its length, on any server, whether it knows `ignore_eos` or not.
"""

import json
import sys
from itertools import product
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SEED = 11
HIDDEN = 512
LAYERS = 8
HEADS = 8
KEY_VALUE_HEADS = 2
HEAD_SIZE = 64
INTERMEDIATE = 1408
VOCABULARY = 16_384
CONTEXT_TOKENS = 8192
SPREAD = 0.02  # standard deviation of the weights: Qwen3's own

END_OF_TEXT, TURN_START, TURN_END = SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SYLLABLES = tuple(consonant + vowel for consonant, vowel in product("bcdfghjklmnpqrstvwxz", "aeiou"))
SPACE = "Ġ"  # as byte-level tokenizers write it


def words() -> tuple[str, ...]:
    """Those that are one token each, at the start of a text and after a space: ``baba``, ``babe``, …"""
    return tuple(first + second for first, second in product(SYLLABLES, SYLLABLES))[: _word_count()]


def create(directory: Path) -> None:
    """Writes the model's files into ``directory``; 157 MB of weights in float32."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    tokenizer.save(str(directory / "tokenizer.json"))
    _write(directory / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "model_max_length": CONTEXT_TOKENS,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    })  # fmt: skip
    vocabulary = tokenizer.get_vocab()
    end, pad = vocabulary[TURN_END], vocabulary[END_OF_TEXT]
    _write(directory / "config.json", {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "dtype": "float32",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "head_dim": HEAD_SIZE,
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT_TOKENS,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": False,
        "attention_bias": False,
        "use_cache": True,
        "eos_token_id": end,
        "pad_token_id": pad,
    })  # fmt: skip
    _write(directory / "generation_config.json", {"eos_token_id": end, "pad_token_id": pad})
    # Last, and by its final name only when it is whole: who finds it finds a model.
    weights = directory / "model.safetensors"
    unfinished = weights.with_suffix(".unfinished")
    save_file(_weights(silent=[vocabulary[token] for token in SPECIAL]), unfinished, metadata={"format": "pt"})
    unfinished.rename(weights)


def provide(directory: Path) -> Path:
    """``directory`` with the model in it, written when it is not there."""
    if not (directory / "model.safetensors").exists():
        create(directory)
    return directory


def _word_count() -> int:
    """What the alphabet, the syllables and the special tokens leave, for words without and with a space before them."""
    return (VOCABULARY - len(pre_tokenizers.ByteLevel.alphabet()) - len(SYLLABLES) - len(SPECIAL)) // 2


def _tokenizer() -> Tokenizer:
    vocabulary: dict[str, int] = {}
    merges: list[tuple[str, str]] = []

    def add(first: str, second: str) -> None:
        merges.append((first, second))
        vocabulary.setdefault(first + second, len(vocabulary))

    for character in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[character] = len(vocabulary)
    for syllable in SYLLABLES:
        add(syllable[0], syllable[1])
    for word in words():
        add(word[:2], word[2:])
    for word in words():
        add(SPACE, word)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return tokenizer


def _weights(silent: list[int]) -> dict[str, np.ndarray]:
    """``silent``: tokens whose scores are always 0."""
    random = np.random.default_rng(SEED)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return random.standard_normal((rows, columns), dtype=np.float32) * np.float32(SPREAD)

    def ones(size: int) -> np.ndarray:
        return np.ones(size, dtype=np.float32)

    scores = matrix(VOCABULARY, HIDDEN)
    scores[silent] = 0
    weights = {
        "model.embed_tokens.weight": matrix(VOCABULARY, HIDDEN),
        "model.norm.weight": ones(HIDDEN),
        "lm_head.weight": scores,
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        queries, keys = HEADS * HEAD_SIZE, KEY_VALUE_HEADS * HEAD_SIZE
        weights |= {
            f"{prefix}.input_layernorm.weight": ones(HIDDEN),
            f"{prefix}.post_attention_layernorm.weight": ones(HIDDEN),
            f"{prefix}.self_attn.q_norm.weight": ones(HEAD_SIZE),
            f"{prefix}.self_attn.k_norm.weight": ones(HEAD_SIZE),
            f"{prefix}.self_attn.q_proj.weight": matrix(queries, HIDDEN),
            f"{prefix}.self_attn.k_proj.weight": matrix(keys, HIDDEN),
            f"{prefix}.self_attn.v_proj.weight": matrix(keys, HIDDEN),
            f"{prefix}.self_attn.o_proj.weight": matrix(HIDDEN, queries),
            f"{prefix}.mlp.gate_proj.weight": matrix(INTERMEDIATE, HIDDEN),
            f"{prefix}.mlp.up_proj.weight": matrix(INTERMEDIATE, HIDDEN),
            f"{prefix}.mlp.down_proj.weight": matrix(HIDDEN, INTERMEDIATE),
        }
    return weights


def _write(file: Path, content: dict[str, object]) -> None:
    file.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    create(Path(sys.argv[1]))
