"""A model that is divided among two processes answers as it does in one."""

import json
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from service.engine import division
from service.engine.gate import UnsupportedModelError
from service.engine.ranks import ALONE, Ranks
from tests.service.engine.networks import ARCHITECTURES, generated, network

RANKS = 2
ANSWER = 12
SECONDS = 120
WITHOUT_PLAN = ("gpt2", "gpt_oss")
DIVIDED = tuple(architecture for architecture in ARCHITECTURES if architecture not in WITHOUT_PLAN)


def test_every_architecture_with_a_plan_answers_as_undivided(tmp_path: Path) -> None:
    chance = random.Random(5)
    shared = [chance.randrange(3, 256) for _ in range(35)]
    prompts = [[chance.randrange(3, 256) for _ in range(length)] for length in (3, 1, 40, 64)]
    prompts += [[*shared, 5, 6], [*shared, 7]]
    prompts += prompts
    expected = {}
    for architecture in DIVIDED:
        made = network(architecture, **ARCHITECTURES[architecture])
        made.save_pretrained(tmp_path / architecture)
        expected[str(tmp_path / architecture)] = [generated(made, prompt, ANSWER) for prompt in prompts]
    for architecture in WITHOUT_PLAN:
        network(architecture, **ARCHITECTURES[architecture]).config.save_pretrained(tmp_path / architecture)
    request = {
        "ranks": RANKS,
        "directories": [str(tmp_path / architecture) for architecture in (*WITHOUT_PLAN, *DIVIDED)],
        "prompts": prompts,
        "count": ANSWER,
    }
    file = tmp_path / "request.json"
    file.write_text(json.dumps(request))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"]
    run = subprocess.run(
        [*launcher, "-m", "tests.service.engine.divided", str(file)], capture_output=True, text=True, timeout=SECONDS
    )
    assert run.returncode == 0, run.stderr[-3000:]
    said = json.loads((tmp_path / "answers.json").read_text())
    for architecture in WITHOUT_PLAN:
        assert f"no plan for dividing models of the kind {architecture}" in said.pop(str(tmp_path / architecture))
    assert said == expected


def config(**given: object) -> SimpleNamespace:
    text = SimpleNamespace(
        model_type="llama",
        base_model_tp_plan={"layers.*.self_attn.q_proj": "colwise"},
        num_attention_heads=32,
        num_key_value_heads=8,
        **given,
    )
    return SimpleNamespace(get_text_config=lambda: text)


def test_one_process_needs_no_plan() -> None:
    assert division.loading_options(config(), ALONE) == {}


@pytest.mark.parametrize(("count", "told"), [(3, "32 attention heads"), (16, "8 key-value heads")])
def test_heads_that_cannot_be_divided_are_refused(count: int, told: str) -> None:
    with pytest.raises(
        UnsupportedModelError, match=f"TENSOR_PARALLEL={count}: does not divide the {told} of this llama"
    ):
        division.loading_options(config(), Ranks(count=count))


def test_whole_heads_need_not_be_divisible() -> None:
    whole = config()
    whole.get_text_config().base_model_tp_plan = {"layers.*.self_attn.qkv_proj": "colwise_gather_output"}
    assert division.loading_options(whole, Ranks(count=3))["distributed_config"].tp_size == 3


def test_launcher_that_started_another_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="TENSOR_PARALLEL=2: the launcher started 4 processes"):
        Ranks.join(2, "cpu")
