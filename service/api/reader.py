"""Who reads an answer as it comes: by what was asked for, and by how the model writes."""

from collections.abc import Mapping
from typing import Any

from service.api.calls import CallList, OneCall, Unmarked
from service.api.delta import AnswerReader, Plain
from service.api.marks import CALLS, Marked, SpecialMarks
from service.api.messages import Conversation


def reader(conversation: Conversation, prompt: str, template: Mapping[str, Any] | None) -> AnswerReader:
    """For one answer to a conversation that became ``prompt``; ``template``: see :func:`response_template`."""
    if conversation.forced:
        named = conversation.tool_choice != "required"
        return OneCall(conversation.forced[0].function.name) if named else CallList()
    if template is not None:
        return Marked(template, prompt, [tool.model_dump(exclude_none=True) for tool in conversation.offered])
    if conversation.offered:
        return Unmarked({tool.function.name for tool in conversation.offered})
    return Plain()


def reads_special(conversation: Conversation, marks: SpecialMarks) -> bool:
    """Whether its reader has to see special tokens."""
    return not conversation.forced and any(field != CALLS or conversation.offered for field in marks.fields)
