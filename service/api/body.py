"""The body of a request: bounded, JSON, and checked field by field."""

import math
import re
from collections.abc import Iterable
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, JsonValue, ValidationError
from starlette.requests import ClientDisconnect, Request

from service.api import errors

# Parts of pydantic's location of an error that are not names of fields: of unions, their members; of mappings, "[key]".
_FIELD = re.compile(r"(?!(?:str|int|float|bool|none)$)[a-z_0-9]+")


class Body(BaseModel):
    """Strict, as OpenAI is: a number is no text and the other way round. Fields that nobody knows are accepted and ignored.

    ``null`` means "not set" everywhere.
    """

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _finite(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    left: list[Iterable[JsonValue]] = [value.values()]
    while left:
        for part in left.pop():
            if isinstance(part, float) and not math.isfinite(part):
                raise ValueError(f"{part} is no number of JSON")
            if isinstance(part, dict | list):
                left.append(part.values() if isinstance(part, dict) else part)
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
"""Some languages write every number as one with a fraction, which is 0 here."""

JsonObject = Annotated[dict[str, JsonValue], AfterValidator(_finite)]
"""Of anything, as long as it can be written as JSON again: what is too large for a float is read as infinite."""

SomeBody = TypeVar("SomeBody", bound=Body)


async def read(request: Request, kind: type[SomeBody], most_bytes: int) -> SomeBody:
    """The request's body.

    Raises:
        errors.ApiError: 413 if it is longer than ``most_bytes``; 415 if it is no JSON by its header; 400 if a value is
            wrong, with the field's name.
    """
    kind_of_content = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind_of_content != "application/json":
        raise errors.ApiError(415, f"Content-Type is {kind_of_content!r}; send application/json.")
    content = await _bytes(request, most_bytes)
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise _refusal(error) from None


async def _bytes(request: Request, most: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    content, parts = bytearray(), request.stream()
    too_long = declared.isdecimal() and int(declared) > most
    try:
        while not too_long and (part := await anext(parts, None)) is not None:
            content += part
            too_long = len(content) > most
    except ClientDisconnect:
        raise errors.client_gone() from None
    if too_long:
        raise errors.ApiError(413, f"The body is longer than the {most} bytes that this server takes.")
    return bytes(content)


def _refusal(error: ValidationError) -> errors.ApiError:
    # Of the members of a union, the one that got furthest into the value is the one that was meant.
    meant = max(error.errors(include_url=False, include_input=False), key=lambda problem: len(problem["loc"]))
    names = [str(part) for part in meant["loc"] if isinstance(part, int) or _FIELD.fullmatch(part)]
    message = meant["msg"].removeprefix("Value error, ")
    if not names:
        return errors.ApiError(400, f"The body is not what it should be: {message}.")
    return errors.invalid(".".join(names), message)
