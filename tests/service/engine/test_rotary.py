"""Rotations that depend on a sequence's length: the same for a sequence whatever runs beside it, and however it is computed."""

import random
from typing import Any

import pytest

from service.engine import rotary
from tests.service.engine.networks import CONTEXT, Packed, generated, network

FIRST = 64  # tokens of context for which the model was trained first
HALF_HEAD = 8
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0] * HALF_HEAD,
    "long_factor": [4.0] * HALF_HEAD,
    "original_max_position_embeddings": FIRST,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "longrope": ("phi3", {"original_max_position_embeddings": FIRST, "rope_parameters": LONGROPE}),
    "longrope of some layers": (
        "gemma3_text",
        {
            "sliding_window": 12,
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
                "full_attention": LONGROPE,
            },
            "layer_types": ["sliding_attention", "full_attention", "full_attention"],
        },
    ),
    "dynamic": (
        "llama",
        {
            "max_position_embeddings": FIRST,
            "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0},
        },
    ),
}
ANSWER = 12


def prompt(length: int) -> list[int]:
    return [random.Random(length).randrange(256) for _ in range(length)]


def settled(kind: str, context_tokens: int) -> Packed:
    architecture, options = MODELS[kind]
    made = network(architecture, **options)
    rotary.settle(made, context_tokens)
    return Packed.of(made)


def answers(packed: Packed, *prompts: list[int], **options: Any) -> list[list[int]]:
    return [sequence.tokens[-ANSWER:] for sequence in packed.run(prompts, ANSWER, **options)]


@pytest.mark.parametrize("kind", MODELS)
def test_short_context_is_transformers_own(kind: str) -> None:
    architecture, options = MODELS[kind]
    found = answers(settled(kind, FIRST), prompt(10), prompt(40))
    assert found == [generated(network(architecture, **options), prompt(length), ANSWER) for length in (10, 40)]


@pytest.mark.parametrize("kind", ["longrope", "longrope of some layers"])
def test_long_sequence_of_a_long_context_is_transformers_own(kind: str) -> None:
    architecture, options = MODELS[kind]
    wanted = generated(network(architecture, **options), prompt(90), ANSWER)
    packed = settled(kind, CONTEXT)
    assert answers(packed, prompt(90)) == [wanted]
    assert answers(packed, prompt(90), step_tokens=32, chunk_tokens=32) == [wanted]


@pytest.mark.parametrize("kind", MODELS)
def test_neighbours_chunks_and_prefixes_change_nothing(kind: str) -> None:
    packed = settled(kind, CONTEXT)
    short, crossing, long = prompt(10), prompt(58), prompt(90)
    alone = [answers(packed, one)[0] for one in (short, crossing, long)]
    assert answers(packed, short, crossing, long) == alone
    assert answers(packed, short, crossing, long, step_tokens=24, chunk_tokens=24) == alone
    shared = packed.run([long[:48], long], ANSWER, page_count=32, every=ANSWER + 4)
    assert shared[1].cached_tokens > 0
    assert shared[1].tokens[-ANSWER:] == alone[2]


def test_other_rotations_stay() -> None:
    made = network("llama", rope_parameters={"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0})
    before = made.model.rotary_emb.inv_freq.clone()
    rotary.settle(made, CONTEXT)
    assert made.model.rotary_emb.inv_freq.equal(before)
    assert made.model.rotary_emb.rope_type == "linear"
