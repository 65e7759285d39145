"""The HTTP application: the OpenAI API, health, readiness and metrics on one port."""

from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from service import __version__
from service.api import chat, completions, errors, models, tokens
from service.api.exchange import Context
from service.auth import ApiKeys, Authentication
from service.engine.engine import Engine, EngineState
from service.lifecycle import Lifecycle
from service.logs import RequestLog
from service.metrics import CONTENT_TYPE, Metrics
from service.settings import Settings


def create_app(settings: Settings, engine: Engine, metrics: Metrics, lifecycle: Lifecycle) -> ASGIApp:
    """The application over an engine; it answers while the model still loads."""

    async def health(_: Request) -> Response:
        alive = engine.state is not EngineState.FAILED
        return JSONResponse({"status": engine.state.value, "detail": engine.progress}, 200 if alive else 503)

    async def ready(_: Request) -> Response:
        status = "draining" if lifecycle.draining else engine.state.value
        serving = engine.state is EngineState.SERVING and not lifecycle.draining
        return JSONResponse({"status": status, "detail": engine.progress}, 200 if serving else 503)

    async def scrape(_: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    async def version(_: Request) -> Response:
        return JSONResponse({"version": __version__})

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, errors.ApiError)
        metrics.refused(error.code)
        return await errors.answer(request, error)

    app = FastAPI(
        openapi_url=None,  # OpenAI's own is the one that holds
        routes=[
            *(route for family in (chat, completions, models, tokens) for route in family.routes),
            *(Route(path, answer) for path, answer in (("/health", health), ("/ready", ready), ("/version", version))),
            Route("/metrics", scrape),
        ],
        exception_handlers={
            errors.ApiError: refuse,
            HTTPException: errors.answer,
            Exception: errors.answer,
        },
    )
    app.state.context = Context(settings=settings, engine=engine, metrics=metrics)
    guarded: ASGIApp = app
    if settings.api_keys_file is not None:
        guarded = Authentication(app, ApiKeys(Path(settings.api_keys_file)))
    return RequestLog(guarded)
