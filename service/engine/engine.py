"""The engine: one thread that loads the model and then moves every running request on, step by step.

The event loop never computes: it submits and cancels under a lock, and gets what a step produced in one wake-up.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field, replace
from enum import Enum

import torch

from service.engine.answer import Answer
from service.engine.graphs import cuda_recorder
from service.engine.model import LanguageModel, device_type
from service.engine.pace import Pace
from service.engine.ranks import Ranks
from service.engine.request import (
    ContextLengthError,
    EngineClosedError,
    Generation,
    Piece,
    QueueFullError,
    Sampling,
    TokenLogprob,
)
from service.engine.runner import Runner
from service.engine.sampler import Choice, Chooser, choose, logprobs
from service.engine.scheduler import Scheduler, Sequence, Turn
from service.metrics import Metrics
from service.settings import Settings

log = logging.getLogger(__name__)

# Tokens of prompts in one step: about as many as a device needs to be busy with its weights' arithmetic, not their transfer.
STEP_TOKENS = {"cpu": 512, "cuda": 2048}


def step_tokens(settings: Settings, device: torch.device) -> int:
    """Tokens of prompts that a step computes at most."""
    return settings.max_step_tokens or STEP_TOKENS[device.type]


class EngineState(Enum):
    LOADING = "loading"
    SERVING = "serving"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(eq=False)
class _Job:
    """A request: what the scheduler, the sampler and the client know of it. Times are of the monotonic clock."""

    generation: Generation
    sequence: Sequence
    chooser: Chooser
    answer: Answer
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    submitted: float = field(default_factory=time.monotonic)
    started: float | None = None
    first_told: float | None = None
    last_told: float = 0.0


class Engine:
    """Takes requests and gives their answers; see the module for how it works."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._changed = threading.Condition()
        # Under the lock:
        self._state = EngineState.LOADING
        self._progress = "starting"
        self._jobs: dict[Generation, _Job] = {}
        self._arrived: list[_Job] = []
        self._cancelled: set[Generation] = set()
        # Of the engine's thread, once it has loaded:
        self._model: LanguageModel | None = None
        self._scheduler: Scheduler | None = None
        self._by_sequence: dict[Sequence, _Job] = {}
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        metrics.follow(
            running=lambda: self._of_scheduler(lambda scheduler: len(scheduler.running)),
            waiting=lambda: len(self._arrived) + self._of_scheduler(lambda scheduler: len(scheduler.waiting)),
            deferred=lambda: self._of_scheduler(
                lambda scheduler: sum(bool(sequence.preemptions) for sequence in tuple(scheduler.waiting))
            ),
            cache=lambda: self._of_scheduler(lambda scheduler: scheduler.cache.usage),
        )

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
        """Ends every request as aborted, for ``reason``, and the thread."""
        with self._changed:
            if self._state in (EngineState.LOADING, EngineState.SERVING):
                self._state, self._progress = EngineState.STOPPED, reason
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Waits until the thread has ended: the interpreter must not end while it still gives its memory back."""
        self._thread.join(seconds)

    def submit(self, prompt: Tokens[int], sampling: Sampling) -> Generation:
        """Puts a request in the queue. To be called on the event loop that will read the answer.

        Raises:
            QueueFullError: too many wait already.
            EngineClosedError: the engine does not serve.
            ContextLengthError: prompt and answer would not fit into the context.
            GrammarError: the grammar is not valid.
        """
        model = self.model
        if len(prompt) + sampling.max_tokens > model.context_tokens:
            raise ContextLengthError(len(prompt), sampling.max_tokens, model.context_tokens)
        if not prompt:
            raise ValueError("a prompt has at least one token")
        self._check_open()
        grammar = None if sampling.grammar is None else model.grammars.compile(sampling.grammar)
        generation = Generation(prompt, sampling, self.cancel)
        job = _Job(
            generation,
            Sequence(list(prompt), len(prompt) + sampling.max_tokens, scores=sampling.prompt_logprobs is not None),
            Chooser(sampling, prompt, model.end_tokens, grammar),
            Answer(sampling, model.decoder, model.end_tokens),
        )
        with self._changed:
            self._check_open()
            self._jobs[generation] = job
            self._arrived.append(job)
            self._changed.notify()
        return generation

    def cancel(self, generation: Generation) -> None:
        """Ends a request before its next step; one that has ended stays as it is."""
        with self._changed:
            if generation in self._jobs:
                self._cancelled.add(generation)
                self._changed.notify()

    def _check_open(self) -> None:
        if self._state is not EngineState.SERVING:
            raise EngineClosedError(self._progress)
        if len(self._jobs) >= self._settings.max_running_requests + self._settings.max_waiting_requests:
            raise QueueFullError

    def _of_scheduler(self, read: Callable[[Scheduler], float]) -> float:
        scheduler = self._scheduler  # it comes and goes in the engine's thread
        return read(scheduler) if scheduler is not None else 0

    def _work(self) -> None:
        try:
            scheduler, runner, pace = self._load()
            while self._next():
                scheduler.chunk_tokens = pace.chunk_tokens
                turns = scheduler.plan()
                if turns:
                    began = time.monotonic()
                    self._step(scheduler, runner, turns)
                    pace.note(turns, time.monotonic() - began)
            self._end_all(self._progress)
            self.model.ranks.dismiss()
            self.model.ranks.leave()
        except Exception as error:
            log.exception("the engine has failed")
            with self._changed:
                self._state, self._progress = EngineState.FAILED, f"{type(error).__name__}: {error}"
            self._end_all(self._progress)

    def _load(self) -> tuple[Scheduler, Runner, Pace]:
        settings = self._settings
        ranks = Ranks.join(settings.tensor_parallel, device_type(settings.device))
        model = LanguageModel.load(settings, self._report, ranks)
        most = step_tokens(settings, model.device)
        cache = model.cache(settings, most)
        pace = Pace(most)
        scheduler = Scheduler(
            cache,
            max_running=settings.max_running_requests,
            step_tokens=most,
            chunk_tokens=pace.chunk_tokens,
        )
        runner = Runner(model.network, cache, model.shapes, announce=ranks.tell)
        self._report("warming up")
        model.warm_up(runner, scheduler)
        if settings.records_graphs:
            runner.record(settings.max_running_requests, cuda_recorder, self._report)
        self._metrics.loaded(model.context_tokens)
        self._model, self._scheduler = model, scheduler
        with self._changed:
            if self._state is EngineState.LOADING:
                self._state, self._progress = EngineState.SERVING, "serving"
        log.info(
            "serving %s: %s, context %d tokens, %d tokens of running requests, %d of the prefix cache",
            settings.name,
            model.architecture,
            model.context_tokens,
            cache.region_tokens,
            cache.places - cache.region_tokens,
        )
        return scheduler, runner, pace

    def _report(self, progress: str) -> None:
        self._progress = progress
        log.info("%s", progress)

    def _next(self) -> bool:
        """Waits for work, and takes new requests in and cancelled ones out; False when the engine is to stop."""
        assert self._scheduler is not None
        with self._changed:
            while self._state is EngineState.SERVING and not self._jobs:
                self._changed.wait()
            arrived, self._arrived = self._arrived, []
            cancelled, self._cancelled = self._cancelled, set()
            serving = self._state is EngineState.SERVING
        for job in arrived:
            self._by_sequence[job.sequence] = job
            self._scheduler.add(job.sequence)
        jobs = [self._jobs[generation] for generation in cancelled if generation in self._jobs]
        self._tell([(job, self._end(job, Piece("", finish_reason="abort", error="cancelled"))) for job in jobs])
        return serving

    def _step(self, scheduler: Scheduler, runner: Runner, turns: list[Turn]) -> None:
        """Computes the turns; a failure ends only the request in which it happens."""
        now = time.monotonic()
        for turn in turns:
            job = self._by_sequence[turn.sequence]
            if job.started is None:
                job.started = now
                self._metrics.queue_time.observe(now - job.submitted)
        told = self._compute(scheduler, runner, turns)
        self._metrics.step_tokens.observe(sum(turn.count for turn in turns))
        self._tell(told)

    def _compute(self, scheduler: Scheduler, runner: Runner, turns: list[Turn]) -> list[tuple[_Job, Piece]]:
        failed: dict[_Job, Exception] = {}

        def tell(turn: Turn, rows: torch.Tensor) -> None:
            job = self._by_sequence[turn.sequence]
            tokens = [turn.sequence.tokens[place] for place in turn.scored]
            try:
                job.prompt_logprobs += logprobs(rows, tokens, job.generation.sampling.prompt_logprobs or 0)
            except Exception as error:  # of this request alone: the step itself has been computed
                failed[job] = error

        try:
            drawing, scores = runner.run(turns, tell)
        except Exception as error:
            if self.model.ranks.several:
                raise  # how far the others are, nobody knows: all of them have to start again
            if len(turns) > 1:
                # One of them is to blame: alone, the others go on.
                log.warning("a step has failed (%s); its requests are computed one by one", type(error).__name__)
                return [one for turn in turns for one in self._compute(scheduler, runner, [turn])]
            runner.check()
            return [self._fail(self._by_sequence[turns[0].sequence], error, runner)]
        scheduler.advance(turns)
        whole = [self._by_sequence[turn.sequence] for turn in turns if turn.sequence.whole]
        jobs = [self._by_sequence[turn.sequence] for turn in drawing]
        choices = choose(scores, [job.chooser for job in jobs]) if jobs else []
        now = time.monotonic()
        told = [self._fail(job, error, runner) for job, error in failed.items()]
        told += [self._end_prompt(job) for job in whole if job not in failed]
        told += [
            self._fail(job, choice, runner) if isinstance(choice, Exception) else self._add(job, choice, now, runner)
            for job, choice in zip(jobs, choices, strict=True)
            if job not in failed
        ]
        return told

    def _add(self, job: _Job, choice: Choice, now: float, runner: Runner) -> tuple[_Job, Piece]:
        """The token that was chosen, in the answer and in the metrics."""
        try:
            grammar = job.chooser.grammar
            piece = job.answer.add(choice, complete=grammar is not None and grammar.complete)
        except Exception as error:
            return self._fail(job, error, runner)
        job.sequence.tokens.append(choice.token)
        if job.first_told is None:
            job.first_told = now
            self._metrics.first_token.observe(now - job.submitted)
            piece = replace(piece, prompt_logprobs=self._prefilled(job))
        else:
            self._metrics.inter_token.observe(now - job.last_told)
        job.last_told = now
        self._metrics.generation_tokens.inc()
        return job, piece if piece.finish_reason is None else self._end(job, piece)

    def _end_prompt(self, job: _Job) -> tuple[_Job, Piece]:
        """Of a request that wanted nothing but its prompt computed."""
        return job, self._end(job, Piece("", finish_reason="length", prompt_logprobs=self._prefilled(job)))

    def _prefilled(self, job: _Job) -> tuple[TokenLogprob, ...]:
        """A prompt is computed: what it told of its tokens."""
        self._metrics.prefilled(job.sequence.prompt_tokens, job.sequence.cached_tokens)
        return tuple(job.prompt_logprobs)

    def _fail(self, job: _Job, error: Exception, runner: Runner) -> tuple[_Job, Piece]:
        # The message may quote the request, which is nobody's business but the client's.
        log.error(
            "a request has failed: %s",
            type(error).__name__,
            exc_info=error if log.isEnabledFor(logging.DEBUG) else None,
        )
        if job.sequence.lease is not None:
            runner.wipe(job.sequence.lease)
        return job, self._end(job, Piece("", finish_reason="error", error=f"{type(error).__name__}: {error}"))

    def _end(self, job: _Job, piece: Piece) -> Piece:
        """Takes a request out, whatever its state; its last piece."""
        assert self._scheduler is not None
        assert piece.finish_reason is not None
        sequence, metrics, now = job.sequence, self._metrics, time.monotonic()
        self._scheduler.remove(sequence, failed=piece.finish_reason == "error")
        del self._by_sequence[sequence]
        with self._changed:
            del self._jobs[job.generation]
        metrics.finished(piece.finish_reason)
        metrics.preemptions.inc(sequence.preemptions)
        metrics.latency.observe(now - job.submitted)
        metrics.lengths(
            prompt=sequence.prompt_tokens,
            cached=sequence.cached_tokens,
            generated=job.answer.tokens,
            allowed=job.generation.sampling.max_tokens,
        )
        if job.started is not None and job.first_told is not None:
            metrics.inference_time.observe(now - job.started)
            metrics.prefill_time.observe(job.first_told - job.started)
            metrics.decode_time.observe(now - job.first_told)
            if job.answer.tokens > 1:
                metrics.time_per_token.observe((now - job.first_told) / (job.answer.tokens - 1))
        return piece

    def _end_all(self, reason: str) -> None:
        with self._changed:
            jobs, self._jobs = list(self._jobs.values()), {}
            self._arrived.clear()
        for _ in jobs:
            self._metrics.finished("abort")
        self._scheduler = None
        self._tell([(job, Piece("", finish_reason="abort", error=reason)) for job in jobs])

    @staticmethod
    def _tell(told: list[tuple[_Job, Piece]]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Job, Piece]]] = {}
        for job, piece in told:
            by_loop.setdefault(job.generation.loop, []).append((job, piece))
        for loop, pieces in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_deliver, pieces)


def _deliver(pieces: list[tuple[_Job, Piece]]) -> None:
    for job, piece in pieces:
        job.generation.deliver(piece, job.sequence.cached_tokens)
