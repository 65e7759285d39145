"""How an answer is made: the fields that chat completions and completions share, OpenAI's and vLLM's."""

import logging
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from service.api import errors, wire
from service.api.body import Body, JsonObject, Whole
from service.engine.request import Grammar, Sampling
from service.settings import Settings

log = logging.getLogger(__name__)

# OpenAI's own bounds.
MAX_TEMPERATURE = 2.0
MAX_PENALTY = 2.0
MAX_BIAS = 100.0
SEED_LIMIT = 2**63
# Below it scores divided by it overflow, and the most likely token has all of the probability anyway.
LEAST_TEMPERATURE = 0.01
# Beyond them scores multiplied or divided by it overflow.
LEAST_REPETITION_PENALTY, MAX_REPETITION_PENALTY = 0.01, 10.0
# Every token of an answer is looked at for them.
MAX_STOP_CHARACTERS = 1024
MAX_BIASES = 1024
MAX_CHOICES = 1024

# Of `truncate_prompt_tokens`: as many as the context holds beside the answer.
KEEP_ALL = -1

Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
Token = Annotated[int, Field(ge=0)]
Penalty = Annotated[float, Field(ge=-MAX_PENALTY, le=MAX_PENALTY)]

# Fields for which a model may bring values of its own.
DEFAULTED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")

# Fields that would change the answer and are not served, with the values that ask for nothing.
UNSERVED: Mapping[str, tuple[object, ...]] = {
    "functions": ([],),
    "function_call": ("none", "auto"),
    "suffix": ("",),
    "audio": (),
    "modalities": (["text"],),
    "web_search_options": (),
    "guided_grammar": (),
    "structural_tag": (),
    "use_beam_search": (False,),
    "bad_words": ([],),
    "allowed_token_ids": ([],),
    "logits_processors": ([],),
    "chat_template": (),
    "documents": ([],),
    "prompt_embeds": (),
    "echo": (False,),  # of a chat; completions have it
    "include_reasoning": (True,),
    "thinking_token_budget": (-1,),
    "repetition_detection": (),
    "logprob_token_ids": (),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "return_prompt_text": (False,),
    "priority": (0,),
    "cache_salt": (),
    "kv_transfer_params": (),
    "vllm_xargs": ({},),
    "mm_processor_kwargs": ({},),
    "media_io_kwargs": ({},),
}


class StreamOptions(Body):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class JsonSchema(Body):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema_: JsonObject | None = Field(default=None, alias="schema")  # without it, any object
    strict: bool | None = None


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StructuredOutputs(Body):
    """vLLM's newer way to ask for what ``guided_json`` and its like ask for."""

    model_config = ConfigDict(extra="allow")  # only to see whether anything else was asked for

    json_: JsonObject | str | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: Annotated[list[str], Field(min_length=1, max_length=MAX_CHOICES)] | None = None
    json_object: bool | None = None


class GenerationOptions(Body):
    model_config = ConfigDict(extra="allow")  # only to see whether what is not served was asked for

    model: str | None = None
    n: Whole | None = Field(default=None, ge=1)
    best_of: Whole | None = Field(default=None, ge=1)
    max_tokens: Whole | None = Field(default=None, ge=1)
    max_completion_tokens: Whole | None = Field(default=None, ge=1)
    min_tokens: Whole | None = Field(default=None, ge=0)
    prompt_logprobs: Whole | None = Field(default=None, ge=0)
    temperature: float | None = Field(default=None, ge=0, le=MAX_TEMPERATURE)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: Whole | None = Field(default=None, ge=-1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: float | None = Field(default=None, ge=LEAST_REPETITION_PENALTY, le=MAX_REPETITION_PENALTY)
    logit_bias: (
        Annotated[
            dict[Token, Annotated[float, Field(ge=-MAX_BIAS, le=MAX_BIAS)]],
            Field(max_length=MAX_BIASES),
        ]
        | None
    ) = None
    seed: Whole | None = Field(default=None, ge=-SEED_LIMIT, lt=SEED_LIMIT)
    stop: Stop | list[Stop] | None = None
    stop_token_ids: list[Token] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    add_special_tokens: bool | None = None
    truncate_prompt_tokens: Whole | None = Field(default=None, ge=KEEP_ALL)
    truncation_side: Literal["left", "right"] | None = None
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    guided_json: JsonObject | str | None = None
    guided_regex: str | None = None
    guided_choice: Annotated[list[str], Field(min_length=1, max_length=MAX_CHOICES)] | None = None
    structured_outputs: StructuredOutputs | None = None

    @property
    def answers(self) -> int:
        """How many per prompt."""
        return self.n or 1

    @property
    def token_limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def usage_wanted(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def usage_wanted_always(self) -> bool:
        return bool(self.stream_options and self.stream_options.continuous_usage_stats)

    def check(self, settings: Settings, vocabulary: int) -> None:
        """What depends on the server.

        Raises:
            errors.ApiError: names the first field with a value that this server does not take.
        """
        for name, value in (self.model_extra or {}).items():
            if value is not None and name in UNSERVED and value not in UNSERVED[name]:
                raise errors.invalid(name, "is not served by this server; leave it out")
        if self.best_of is not None and self.best_of != self.answers:
            raise errors.invalid("best_of", f"{self.best_of} answers of which n={self.answers} are told is not served")
        for name, value in ((self.structured_outputs and self.structured_outputs.model_extra) or {}).items():
            if value not in (None, False):
                raise errors.invalid(f"structured_outputs.{name}", "is not served by this server; leave it out")
        if self.stream_options is not None and self.stream_options.model_fields_set and not self.stream:
            raise errors.invalid("stream_options", "is only allowed with stream=true")
        if self.prompt_logprobs is not None and self.stream:
            raise errors.invalid("prompt_logprobs", "is not served with stream=true")
        if self.spaces_between_special_tokens is False and self.skip_special_tokens is False:
            raise errors.invalid("spaces_between_special_tokens", "false is only served with skip_special_tokens=true")
        at_most("prompt_logprobs", self.prompt_logprobs or 0, settings.max_top_logprobs)
        at_most("n", self.answers, settings.max_n)
        at_most("stop", len(self.stops), settings.max_stops)
        at_most("stop_token_ids", len(self.stop_token_ids or ()), settings.max_stops)
        if self.token_limit is not None and (self.min_tokens or 0) > self.token_limit:
            raise errors.invalid("min_tokens", f"{self.min_tokens} is more than max_tokens, {self.token_limit}")
        for name, tokens in (("logit_bias", self.logit_bias), ("stop_token_ids", self.stop_token_ids)):
            check_tokens(name, tokens or (), vocabulary)

    def truncated(self, prompt: list[int], room: int) -> list[int]:
        """The part of a prompt's tokens that is wanted, where ``room`` of them fit beside the answer.

        Raises:
            errors.ApiError: more are wanted than fit.
        """
        wanted, room = self.truncate_prompt_tokens, max(room, 1)
        if wanted is None:
            return prompt
        if wanted > room:
            raise errors.invalid("truncate_prompt_tokens", f"{wanted} is more than fit beside the answer, {room}")
        count = room if wanted == KEEP_ALL else wanted
        return prompt[:count] if self.truncation_side == "right" else prompt[max(len(prompt) - count, 0) :]

    def sampling(
        self,
        *,
        max_tokens: int,
        top_logprobs: int | None,
        prompt_logprobs: int | None,
        structure: tuple[str, Grammar] | None,
        defaults: Mapping[str, float],
        vocabulary: int,
    ) -> Sampling:
        """``defaults`` are the model's own, of the fields that the client leaves open."""

        def chosen(name: str, otherwise: float) -> float:
            value: float | None = getattr(self, name)
            return value if value is not None else defaults.get(name, otherwise)

        temperature, top_k = chosen("temperature", 1.0), int(chosen("top_k", 0))
        return Sampling(
            max_tokens=max_tokens,
            min_tokens=self.min_tokens or 0,
            temperature=max(temperature, LEAST_TEMPERATURE) if temperature > 0 else 0.0,
            top_p=chosen("top_p", 1.0),
            top_k=top_k if 0 < top_k < vocabulary else 0,
            min_p=chosen("min_p", 0.0),
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            repetition_penalty=chosen("repetition_penalty", 1.0),
            logit_bias=self.logit_bias or {},
            seed=self.seed,
            stop=self.stops,
            stop_token_ids=frozenset(self.stop_token_ids or ()),
            include_stop=bool(self.include_stop_str_in_output),
            skip_special_tokens=self.skip_special_tokens is not False,
            ignore_eos=bool(self.ignore_eos),
            top_logprobs=top_logprobs,
            prompt_logprobs=prompt_logprobs,
            grammar=structure[1] if structure else None,
        )

    def structure(self) -> tuple[str, Grammar] | None:
        """What the answer must be, after the name of the one field that says so.

        Raises:
            errors.ApiError: more than one says so, or the one is incomplete.
        """
        outputs = self.structured_outputs or StructuredOutputs()
        asked = {
            "response_format": self._format_grammar(),
            "guided_json": _schema(self.guided_json),
            "guided_regex": _regex(self.guided_regex),
            "guided_choice": _choice(self.guided_choice),
            "structured_outputs.json": _schema(outputs.json_),
            "structured_outputs.regex": _regex(outputs.regex),
            "structured_outputs.choice": _choice(outputs.choice),
            "structured_outputs.json_object": Grammar(kind="json_object") if outputs.json_object else None,
        }
        given = {name: grammar for name, grammar in asked.items() if grammar is not None}
        if len(given) > 1:
            first, second, *_ = given
            raise errors.invalid(second, f"an answer cannot follow this and {first}; send one of them")
        return next(iter(given.items()), None)

    def _format_grammar(self) -> Grammar | None:
        wanted = self.response_format
        if wanted is None or wanted.type == "text":
            return None
        if wanted.type == "json_object":
            return Grammar(kind="json_object")
        if wanted.json_schema is None:
            raise errors.invalid("response_format.json_schema", "is required with type json_schema")
        if wanted.json_schema.schema_ is None:
            return Grammar(kind="json_object")
        return _schema(wanted.json_schema.schema_, lenient=wanted.json_schema.strict is not True)


def model_defaults(generation: Any) -> dict[str, float]:
    """What a model's own `generation_config.json` sets of the fields that clients may leave open, and may send."""
    own: Mapping[str, Any] = generation.to_diff_dict()
    defaults = {name: own[name] for name in DEFAULTED if isinstance(own.get(name), int | float)}
    for name, value in tuple(defaults.items()):
        try:
            GenerationOptions.model_validate({name: value})
        except ValidationError:
            log.warning("the model's own %s is %s, which no request may send: it is left aside", name, value)
            del defaults[name]
    return defaults


def at_most(name: str, value: int, most: int) -> None:
    if value > most:
        raise errors.invalid(name, f"{value} is more than this server takes, {most}")


def check_tokens(name: str, tokens: Iterable[int], vocabulary: int) -> None:
    if (largest := max(tokens, default=0)) >= vocabulary:
        raise errors.invalid(name, f"token {largest} is not in the vocabulary of {vocabulary} tokens")


def _schema(schema: JsonObject | str | None, *, lenient: bool = False) -> Grammar | None:
    if schema is None:
        return None
    definition = schema if isinstance(schema, str) else wire.encode(schema)
    return Grammar(kind="json_schema", definition=definition, lenient=lenient)


def _regex(expression: str | None) -> Grammar | None:
    return None if expression is None else Grammar(kind="regex", definition=expression)


def _choice(choices: list[str] | None) -> Grammar | None:
    return None if choices is None else Grammar(kind="choice", definition=wire.encode(choices))
