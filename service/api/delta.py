"""What a part of an answer means: content, thoughts, or a part of a tool call."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class CallDelta:
    """A part of a call: the first one has its id and name, and all of them some of the arguments' JSON."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What a part of an answer's text means."""

    content: str = ""
    reasoning: str = ""
    call: CallDelta | None = None


class AnswerReader(Protocol):
    """Reads an answer as it comes."""

    def add(self, text: str) -> Sequence[Delta]: ...

    def end(self) -> Sequence[Delta]: ...


class Plain:
    """Text is content."""

    def add(self, text: str) -> Sequence[Delta]:
        return (Delta(content=text),) if text else ()

    def end(self) -> Sequence[Delta]:
        return ()


def call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"
