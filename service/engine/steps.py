"""What the engine's thread does with its requests, step by step: plan, compute, draw, tell.

On a GPU a step is launched before the tokens of the one before it are read: they stay on the device, and what is planned names
them by their rows. So the device computes while the host finds out what was drawn, makes text of it and tells it. A request that
turns out to have ended has been computed once for nothing; what came of that, nobody looks at.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from service.engine.job import Job
from service.engine.pace import Pace
from service.engine.request import Piece, ScoresError, TokenLogprob
from service.engine.runner import Result, Runner
from service.engine.sampler import Choice, Drawn, draw, logprobs
from service.engine.scheduler import Scheduler, Sequence, Turn, unread
from service.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Step:
    """A step that is launched; what was drawn in it has not been read."""

    turns: list[Turn]
    began: float
    jobs: list[Job]  # those that draw
    drawn: Drawn


class Steps:
    """The requests that were taken in, each until it has ended (and ``ended`` has been called with it)."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        pace: Pace,
        metrics: Metrics,
        *,
        overlap: bool,
        alone: bool,
        ended: Callable[[Job], None],
    ) -> None:
        """``overlap``: a step is launched before the last one is read; ``alone``: no other process computes a part of it."""
        self._scheduler = scheduler
        self._runner = runner
        self._pace = pace
        self._metrics = metrics
        self._overlap = overlap
        self._alone = alone
        self._ended = ended
        self._jobs: dict[Sequence, Job] = {}
        self._launched: _Step | None = None
        self._last_read = 0.0

    def add(self, job: Job) -> None:
        self._jobs[job.sequence] = job
        self._scheduler.add(job.sequence)

    def abort(self, jobs: list[Job], reason: str) -> None:
        tell([(job, self._end(job, Piece("", finish_reason="abort", error=reason))) for job in jobs])

    def advance(self) -> None:
        """One step; a failure ends only the request in which it happens.

        Raises:
            Exception: the device, or another process, computes nothing more.
        """
        self._scheduler.chunk_tokens = self._pace.chunk_tokens
        turns = self._scheduler.plan()
        if turns:
            self._note_start(turns)
            self._compute(turns)
        if not (turns and self._jobs and self._overlap):
            self._read()

    def _note_start(self, turns: list[Turn]) -> None:
        now = time.monotonic()
        for turn in turns:
            job = self._jobs[turn.sequence]
            if job.started is None:
                job.started = now
                self._metrics.queue_time.observe(now - job.submitted)
        self._metrics.step_tokens.observe(sum(turn.count for turn in turns))

    def _compute(self, turns: list[Turn]) -> None:
        """Launches the turns, and reads what was launched before."""
        began = time.monotonic()
        try:
            result = self._runner.run(turns, None if self._launched is None else self._launched.drawn.tokens)
        except Exception as error:
            if not self._alone:
                raise  # how far the others are, nobody knows: all of them have to start again
            self._read()
            self._compute_one_by_one(turns, error)
        else:
            self._read()
            self._launched = self._draw(result, began)

    def _compute_one_by_one(self, turns: list[Turn], error: Exception) -> None:
        """One of them is to blame for the error: alone, the others go on."""
        if len(turns) > 1:
            log.warning("a step has failed (%s); its requests are computed one by one", type(error).__name__)
            for turn in turns:
                if turn.sequence in self._jobs:
                    self._compute([turn])
                    self._read()
        elif turns[0].sequence in self._jobs:
            self._runner.check()
            tell([self._fail(self._jobs[turns[0].sequence], error)])

    def _draw(self, result: Result, began: float) -> _Step:
        """Launches the choice of the next tokens, of those that have not ended meanwhile."""
        turns = [turn for turn in result.turns if turn.sequence in self._jobs]
        failed: dict[Job, Exception] = {}
        for turn, scores in result.told():
            if turn.sequence in self._jobs:
                job = self._jobs[turn.sequence]
                tokens = [turn.sequence.tokens[place] for place in turn.scored]
                try:
                    job.prompt_logprobs += logprobs(scores, tokens, job.generation.sampling.prompt_logprobs or 0)
                except Exception as error:  # of this request alone: the step itself has been computed
                    failed[job] = error
        self._scheduler.advance(turns)
        told = [self._fail(job, error) for job, error in failed.items()]
        whole = [turn.sequence for turn in turns if turn.sequence.whole]
        told += [self._end_prompt(self._jobs[sequence]) for sequence in whole if sequence in self._jobs]
        tell(told)
        rows = [row for row, turn in enumerate(result.drawing) if turn.sequence in self._jobs]
        jobs = [self._jobs[result.drawing[row].sequence] for row in rows]
        drawn = draw(result.scores_of(rows), [job.chooser for job in jobs])
        for row, job in enumerate(jobs):
            job.sequence.tokens.append(unread(row))
        return _Step(turns=turns, began=began, jobs=jobs, drawn=drawn)

    def _read(self) -> None:
        """Tells what was drawn in the step that was launched last, if it is not read yet."""
        step, self._launched = self._launched, None
        if step is None:
            return
        choices = step.drawn.read()
        now = time.monotonic()
        told: list[tuple[Job, Piece]] = []
        for job, choice in zip(step.jobs, choices, strict=True):
            if job.sequence in self._jobs:
                told.append(self._fail(job, choice) if isinstance(choice, Exception) else self._add(job, choice, now))
        tell(told)
        self._pace.note(step.turns, now - max(step.began, self._last_read))
        self._last_read = now

    def _add(self, job: Job, choice: Choice, now: float) -> tuple[Job, Piece]:
        """The token that was chosen, in the answer and in the metrics."""
        job.sequence.tokens[-1] = choice.token
        try:
            grammar = job.chooser.grammar
            piece = job.answer.add(choice, complete=grammar is not None and grammar.complete)
        except Exception as error:
            return self._fail(job, error)
        if job.first_told is None:
            job.first_told = now
            self._metrics.first_token.observe(now - job.submitted)
            piece = replace(piece, prompt_logprobs=self._prefilled(job))
        else:
            self._metrics.inter_token.observe(now - job.last_told)
        job.last_told = now
        self._metrics.generation_tokens.inc()
        return job, piece if piece.finish_reason is None else self._end(job, piece)

    def _end_prompt(self, job: Job) -> tuple[Job, Piece]:
        """Of a request that wanted nothing but its prompt computed."""
        return job, self._end(job, Piece("", finish_reason="length", prompt_logprobs=self._prefilled(job)))

    def _prefilled(self, job: Job) -> tuple[TokenLogprob, ...]:
        """A prompt is computed: what it told of its tokens."""
        self._metrics.prefilled(job.sequence.prompt_tokens, job.sequence.cached_tokens)
        return tuple(job.prompt_logprobs)

    def _fail(self, job: Job, error: Exception) -> tuple[Job, Piece]:
        # The message may quote the request, which is nobody's business but the client's.
        log.error(
            "a request has failed: %s",
            type(error).__name__,
            exc_info=error if log.isEnabledFor(logging.DEBUG) else None,
        )
        piece = Piece("", finish_reason="error", error=f"{type(error).__name__}: {error}")
        return job, self._end(job, piece, unsound=isinstance(error, ScoresError))

    def _end(self, job: Job, piece: Piece, *, unsound: bool = False) -> Piece:
        """Takes a request out, whatever its state; its last piece."""
        assert piece.finish_reason is not None
        sequence, metrics, now = job.sequence, self._metrics, time.monotonic()
        self._scheduler.remove(sequence, failed=piece.finish_reason == "error", unsound=unsound)
        del self._jobs[sequence]
        self._ended(job)
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


def tell(told: list[tuple[Job, Piece]]) -> None:
    """Gives pieces to those who wait for them: one wake-up of each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Job, Piece]]] = {}
    for job, piece in told:
        by_loop.setdefault(job.generation.loop, []).append((job, piece))
    for loop, pieces in by_loop.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_deliver, pieces)


def _deliver(pieces: list[tuple[Job, Piece]]) -> None:
    for job, piece in pieces:
        job.generation.deliver(piece, job.sequence.cached_tokens)
