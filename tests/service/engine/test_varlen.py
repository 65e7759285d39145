"""The paged kernel's tables, with a plain computation in the place of the kernel, which only GPUs have."""

from typing import Any

import pytest
import torch

from service.engine import gate, varlen
from tests.service.engine.networks import ARCHITECTURES, Packed, answers, generated, network


@pytest.mark.usefixtures("paged_kernel")
@pytest.mark.parametrize("architecture", ["qwen3", "mistral", "gpt2"])
def test_paged_answers_are_those_of_generate(architecture: str) -> None:
    made = network(architecture, **ARCHITECTURES[architecture])
    prompts = [[7] * 40, [9, 10], list(range(20, 80)), [*range(20, 60), 5]]
    expected = [generated(made, prompt, 24) for prompt in prompts]
    packed = Packed.of(made)
    assert packed.shapes.paged
    run = packed.run(prompts, 24, step_tokens=40, chunk_tokens=9, every=2, page_count=20, region_tokens=256)
    assert answers(run) == expected


@pytest.mark.usefixtures("paged_kernel")
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
