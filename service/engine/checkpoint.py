"""A model's files: where they are, and what is read from them.

What they lack, transformers fills with random numbers, and what it does not understand it leaves aside; both are refused here.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from service.engine.gate import UnsupportedModelError
from service.engine.progress import bars
from service.settings import Settings
from service.weight_files import UNWANTED, WANTED

# Where a model does not say how long a text it was made for: what the oldest ones were.
FALLBACK_CONTEXT_TOKENS = 2048
YARN = "yarn"
ADAPTER_FILE = "adapter_config.json"
# One of them has the vocabulary, whatever a tokenizer's class calls its own file.
TOKENIZER_FILES = frozenset({"tokenizer.json", "tekken.json"})
# Where models of images and text had their template before tokenizers took it.
TEMPLATE_FILE = "chat_template.json"
# Of weights that are numbers only together with another tensor. (Scales of keys and values are not: nothing is scaled here.)
_QUANTISED = re.compile(r"(weight|input)_scale(_inv)?$|\.(qweight|qzeros|scales|g_idx)$")


def locate(settings: Settings, report: Callable[[str], None]) -> str:
    """Where the model's files are; from the hub, those that are missing are fetched, and begun ones finished.

    Raises:
        ValueError: there is no such directory.
    """
    if Path(settings.model).is_dir():
        return settings.model
    if Path(settings.model).is_absolute():
        raise ValueError(f"MODEL={settings.model}: there is no such directory; is the volume with the weights mounted?")
    report(f"fetching {settings.model}")
    return snapshot_download(
        settings.model,
        revision=settings.model_revision,
        allow_patterns=list(WANTED),
        ignore_patterns=list(UNWANTED),
        tqdm_class=bars(report),
    )


def read_config(directory: str) -> Any:
    """
    Raises:
        UnsupportedModelError: the files are those of an adapter.
        OSError, ValueError: from transformers, for one that is missing or wrong.
    """
    place = Path(directory)
    if (place / ADAPTER_FILE).exists() and not (place / "config.json").exists():
        raise UnsupportedModelError(f"{directory}: is an adapter; merge it into the model that it was made for")
    return AutoConfig.from_pretrained(directory)


def longest(config: Any) -> int:
    """So many tokens of context the model was made for, or stretched to by YaRN."""
    text = config.get_text_config()
    made_for = getattr(text, "max_position_embeddings", None) or FALLBACK_CONTEXT_TOKENS
    rotation = getattr(text, "rope_parameters", None) or {}
    first, factor = rotation.get("original_max_position_embeddings"), rotation.get("factor")
    if rotation.get("rope_type") == YARN and first and factor:
        return max(made_for, int(first * factor))
    return int(made_for)


def read_tokenizer(directory: str) -> Any:
    """
    Raises:
        UnsupportedModelError: there is no vocabulary, without which transformers makes a tokenizer that knows no text; or it
            has a form that is not read here.
        OSError, ValueError: from transformers, for files that are missing or wrong.
    """
    place = Path(directory)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    except Exception as error:  # its older forms need packages of all kinds
        if (place / "tokenizer.json").exists():
            raise
        raise UnsupportedModelError(
            f"{directory}: there is no tokenizer.json, and of nothing else a tokenizer: {error}"
        ) from error
    names = TOKENIZER_FILES | set(tokenizer.vocab_files_names.values())
    if not any((place / name).exists() for name in names):
        raise UnsupportedModelError(
            f"{directory}: there is none of {', '.join(sorted(names))}; copy the tokenizer's files of the model that this one "
            "was made of"
        )
    if tokenizer.chat_template is None and (place / TEMPLATE_FILE).exists():
        tokenizer.chat_template = json.loads((place / TEMPLATE_FILE).read_text())["chat_template"]
    return tokenizer


def read_network(directory: str, config: Any, **options: Any) -> Any:
    """``options``: further ones for ``from_pretrained``.

    Raises:
        UnsupportedModelError: it writes no text, or its files lack weights, or have some that are understood in part only.
        OSError, ValueError: from transformers, for files that are missing or wrong.
    """
    kind: Any
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        kind = AutoModelForCausalLM
    elif type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        kind = AutoModelForImageTextToText  # it writes text without an image as well
    else:
        raise UnsupportedModelError(f"models of the kind {config.model_type} do not write text")
    try:
        network, told = kind.from_pretrained(
            directory, config=config, use_safetensors=True, output_loading_info=True, **options
        )
    except ImportError as error:
        method = (getattr(config, "quantization_config", None) or {}).get("quant_method")
        if method is None:
            raise
        raise UnsupportedModelError(
            f"{config.model_type}: weights that are quantised as {method} are not served; vLLM does: {error}"
        ) from error
    name = type(network).__name__
    if missing := sorted(told["missing_keys"]):
        raise UnsupportedModelError(
            f"{name}: the files lack {len(missing)} of its weights, such as {missing[0]}; they are incomplete, or of a "
            "model for something else"
        )
    if scales := sorted(key for key in told["unexpected_keys"] if _QUANTISED.search(key)):
        raise UnsupportedModelError(
            f"{name}: its weights are quantised in a way that transformers does not know: {scales[0]} would be left aside"
        )
    return network
