"""One chat completion, streamed to the terminal, with nothing but the standard library."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator

from local.screen import LocalError

ANSWER_SECONDS = 120.0  # a cold pod on a busy two-core machine
MAX_TOKENS = 64


def chat(endpoint_url: str, question: str, max_tokens: int = MAX_TOKENS) -> Iterator[str]:
    """Pieces of the answer of the first model at ``endpoint_url``, as they come.

    Raises:
        LocalError: nothing answers there, or the answer is an error of the API (its message is passed on).
    """
    try:
        with urllib.request.urlopen(f"{endpoint_url}/models", timeout=ANSWER_SECONDS) as answer:
            model = json.load(answer)["data"][0]["id"]
        body = {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": max_tokens,
            "stream": True,
        }
        request = urllib.request.Request(
            f"{endpoint_url}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            yield from _pieces(answer)
    except urllib.error.HTTPError as error:
        raise LocalError(
            f"{endpoint_url} answered {error.code}: {error.read().decode(errors='replace')}",
            "See `python3 -m local status`.",
        ) from None
    except OSError as error:
        raise LocalError(
            f"Nothing answers at {endpoint_url}: {error}",
            "See `python3 -m local status`. `make up` starts it; what was deleted by hand, after `pulumi refresh -s local`.",
        ) from None


def _pieces(answer: http.client.HTTPResponse) -> Iterator[str]:
    for line in answer:
        if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
            continue
        event = json.loads(line.removeprefix(b"data: "))
        if "error" in event:
            raise LocalError(f"The answer broke off: {event['error']['message']}", "Ask again.")
        for choice in event["choices"]:
            yield choice["delta"].get("content") or ""
