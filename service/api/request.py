"""The fields that both kinds of completion requests have, and what this server refuses rather than ignores."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_STOPS = 16
# OpenAI's own bounds.
MAX_TEMPERATURE = 2.0
SEED_LIMIT = 2**63

Stop = Annotated[str, Field(min_length=1)]

# Fields that change the answer and are not served yet, with the values that ask for nothing.
UNSERVED: dict[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "functions": ([],),
}


class StreamOptions(BaseModel):
    include_usage: bool = False


class GenerationOptions(BaseModel):
    """Unknown fields are accepted, as OpenAI's clients of other versions send them."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    temperature: float = Field(default=1.0, ge=0, le=MAX_TEMPERATURE)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    seed: int | None = Field(default=None, ge=-SEED_LIMIT, lt=SEED_LIMIT)
    stream: bool = False
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults_and_refusals(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        present = {name: value for name, value in given.items() if value is not None}  # null means "not set"
        for name, harmless in UNSERVED.items():
            if name in present and present[name] not in harmless:
                raise ValueError(f"{name}={present[name]!r} is not served; leave it out")
        return present

    @property
    def token_limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def usage_wanted(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage
