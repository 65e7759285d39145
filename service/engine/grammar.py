"""What an answer must be: grammars over text, enforced on the scores of tokens by llguidance."""

import json
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from transformers import PreTrainedTokenizerFast

from service.engine import transfer
from service.engine.request import Grammar, GrammarError

# Between the parts of JSON: enough for indented text, too little for a model that would fill its answer with blanks.
JSON_WHITESPACE = r"[\x20\x0A\x0D\x09]{0,20}"
# Formats of texts that llguidance enforces. A format is an annotation, as JSON Schema has it: others change nothing.
FORMATS = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "unknown", "uri", "uuid"}
)
# Keys of a schema whose values are none.
_VALUES = frozenset({"const", "default", "enum", "examples"})
QUIET = 0  # llguidance's log level: what it would print is about a client's request


class Grammars:
    """Compiles grammars for one tokenizer. Thread-safe; no torch below :class:`Matcher`."""

    def __init__(self, tokenizer: Any, end_tokens: frozenset[int]) -> None:
        """``tokenizer``: of transformers; only those of its fast kind can be used."""
        self._tokenizer: LLTokenizer | None = None
        # What the tokenizer does not know, no grammar can end with.
        ends = sorted(token for token in end_tokens if token < len(tokenizer))
        if isinstance(tokenizer, PreTrainedTokenizerFast) and ends:
            self._tokenizer = from_tokenizer(tokenizer, eos_token=ends)

    def compile(self, grammar: Grammar) -> "Matcher":
        """A matcher at the grammar's beginning, in some milliseconds.

        Raises:
            GrammarError: it is not valid, or too large, or this model's tokenizer cannot be constrained.
        """
        if self._tokenizer is None:
            raise GrammarError("this model's tokenizer does not support structured output")
        matcher = LLMatcher(self._tokenizer, _source(grammar), log_level=QUIET)
        if matcher.is_error():
            raise GrammarError(" ".join(matcher.get_error().split()))
        return Matcher(matcher)


class Matcher:
    """Where one answer is in its grammar."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    @property
    def complete(self) -> bool:
        """Nothing can follow."""
        return self._matcher.is_stopped()

    def constrain(self, scores: torch.Tensor) -> None:
        """Sets the scores (one number per token) of all tokens that cannot come next to -inf, in place.

        Raises:
            GrammarError: nothing can come next, or the grammar has become too complex.
        """
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        allowed = torch.from_numpy(np.unpackbits(mask, count=min(mask.size * 8, scores.numel()), bitorder="little"))
        forbidden = transfer.send(allowed == 0, scores.device)
        scores[: allowed.numel()].masked_fill_(forbidden, float("-inf"))
        scores[allowed.numel() :] = float("-inf")  # places of the model's table that are no token

    def accept(self, token: int) -> None:
        """The token has come.

        Raises:
            GrammarError: it does not belong there.
        """
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise GrammarError("the answer cannot go on within its grammar")


def _source(grammar: Grammar) -> str:
    match grammar.kind:
        case "json_object":
            return _json({"type": "object"})
        case "json_schema":
            return _json(_parsed(grammar.definition), lenient=grammar.lenient)
        case "regex":
            return LLMatcher.grammar_from_regex(grammar.definition)
        case "choice":
            choices = _parsed(grammar.definition)
            if not isinstance(choices, list) or not choices or not all(isinstance(choice, str) for choice in choices):
                raise GrammarError("choices are a list of at least one text")
            return LLMatcher.grammar_from_lark("start: " + " | ".join(json.dumps(choice) for choice in choices))


def _json(schema: Any, *, lenient: bool = False) -> str:
    if not isinstance(schema, dict):
        raise GrammarError("a JSON schema is an object")
    try:
        return LLMatcher.grammar_from_json_schema(
            _enforceable(schema), overrides={"whitespace_pattern": JSON_WHITESPACE, "lenient": lenient}
        )
    except (ValueError, OverflowError, RecursionError) as error:  # a number beyond 64 bits
        raise GrammarError(str(error)) from None


def _enforceable(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_enforceable(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: part if key in _VALUES else _enforceable(part)
        for key, part in schema.items()
        if key != "format" or not isinstance(part, str) or part in FORMATS
    }


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"not JSON: {error}") from None
