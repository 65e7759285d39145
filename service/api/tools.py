"""Forced tool calls, as a grammar."""

from pydantic import JsonValue

from service.api import wire
from service.api.messages import Conversation, Tool
from service.engine.request import Grammar

FIELD = "tools"


def structure(conversation: Conversation) -> tuple[str, Grammar] | None:
    """What the answer must be when a call is forced: a named function's arguments, or a list of calls."""
    tools = conversation.forced
    return (FIELD, _grammar(conversation, tools)) if tools else None


def _grammar(conversation: Conversation, tools: list[Tool]) -> Grammar:
    lenient = not any(tool.function.strict for tool in tools)
    if conversation.tool_choice != "required":
        return Grammar(kind="json_schema", definition=wire.encode(_parameters(tools[0])), lenient=lenient)
    schema: dict[str, JsonValue] = {
        "type": "array",
        "minItems": 1,
        "items": {"anyOf": [_call_schema(tool) for tool in tools]},
        # Each schema whole under its tool's name, so that references inside of it need but another beginning.
        "$defs": {tool.function.name: _moved(_parameters(tool), tool.function.name) for tool in tools},
    }
    if conversation.parallel_tool_calls is False:
        schema["maxItems"] = 1
    return Grammar(kind="json_schema", definition=wire.encode(schema), lenient=lenient)


def _parameters(tool: Tool) -> dict[str, JsonValue]:
    return {"type": "object", **(tool.function.parameters or {"properties": {}})}


def _call_schema(tool: Tool) -> JsonValue:
    return {
        "type": "object",
        "properties": {
            "name": {"const": tool.function.name},
            "parameters": {"$ref": f"#/$defs/{tool.function.name}"},
        },
        "required": ["name", "parameters"],
        "additionalProperties": False,
    }


def _moved(schema: JsonValue, name: str) -> JsonValue:
    """A schema whose references to itself hold at ``#/$defs/name`` of another."""
    if isinstance(schema, list):
        return [_moved(part, name) for part in schema]
    if not isinstance(schema, dict):
        return schema
    # An identifier would be another beginning of the references.
    kept = {key: value for key, value in schema.items() if key != "$id" or not isinstance(value, str)}
    moved = {key: _moved(value, name) for key, value in kept.items()}
    target = schema.get("$ref")
    if isinstance(target, str) and target.startswith("#"):
        moved["$ref"] = f"#/$defs/{name}{target[1:]}"
    return moved
