"""Who computes what in the next step. No tensors, no clock, no threads: the same calls always give the same plans.

A step is a list of turns: every sequence that has its prompt behind it computes one token, and what is left of the budget
goes to prompts, in chunks. First come, first served: a request never waits for a later one, and when the cache is full the
latest gives its place up and computes its keys and values again later.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from service.engine.kv_cache import KvCache, Lease

# Tokens of prompts in one step whose probabilities are told: each needs scores as many as the vocabulary has tokens, all of
# them in memory at once (300 MiB of float32 where the vocabulary has 150,000).
SCORED_TOKENS = 512


def unread(row: int) -> int:
    """Stands for the token that the last step drew in this row, as long as only the device knows it: below any real one."""
    return ~row


@dataclass(eq=False)
class Sequence:
    """The tokens of one request, prompt and answer; ``computed`` of them have their keys and values in the cache.

    The last token may be :func:`unread`.
    """

    tokens: list[int]
    longest: int  # tokens of prompt and whole answer
    prompt_tokens: int = field(init=False)
    computed: int = 0
    cached_tokens: int = 0  # of the prompt, from the prefix cache, when it first had its turn
    preemptions: int = 0
    lease: Lease | None = None
    scores: bool = False  # the probabilities of the prompt's tokens are wanted
    scored: int = field(init=False)  # of so many they are known; the first token has none

    def __post_init__(self) -> None:
        self.prompt_tokens = len(self.tokens)
        self.scored = 1 if self.scores else self.prompt_tokens

    @property
    def pending(self) -> int:
        """Tokens to compute before the next one can be drawn."""
        return len(self.tokens) - self.computed

    @property
    def whole(self) -> bool:
        """All is computed that ever will be, which happens only where no answer is wanted."""
        return self.computed == self.longest

    @property
    def complete(self) -> bool:
        """Its last token is drawn, and only has to be read."""
        return len(self.tokens) == self.longest and self.tokens[-1] < 0

    @property
    def reusable(self) -> int:
        """Tokens whose keys and values may come from the prefix cache: all but what tells of the next ones has to be computed."""
        return (self.scored if self.scored < self.prompt_tokens else len(self.tokens)) - 1


@dataclass(frozen=True, slots=True)
class Turn:
    """``count`` tokens of a sequence from ``start`` on; ``draws``: the last of them is to tell what comes next."""

    sequence: Sequence
    start: int
    count: int
    draws: bool

    @property
    def scored(self) -> range:
        """The places in the sequence of those tokens whose probabilities are told by this turn, each by the one before it."""
        end = min(self.start + self.count + 1, self.sequence.prompt_tokens)
        return range(max(self.start + 1, self.sequence.scored), end)


@dataclass
class _Budget:
    """Tokens of prompts that a step may still compute; ``scored`` of them where their probabilities are told."""

    tokens: int
    scored: int

    def of(self, sequence: Sequence) -> int:
        return min(self.tokens, self.scored) if sequence.scored < sequence.prompt_tokens else self.tokens

    def spend(self, turn: Turn) -> None:
        self.tokens -= turn.count
        self.scored -= len(turn.scored)


class Scheduler:
    """Plans steps of at most ``step_tokens`` tokens of prompts, beside one of each running sequence.

    While others decode, a prompt that is longer than a step gets only ``chunk_tokens`` of one (which may be set anew before
    every plan), so that it does not hold them up for long; short ones fill the step, and do so once.
    """

    def __init__(self, cache: KvCache, *, max_running: int, step_tokens: int, chunk_tokens: int) -> None:
        self.cache = cache
        self._max_running = max_running
        self._step_tokens = step_tokens
        self.chunk_tokens = chunk_tokens
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []  # by arrival, all of them before those that wait

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def plan(self) -> list[Turn]:
        """The turns of the next step; empty when there is nothing to do."""
        preempted = self._make_room()
        decodes = [_turn(sequence, 1) for sequence in self.running if sequence.pending == 1 and not sequence.complete]
        budget = _Budget(self._step_tokens, SCORED_TOKENS)
        prefills = [
            self._chunk(sequence, budget, beside=bool(decodes))
            for sequence in self.running
            if sequence.pending > 1 and budget.of(sequence)
        ]
        # Who just gave its place up would take the room that was made for others.
        while not (preempted and self.running) and self.waiting and len(self.running) < self._max_running:
            sequence = self.waiting[0]
            if not budget.of(sequence) or not self._admit(sequence):
                break
            prefills.append(self._chunk(sequence, budget, beside=bool(decodes)))
        self.cache.compact()
        turns = decodes + prefills
        for turn in turns:
            assert turn.sequence.lease is not None
            turn.sequence.lease.reach = turn.start + turn.count
        return turns

    def advance(self, turns: Iterable[Turn]) -> None:
        """What was planned has been computed."""
        for turn in turns:
            sequence, lease = turn.sequence, turn.sequence.lease
            assert lease is not None
            sequence.computed = lease.length = turn.start + turn.count
            if turn.scored:
                sequence.scored = turn.scored.stop
            if turn.count > 1:
                self.cache.publish(lease, sequence.tokens[: sequence.computed])

    def remove(self, sequence: Sequence, *, failed: bool = False, unsound: bool = False) -> None:
        """Takes a sequence out, wherever it is.

        Of a ``failed`` one no more is kept for others; where it is ``unsound``, what is kept of it already is forgotten, too.
        """
        if sequence.lease is None:
            self.waiting.remove(sequence)
            return
        self.running.remove(sequence)
        if unsound:
            self.cache.forget(sequence.lease)
        self._release(sequence, publish=not failed)

    def _chunk(self, sequence: Sequence, budget: _Budget, *, beside: bool) -> Turn:
        """What a prompt computes next, paid for from the budget."""
        assert sequence.lease is not None
        long = len(sequence.tokens) - sequence.lease.cached > self._step_tokens
        left = budget.of(sequence)
        turn = _turn(sequence, min(sequence.pending, left, self.chunk_tokens if long and beside else left))
        budget.spend(turn)
        return turn

    def _admit(self, sequence: Sequence) -> bool:
        room = min(sequence.longest - len(sequence.tokens), self.cache.smallest_region)
        lease = self.cache.open(sequence.tokens, room, reusable=sequence.reusable)
        if lease is None:
            return False
        self.waiting.popleft()
        self.running.append(sequence)
        sequence.lease, sequence.computed = lease, lease.cached
        if not sequence.preemptions:
            sequence.cached_tokens = lease.cached
        return True

    def _make_room(self) -> bool:
        """Room for the next token of every running sequence; returns whether one had to give its place up for it."""
        preempted = False
        for sequence in tuple(self.running):
            if sequence.complete:
                continue
            while sequence.lease is not None and not self.cache.grow(sequence.lease, len(sequence.tokens)):
                self._preempt(self.running[-1])
                preempted = True
        return preempted

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence, publish=True)
        sequence.computed = 0
        sequence.preemptions += 1
        self.waiting.appendleft(sequence)

    def _release(self, sequence: Sequence, *, publish: bool) -> None:
        assert sequence.lease is not None
        if publish:
            self.cache.publish(sequence.lease, sequence.tokens[: sequence.computed])
        self.cache.close(sequence.lease)
        sequence.lease = None


def _turn(sequence: Sequence, count: int) -> Turn:
    """The next so many tokens; nothing is drawn where nothing may follow."""
    draws = count == sequence.pending and len(sequence.tokens) < sequence.longest
    return Turn(sequence, sequence.computed, count, draws)
