"""`POST /v1/chat/completions`."""

from collections.abc import AsyncIterator
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from service.api import errors, wire
from service.api.context import ApiContext, while_connected, whole
from service.api.request import GenerationOptions
from service.engine.model import LanguageModel
from service.engine.request import Generation

routes = APIRouter()


class TextPart(BaseModel):
    type: Literal["text"]
    text: str


class Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None

    def templated(self) -> dict[str, str]:
        """As chat templates want it: plain text, and roles that they know."""
        content = "".join(part.text for part in self.content) if isinstance(self.content, list) else self.content or ""
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class ChatRequest(GenerationOptions):
    messages: list[Message] = Field(min_length=1)


@routes.post("/v1/chat/completions")
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    context = ApiContext.of(request)
    prompt = _prompt(context.model(body.model), body.messages)
    generation = context.submit(prompt, body, default_tokens=None)
    name = context.settings.name
    listening = context.listening([generation])
    if body.stream:
        head = wire.envelope("chatcmpl", "chat.completion.chunk", name)
        return wire.EventStream(_chunks(generation, head, body.usage_wanted), listening)
    with listening:
        text, last = await while_connected(request, whole(generation))
    return JSONResponse({
        **wire.envelope("chatcmpl", "chat.completion", name),
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": last.finish_reason,
        }],
        "usage": wire.usage(len(prompt), generation.completion_tokens),
    })  # fmt: skip


def _prompt(model: LanguageModel, messages: list[Message]) -> list[int]:
    if not model.tokenizer.chat_template:
        raise errors.ApiError(400, "This model has no chat template; use /v1/completions.", param="messages")
    try:
        text = model.tokenizer.apply_chat_template(
            [message.templated() for message in messages], tokenize=False, add_generation_prompt=True
        )
    except Exception as error:  # what a model's own template raises is of any type
        raise errors.ApiError(
            400, f"The model's chat template refuses these messages: {error}", param="messages"
        ) from None
    ids: list[int] = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


async def _chunks(generation: Generation, head: dict[str, Any], usage_wanted: bool) -> AsyncIterator[bytes]:
    def chunk(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return wire.event({**head, "choices": [choice], **({"usage": None} if usage_wanted else {})})

    yield chunk({"role": "assistant", "content": ""})
    async for piece in generation:
        if piece.finish_reason in ("error", "abort"):
            yield wire.event(errors.error_body(piece.error, "server_error", code="generation_failed"))
            return
        if piece.text:
            yield chunk({"content": piece.text})
        if piece.finish_reason is not None:
            yield chunk({}, piece.finish_reason)
    if usage_wanted:
        yield wire.event(
            {**head, "choices": [], "usage": wire.usage(len(generation.prompt), generation.completion_tokens)}
        )
    yield wire.DONE
