"""A tiny chat model with random weights: real files of a real architecture (Qwen3), the same every time.

`python3 -m local.tiny_model DIRECTORY`. What it writes is noise; everything around it is as with any other model.
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

SEED = 7
HIDDEN = 128
LAYERS = 2
HEADS = 4
KEY_VALUE_HEADS = 2
HEAD_SIZE = 32
INTERMEDIATE = 256
VOCABULARY = 1024  # at most; the text below gives fewer merges
CONTEXT_TOKENS = 2048
# Wide enough that the scores differ: a model with Qwen3's own 0.02 would say nearly the same after every prompt.
SPREAD = 0.08

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Some English for the tokenizer to find its merges in.
TEXT = (
    "A queue tells more than a thermometer: when requests wait, another replica helps; when none do, one can go.",
    "The model reads the prompt once and then writes one token after the other, each from all that came before it.",
    "Say hello, count to ten, name the colours of the rainbow, and tell a short story about a lighthouse and a storm.",
    "Kubernetes places the pods, Prometheus counts what they do, and the autoscaler asks how much work is waiting.",
    "Good morning! How are you today? I am well, thank you; the weather is fine and the coffee is still warm.",
)


def create(directory: Path) -> None:
    """Writes the model's files into ``directory``."""
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
    vocabulary = tokenizer.get_vocab_size()
    _write(directory / "config.json", {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "dtype": "float32",
        "vocab_size": vocabulary,
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
        "tie_word_embeddings": True,
        "attention_bias": False,
        "use_cache": True,
    })  # fmt: skip
    end = tokenizer.token_to_id(TURN_END)
    _write(
        directory / "generation_config.json", {"eos_token_id": end, "pad_token_id": tokenizer.token_to_id(END_OF_TEXT)}
    )
    weights = directory / "model.safetensors"
    save_file(_weights(vocabulary), weights, metadata={"format": "pt"})
    weights.chmod(0o644)  # the library makes it private, and the pod that reads it is another user


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, special=True) for token in (END_OF_TEXT, TURN_START, TURN_END)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def _weights(vocabulary: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(SEED)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (random.standard_normal((rows, columns), dtype=np.float32) * np.float32(SPREAD)).astype(np.float32)

    def ones(size: int) -> np.ndarray:
        return np.ones(size, dtype=np.float32)

    weights = {"model.embed_tokens.weight": matrix(vocabulary, HIDDEN), "model.norm.weight": ones(HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        weights |= {
            f"{prefix}.input_layernorm.weight": ones(HIDDEN),
            f"{prefix}.post_attention_layernorm.weight": ones(HIDDEN),
            f"{prefix}.self_attn.q_proj.weight": matrix(HEADS * HEAD_SIZE, HIDDEN),
            f"{prefix}.self_attn.k_proj.weight": matrix(KEY_VALUE_HEADS * HEAD_SIZE, HIDDEN),
            f"{prefix}.self_attn.v_proj.weight": matrix(KEY_VALUE_HEADS * HEAD_SIZE, HIDDEN),
            f"{prefix}.self_attn.o_proj.weight": matrix(HIDDEN, HEADS * HEAD_SIZE),
            f"{prefix}.self_attn.q_norm.weight": ones(HEAD_SIZE),
            f"{prefix}.self_attn.k_norm.weight": ones(HEAD_SIZE),
            f"{prefix}.mlp.gate_proj.weight": matrix(INTERMEDIATE, HIDDEN),
            f"{prefix}.mlp.up_proj.weight": matrix(INTERMEDIATE, HIDDEN),
            f"{prefix}.mlp.down_proj.weight": matrix(HIDDEN, INTERMEDIATE),
        }
    return weights


def _write(file: Path, content: dict[str, object]) -> None:
    file.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    create(Path(sys.argv[1]))
