"""How much of a long prompt is computed beside others, by what steps have taken."""

from service.engine.pace import LEAST_TOKENS, SLOWDOWN, Pace
from service.engine.scheduler import Sequence, Turn


def turns(decodes: int, prompt: int) -> list[Turn]:
    sequence = Sequence([0], 9)
    return [Turn(sequence, 0, 1, True)] * decodes + ([Turn(sequence, 0, prompt, False)] if prompt else [])


def test_chunk_is_what_slows_the_others_down_as_much_as_they_may_be() -> None:
    pace = Pace(512)
    assert pace.chunk_tokens == 64
    for _ in range(40):
        pace.note(turns(8, 0), 0.030)
        pace.note(turns(8, 50), 0.030 + 50 * 0.0005)
    assert pace.chunk_tokens == round((SLOWDOWN - 1) * 0.030 / 0.0005)


def test_chunk_stays_within_bounds_and_prompts_alone_teach_nothing() -> None:
    slow, fast = Pace(512), Pace(512)
    for pace, token in ((slow, 0.1), (fast, 1e-6)):
        pace.note(turns(0, 512), 100)
        pace.note(turns(1, 0), 0.01)
        for _ in range(200):
            pace.note(turns(1, 100), 0.01 + 100 * token)
    assert slow.chunk_tokens == LEAST_TOKENS
    assert fast.chunk_tokens == 512
