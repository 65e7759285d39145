"""A step told as numbers is the same step."""

from hypothesis import given
from hypothesis import strategies as st

from service.engine.batch import Batch, Span, decode, encode
from service.engine.kv_cache import Clear, Copy

numbers = st.integers(0, 2**31)
several = st.lists(numbers, min_size=1, max_size=20).map(tuple)
copies = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5).flatmap(
    lambda pairs: st.builds(Copy, st.just(tuple(a for a, _ in pairs)), st.just(tuple(b for _, b in pairs)), numbers)
)
changes = st.lists(copies | st.builds(Clear, numbers, numbers), max_size=4).map(tuple)
places = st.builds(range, numbers, numbers)
spans = st.lists(st.builds(Span, several, numbers, numbers, numbers, st.booleans(), places), max_size=5).map(tuple)


@given(st.builds(Batch, changes, spans, numbers))
def test_what_is_told_is_what_is_heard(batch: Batch) -> None:
    assert decode(encode(batch)) == batch
