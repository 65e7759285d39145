"""`POST /v1/chat/completions`."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.api import errors, tools, wire
from service.api.body import Whole
from service.api.delta import AnswerReader, Delta
from service.api.exchange import Exchange, pieces
from service.api.messages import Conversation
from service.api.options import GenerationOptions, at_most
from service.api.probabilities import TokenTexts, of_chat, of_prompt
from service.api.reader import reader, reads_special
from service.engine.request import Generation, Piece, TokenLogprob


class ChatRequest(Conversation, GenerationOptions):
    logprobs: bool | None = None
    top_logprobs: Whole | None = Field(default=None, ge=0)

    @property
    def alternatives(self) -> int | None:
        """How many to tell with each token; None if no probabilities are wanted."""
        return (self.top_logprobs or 0) if self.logprobs else None


async def chat_completions(request: Request) -> Response:
    exchange = Exchange(request)
    body = await exchange.read(ChatRequest)
    model = exchange.model(body.model)
    body.check(exchange.settings, model.vocabulary)
    if body.top_logprobs and not body.logprobs:
        raise errors.invalid("top_logprobs", "is only allowed with logprobs=true")
    at_most("top_logprobs", body.top_logprobs or 0, exchange.settings.max_top_logprobs)
    structure = tools.structure(body) or body.structure()
    text = body.rendered(model.tokenizer, in_parts=exchange.context.in_parts)
    # A chat template writes its special tokens itself.
    whole_prompt = await exchange.tokens(text, "messages", special=bool(body.add_special_tokens))
    prompt = body.truncated(whole_prompt, model.context_tokens - (body.token_limit or 1))
    sampling = body.sampling(
        max_tokens=body.token_limit or max(model.context_tokens - len(prompt), 1),
        top_logprobs=body.alternatives,
        prompt_logprobs=body.prompt_logprobs,
        structure=structure,
        defaults=exchange.context.defaults,
        vocabulary=model.vocabulary,
    )
    marks = exchange.context.special_marks
    if sampling.skip_special_tokens and reads_special(body, marks):
        sampling = replace(sampling, skip_special_tokens=False, hidden_tokens=marks.others)
    most_calls = 1 if body.parallel_tool_calls is False else None
    answers = [_Answer(reader(body, text, exchange.context.template), most_calls) for _ in range(body.answers)]
    generations = exchange.submit([prompt], sampling, body.answers, "messages", structure)
    if body.stream:
        head = wire.envelope("chatcmpl", "chat.completion.chunk", exchange.settings.name)
        chunks = wire.Chunks(head, usage_wanted=body.usage_wanted)
        return exchange.stream(_events(generations, answers, chunks, body, exchange.context.texts), generations)
    await exchange.whole(_collect(generations, answers), generations)
    whole = {
        **wire.envelope("chatcmpl", "chat.completion", exchange.settings.name),
        "choices": [answer.choice(place, exchange.context.texts) for place, answer in enumerate(answers)],
        "usage": wire.usage(generations, body.answers),
    }
    if body.prompt_logprobs is not None:
        whole["prompt_logprobs"] = of_prompt(answers[0].prompt_logprobs, exchange.context.texts, body.prompt_logprobs)
    return JSONResponse(whole)


routes = [Route("/v1/chat/completions", chat_completions, methods=["POST"])]


_NOTHING = Piece("")


@dataclass
class _Answer:
    """One choice in the making."""

    reader: AnswerReader
    most_calls: int | None = None  # further ones are not told
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    last: Piece = _NOTHING
    started: bool = False

    def read(self, piece: Piece) -> list[Delta]:
        """What the piece adds."""
        self.last = piece
        deltas = list(self.reader.add(piece.text))
        if piece.finish_reason is not None:
            deltas += self.reader.end()
        if self.most_calls is not None:
            return [delta for delta in deltas if delta.call is None or delta.call.index < self.most_calls]
        return deltas

    def add(self, delta: Delta) -> None:
        self.content.append(delta.content)
        self.reasoning.append(delta.reasoning)
        if delta.call is None:
            return
        if delta.call.name is not None:
            function = {"name": delta.call.name, "arguments": ""}
            self.calls.append({"id": delta.call.id, "type": "function", "function": function})
        self.calls[delta.call.index]["function"]["arguments"] += delta.call.arguments

    @property
    def finish_reason(self) -> str | None:
        return "tool_calls" if self.calls and self.last.finish_reason == "stop" else self.last.finish_reason

    def choice(self, index: int, texts: TokenTexts) -> dict[str, Any]:
        content, reasoning = "".join(self.content), "".join(self.reasoning)
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if self.calls:
            message |= {"content": content or None, "tool_calls": self.calls}
        if reasoning:
            message |= {"reasoning": reasoning, "reasoning_content": reasoning}
        wanted = self.logprobs and {"content": of_chat(self.logprobs, texts), "refusal": None}
        return {
            "index": index,
            "message": message,
            "logprobs": wanted or None,
            "finish_reason": self.finish_reason,
            "stop_reason": self.last.stop_reason,
        }


async def _collect(generations: Sequence[Generation], answers: Sequence[_Answer]) -> None:
    async for place, piece in pieces(generations):
        answers[place].logprobs += piece.logprobs
        answers[place].prompt_logprobs += piece.prompt_logprobs
        for delta in answers[place].read(piece):
            answers[place].add(delta)


async def _events(
    generations: Sequence[Generation],
    answers: Sequence[_Answer],
    chunks: wire.Chunks,
    body: ChatRequest,
    texts: TokenTexts,
) -> AsyncGenerator[bytes, None]:
    def event(choice: str) -> bytes:
        if body.usage_wanted_always:
            return chunks.measured(choice, wire.usage(generations, body.answers))
        return chunks.chunk(choice)

    async for place, piece in pieces(generations):
        answer = answers[place]
        if not answer.started:
            answer.started = True
            role = '{"role":"assistant","content":""}'
            yield event(f'{{"index":{place},"delta":{role},"logprobs":null,"finish_reason":null}}')
        answer.logprobs += piece.logprobs
        for delta in answer.read(piece):
            if delta.call is not None and delta.call.name is not None:
                answer.calls.append({})
            probabilities = _taken(answer, texts)
            yield event(f'{{"index":{place},"delta":{_delta(delta)},"logprobs":{probabilities},"finish_reason":null}}')
        if piece.finish_reason is not None:
            reasons = f'"finish_reason":"{answer.finish_reason}","stop_reason":{wire.encode(piece.stop_reason)}'
            yield event(f'{{"index":{place},"delta":{{}},"logprobs":{_taken(answer, texts)},{reasons}}}')
    if body.usage_wanted:
        yield chunks.total(wire.usage(generations, body.answers))
    yield wire.DONE


def _taken(answer: _Answer, texts: TokenTexts) -> str:
    """The probabilities that have not been told yet, as JSON."""
    if not answer.logprobs:
        return "null"
    told = wire.encode({"content": of_chat(answer.logprobs, texts), "refusal": None})
    answer.logprobs.clear()
    return told


def _delta(delta: Delta) -> str:
    if delta.content:
        return f'{{"content":{wire.encode(delta.content)}}}'
    if delta.reasoning:
        thought = wire.encode(delta.reasoning)
        return f'{{"reasoning":{thought},"reasoning_content":{thought}}}'
    call = delta.call
    if call is None:
        return "{}"
    arguments = wire.encode(call.arguments)
    if call.name is None:
        return f'{{"tool_calls":[{{"index":{call.index},"function":{{"arguments":{arguments}}}}}]}}'
    function = f'{{"name":{wire.encode(call.name)},"arguments":{arguments}}}'
    return f'{{"tool_calls":[{{"index":{call.index},"id":"{call.id}","type":"function","function":{function}}}]}}'
