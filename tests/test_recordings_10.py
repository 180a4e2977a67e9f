"""The recordings of lesson 10: whose weights the answers come from, which recipes run on how many processes."""

import json
from types import SimpleNamespace

import pytest
import torch

from factory.recordings import lesson_10, staleness


@pytest.fixture
def sampled(monkeypatch):
    """The weight with which each step's answers were written."""
    seen = []

    def sample_batch(model, *_):
        seen.append(model.weight.item())
        return SimpleNamespace(numbers={}, mask=torch.ones(1, 2), old_logps=None)

    monkeypatch.setattr(staleness, "student", lambda: torch.nn.Linear(1, 1, bias=False))
    monkeypatch.setattr(staleness, "sample_batch", sample_batch)
    monkeypatch.setattr(staleness, "log_probabilities", lambda model, *_: torch.full((1, 2), model.weight.item()))
    return seen


def steps(age, corrected, number=7):
    """Batches of so many steps, each of which adds 1 to the weight of the model."""
    model, sample, batches = torch.nn.Linear(1, 1, bias=False), staleness.sampling_from_old(age, corrected), []
    for step in range(number):
        model.weight.data.fill_(float(step))
        batches.append(sample(model, None, [], [], 4, 8))
    return batches


def test_the_answers_come_from_the_weights_of_some_steps_ago(sampled):
    assert all(batch.numbers["apart"] == 0 and batch.old_logps is None for batch in steps(0, False))
    assert sampled == [0, 1, 2, 3, 4, 5, 6]
    sampled.clear()
    batches = steps(4, False)
    assert sampled == [0, 0, 0, 0, 0, 1, 2]
    assert [batch.numbers["apart"] for batch in batches] == [0, -1, -2, -3, -4, -4, -4]  # old less new, here weights
    assert all(batch.old_logps is None for batch in batches)


def test_corrected_answers_bring_the_probabilities_that_wrote_them(sampled):
    assert [batch.old_logps[0, 0].item() for batch in steps(2, True, 4)] == [0, 0, 0, 1]


def test_each_recipe_is_run_once_on_one_and_on_two_processes(tmp_path, monkeypatch):
    ran, path = [], tmp_path / "pairs.json"

    def run_recipe(recipe, processes, program, per_device_train_batch_size):
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append((recipe, processes, program, per_device_train_batch_size))
        log = [{"loss": 1.0, "grad_norm": 2.0, "num_tokens": 3.0}]
        return SimpleNamespace(log=log, column=lambda name: [row[name] for row in log])

    monkeypatch.setattr(lesson_10, "run_recipe", run_recipe)
    with pytest.raises(KeyboardInterrupt):
        lesson_10.record_two_processes([0, 1], path)
    first, ran[:] = list(ran), [None] * 4  # past the interruption
    record = lesson_10.record_two_processes([0, 1], path)
    assert first == [("recipes/sft.yaml", 1, "", 8), ("recipes/sft.yaml", 2, "", 4), ("recipes/dpo.yaml", 1, "", 8)]
    assert ran[4:] == [
        ("recipes/dpo.yaml", 2, "", 4), ("recipes/grpo.yaml", 1, "", 32), ("recipes/grpo.yaml", 2, "", 16),
        ("recipes/grpo.yaml", 1, lesson_10.BY_ROW, 32), ("recipes/grpo.yaml", 2, lesson_10.BY_ROW, 16),
    ]  # fmt: skip
    assert record == json.loads(path.read_text("utf-8")) and record["seeds"] == [0]
    assert record["runs"][0]["loss"] == [1.0] and "reward" not in record["runs"][0]
