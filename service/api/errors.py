"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

INVALID_REQUEST = "invalid_request_error"
RETRY_SECONDS = 1  # a queue moves on within a step; a replica that leaves the Service takes about as long


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID_REQUEST,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = error_body(message, kind, param, code)
        self.headers: Mapping[str, str] = {"Retry-After": str(RETRY_SECONDS)} if status in (429, 503) else {}


def error_body(
    message: str, kind: str, param: str | None = None, code: str | None = None
) -> dict[str, dict[str, str | None]]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def model_not_found(name: str) -> ApiError:
    return ApiError(
        404, f"The model `{name}` does not exist.", kind="not_found_error", param="model", code="model_not_found"
    )


def overloaded() -> ApiError:
    return ApiError(429, "Too many requests are waiting; try again.", kind="rate_limit_error", code="queue_full")


def unavailable(why: str) -> ApiError:
    return ApiError(
        503, f"The server takes no requests now: {why}", kind="service_unavailable_error", code="unavailable"
    )


def context_exceeded(prompt: int, wanted: int, limit: int) -> ApiError:
    return ApiError(
        400,
        f"This model's maximum context length is {limit} tokens. However, you requested {prompt + wanted} tokens "
        f"({prompt} in the prompt, {wanted} in the completion).",
        param="messages",
        code="context_length_exceeded",
    )


def install(app: FastAPI) -> None:
    """Makes every error of the application answer in this shape."""

    @app.exception_handler(ApiError)
    async def own(_: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body, error.status, dict(error.headers))

    @app.exception_handler(RequestValidationError)
    async def validation(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        return JSONResponse(error_body(f"{where or 'body'}: {first['msg']}", INVALID_REQUEST, where or None), 400)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(
            error_body(str(error.detail), INVALID_REQUEST), error.status_code, dict(error.headers or {})
        )
