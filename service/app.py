"""The HTTP application: the OpenAI API, health, readiness and metrics on one port."""

from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from service.api import chat, completions, errors, models
from service.api.context import ApiContext
from service.auth import ApiKeys, Authentication
from service.engine.engine import Engine, EngineState
from service.lifecycle import Lifecycle
from service.metrics import CONTENT_TYPE, Metrics
from service.settings import Settings


def create_app(settings: Settings, engine: Engine, metrics: Metrics, lifecycle: Lifecycle) -> FastAPI:
    """The application over an engine; it answers while the model still loads."""
    app = FastAPI(title="llm-stack", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.context = ApiContext(settings=settings, engine=engine)
    errors.install(app)
    if settings.api_keys_file is not None:
        app.add_middleware(Authentication, keys=ApiKeys(Path(settings.api_keys_file)))
    for routes in (chat.routes, completions.routes, models.routes):
        app.include_router(routes)

    @app.get("/health")
    async def health() -> Response:
        alive = engine.state is not EngineState.FAILED
        return JSONResponse({"status": engine.state.value, "detail": engine.progress}, 200 if alive else 503)

    @app.get("/ready")
    async def ready() -> Response:
        status = "draining" if lifecycle.draining else engine.state.value
        serving = engine.state is EngineState.SERVING and not lifecycle.draining
        return JSONResponse({"status": status, "detail": engine.progress}, 200 if serving else 503)

    @app.get("/metrics")
    async def scrape() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return app
