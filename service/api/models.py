"""`GET /v1/models` and `GET /v1/models/{id}`."""

import time
from typing import Any

from fastapi import APIRouter, Request

from service.api import errors
from service.api.context import ApiContext

routes = APIRouter()

_STARTED = int(time.time())


@routes.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    return {"object": "list", "data": [_card(ApiContext.of(request))]}


@routes.get("/v1/models/{name:path}")
async def retrieve_model(name: str, request: Request) -> dict[str, Any]:
    context = ApiContext.of(request)
    if name != context.settings.name:
        raise errors.model_not_found(name)
    return _card(context)


def _card(context: ApiContext) -> dict[str, Any]:
    return {"id": context.settings.name, "object": "model", "created": _STARTED, "owned_by": "llm-stack"}
