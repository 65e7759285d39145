"""`POST /v1/completions`: a prompt as text or tokens, or several."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, cast

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from service.api import errors, wire
from service.api.context import ApiContext, while_connected, whole
from service.api.request import GenerationOptions
from service.engine.model import LanguageModel
from service.engine.request import Generation, Piece

routes = APIRouter()

DEFAULT_TOKENS = 16  # OpenAI's own for this endpoint
MAX_PROMPTS = 128

Token = Annotated[int, Field(ge=0)]
Prompt = str | list[Token]


class CompletionRequest(GenerationOptions):
    prompt: Prompt | Annotated[list[Prompt], Field(min_length=1, max_length=MAX_PROMPTS)]


@routes.post("/v1/completions")
async def completions(body: CompletionRequest, request: Request) -> Response:
    context = ApiContext.of(request)
    prompts = _prompts(context.model(body.model), body.prompt)
    generations = _submit(context, prompts, body)
    head = wire.envelope("cmpl", "text_completion", context.settings.name)
    listening = context.listening(generations)
    if body.stream:
        return wire.EventStream(_chunks(generations, head, body.usage_wanted), listening)
    with listening:
        answers = await while_connected(request, _all(generations))
    choices = [
        {"index": index, "text": text, "logprobs": None, "finish_reason": last.finish_reason}
        for index, (text, last) in enumerate(answers)
    ]
    used = wire.usage(sum(map(len, prompts)), sum(generation.completion_tokens for generation in generations))
    return JSONResponse({**head, "choices": choices, "usage": used})


def _prompts(model: LanguageModel, given: Prompt | list[Prompt]) -> list[list[int]]:
    one_prompt = isinstance(given, str) or not given or isinstance(given[0], int)
    several = cast(list[Prompt], [given] if one_prompt else given)
    vocabulary = model.vocabulary
    prompts: list[list[int]] = [model.tokenizer(one)["input_ids"] if isinstance(one, str) else one for one in several]
    if too_big := [token for prompt in prompts for token in prompt if token >= vocabulary]:
        raise errors.ApiError(
            400, f"Token {too_big[0]} is not in the vocabulary of {vocabulary} tokens.", param="prompt"
        )
    return prompts


def _submit(context: ApiContext, prompts: list[list[int]], body: CompletionRequest) -> list[Generation]:
    """All of the prompts or none."""
    settings = context.settings
    room = settings.max_running_requests + settings.max_waiting_requests
    if len(prompts) > room:
        raise errors.ApiError(
            400, f"{len(prompts)} prompts are more than this server takes at once, {room}.", param="prompt"
        )
    generations: list[Generation] = []
    try:
        generations.extend(context.submit(prompt, body, DEFAULT_TOKENS) for prompt in prompts)
    except errors.ApiError:
        for generation in generations:
            generation.cancel()
        raise
    return generations


async def _all(generations: list[Generation]) -> list[tuple[str, Piece]]:
    tasks = [asyncio.ensure_future(whole(generation)) for generation in generations]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _chunks(generations: list[Generation], head: dict[str, Any], usage_wanted: bool) -> AsyncIterator[bytes]:
    tokens = 0
    for index, generation in enumerate(generations):
        async for piece in generation:
            if piece.finish_reason in ("error", "abort"):
                yield wire.event(errors.error_body(piece.error, "server_error", code="generation_failed"))
                return
            if piece.text or piece.finish_reason is not None:
                choice = {"index": index, "text": piece.text, "logprobs": None, "finish_reason": piece.finish_reason}
                yield wire.event({**head, "choices": [choice], **({"usage": None} if usage_wanted else {})})
        tokens += generation.completion_tokens
    if usage_wanted:
        prompt_tokens = sum(len(generation.prompt) for generation in generations)
        yield wire.event({**head, "choices": [], "usage": wire.usage(prompt_tokens, tokens)})
    yield wire.DONE
