"""What the endpoints share: the engine, the settings, and the way of a request through them."""

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request

from service.api import errors
from service.api.request import GenerationOptions
from service.engine.engine import Engine
from service.engine.model import LanguageModel
from service.engine.request import EngineClosedError, Generation, Piece, QueueFullError, Sampling
from service.settings import Settings

Result = TypeVar("Result")
CLIENT_GONE_STATUS = 499  # nginx's number for it; nobody is there to read it


@dataclass(frozen=True, kw_only=True)
class ApiContext:
    """Reached from a route as ``ApiContext.of(request)``."""

    settings: Settings
    engine: Engine

    @staticmethod
    def of(request: Request) -> "ApiContext":
        context: ApiContext = request.app.state.context
        return context

    def model(self, name: str | None) -> LanguageModel:
        """The served model, if ``name`` is its name."""
        if name is not None and name != self.settings.name:
            raise errors.model_not_found(name)
        try:
            return self.engine.model
        except EngineClosedError as why:
            raise errors.unavailable(str(why)) from None

    def submit(self, prompt: list[int], options: GenerationOptions, default_tokens: int | None) -> Generation:
        """Checks the length and hands the request to the engine.

        ``default_tokens`` is the length of an answer for which the client sets no limit; None: what the context holds.
        """
        limit = self.engine.model.context_tokens
        wanted = options.token_limit or default_tokens or limit - len(prompt)
        if not prompt:
            raise errors.ApiError(400, "The prompt has no tokens.", param="prompt")
        if wanted < 1 or len(prompt) + wanted > limit:
            raise errors.context_exceeded(len(prompt), max(wanted, 1), limit)
        sampling = Sampling(
            temperature=options.temperature,
            top_p=options.top_p,
            max_tokens=wanted,
            stop=options.stops,
            seed=options.seed,
        )
        try:
            return self.engine.submit(prompt, sampling)
        except QueueFullError:
            raise errors.overloaded() from None
        except EngineClosedError as why:
            raise errors.unavailable(str(why)) from None

    @contextmanager
    def listening(self, generations: Sequence[Generation]) -> Iterator[None]:
        """While somebody waits for the answers; the engine drops those that are not finished then."""
        try:
            yield
        finally:
            for generation in generations:
                generation.cancel()


async def whole(generation: Generation) -> tuple[str, Piece]:
    """The whole text, and its last piece.

    Raises:
        errors.ApiError: the generation failed.
    """
    texts: list[str] = []
    async for piece in generation:
        texts.append(piece.text)
        if piece.finish_reason in ("error", "abort"):
            raise errors.ApiError(500, piece.error, kind="server_error", code="generation_failed")
    return "".join(texts), piece


async def while_connected(request: Request, work: Awaitable[Result]) -> Result:
    """The result of ``work``, which is cancelled when the client goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise errors.ApiError(CLIENT_GONE_STATUS, "The client has closed the connection.")
        return task.result()
    finally:
        for unfinished in (task, gone):
            unfinished.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
