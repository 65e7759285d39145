"""`POST /v1/completions`: a prompt as text or tokens, or several."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.api import errors, wire
from service.api.body import Whole
from service.api.exchange import Exchange, pieces
from service.api.options import GenerationOptions, Token, at_most, check_tokens
from service.api.probabilities import TokenTexts, of_completion, of_prompt
from service.engine.model import LanguageModel
from service.engine.request import Generation, Piece, TokenLogprob

DEFAULT_TOKENS = 16  # OpenAI's own for this endpoint


class CompletionRequest(GenerationOptions):
    prompt: str | list[Token] | list[str] | list[list[Token]] = Field(min_length=1)
    max_tokens: Whole | None = Field(default=None, ge=0)
    echo: bool | None = None
    logprobs: Whole | None = Field(default=None, ge=0)

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """All of them, in one form."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return self.prompt


async def completions(request: Request) -> Response:
    exchange = Exchange(request)
    body = await exchange.read(CompletionRequest)
    model = exchange.model(body.model)
    body.check(exchange.settings, model.vocabulary)
    at_most("logprobs", body.logprobs or 0, exchange.settings.max_top_logprobs)
    at_most("prompt", len(body.prompts), exchange.settings.max_prompts)
    if body.token_limit == 0 and not body.echo:
        raise errors.invalid("max_tokens", "0 is only allowed with echo=true: nothing would be answered")
    max_tokens = DEFAULT_TOKENS if body.token_limit is None else body.token_limit
    room = model.context_tokens - max_tokens
    prompts = [await _prompt(exchange, model, given, body, room) for given in body.prompts]
    structure = body.structure()
    wanted = [most for most in (body.prompt_logprobs, body.logprobs if body.echo else None) if most is not None]
    sampling = body.sampling(
        max_tokens=max_tokens,
        top_logprobs=body.logprobs,
        prompt_logprobs=max(wanted, default=None),
        structure=structure,
        defaults=exchange.context.defaults,
        vocabulary=model.vocabulary,
    )
    answers = [
        _Answer(body, echo, tokens[:1] if body.echo else []) for tokens, echo in prompts for _ in range(body.answers)
    ]
    generations = exchange.submit([tokens for tokens, _ in prompts], sampling, body.answers, "prompt", structure)
    if body.stream:
        head = wire.envelope("cmpl", "text_completion", exchange.settings.name)
        chunks = wire.Chunks(head, usage_wanted=body.usage_wanted)
        return exchange.stream(_events(generations, answers, chunks, body, exchange.context.texts), generations)
    await exchange.whole(_collect(generations, answers), generations)
    return JSONResponse({
        **wire.envelope("cmpl", "text_completion", exchange.settings.name),
        "choices": [answer.choice(place, exchange.context.texts) for place, answer in enumerate(answers)],
        "usage": wire.usage(generations, body.answers),
    })  # fmt: skip


routes = [Route("/v1/completions", completions, methods=["POST"])]


async def _prompt(
    exchange: Exchange, model: LanguageModel, given: str | list[int], body: CompletionRequest, room: int
) -> tuple[list[int], str]:
    """A prompt's tokens, of which ``room`` fit beside the answer, and its text where that is echoed."""
    if isinstance(given, str):
        whole = await exchange.tokens(given, "prompt", special=body.add_special_tokens is not False)
    else:
        check_tokens("prompt", given, model.vocabulary)
        whole = given
    kept = body.truncated(whole, room)
    if not body.echo:
        return kept, ""
    return kept, given if isinstance(given, str) and kept == whole else model.tokenizer.decode(kept)


_NOTHING = Piece("")


@dataclass
class _Answer:
    """One choice in the making; its text begins with the echo of the prompt."""

    body: CompletionRequest
    echo: str
    first: list[int]  # the prompt's first token, of whose probability nothing is known, if it is echoed
    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    last: Piece = _NOTHING
    told: int = 0  # characters of the tokens whose probabilities were told

    def add(self, piece: Piece) -> str:
        """Returns the text that the piece adds, that of the echo before the first one's."""
        text, self.echo = self.echo + piece.text, ""
        self.texts.append(text)
        self.prompt_logprobs += piece.prompt_logprobs
        self.logprobs += (*piece.prompt_logprobs, *piece.logprobs) if self.body.echo else piece.logprobs
        self.last = piece
        return text

    def choice(self, index: int, texts: TokenTexts) -> dict[str, Any]:
        choice = {
            "index": index,
            "text": "".join(self.texts),
            "logprobs": self.probabilities(texts),
            "finish_reason": self.last.finish_reason,
            "stop_reason": self.last.stop_reason,
        }
        if self.body.prompt_logprobs is not None:
            choice["prompt_logprobs"] = of_prompt(self.prompt_logprobs, texts, self.body.prompt_logprobs)
        return choice

    def probabilities(self, texts: TokenTexts) -> dict[str, list[Any]] | None:
        """Those that were not told before."""
        if self.body.logprobs is None or not (self.first or self.logprobs):
            return None
        entry = of_completion(self.logprobs, texts, self.body.logprobs, first=self.first, offset=self.told)
        self.told += sum(map(len, entry["tokens"]))
        self.logprobs, self.first = [], []
        return entry


async def _collect(generations: Sequence[Generation], answers: Sequence[_Answer]) -> None:
    async for place, piece in pieces(generations):
        answers[place].add(piece)


async def _events(
    generations: Sequence[Generation],
    answers: Sequence[_Answer],
    chunks: wire.Chunks,
    body: CompletionRequest,
    texts: TokenTexts,
) -> AsyncGenerator[bytes, None]:
    async for place, piece in pieces(generations):
        answer = answers[place]
        text = answer.add(piece)
        if not text and piece.finish_reason is None:
            continue
        probabilities = wire.encode(answer.probabilities(texts))
        reasons = f'"finish_reason":{wire.encode(piece.finish_reason)},"stop_reason":{wire.encode(piece.stop_reason)}'
        choice = f'{{"index":{place},"text":{wire.encode(text)},"logprobs":{probabilities},{reasons}}}'
        if body.usage_wanted_always:
            yield chunks.measured(choice, wire.usage(generations, body.answers))
        else:
            yield chunks.chunk(choice)
    if body.usage_wanted:
        yield chunks.total(wire.usage(generations, body.answers))
    yield wire.DONE
