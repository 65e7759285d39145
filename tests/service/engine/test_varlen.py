"""The paged kernel's tables, with a plain computation in the place of the kernel, which only GPUs have."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from service.engine import gate, varlen
from tests.service.engine.networks import ARCHITECTURES, Packed, answers, generated, network


def by_the_book(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: None,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
    seqused_k: torch.Tensor,
    block_table: torch.Tensor,
) -> torch.Tensor:
    """What torch's documentation says of ``varlen_attn``: causal, the last query at the last key, a window to the left."""
    assert (cu_seq_k, enable_gqa, window_size[1]) == (None, True, 0)
    assert {part.dtype for part in (cu_seq_q, seqused_k, block_table)} == {torch.int32}
    counts = cu_seq_q.diff().tolist()
    assert (max_q, max_k) == (max(counts), int(seqused_k.max()))
    result = torch.empty_like(query)
    for index, (count, length) in enumerate(zip(counts, seqused_k.tolist(), strict=True)):
        rows = slice(int(cu_seq_q[index]), int(cu_seq_q[index]) + count)
        keys, values = (pool[block_table[index].long()].flatten(0, 1)[:length] for pool in (key, value))
        own = torch.arange(length - count, length).unsqueeze(1)
        seen = torch.arange(length) <= own
        if window_size[0] >= 0:
            seen &= torch.arange(length) >= own - window_size[0]
        result[rows] = functional.scaled_dot_product_attention(
            query[rows].transpose(0, 1)[None],
            keys.transpose(0, 1)[None],
            values.transpose(0, 1)[None],
            attn_mask=seen,
            scale=scale,
            enable_gqa=True,
        )[0].transpose(0, 1)
    return result


@pytest.fixture
def _kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", by_the_book)
    monkeypatch.setattr(varlen, "available", lambda *_: True)


@pytest.mark.usefixtures("_kernel")
@pytest.mark.parametrize("architecture", ["qwen3", "mistral", "gpt2"])
def test_paged_answers_are_those_of_generate(architecture: str) -> None:
    made = network(architecture, **ARCHITECTURES[architecture])
    prompts = [[7] * 40, [9, 10], list(range(20, 80)), [*range(20, 60), 5]]
    expected = [generated(made, prompt, 24) for prompt in prompts]
    packed = Packed.of(made)
    assert packed.shapes.paged
    run = packed.run(prompts, 24, step_tokens=40, chunk_tokens=9, every=2, page_count=20, region_tokens=256)
    assert answers(run) == expected


@pytest.mark.usefixtures("_kernel")
def test_kernel_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def wrong(query: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return torch.zeros_like(query)

    monkeypatch.setattr(varlen, "varlen_attn", wrong)
    assert not gate.check(network("qwen3")).paged
    assert "instead of by the paged kernel" in caplog.text


def test_kernel_is_for_what_it_can_compute() -> None:
    shapes = gate.check(network("qwen3").to(torch.bfloat16))
    assert varlen.available(torch.device("cuda"), shapes)
    assert not varlen.available(torch.device("cpu"), shapes)
    assert not varlen.available(torch.device("cuda"), gate.check(network("qwen3")))
    assert not varlen.available(
        torch.device("cuda"), gate.check(network("gpt_oss", **ARCHITECTURES["gpt_oss"]).to(torch.bfloat16))
    )
