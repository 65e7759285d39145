"""The way of one request through the server: its body, its generations, its answer, and its end if nobody waits for it."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service import logs
from service.api import body, errors, wire
from service.api.marks import SpecialMarks, response_template
from service.api.messages import wants_parts
from service.api.options import check_tokens, model_defaults
from service.api.probabilities import TokenTexts
from service.engine.engine import Engine
from service.engine.model import LanguageModel
from service.engine.request import (
    ContextLengthError,
    EngineClosedError,
    Generation,
    Grammar,
    GrammarError,
    Piece,
    QueueFullError,
    Sampling,
)
from service.metrics import Metrics
from service.settings import Settings

Result = TypeVar("Result")

# From here on a text is tokenized in a thread: the event loop must not stand still for more than a few milliseconds.
LONG_TEXT_CHARACTERS = 20_000
# For the event that ends a stream early.
LAST_EVENT_SECONDS = 1.0
# A proxy that buffers would turn a stream into one late answer (nginx reads the last header).
STREAM_HEADERS = [
    (b"content-type", wire.EVENT_STREAM.encode()),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(frozen=True, kw_only=True)
class Context:
    """What all requests share; a Starlette application has it as ``app.state.context``."""

    settings: Settings
    engine: Engine
    metrics: Metrics

    @cached_property
    def texts(self) -> TokenTexts:
        """Of the served model's tokens; it has to be loaded."""
        return TokenTexts(self.engine.model.tokenizer)

    @cached_property
    def template(self) -> Mapping[str, Any] | None:
        """How the served model marks thoughts and calls."""
        return response_template(self.engine.model.tokenizer)

    @cached_property
    def in_parts(self) -> bool:
        """Whether the served model's chat template wants messages in parts."""
        return wants_parts(self.engine.model.tokenizer)

    @cached_property
    def special_marks(self) -> SpecialMarks:
        """Which of these marks are special tokens of the served model."""
        model = self.engine.model
        if self.template is None:
            return SpecialMarks()
        return SpecialMarks.of(self.template, model.tokenizer, model.end_tokens)

    @cached_property
    def defaults(self) -> dict[str, float]:
        """How the served model wants to be sampled where a client does not say."""
        return model_defaults(self.engine.model.network.generation_config)


class Exchange:
    """One request and what is done for it."""

    def __init__(self, request: Request) -> None:
        self.context: Context = request.app.state.context
        self.settings = self.context.settings
        self._engine: Engine = self.context.engine
        self._request = request
        self._per_prompt = 1
        self._deadline = asyncio.get_running_loop().time() + self.settings.request_timeout_seconds

    async def read(self, kind: type[body.SomeBody]) -> body.SomeBody:
        """The body; see :func:`service.api.body.read`."""
        try:
            async with asyncio.timeout_at(self._deadline):
                return await body.read(self._request, kind, self.settings.max_body_bytes)
        except TimeoutError:
            raise errors.timed_out(self.settings.request_timeout_seconds) from None

    def model(self, name: str | None) -> LanguageModel:
        """The served model, if ``name`` is its name or there is none.

        Raises:
            errors.ApiError: 404 for another name; 503 while it is not loaded.
        """
        if name is not None and name != self.settings.name:
            raise errors.model_not_found(name)
        try:
            return self._engine.model
        except EngineClosedError as why:
            raise errors.unavailable(str(why)) from None

    async def tokens(self, text: str, param: str, *, special: bool) -> list[int]:
        """A text's tokens; ``special``: with those that the tokenizer puts around a text by itself.

        Raises:
            errors.ApiError: 400 naming ``param``, for a token that only the tokenizer knows.
        """
        tokenizer: Any = self._engine.model.tokenizer

        def encode() -> list[int]:
            ids: list[int] = tokenizer(text, add_special_tokens=special)["input_ids"]
            return ids

        ids = await asyncio.to_thread(encode) if len(text) > LONG_TEXT_CHARACTERS else encode()
        check_tokens(param, ids, self._engine.model.vocabulary)
        return ids

    def submit(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        n: int,
        param: str,
        structure: tuple[str, Grammar] | None,
    ) -> list[Generation]:
        """``n`` answers to each prompt (prompt by prompt), or none at all.

        ``param`` is the field that the prompts came in, and the first of ``structure`` the one of the grammar.

        Raises:
            errors.ApiError: a prompt is empty or too long, the grammar is none, or there is no room.
        """
        room = self.settings.max_running_requests + self.settings.max_waiting_requests
        if len(prompts) * n > room:
            raise errors.invalid(
                param, f"{len(prompts) * n} answers are more than this server works on at once, {room}"
            )
        self._per_prompt = n
        generations: list[Generation] = []
        try:
            for prompt in prompts:
                if not prompt:
                    raise errors.invalid(param, "a prompt has no tokens")
                for place in range(n):
                    # Each answer has a seed of its own, or all of them would be the same.
                    seed = None if sampling.seed is None else sampling.seed + place
                    generations.append(self._engine.submit(prompt, replace(sampling, seed=seed)))
        except Exception as error:
            cancel(generations)
            match error:
                case QueueFullError():
                    raise errors.overloaded() from None
                case EngineClosedError():
                    raise errors.unavailable(str(error)) from None
                case ContextLengthError():
                    raise errors.context_exceeded(error, param) from None
                case GrammarError() if structure is not None:
                    raise errors.invalid(structure[0], f"an answer cannot be made to follow it: {error}") from None
            raise
        return generations

    async def whole(self, work: Coroutine[Any, Any, Result], generations: Sequence[Generation]) -> Result:
        """The result of ``work``; the generations end with it, with the client, and at the deadline.

        Raises:
            errors.ApiError: the client is gone, or the time is up.
        """
        try:
            return await self._while_wanted(self._request.receive, work)
        finally:
            self._end(generations)

    def stream(self, events: AsyncGenerator[bytes, None], generations: Sequence[Generation]) -> "EventStream":
        """An answer of server-sent events; the generations end with it, with the client, and at the deadline."""
        return EventStream(self, events, generations)

    async def _while_wanted(self, receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
        loop = asyncio.get_running_loop()
        task = loop.create_task(work)
        gone = loop.create_task(_disconnected(receive))
        try:
            await asyncio.wait((task, gone), timeout=self._deadline - loop.time(), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise errors.client_gone() if gone.done() else errors.timed_out(self.settings.request_timeout_seconds)
        finally:
            for unfinished in (task, gone):
                unfinished.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)

    def _end(self, generations: Sequence[Generation]) -> None:
        cancel(generations)
        n = self._per_prompt
        for start in range(0, len(generations), n):
            longest = max(generation.completion_tokens for generation in generations[start : start + n])
            self.context.metrics.answered(n=n, longest=longest)
        used = wire.usage(generations, n)
        logs.note(self._request.scope, **{name: used[name] for name in ("prompt_tokens", "completion_tokens")})


class EventStream(Response):
    """Server-sent events, as a response.

    It starts with its first event: what fails before that is answered with a status of its own, what fails later with an
    event that is an error.
    """

    def __init__(
        self, exchange: Exchange, events: AsyncGenerator[bytes, None], generations: Sequence[Generation]
    ) -> None:
        super().__init__()
        self._exchange = exchange
        self._events = events
        self._generations = generations
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._exchange._while_wanted(receive, self._send_all(send))
        except errors.ApiError as error:
            if not self._started:
                raise
            self._exchange.context.metrics.refused(error.code)
            cancel(self._generations)  # before the last event, which a client that does not read may never take
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_EVENT_SECONDS):
                    await send({"type": "http.response.body", "body": wire.event(error.body), "more_body": False})
        finally:
            self._exchange._end(self._generations)

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            async for event in events:
                if not self._started:
                    await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
                    self._started = True
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def cancel(generations: Sequence[Generation]) -> None:
    """Ends what has not ended."""
    for generation in generations:
        generation.cancel()


async def pieces(generations: Sequence[Generation]) -> AsyncGenerator[tuple[int, Piece], None]:
    """The pieces of all answers as they come, each with its answer's place.

    Raises:
        errors.ApiError: one of them failed.
    """
    source = _numbered(0, generations[0]) if len(generations) == 1 else _merged(generations)
    async with aclosing(source) as numbered:
        async for place, piece in numbered:
            if piece.finish_reason in ("error", "abort"):
                raise errors.failed(piece)
            yield place, piece


async def _numbered(place: int, generation: Generation) -> AsyncGenerator[tuple[int, Piece], None]:
    async for piece in generation:
        yield place, piece


async def _merged(generations: Sequence[Generation]) -> AsyncGenerator[tuple[int, Piece], None]:
    arrived: asyncio.Queue[tuple[int, Piece]] = asyncio.Queue()

    async def follow(place: int, generation: Generation) -> None:
        async for piece in generation:
            arrived.put_nowait((place, piece))

    tasks = [asyncio.create_task(follow(place, generation)) for place, generation in enumerate(generations)]
    try:
        running = len(generations)
        while running:
            place, piece = await arrived.get()
            running -= piece.finish_reason is not None
            yield place, piece
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
