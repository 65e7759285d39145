"""Scheduler, regions and prefix cache together, under whatever requests come: nothing is lost, shared by mistake or starved."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine import scheduler
from service.engine.kv_cache import Clear, Copy, KvCache
from service.engine.prefix import PAGE_TOKENS, PrefixPages
from service.engine.regions import Regions
from service.engine.scheduler import Scheduler, Sequence

CONTEXT = 96
SMALLEST = 16
STEP = 24
SCORED = 15


@dataclass
class World:
    """A scheduler whose "model" writes into every place what led to it, and checks what it reads."""

    cache: KvCache
    scheduler: Scheduler
    places: list[int] = field(default_factory=list)
    live: list[Sequence] = field(default_factory=list)
    arrived: list[Sequence] = field(default_factory=list)
    begun: list[Sequence] = field(default_factory=list)
    told: dict[Sequence, list[int]] = field(default_factory=dict)
    computed: int = 0

    @classmethod
    def of(cls, region_tokens: int, page_count: int, max_running: int = 4) -> "World":
        cache = KvCache(
            region_tokens=region_tokens, page_count=page_count, context_tokens=CONTEXT, smallest_region=SMALLEST
        )
        scheduler = Scheduler(cache, max_running=max_running, step_tokens=STEP, chunk_tokens=10)
        return cls(cache, scheduler, [0] * cache.places)

    def arrive(self, tokens: list[int], answer: int, *, scores: bool = False) -> Sequence:
        sequence = Sequence(list(tokens), len(tokens) + answer, scores=scores)
        self.told[sequence] = []
        self.scheduler.add(sequence)
        self.live.append(sequence)
        self.arrived.append(sequence)
        return sequence

    def leave(self, sequence: Sequence, *, failed: bool) -> None:
        self.scheduler.remove(sequence, failed=failed, unsound=failed)
        self.live.remove(sequence)

    def change(self) -> None:
        for change in self.cache.changes:
            match change:
                case Copy(sources, targets, size):
                    for source, target in zip(sources, targets, strict=True):
                        self.places[target : target + size] = self.places[source : source + size]
                case Clear(start, size):
                    self.places[start : start + size] = [0] * size
        self.cache.changes.clear()
        used = {lease.start + index for lease in self.cache._leases for index in range(lease.reach)}
        unused = set(range(self.cache.region_tokens)) - used
        assert not any(self.places[place] for place in unused), "something is left where nobody is"

    def step(self, *, leaving: int | None = None) -> None:
        """``leaving``: of the live ones this one leaves while the step is computed."""
        turns = self.scheduler.plan()
        assert bool(turns) == bool(self.live), "an idle step with work, or work without requests"
        self.change()
        prompts = sum(turn.count for turn in turns if turn.count > 1)
        assert prompts <= STEP
        assert sum(len(turn.scored) for turn in turns) <= SCORED
        for turn in turns:
            sequence = turn.sequence
            if sequence not in self.begun:
                self.begun.append(sequence)
            assert sequence.lease is not None
            start, end = sequence.lease.start, turn.start + turn.count
            assert end <= sequence.lease.size
            assert turn.draws == (end == len(sequence.tokens) < sequence.longest)
            assert all(turn.start < place <= end for place in turn.scored), "what tells of a token is not computed"
            self.told[sequence].extend(turn.scored)
            states = [hash(tuple(sequence.tokens[: place + 1])) for place in range(end)]
            self.places[start + turn.start : start + end] = states[turn.start :]
            assert self.places[start : start + end] == states, "a sequence reads what is not its own"
            self.computed += turn.count
        self.check_leases()
        if leaving is not None:
            gone = self.live[leaving % len(self.live)]
            self.leave(gone, failed=False)
            turns = [turn for turn in turns if turn.sequence is not gone]
        self.scheduler.advance(turns)
        for turn in turns:
            sequence = turn.sequence
            if turn.draws:
                sequence.tokens.append(len(sequence.tokens) % 3)
            if sequence.whole or len(sequence.tokens) == sequence.longest > sequence.prompt_tokens:
                self.leave(sequence, failed=False)
                told = range(1, sequence.prompt_tokens) if sequence.scores else ()
                assert self.told[sequence] == list(told), "a token's probability is told twice or never"

    def check_leases(self) -> None:
        leases = sorted((lease.start, lease.start + lease.size) for lease in self.cache._leases)
        assert all(end <= start for (_, end), (start, _) in pairwise(leases))
        taken = sum(end - start for start, end in leases)
        assert self.cache.usage == pytest.approx(taken / self.cache.region_tokens)
        assert len(leases) == len(self.scheduler.running)
        order = [self.arrived.index(sequence) for sequence in (*self.scheduler.running, *self.scheduler.waiting)]
        assert order == sorted(order), "a later request is before an earlier one"

    def finish(self) -> None:
        for _ in range(40 * CONTEXT):
            if not self.live:
                break
            self.step()
        assert not self.live, "a request never ends"
        self.change()
        assert self.cache.usage == 0
        assert not self.cache._pages._holders
        assert len(self.cache._pages._free) + len(self.cache._pages._idle) == self.cache._pages.count


# Few different tokens and lengths around pages: prompts often share their beginnings.
PROMPTS = st.builds(
    lambda shared, own, last: [0] * shared + [1] * own + [last],
    st.integers(0, 50),
    st.integers(0, 20),
    st.integers(0, 2),
)
EVENTS = st.one_of(
    st.tuples(st.just("arrive"), PROMPTS, st.integers(0, 24), st.booleans()),
    st.tuples(st.just("step"), st.integers(1, 5)),
    st.tuples(st.just("leave"), st.integers(0, 9)),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("fail"), st.integers(0, 9)),
)


@pytest.fixture(scope="module", autouse=True)
def _few_scores() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scheduler, "SCORED_TOKENS", SCORED)
        yield


@settings(max_examples=300, deadline=None)
@given(
    events=st.lists(EVENTS, max_size=60),
    spare=st.integers(0, 12),
    page_count=st.integers(0, 12),
    max_running=st.integers(1, 6),
)
def test_any_requests(events: list[tuple[object, ...]], spare: int, page_count: int, max_running: int) -> None:
    world = World.of(CONTEXT + spare * SMALLEST, page_count, max_running)
    for event in events:
        match event:
            case ("arrive", list() as prompt, int(answer), bool(scores)):
                world.arrive(prompt, answer, scores=scores)
            case ("step", int(times)):
                for _ in range(times):
                    world.step()
            case ("leave", int(which)) if world.live:
                world.step(leaving=which)
            case (kind, int(which)) if world.live:
                world.leave(world.live[which % len(world.live)], failed=kind == "fail")
    world.finish()
    order = [world.arrived.index(sequence) for sequence in world.begun]
    assert order == sorted(order), "a later request had its turn first"


def test_oldest_request_is_never_held_up_by_later_ones() -> None:
    world = World.of(CONTEXT, 0)
    first = world.arrive([1], CONTEXT - 1)
    for _ in range(8):
        world.arrive([0, 2], 60)
    steps = 0
    while first in world.live:
        world.step()
        steps += 1
    assert first.preemptions == 0
    assert steps == CONTEXT - 1
    world.finish()
    assert any(sequence.preemptions for sequence in world.arrived), "the cache was to be too small for all"


def test_long_prompt_leaves_room_for_short_ones_and_for_those_that_decode() -> None:
    world = World.of(400, 0)
    talking = world.arrive([1], 30)
    world.step()
    world.arrive([0] * 60, 1)
    short = world.arrive([2] * 8, 1)
    world.step()
    assert len(talking.tokens) == 3
    assert short not in world.live  # it had its answer in the step in which the long one computed its first chunk


def test_finished_prompt_is_not_computed_again() -> None:
    world = World.of(400, 20)
    world.arrive([0] * 50 + [1], 2)
    world.finish()
    before = world.computed
    again = [world.arrive([0] * 50 + [2], 1) for _ in range(3)]
    world.finish()
    assert [sequence.cached_tokens for sequence in again] == [48, 48, 48]
    assert world.computed - before == 3 * 3


def test_scored_prompt_goes_on_where_it_was_when_it_lost_its_place() -> None:
    world = World.of(CONTEXT, 20)
    first = world.arrive([1], 60)
    while len(first.tokens) < 2 * SMALLEST - 2:
        world.step()
    scored = world.arrive([2] * 50, 1, scores=True)
    for _ in range(4):
        world.step()
    known = scored.scored
    assert scored.preemptions == 1  # the first one's region grew into its own
    assert PAGE_TOKENS < known < scored.prompt_tokens
    while scored.lease is None:
        world.step()
    assert 0 < scored.lease.cached < known
    world.finish()
    assert first.preemptions == 0


def test_answer_is_found_by_the_next_turn_of_the_conversation() -> None:
    world = World.of(400, 20)
    first = world.arrive([7] * 20, 30)
    world.finish()
    follow_up = world.arrive([*first.tokens, 9], 1)
    world.finish()
    assert follow_up.cached_tokens == 48  # of 49 that were computed


def test_cache_smaller_than_a_context_is_refused() -> None:
    with pytest.raises(ValueError, match="80 places for keys and values are less than the context's 96"):
        World.of(80, 0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 30)), max_size=80))
def test_regions_never_overlap_and_come_back_whole(steps: list[tuple[int, int]]) -> None:
    regions = Regions(64)
    taken: list[tuple[int, int]] = []
    for size, which in steps:
        if taken and which % 3 == 0:
            regions.give(*taken.pop(which % len(taken)))
        elif taken and which % 3 == 1:
            start, old = taken.pop(which % len(taken))
            widened = regions.widen(start + old, size)
            taken.append((start, old + size if widened else old))
        elif (found := regions.take(size)) is not None:
            taken.append((found, size))
        places = [place for start, length in taken for place in range(start, start + length)]
        assert len(places) == len(set(places))
        assert not places or max(places) < 64
        assert regions.free == 64 - len(places)
    for region in taken:
        regions.give(*region)
    assert regions.take(64) == 0


def test_lowest_region_first_and_only_below_when_asked() -> None:
    regions = Regions(48)
    assert [regions.take(16) for _ in range(3)] == [0, 16, 32]
    regions.give(16, 16)
    assert regions.take(16, below=16) is None
    assert regions.take(16, below=17) == 16
    assert regions.take(1) is None


def page(number: int) -> list[int]:
    return [number] * PAGE_TOKENS


PAGE_EVENTS = st.one_of(
    st.tuples(st.just("begin"), st.lists(st.integers(0, 2), min_size=1, max_size=4)),
    st.tuples(st.just("end"), st.integers(0, 9)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PAGE_EVENTS, max_size=60), st.integers(0, 6))
def test_pages_are_found_by_all_that_leads_to_them_and_never_taken_from_who_holds_them(
    events: list[tuple[str, Any]], count: int
) -> None:
    pages = PrefixPages(count)
    content: dict[int, tuple[int, ...]] = {}  # what is written in a page: all that leads to it, and its own
    held: list[tuple[list[int], list[int]]] = []
    for kind, what in events:
        if kind == "end" and held:
            _, mine = held.pop(what % len(held))
            pages.release(mine)
        elif kind == "begin":
            tokens = [token for number in what for token in page(number)]
            mine = pages.match(tokens, len(tokens))
            for place, found in enumerate(mine):
                assert content[found] == tuple(what[: place + 1])
            while len(mine) < len(what):
                start = len(mine) * PAGE_TOKENS
                added = pages.add(mine[-1] if mine else None, tokens[start : start + PAGE_TOKENS])
                if added is None:
                    taken = {one for _, others in held for one in others} | set(mine)
                    assert len(taken) == count, "a page that nobody holds is refused"
                    break
                found, new = added
                assert new, "what was not found is there"
                assert all(found not in others for _, others in held), "a page is taken from who holds it"
                content[found] = tuple(what[: len(mine) + 1])
                mine.append(found)
            held.append((what, mine))
        for numbers, others in held:
            assert [content[one] for one in others] == [tuple(numbers[: place + 1]) for place in range(len(others))]
    for _, mine in held:
        pages.release(mine)
    everything = [pages.add(None, page(100 + number)) for number in range(count)]
    assert {one[0] for one in everything if one} == set(range(count)), "a page is lost"


def test_held_pages_stay_and_the_longest_unused_goes_first() -> None:
    pages = PrefixPages(3)
    first, second, third = (pages.add(None, page(number)) for number in range(3))
    assert first is not None
    assert second is not None
    assert third is not None
    assert pages.add(None, page(3)) is None  # all are held
    pages.release([second[0]])
    pages.release([first[0]])
    assert pages.match(page(1), PAGE_TOKENS) == [second[0]]  # used again: the first is now the longest unused
    assert pages.add(None, page(3)) == (first[0], True)
    assert pages.match(page(0), PAGE_TOKENS) == []


def test_page_is_not_found_once_the_page_before_it_is_gone() -> None:
    pages = PrefixPages(2)
    before = pages.add(None, page(1))
    assert before is not None
    after = pages.add(before[0], page(2))
    assert after is not None
    pages.release([after[0]])
    pages.release([before[0]])
    pages.match(page(1) + page(2), 2 * PAGE_TOKENS)
    pages.release([after[0]])
    pages.release([before[0]])
    for number in (3, 4):
        added = pages.add(None, page(number))
        assert added is not None
        pages.release([added[0]])
    again = pages.add(None, page(1))
    assert again is not None
    assert again[1]
    assert pages.match(page(1) + page(2), 2 * PAGE_TOKENS) == [again[0]]


def test_same_page_is_kept_once() -> None:
    pages = PrefixPages(4)
    one, other = pages.add(None, page(5)), pages.add(None, page(5))
    assert one is not None
    assert other == (one[0], False)


def test_forgotten_page_is_not_found_while_it_is_held_nor_later() -> None:
    pages = PrefixPages(2)
    unsound = pages.add(None, page(5))
    assert unsound is not None
    pages.forget([unsound[0]])
    assert pages.match(page(5), PAGE_TOKENS) == []
    anew = pages.add(None, page(5))
    assert anew is not None
    assert anew[1]
    pages.forget([unsound[0]])  # it is no longer the one of this name
    assert pages.match(page(5), PAGE_TOKENS) == [anew[0]]
    pages.release([unsound[0]])
    assert pages.add(None, page(6)) == (unsound[0], True)
