"""`GET /v1/models` and `GET /v1/models/{id}`."""

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.api import errors
from service.api.exchange import Context
from service.engine.engine import EngineState

_STARTED = int(time.time())


async def list_models(request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [_card(request.app.state.context)]})


async def retrieve_model(request: Request) -> Response:
    context: Context = request.app.state.context
    name = request.path_params["name"]
    if name != context.settings.name:
        raise errors.model_not_found(name)
    return JSONResponse(_card(context))


def _card(context: Context) -> dict[str, Any]:
    serving = context.engine.state is EngineState.SERVING
    return {
        "id": context.settings.name,
        "object": "model",
        "created": _STARTED,
        "owned_by": "llm-stack",
        "root": context.settings.model,
        "max_model_len": context.engine.model.context_tokens if serving else None,
    }


routes = [
    Route("/v1/models", list_models, methods=["GET"]),
    Route("/v1/models/", list_models, methods=["GET"]),
    Route("/v1/models/{name:path}", retrieve_model, methods=["GET"]),
]
