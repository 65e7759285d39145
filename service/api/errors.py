"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`."""

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from service.engine.request import ContextLengthError, GrammarError, Piece
from service.metric_names import REFUSED_CONTEXT_LENGTH, REFUSED_QUEUE_FULL, REFUSED_TIMEOUT, REFUSED_UNAVAILABLE

INVALID_REQUEST = "invalid_request_error"
RETRY_SECONDS = 1  # a queue moves on within a step; a replica that leaves the Service takes about as long
CLIENT_GONE_STATUS = 499  # nginx's number for it; nobody is there to read it
# OpenAI's clients repeat a request after most errors; with this they do not, where the same would only happen again.
NO_RETRY = {"x-should-retry": "false"}


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
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.body = error_body(message, kind, param, code)
        self.headers: dict[str, str] = {**(headers or {})}
        if status in (429, 503):
            self.headers["Retry-After"] = str(RETRY_SECONDS)


def error_body(
    message: str, kind: str, param: str | None = None, code: str | None = None
) -> dict[str, dict[str, str | None]]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def invalid(param: str, message: str) -> ApiError:
    """A value that is refused; the message begins with the field's name."""
    return ApiError(400, f"{param}: {message}", param=param)


def model_not_found(name: str) -> ApiError:
    return ApiError(
        404, f"The model `{name}` does not exist.", kind="not_found_error", param="model", code="model_not_found"
    )


def overloaded() -> ApiError:
    return ApiError(429, "Too many requests are waiting; try again.", kind="rate_limit_error", code=REFUSED_QUEUE_FULL)


def unavailable(why: str) -> ApiError:
    return ApiError(
        503, f"The server takes no requests now: {why}", kind="service_unavailable_error", code=REFUSED_UNAVAILABLE
    )


def context_exceeded(error: ContextLengthError, param: str) -> ApiError:
    return ApiError(
        400,
        f"This model's maximum context length is {error.context_tokens} tokens. However, you requested "
        f"{error.prompt_tokens + error.max_tokens} tokens ({error.prompt_tokens} in the prompt, "
        f"{error.max_tokens} in the completion).",
        param=param,
        code=REFUSED_CONTEXT_LENGTH,
    )


def timed_out(seconds: float) -> ApiError:
    return ApiError(
        504,
        f"The answer was not complete within the {seconds:g} s that this server gives a request; ask for fewer tokens.",
        kind="timeout_error",
        code=REFUSED_TIMEOUT,
        headers=NO_RETRY,
    )


def client_gone() -> ApiError:
    return ApiError(CLIENT_GONE_STATUS, "The client has closed the connection.")


def failed(piece: Piece) -> ApiError:
    """Of an answer that ended before its time."""
    if piece.finish_reason == "abort":
        return unavailable(piece.error)
    kind, _, why = piece.error.partition(": ")
    if kind == GrammarError.__name__:  # a schema that nothing satisfies is found out only while it is followed
        return ApiError(400, f"The structure that was asked for has no answer: {why}", headers=NO_RETRY)
    return ApiError(500, piece.error, kind="server_error", code="generation_failed", headers=NO_RETRY)


async def answer(_: Request, error: Exception) -> JSONResponse:
    """What an error looks like on the wire, whatever raised it."""
    match error:
        case ApiError():
            return JSONResponse(error.body, error.status, error.headers)
        case HTTPException():
            body = error_body(f"{error.detail}.", INVALID_REQUEST)
            return JSONResponse(body, error.status_code, dict(error.headers or {}))
        case _:  # the log has the rest
            return JSONResponse(error_body("The server failed to answer.", "server_error", code="internal_error"), 500)
