"""One answer as it grows: the text of its tokens, and when it is over."""

from service.engine.request import FinishReason, Piece, Sampling
from service.engine.sampler import Choice
from service.engine.text import Decoder, Detokenizer, StopStrings


class Answer:
    """Takes chosen tokens one by one and says what each adds."""

    def __init__(self, sampling: Sampling, decoder: Decoder, end_tokens: frozenset[int]) -> None:
        self._sampling = sampling
        self._ends = frozenset() if sampling.ignore_eos else end_tokens
        self._text = Detokenizer(decoder, skip_special_tokens=sampling.skip_special_tokens)
        self._stops = StopStrings(sampling.stop, include=sampling.include_stop)
        self.tokens = 0

    def add(self, choice: Choice, *, complete: bool) -> Piece:
        """What the token adds to the answer; ``complete``: by its grammar nothing can follow."""
        token = choice.token
        self.tokens += 1
        stop_token = token if token in self._sampling.stop_token_ids else None
        ends = stop_token is not None or token in self._ends
        hidden = token in self._sampling.hidden_tokens or (ends and not self._sampling.include_stop)
        text = "" if hidden else self._text.add(token)
        if self.tokens > self._sampling.min_tokens:
            text, stop = self._stops.add(text)
            if stop is not None:
                return _piece(choice, text, "stop", stop)
        if ends:
            return self._last(choice, text, "stop", stop_token)
        if complete:
            return self._last(choice, text, "stop")
        if self.tokens >= self._sampling.max_tokens:
            return self._last(choice, text, "length")
        return _piece(choice, text)

    def _last(self, choice: Choice, told: str, reason: FinishReason, stop_token: int | None = None) -> Piece:
        rest, stop = self._stops.add(self._text.end())
        if stop is not None:
            return _piece(choice, told + rest, "stop", stop)
        return _piece(choice, told + rest + self._stops.end(), reason, stop_token)


def _piece(choice: Choice, text: str, reason: FinishReason | None = None, stop: str | int | None = None) -> Piece:
    logprobs = () if choice.logprob is None else (choice.logprob,)
    return Piece(text, (choice.token,), logprobs, reason, stop)
