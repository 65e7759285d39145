"""How much of a long prompt fits into a step beside those who get tokens: learned from how long steps take."""

from collections.abc import Sequence

from service.engine.scheduler import Turn

# A long prompt may make the others' tokens take so many times as long: twice is hardly seen in a text that streams.
SLOWDOWN = 2.0
# Fewer tokens than this are computed hardly faster.
LEAST_TOKENS = 16
# Before anything is known, of a whole step.
FIRST_SHARE = 0.125
# Weight of the latest step in the means.
NEWEST = 0.2


class Pace:
    """Means of the seconds that a step takes without prompts, and that a token of a prompt adds to one."""

    def __init__(self, step_tokens: int) -> None:
        self._most = step_tokens
        self._decode_seconds: float | None = None
        self._token_seconds: float | None = None

    @property
    def chunk_tokens(self) -> int:
        """Tokens of one long prompt that a step may compute while others decode."""
        if self._decode_seconds is None or self._token_seconds is None:
            return max(LEAST_TOKENS, int(self._most * FIRST_SHARE))
        fitting = (SLOWDOWN - 1) * self._decode_seconds / self._token_seconds
        return int(min(max(fitting, LEAST_TOKENS), self._most))

    def note(self, turns: Sequence[Turn], seconds: float) -> None:
        """A step has taken so long."""
        prompt_tokens = sum(turn.count for turn in turns if turn.count > 1)
        if prompt_tokens == 0:
            self._decode_seconds = _mean(self._decode_seconds, seconds)
        elif self._decode_seconds is not None and any(turn.count == 1 for turn in turns):
            # Never nothing: a step that was quicker than those without prompts says little about the prompt.
            added = max(seconds - self._decode_seconds, seconds / 10)
            self._token_seconds = _mean(self._token_seconds, added / prompt_tokens)


def _mean(before: float | None, newest: float) -> float:
    return newest if before is None else before + NEWEST * (newest - before)
