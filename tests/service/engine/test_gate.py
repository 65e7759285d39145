"""A model whose answers would be wrong is not served."""

from typing import Any

import pytest
import torch
import transformers

from service.engine import attention, gate
from service.engine.linear import ReorderedLinear
from tests.service.engine.networks import ARCHITECTURES, CONTEXT, network


def test_layers_that_the_engine_does_not_know_are_refused_by_name() -> None:
    made = network("llama4_text", num_local_experts=2, head_dim=16)
    with pytest.raises(gate.UnsupportedModelError, match=r"Llama4ForCausalLM: layers of the kind chunked_attention"):
        gate.check(made)


def test_architecture_without_replaceable_attention_is_refused_by_name() -> None:
    config = transformers.BloomConfig(vocab_size=64, hidden_size=32, n_head=2, n_layer=1)
    with pytest.raises(gate.UnsupportedModelError, match="BloomForCausalLM: transformers does not let"):
        gate.check(transformers.BloomForCausalLM(config).eval())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(("architecture", "part"), [("gpt_oss", "sinks"), ("gemma2", "softcap"), ("mistral", "window")])
def test_attention_that_lacks_a_part_is_noticed(monkeypatch: pytest.MonkeyPatch, architecture: str, part: str) -> None:
    whole = attention.Scores

    def lacking(**parts: Any) -> attention.Scores:
        return whole(**{**parts, part: None})

    made = network(architecture, **ARCHITECTURES[architecture])
    monkeypatch.setattr(attention, "Scores", lacking)
    with pytest.raises(gate.UnsupportedModelError, match=r"gives other scores|do not tell of their window"):
        gate.check(made)


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("qwen2_moe", {"use_sliding_window": True, "max_window_layers": 3}),
        ("phimoe", {}),
    ],
)
def test_window_that_only_the_mask_knows_is_noticed(architecture: str, options: dict[str, Any]) -> None:
    experts = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    with pytest.raises(gate.UnsupportedModelError, match="do not tell of their window of 64 tokens"):
        gate.check(network(architecture, sliding_window=64, **experts, **options))
    gate.check(network(architecture, sliding_window=CONTEXT, **experts, **options))


def test_layer_that_passes_nothing_on_is_refused() -> None:
    with pytest.raises(gate.UnsupportedModelError, match="does not pass arguments on to its attention"):
        gate.check(network("nemotron", head_dim=16))


def test_network_that_breaks_is_refused_with_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("no such head")

    monkeypatch.setattr(attention.Step, "attend", broken)
    with pytest.raises(gate.UnsupportedModelError, match=r"LlamaForCausalLM: the packed .* RuntimeError: no such head"):
        gate.check(network("llama"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_passes(dtype: torch.dtype) -> None:
    assert gate.check(network("qwen3").to(dtype)).dtype is dtype


def reordered(made: torch.nn.Module) -> int:
    return sum(isinstance(module, ReorderedLinear) for module in made.modules())


def test_weights_are_reordered_for_the_processor() -> None:
    made = network("qwen3")
    linear = sum(type(module) is torch.nn.Linear for module in made.modules())
    gate.check(made)
    assert reordered(made) == linear > 0


def test_weights_stay_where_reordering_changes_something(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = network("qwen3")
    before = {name: weight.clone() for name, weight in made.state_dict().items()}
    monkeypatch.setattr(
        ReorderedLinear, "forward", lambda self, rows: rows.new_zeros(*rows.shape[:-1], self.out_features)
    )
    gate.check(made)
    assert reordered(made) == 0
    after = made.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    assert "its weights stay as they lie in its files" in caplog.text


def test_network_whose_code_wants_a_layers_weight_keeps_it() -> None:
    made = network("qwen3")

    def asks(*_: object) -> None:
        assert made.lm_head.weight is not None

    made.model.norm.register_forward_hook(asks)
    gate.check(made)
    assert reordered(made) == 0
