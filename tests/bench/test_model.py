"""The model that the servers are compared with, and the loop that bounds them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench import model
from bench.measures.setting import prompts
from bench.raw import CacheKind, Job, Layers
from bench.raw_loop import RawLoop


def test_every_word_is_one_token_wherever_it_stands(directory: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    assert len(tokenizer) <= model.VOCABULARY
    for length in (1, 2, 128, 4000):
        text = prompts(seed=length).text(length)
        tokens = tokenizer(text)["input_ids"]
        assert len(tokens) == length
        assert tokenizer.decode(tokens) == text


def test_no_answer_ends_before_its_length(directory: Path) -> None:
    network: Any = AutoModelForCausalLM.from_pretrained(directory)
    tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    assert network.generation_config.eos_token_id == tokenizer.eos_token_id
    with torch.inference_mode():
        scores = network(torch.randint(model.VOCABULARY, (4, 64))).logits
    for token in model.SPECIAL:
        assert (scores[..., tokenizer.convert_tokens_to_ids(token)] == 0).all()
    assert (scores.amax(-1) > 0).all()


@pytest.mark.parametrize(
    ("cache", "layers"), [("static", "transformers"), ("dynamic", "transformers"), ("static", "engine")]
)
def test_raw_loop_computes_what_generate_computes(directory: Path, cache: CacheKind, layers: Layers) -> None:
    loop = RawLoop(str(directory), "float32", layers)
    words = torch.randint(model.VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(1))
    job = Job(cache=cache, batch=3, prompt_tokens=20, output_tokens=12)
    network: Any = AutoModelForCausalLM.from_pretrained(directory)
    expected = network.generate(words, max_new_tokens=12, do_sample=False)[:, 20:]
    assert torch.equal(loop.tokens(words, job), expected)
    figures = loop.run(Job(cache=cache, batch=2, prompt_tokens=8, output_tokens=4, batches=2))
    assert 0 < figures.step_seconds < figures.seconds


def test_an_unfinished_model_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "HIDDEN", 8)
    monkeypatch.setattr(model, "LAYERS", 1)
    (tmp_path / "model.unfinished").write_bytes(b"half")
    model.provide(tmp_path)
    written = (tmp_path / "model.safetensors").read_bytes()
    model.create(tmp_path)
    assert np.array_equal(np.frombuffer(written, np.uint8), np.fromfile(tmp_path / "model.safetensors", np.uint8))
