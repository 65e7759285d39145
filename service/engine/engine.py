"""The engine: one thread that loads the model and then moves every running request on by one token per step.

The event loop never computes: it submits and cancels under a lock, and gets what a step produced in one wake-up.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence as Tokens
from enum import Enum

from service.engine.model import LanguageModel, Sequence
from service.engine.request import (
    ContextLengthError,
    EngineClosedError,
    FinishReason,
    Generation,
    Piece,
    QueueFullError,
    Sampling,
    TokenLogprob,
)
from service.engine.sampler import Sampler
from service.engine.text import Detokenizer, StopStrings
from service.metrics import Metrics
from service.settings import Settings

log = logging.getLogger(__name__)


class EngineState(Enum):
    LOADING = "loading"
    SERVING = "serving"
    STOPPED = "stopped"
    FAILED = "failed"


class _Running:
    """A request that has its turn."""

    def __init__(self, generation: Generation, model: LanguageModel) -> None:
        self.generation = generation
        self._sequence: Sequence = model.sequence()
        self._ends = frozenset() if generation.sampling.ignore_eos else model.end_tokens
        self._sampler = Sampler(generation.sampling)
        self._text = Detokenizer(model.tokenizer)
        self._stop = StopStrings(generation.sampling.stop)
        self._next = list(generation.prompt)
        self.tokens = 0
        self.submitted = self.told_at = time.monotonic()
        self._matcher = model.matcher(generation.sampling.grammar)

    @property
    def length(self) -> int:
        return len(self.generation.prompt) + self.tokens

    def step(self) -> Piece:
        """Computes one token and says what it adds to the answer."""
        sampling = self.generation.sampling
        scores = self._sequence.feed(self._next).clone()
        for token, bias in sampling.logit_bias.items():
            scores[token] += bias
        if self.tokens < sampling.min_tokens:
            scores[list(self._ends)] = float("-inf")
        if self._matcher is not None:
            self._matcher.mask(scores)
        token = self._sampler.choose(scores)
        logprobs: tuple[TokenLogprob, ...] = ()
        if sampling.top_logprobs is not None:
            all_of_them = scores.float().log_softmax(-1)
            best = all_of_them.topk(sampling.top_logprobs)
            top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
            logprobs = (TokenLogprob(token, float(all_of_them[token]), top),)
        if self._matcher is not None:
            self._matcher.accept(token)
        self._next = [token]
        self.tokens += 1
        if token in self._ends or token in sampling.stop_token_ids:
            return self._last("", "stop", token, logprobs, token if token in sampling.stop_token_ids else None)
        told, stopped = self._stop.add(self._text.add(token))
        if stopped:
            return Piece(told, (token,), logprobs, "stop", sampling.stop[0])
        if self.tokens >= sampling.max_tokens:
            return self._last(told, "length", token, logprobs, None)
        return Piece(told, (token,), logprobs)

    def _last(
        self, told: str, reason: FinishReason, token: int, logprobs: tuple[TokenLogprob, ...], why: int | None
    ) -> Piece:
        rest, stopped = self._stop.add(self._text.end())
        return Piece(told + rest + self._stop.end(), (token,), logprobs, "stop" if stopped else reason, why)


class Engine:
    """Takes requests and gives their answers; see the module for how it works."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._changed = threading.Condition()
        self._waiting: deque[Generation] = deque()
        self._running: list[_Running] = []
        self._cancelled: set[Generation] = set()
        self._state = EngineState.LOADING
        self._progress = "starting"
        self._model: LanguageModel | None = None
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        metrics.follow(running=lambda: len(self._running), waiting=lambda: len(self._waiting), cache=self._cache_usage)

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def progress(self) -> str:
        """What it does, in words: of the start, or why it failed."""
        return self._progress

    @property
    def model(self) -> LanguageModel:
        """The loaded model.

        Raises:
            EngineClosedError: it is not loaded.
        """
        if self._model is None:
            raise EngineClosedError(f"the model is not loaded: {self._progress}")
        return self._model

    def start(self) -> None:
        self._thread.start()

    def stop(self, reason: str) -> None:
        """Ends every request with an error that says ``reason``, and the thread."""
        with self._changed:
            if self._state in (EngineState.LOADING, EngineState.SERVING):
                self._state, self._progress = EngineState.STOPPED, reason
            self._changed.notify()

    def submit(self, prompt: Tokens[int], sampling: Sampling) -> Generation:
        """Puts a request in the queue. To be called on the event loop that will read the answer.

        Raises:
            QueueFullError: too many wait already.
            EngineClosedError: the engine does not serve.
            ContextLengthError: the request is longer than the context.
            GrammarError: the grammar cannot be compiled.
        """
        limit = self.model.context_tokens
        if len(prompt) + sampling.max_tokens > limit:
            raise ContextLengthError(len(prompt), sampling.max_tokens, limit)
        self.model.matcher(sampling.grammar)
        generation = Generation(prompt, sampling, self.cancel)
        with self._changed:
            if self._state is not EngineState.SERVING:
                raise EngineClosedError(self._progress)
            free = self._settings.max_running_requests - len(self._running)
            if len(self._waiting) >= self._settings.max_waiting_requests + max(free, 0):
                raise QueueFullError
            self._waiting.append(generation)
            self._changed.notify()
        return generation

    def cancel(self, generation: Generation) -> None:
        """Takes a request out: at once if it waits, at the next step if it runs."""
        with self._changed:
            if generation in self._waiting:
                self._waiting.remove(generation)
                self._metrics.finished("abort")
                self._tell([(generation, Piece("", finish_reason="abort", error="the client has left"))])
            elif any(running.generation is generation for running in self._running):
                self._cancelled.add(generation)

    def _work(self) -> None:
        try:
            self._model = LanguageModel.load(self._settings, self._report)
            with self._changed:
                if self._state is EngineState.LOADING:
                    self._state, self._progress = EngineState.SERVING, "serving"
            log.info("serving %s", self._settings.name)
            while self._admit():
                self._step()
            self._end_all(self._progress)
        except Exception as error:
            log.exception("the engine has failed")
            with self._changed:
                self._state, self._progress = EngineState.FAILED, f"{type(error).__name__}: {error}"
            self._end_all(self._progress)

    def _report(self, progress: str) -> None:
        self._progress = progress
        log.info("%s", progress)

    def _admit(self) -> bool:
        """Waits for work and gives waiting requests their turn; False when the engine is to stop."""
        with self._changed:
            while self._state is EngineState.SERVING and not self._waiting and not self._running:
                self._changed.wait()
            for running in [running for running in self._running if running.generation in self._cancelled]:
                self._running.remove(running)
                self._metrics.finished("abort")
                self._tell([(running.generation, Piece("", finish_reason="abort", error="the client has left"))])
            self._cancelled.clear()
            while self._waiting and len(self._running) < self._settings.max_running_requests:
                generation = self._waiting.popleft()
                self._running.append(_Running(generation, self.model))
                self._metrics.queue_time.observe(0.0)
            return self._state is EngineState.SERVING

    def _step(self) -> None:
        """One token for every running request; a failure ends only the request in which it happens."""
        told: list[tuple[Generation, Piece]] = []
        ended: list[_Running] = []
        for running in self._running:
            try:
                piece = running.step()
            except Exception as error:
                log.exception("a request has failed")
                piece = Piece("", (), (), "error", None, f"{type(error).__name__}: {error}")
            self._measure(running, piece)
            told.append((running.generation, piece))
            if piece.finish_reason is not None:
                ended.append(running)
        with self._changed:
            for running in ended:
                self._running.remove(running)
                self._cancelled.discard(running.generation)
        self._tell(told)

    def _measure(self, running: _Running, piece: Piece) -> None:
        now = time.monotonic()
        metrics, generation = self._metrics, running.generation
        if running.tokens == 1:
            metrics.first_token.observe(now - running.submitted)
            metrics.prompt_tokens.inc(len(generation.prompt))
        else:
            metrics.inter_token.observe(now - running.told_at)
        running.told_at = now
        metrics.generation_tokens.inc()
        if piece.finish_reason is not None:
            metrics.finished(piece.finish_reason)
            metrics.latency.observe(now - running.submitted)

    def _end_all(self, reason: str) -> None:
        with self._changed:
            generations = [*(running.generation for running in self._running), *self._waiting]
            self._running.clear()
            self._waiting.clear()
        for _ in generations:
            self._metrics.finished("abort")
        self._tell([(generation, Piece("", (), (), "abort", None, reason)) for generation in generations])

    @staticmethod
    def _tell(told: list[tuple[Generation, Piece]]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Generation, Piece]]] = {}
        for generation, piece in told:
            by_loop.setdefault(generation.loop, []).append((generation, piece))
        for loop, pieces in by_loop.items():
            loop.call_soon_threadsafe(_deliver, pieces)

    def _cache_usage(self) -> float:
        """Tokens held by running requests, of those that all of them could hold."""
        if self._model is None:
            return 0.0
        room = self._model.context_tokens * self._settings.max_running_requests
        return sum(running.length for running in list(self._running)) / room


def _deliver(pieces: list[tuple[Generation, Piece]]) -> None:
    for generation, piece in pieces:
        generation.deliver(piece)
