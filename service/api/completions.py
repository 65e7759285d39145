"""`POST /v1/completions`: a prompt as text or tokens, or several."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.api import errors, wire
from service.api.exchange import Exchange, pieces
from service.api.options import GenerationOptions, Token, at_most, check_tokens
from service.api.probabilities import TokenTexts, of_completion
from service.engine.model import LanguageModel
from service.engine.request import Generation, Piece, TokenLogprob

DEFAULT_TOKENS = 16  # OpenAI's own for this endpoint


class CompletionRequest(GenerationOptions):
    prompt: str | list[Token] | list[str] | list[list[Token]] = Field(min_length=1)
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0)
    add_special_tokens: bool | None = None

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
    if body.echo and body.logprobs is not None:
        raise errors.invalid("echo", "together with logprobs is not served: there are no probabilities of a prompt")
    special = body.add_special_tokens is not False
    prompts = [await _tokens(exchange, model, prompt, special) for prompt in body.prompts]
    structure = body.structure()
    sampling = body.sampling(
        max_tokens=body.token_limit or DEFAULT_TOKENS,
        top_logprobs=body.logprobs,
        structure=structure,
        defaults=exchange.context.defaults,
    )
    echoes = [_text(model, prompt) if body.echo else "" for prompt in body.prompts]
    answers = [_Answer(echo) for echo in echoes for _ in range(body.answers)]
    generations = exchange.submit(prompts, sampling, body.answers, "prompt", structure)
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


async def _tokens(exchange: Exchange, model: LanguageModel, prompt: str | list[int], special: bool) -> list[int]:
    if isinstance(prompt, str):
        return await exchange.tokens(prompt, special=special)
    check_tokens("prompt", prompt, model.vocabulary)
    return prompt


def _text(model: LanguageModel, prompt: str | list[int]) -> str:
    if isinstance(prompt, str):
        return prompt
    text: str = model.tokenizer.decode(prompt)
    return text


_NOTHING = Piece("")


@dataclass
class _Answer:
    """One choice in the making; its text begins with the echo of the prompt."""

    echo: str
    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    last: Piece = _NOTHING
    told: int = 0  # characters of the tokens whose probabilities were told

    def add(self, piece: Piece) -> None:
        self.texts.append(piece.text)
        self.logprobs += piece.logprobs
        self.last = piece

    def choice(self, index: int, texts: TokenTexts) -> dict[str, Any]:
        return {
            "index": index,
            "text": self.echo + "".join(self.texts),
            "logprobs": self.probabilities(texts),
            "finish_reason": self.last.finish_reason,
            "stop_reason": self.last.stop_reason,
        }

    def probabilities(self, texts: TokenTexts) -> dict[str, list[Any]] | None:
        """Those that were not told before."""
        if not self.logprobs:
            return None
        entry = of_completion(self.logprobs, texts, self.told)
        self.told += sum(map(len, entry["tokens"]))
        self.logprobs.clear()
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
        text, answer.echo = answer.echo + piece.text, ""
        answer.logprobs += piece.logprobs
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
