"""Bodies that nobody would send on purpose: never a failure of the server, and a good request answers afterwards."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.server import ServerProcess

EXAMPLES = 120

WORDS = st.sampled_from([
    "", "a", "user", "assistant", "tool", "system", "text", "json_object", "json_schema", "function", "auto", "required",
    "none", "tiny", "get", "\u0000", "\ud7ff", "😀", "<|im_end|>", "<think>", "[a-z]+", "(", "#/$defs/x",
])  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-3, 5), st.sampled_from([2**31, 2**63, -(2**63), 10**30, 1024, 0.5, -0.5, 1e308, -0.0]), st.booleans()
)
VALUES = st.recursive(
    st.none() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=8,
)


def mostly(valid: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Now and then something else altogether: only what is accepted gets as far as the engine."""
    return st.integers(0, 5).flatmap(lambda throw: VALUES if throw == 0 else valid)


TEXT = WORDS | st.text(max_size=8)
FLAGS = mostly(st.booleans())
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "developer"]), "content": mostly(TEXT)},
        optional={"name": TEXT, "tool_calls": mostly(st.just([])), "reasoning_content": TEXT},
    ),
    min_size=1,
    max_size=3,
)
SCHEMA = st.dictionaries(
    st.sampled_from(["type", "properties", "items", "enum", "const", "$ref", "anyOf", "required", "pattern", "minimum"]),
    VALUES,
    max_size=3,
) | st.sampled_from([
    {"type": "integer"}, {"enum": ["a", 1, None]}, {"$ref": "#"}, {"$ref": "#/$defs/none"}, {"type": "string", "pattern": "("},
    {"type": "object", "properties": {"a": {"$ref": "#"}}}, {"anyOf": []}, {"type": "array", "minItems": -1}, {},
])  # fmt: skip
FUNCTION = st.fixed_dictionaries({"name": mostly(st.sampled_from(["a", "b"]))}, optional={"parameters": mostly(SCHEMA)})
TOOLS = st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": FUNCTION}), max_size=2)
FORMATS = st.sampled_from([{"type": "text"}, {"type": "json_object"}, {"type": "json_schema"}]) | SCHEMA.map(
    lambda schema: {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
)
PENALTIES = st.floats(-2, 2)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    name: mostly(valid)
    for name, valid in {
        "model": st.just("tiny"),
        "n": st.integers(1, 3),
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1, exclude_min=True),
        "top_k": st.integers(-1),
        "min_p": st.floats(0, 1),
        "presence_penalty": PENALTIES,
        "frequency_penalty": PENALTIES,
        "repetition_penalty": st.floats(0.01, 10),
        "seed": st.integers(-(2**63), 2**63 - 1),
        "min_tokens": st.integers(0, 2) | st.integers(0),
        "logprobs": st.booleans() | st.integers(0, 5),
        "prompt_logprobs": st.integers(0, 5),
        "stream": st.booleans(),
        "ignore_eos": st.booleans(),
        "echo": st.booleans(),
        "stop": TEXT | st.lists(TEXT, max_size=3),
        "stop_token_ids": st.lists(st.integers(0, 500), max_size=3),
        "logit_bias": st.dictionaries(st.integers(0, 500).map(str), st.floats(-100, 100), max_size=3),
        "tools": TOOLS,
        "tool_choice": st.sampled_from(["auto", "none", "required", {"type": "function", "function": {"name": "a"}}]),
        "parallel_tool_calls": st.booleans(),
        "response_format": FORMATS,
        "guided_json": SCHEMA,
        "guided_regex": st.sampled_from(["a+", "(", "", ".*", "[", "a{1000}", "(?=a)", "\\d", "^$"]),
        "guided_choice": st.lists(TEXT, max_size=3),
        "structured_outputs": SCHEMA.map(lambda schema: {"json": schema}),
        "chat_template_kwargs": st.dictionaries(
            st.sampled_from(["thinking", "self", "tools", "x"]), VALUES, max_size=2
        ),
        "add_generation_prompt": st.booleans(),
        "continue_final_message": st.booleans(),
        "add_special_tokens": st.booleans(),
        "skip_special_tokens": st.booleans(),
        "spaces_between_special_tokens": st.booleans(),
        "include_stop_str_in_output": st.booleans(),
        "truncate_prompt_tokens": st.integers(-1, 5),
        "truncation_side": st.sampled_from(["left", "right"]),
        "user": TEXT,
    }.items()
}
BODIES = st.fixed_dictionaries(
    {
        "max_tokens": mostly(st.integers(0, 3)),
        "messages": mostly(MESSAGES),
        "prompt": mostly(TEXT | st.lists(st.integers(0, 500), min_size=1, max_size=4) | st.lists(TEXT, max_size=3)),
        "tokens": mostly(st.lists(st.integers(0, 500), max_size=4)),
    },
)
MORE = st.sets(st.sampled_from(sorted(FIELDS)), max_size=3).flatmap(
    lambda chosen: st.fixed_dictionaries({name: FIELDS[name] for name in sorted(chosen)})
)
# What one endpoint needs is nothing that another one knows.
NEEDED = {
    "/v1/chat/completions": {"messages", "max_tokens"},
    "/v1/completions": {"prompt", "max_tokens"},
    "/tokenize": {"prompt"},
    "/detokenize": {"tokens"},
}


@pytest.mark.parametrize("path", NEEDED)
@settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(body=BODIES, more=MORE)
def test_no_body_makes_the_server_fail(
    fuzzed: httpx.Client, path: str, body: dict[str, Any], more: dict[str, Any]
) -> None:
    sent = {name: value for name, value in body.items() if name in NEEDED[path]} | more
    if sent.get("max_tokens") is None:  # it would be all that the context holds
        sent["max_tokens"] = 1
    answer = fuzzed.post(path, content=json.dumps(sent), headers={"content-type": "application/json"})
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert error["message"]
        assert set(error) == {"message", "type", "param", "code"}
    assert '"generation_failed"' not in answer.text


@settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_no_bytes_make_the_server_fail(fuzzed: httpx.Client, content: bytes) -> None:
    answer = fuzzed.post("/v1/chat/completions", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400


@pytest.fixture(scope="module")
def fuzzed(server: ServerProcess) -> Any:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client
        good = client.post(
            "/v1/chat/completions", json={"messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
        )
        assert good.status_code == 200
