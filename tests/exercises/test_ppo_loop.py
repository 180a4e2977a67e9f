"""The loop that lesson 06 builds: its solution, and planted mistakes, against `train_ppo`."""

import json
from pathlib import Path

import pytest
import torch
from tiny import make_model, make_tokenizer
from tiny_trainers import tiny_rows

from helper import set_seed
from helper.exercises import ppo_loop as lesson

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "06_reward_models_and_ppo.ipynb"
STEPS = 3


def by_length(completions, **kwargs):
    return [len(completion[-1]["content"]) % 7 / 7 for completion in completions]


@pytest.fixture
def start(monkeypatch):
    """A tiny model, and a reward that a model of random weights can earn."""
    monkeypatch.setattr(lesson, "reward_func", by_length)
    monkeypatch.setitem(lesson.LOOP, "max_new_tokens", 8)
    set_seed(0)
    rows = [{**row, "ground_truth": "1"} for row in tiny_rows("grpo")]
    tokenizer = make_tokenizer()
    return make_model(tokenizer), tokenizer, rows


def solution(changes=()):
    """The solution of the notebook, with pieces of its source replaced."""
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]}
    names = ("rewards", "gae", "value")
    source = "\n".join(cells[f"06-exercise-{name}-solution"].split("\n\n\n")[0] for name in names)
    source += "\n" + cells["06-build-answers"] + "\n" + cells["06-build-solution"]
    source = source.replace("check_ppo_loop(", "checked = (").replace("[reward_func]", "[by_length]").replace("72", "8")
    for right, wrong in changes:
        assert source.count(right) == 1, f"{right!r} stands {source.count(right)} times in the solution"
        source = source.replace(right, wrong)
    space = {"torch": torch, "by_length": by_length}
    exec(cells["06-build-imports"] + "\n" + source, space)
    return space["ppo_loop_solution"]


def test_the_solution_is_the_library_loop(start):
    verdict = lesson.check_ppo_loop(solution(), STEPS, start)
    assert verdict.right, verdict.message


def test_an_untouched_stub_is_not_started(start):
    assert lesson.check_ppo_loop(None).right is None
    assert lesson.check_ppo_loop(lambda *_: None, STEPS, start).right is None


@pytest.mark.parametrize(
    ("right", "wrong"),
    [  # scales that AdamW divides out again (the clip of the norm, the critic's coefficient) show up late, if at all
        ("0.1 * error", "0.0 * error"),
        ("loss = -(gain", "loss = (gain"),
        ("1.0, 0.95)", "1.0, 1.0)"),
        ("course.whiten(advantages, batch.mask)", "advantages"),
        (".split(6)", ".split(12)"),
        ("weight_decay=0.0", "weight_decay=0.1"),
        ("set_seed(step)", "set_seed(step + 1)"),
    ],
)
def test_a_mistake_is_caught(start, right, wrong):
    verdict = lesson.check_ppo_loop(solution([(right, wrong)]), STEPS, start)
    assert verdict.right is False and "not those of `train_ppo`" in verdict.message


def test_a_loop_that_raises_is_named(start):
    verdict = lesson.check_ppo_loop(lambda *_: 1 / 0, STEPS, start)
    assert verdict.right is False and "ZeroDivisionError" in verdict.message
