"""Chat messages and tools, and the prompt that the model's template makes of them."""

import inspect
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator
from transformers import PreTrainedTokenizerBase

from service.api import errors
from service.api.body import Body, JsonObject

# Parameters of the call that renders, which a request must not set.
_RESERVED = frozenset(inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters)

# As vLLM joins them for a template that wants plain text.
PART_SEPARATOR = "\n"
# Of no template's own.
PROBE = "who looks for this text"

Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


class TextPart(Body):
    type: Literal["text"]
    text: str


class RefusalPart(Body):
    type: Literal["refusal"]
    refusal: str

    @property
    def text(self) -> str:
        return self.refusal


class CalledFunction(Body):
    name: str
    arguments: str | None = None


class ToolCall(Body):
    id: str
    type: Literal["function"] | None = None
    function: CalledFunction


class Message(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart | RefusalPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> "Message":
        if self.content is None and self.role != "assistant":
            raise ValueError(f"a message of role {self.role} needs content")
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("a message of role tool needs tool_call_id")
        return self

    def templated(self, *, in_parts: bool) -> dict[str, Any]:
        """As chat templates want it: plain text or parts, roles that they know, arguments of calls as objects."""
        texts = [self.content or ""] if not isinstance(self.content, list) else [part.text for part in self.content]
        message: dict[str, Any] = {
            "role": "system" if self.role == "developer" else self.role,
            "content": [_part(text) for text in texts] if in_parts else PART_SEPARATOR.join(texts),
        }
        thoughts = self.reasoning if self.reasoning_content is None else self.reasoning_content
        labels = {"name": self.name, "tool_call_id": self.tool_call_id, "reasoning_content": thoughts}
        message |= {field: value for field, value in labels.items() if value is not None}
        if self.tool_calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": _called(call.function)} for call in self.tool_calls
            ]
        return message


class FunctionDefinition(Body):
    name: Name
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class Tool(Body):
    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(Body):
    name: str


class NamedTool(Body):
    type: Literal["function"]
    function: NamedFunction


class Conversation(Body):
    """What a prompt is made of; vLLM's fields beside OpenAI's."""

    messages: list[Message] = Field(min_length=1)
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: JsonObject | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    @property
    def offered(self) -> list[Tool]:
        """The tools that the model is told of."""
        return [] if self.tool_choice == "none" else self.tools or []

    @property
    def forced(self) -> list[Tool]:
        """The tools of which the model must call one; empty if it need not."""
        if self.tool_choice in (None, "none", "auto"):
            return []
        if not self.tools:
            raise errors.invalid("tool_choice", "is only allowed with tools")
        if not isinstance(self.tool_choice, NamedTool):
            return self.tools
        name = self.tool_choice.function.name
        named = [tool for tool in self.tools if tool.function.name == name]
        if not named:
            raise errors.invalid("tool_choice", f"{name!r} is none of the tools")
        return named[:1]

    def rendered(self, tokenizer: Any, *, in_parts: bool) -> str:
        """The prompt; ``in_parts``: see :func:`wants_parts`.

        Raises:
            errors.ApiError: the model has no template, or it refuses these messages.
        """
        if not tokenizer.chat_template:
            raise errors.invalid("messages", "this model has no chat template; use /v1/completions")
        continues = bool(self.continue_final_message)
        generates = not continues if self.add_generation_prompt is None else self.add_generation_prompt
        if continues and generates:
            raise errors.invalid("continue_final_message", "contradicts add_generation_prompt")
        variables: Mapping[str, JsonValue] = self.chat_template_kwargs or {}
        if taken := sorted(_RESERVED & variables.keys()):
            raise errors.invalid("chat_template_kwargs", f"{taken[0]!r} is not for a request to set")
        if self.reasoning_effort is not None:
            variables = {"reasoning_effort": self.reasoning_effort, **variables}
        try:
            text: str = tokenizer.apply_chat_template(
                [message.templated(in_parts=in_parts) for message in self.messages],
                tools=[tool.model_dump(exclude_none=True) for tool in self.offered] or None,
                tokenize=False,
                add_generation_prompt=generates,
                continue_final_message=continues,
                **variables,
            )
        except Exception as error:  # what a model's own template raises is of any type
            raise errors.invalid("messages", f"the model's chat template refuses them: {error}") from None
        return text


def wants_parts(tokenizer: Any) -> bool:
    """Whether a model's chat template looks for text in the parts of a message only, and not for a plain one."""

    def shows(content: str | list[dict[str, str]]) -> bool:
        try:
            text: str = tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
        except Exception:  # what a model's own template raises is of any type
            return False
        return PROBE in text

    return bool(tokenizer.chat_template) and not shows(PROBE) and shows([_part(PROBE)])


def _part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _called(function: CalledFunction) -> dict[str, Any]:
    try:
        arguments = json.loads(function.arguments or "{}")
    except (ValueError, RecursionError):  # a model's own earlier words, perhaps cut off by a limit
        arguments = function.arguments
    return {"name": function.name, "arguments": arguments}
