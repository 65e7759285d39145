"""Reordered linear layers get few different numbers of rows, for each of which there is a kernel."""

import torch

from service.engine.linear import ReorderedLinear, rounded
from tests.service.engine.networks import Packed, answers, generated, network


def test_numbers_of_rows_are_few_and_near() -> None:
    numbers = {rows: rounded(rows) for rows in range(1, 2561)}
    assert all(number >= rows for rows, number in numbers.items())
    assert all(rounded(number) == number for number in numbers.values())
    assert all(number <= max(1.25 * rows, rows + 3) for rows, number in numbers.items())
    assert len({number for rows, number in numbers.items() if rows <= 544}) < 40


def test_steps_are_filled_up_to_them_and_answer_the_same() -> None:
    made = network("qwen3")
    prompts = [[7] * 37, [9, 10, 11], list(range(20, 85)), [5] * 18, [6]]
    expected = [generated(made, prompt, 20) for prompt in prompts]
    packed, seen = Packed.of(made), set[int]()
    for module in made.modules():
        if isinstance(module, ReorderedLinear):
            module.register_forward_pre_hook(lambda _, inputs: seen.add(inputs[0].numel() // inputs[0].shape[-1]))
    assert answers(packed.run(prompts, 20, step_tokens=50, chunk_tokens=9, every=2)) == expected
    assert seen == {rounded(rows) for rows in seen}
    assert len(seen) > 4


def test_layer_can_be_restored() -> None:
    linear = torch.nn.Linear(24, 40).requires_grad_(False)
    again = ReorderedLinear(linear).restored()
    assert torch.equal(again.weight, linear.weight)
    assert again.bias is linear.bias
    assert (again.in_features, again.out_features) == (24, 40)
