"""`POST /tokenize` and `POST /detokenize`, as vLLM has them."""

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.api import errors
from service.api.body import Body
from service.api.exchange import Exchange
from service.api.messages import Conversation, Message
from service.api.options import Token, check_tokens


class TokenizeRequest(Conversation):
    """Of a text (``prompt``) or of a conversation (``messages``)."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] = Field(default_factory=list)
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(Body):
    model: str | None = None
    tokens: list[Token]


async def tokenize(request: Request) -> Response:
    exchange = Exchange(request)
    body = await exchange.read(TokenizeRequest)
    model = exchange.model(body.model)
    if (body.prompt is None) == (not body.messages):
        raise errors.invalid("prompt", "send either prompt or messages")
    if body.prompt is not None:
        # A chat template writes its special tokens itself, so that a conversation has no more of them by default.
        tokens = await exchange.tokens(body.prompt, "prompt", special=body.add_special_tokens is not False)
    else:
        text = body.rendered(model.tokenizer, in_parts=exchange.context.in_parts)
        tokens = await exchange.tokens(text, "messages", special=bool(body.add_special_tokens))
    texts = model.tokenizer.convert_ids_to_tokens(tokens) if body.return_token_strs else None
    return JSONResponse(
        {"count": len(tokens), "max_model_len": model.context_tokens, "tokens": tokens, "token_strs": texts}
    )


async def detokenize(request: Request) -> Response:
    exchange = Exchange(request)
    body = await exchange.read(DetokenizeRequest)
    model = exchange.model(body.model)
    check_tokens("tokens", body.tokens, model.vocabulary)
    return JSONResponse({"prompt": model.tokenizer.decode(body.tokens)})


routes = [Route("/tokenize", tokenize, methods=["POST"]), Route("/detokenize", detokenize, methods=["POST"])]
