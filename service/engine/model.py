"""A causal language model of transformers, and one sequence in it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import xgrammar
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, DynamicCache, GenerationConfig

from service.engine.request import Grammar, GrammarError
from service.settings import Settings

# Where a model does not say how long a text it was made for: what the oldest ones were.
FALLBACK_CONTEXT_TOKENS = 2048


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """Weights, tokenizer and limits."""

    network: Any  # a PreTrainedModel of whatever architecture the files name
    tokenizer: Any
    device: torch.device
    context_tokens: int
    end_tokens: frozenset[int]

    @classmethod
    def load(cls, settings: Settings, progress: Callable[[str], None]) -> "LanguageModel":
        """Loads what the settings name, from a directory or the hub; safetensors weights only, and no code of the model's own.

        Raises:
            OSError, ValueError: from transformers, for files that are missing or wrong, and here for a GPU that is not there.
        """
        device = _device(settings.device)
        source = settings.model
        revision = (
            {} if Path(source).is_dir() or settings.model_revision is None else {"revision": settings.model_revision}
        )
        progress("reading tokenizer and configuration")
        tokenizer = AutoTokenizer.from_pretrained(source, **revision)
        config = AutoConfig.from_pretrained(source, **revision)
        progress("loading weights")
        network: Any = AutoModelForCausalLM.from_pretrained(
            source, config=config, dtype=settings.dtype, use_safetensors=True, **revision
        )
        network = network.eval().to(device)
        made_for = getattr(config.get_text_config(), "max_position_embeddings", None) or FALLBACK_CONTEXT_TOKENS
        if settings.max_model_len is not None and settings.max_model_len > made_for:
            raise ValueError(
                f"MAX_MODEL_LEN={settings.max_model_len}: the model was made for at most {made_for} tokens"
            )
        model = cls(
            network=network,
            tokenizer=tokenizer,
            device=device,
            context_tokens=settings.max_model_len or made_for,
            end_tokens=_end_tokens(network.generation_config, tokenizer),
        )
        progress("warming up")
        model.sequence().feed([0, 0])
        return model

    @property
    def vocabulary_size(self) -> int:
        size: int = self.network.get_input_embeddings().num_embeddings
        return size

    @property
    def chat_template(self) -> str | None:
        template: str | None = self.tokenizer.chat_template
        return template

    @property
    def model_type(self) -> str:
        kind: str = self.network.config.model_type
        return kind

    @property
    def sampling_defaults(self) -> dict[str, float]:
        return {}

    @cached_property
    def _compiler(self) -> Any:
        return xgrammar.GrammarCompiler(
            xgrammar.TokenizerInfo.from_huggingface(self.tokenizer, vocab_size=self.vocabulary_size)
        )

    def matcher(self, grammar: Grammar | None) -> "Matcher | None":
        if grammar is None:
            return None
        try:
            match grammar.kind:
                case "json_object":
                    compiled = self._compiler.compile_json_schema('{"type": "object"}', any_whitespace=False)
                case "json_schema":
                    compiled = self._compiler.compile_json_schema(grammar.definition, any_whitespace=False)
                case "regex":
                    compiled = self._compiler.compile_regex(grammar.definition)
                case "choice":
                    options = " | ".join(json.dumps(choice) for choice in json.loads(grammar.definition))
                    compiled = self._compiler.compile_grammar(f"root ::= {options}")
        except RuntimeError as error:
            raise GrammarError(str(error)) from None
        return Matcher(compiled, self.vocabulary_size)

    def sequence(self) -> "Sequence":
        return Sequence(self)


class Matcher:
    """Where an answer is in its grammar."""

    def __init__(self, compiled: Any, vocabulary: int) -> None:
        self._matcher = xgrammar.GrammarMatcher(compiled)
        self._mask = xgrammar.allocate_token_bitmask(1, vocabulary)

    def mask(self, scores: torch.Tensor) -> None:
        self._matcher.fill_next_token_bitmask(self._mask)
        xgrammar.apply_token_bitmask_inplace(scores.unsqueeze(0), self._mask)

    def accept(self, token: int) -> None:
        self._matcher.accept_token(token)


class Sequence:
    """One text in the model: its keys and values, and the scores of what comes next."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._cache = DynamicCache(config=model.network.config)

    @torch.inference_mode()
    def feed(self, tokens: list[int]) -> torch.Tensor:
        """Appends tokens; returns the scores of the next one (one number per token of the vocabulary)."""
        ids = torch.tensor([tokens], device=self._model.device)
        result = self._model.network(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        scores: torch.Tensor = result.logits[0, -1]
        return scores


def _device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("DEVICE=cuda: no GPU is visible to this process; check the driver and the pod's GPU request")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def _end_tokens(generation: GenerationConfig, tokenizer: Any) -> frozenset[int]:
    named = generation.eos_token_id
    ends = named if isinstance(named, list) else [named]
    return frozenset(token for token in (*ends, tokenizer.eos_token_id) if token is not None)
