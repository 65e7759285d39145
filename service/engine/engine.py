"""The engine: one thread that loads the model and then moves every running request on, step by step.

The event loop never computes: it submits and cancels under a lock, and gets what a step produced in one wake-up.
"""

import logging
import threading
from collections.abc import Callable
from collections.abc import Sequence as Tokens
from enum import Enum

import torch

from service.engine.answer import Answer
from service.engine.graphs import cuda_recorder
from service.engine.job import Job
from service.engine.model import LanguageModel, device_type
from service.engine.pace import Pace
from service.engine.ranks import Ranks
from service.engine.request import ContextLengthError, EngineClosedError, Generation, Piece, QueueFullError, Sampling
from service.engine.runner import Runner
from service.engine.sampler import Chooser
from service.engine.scheduler import Scheduler, Sequence
from service.engine.steps import Steps, tell
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


def overlaps(settings: Settings, device: torch.device) -> bool:
    """Whether a step is launched before the last one is read: a processor would only tell it later."""
    return settings.async_scheduling == "on" and device.type == "cuda"


class Engine:
    """Takes requests and gives their answers; see the module for how it works."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._changed = threading.Condition()
        # Under the lock:
        self._state = EngineState.LOADING
        self._progress = "starting"
        self._jobs: dict[Generation, Job] = {}
        self._arrived: list[Job] = []
        self._cancelled: set[Generation] = set()
        # Of the engine's thread, once it has loaded:
        self._model: LanguageModel | None = None
        self._scheduler: Scheduler | None = None
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
        job = Job(
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
        """Ends a request before its next step is planned; one that has ended stays as it is."""
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
            steps = self._load()
            while self._next(steps):
                steps.advance()
            self._end_all(self._progress)
            self.model.ranks.dismiss()
            self.model.ranks.leave()
        except Exception as error:
            log.exception("the engine has failed")
            with self._changed:
                self._state, self._progress = EngineState.FAILED, f"{type(error).__name__}: {error}"
            self._end_all(self._progress)

    def _load(self) -> Steps:
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
        runner = Runner(model.network, cache, model.shapes, announce=ranks.tell, share=ranks.share)
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
        return Steps(
            scheduler,
            runner,
            pace,
            self._metrics,
            overlap=overlaps(settings, model.device),
            alone=not ranks.several,
            ended=self._forget,
        )

    def _report(self, progress: str) -> None:
        self._progress = progress
        log.info("%s", progress)

    def _next(self, steps: Steps) -> bool:
        """Waits for work, and takes new requests in and cancelled ones out; False when the engine is to stop."""
        with self._changed:
            while self._state is EngineState.SERVING and not self._jobs:
                self._changed.wait()
            arrived, self._arrived = self._arrived, []
            cancelled, self._cancelled = self._cancelled, set()
            serving = self._state is EngineState.SERVING
        for job in arrived:
            steps.add(job)
        steps.abort([self._jobs[generation] for generation in cancelled if generation in self._jobs], "cancelled")
        return serving

    def _forget(self, job: Job) -> None:
        with self._changed:
            del self._jobs[job.generation]

    def _end_all(self, reason: str) -> None:
        with self._changed:
            jobs, self._jobs = list(self._jobs.values()), {}
            self._arrived.clear()
        for _ in jobs:
            self._metrics.finished("abort")
        self._scheduler = None
        tell([(job, Piece("", finish_reason="abort", error=reason)) for job in jobs])
