"""The check of a whole PPO loop at the end of lesson 06: the weights that it ends with against those of `train_ppo`.

Left out on purpose: a guess at the mistake. After one step or only after several is all it says.
"""

import copy
import tempfile
import time
from collections.abc import Callable

import torch
from IPython.utils.capture import capture_output

from helper.algorithms.ppo import ValueModel
from helper.algorithms.train_ppo import train_ppo
from helper.answers import extract_gold
from helper.data import load_course_dataset
from helper.exercises.checking import NotStarted, Wrong, exercise
from helper.models import load_model_and_tokenizer
from helper.rewards import reward_func

LOOP = {  # what the lesson asks for
    "learning_rate": 1e-4, "value_learning_rate": 1e-3, "max_new_tokens": 72, "responses_per_step": 12, "epochs": 1,
    "minibatch": 6, "gamma": 1.0, "lam": 0.95, "epsilon": 0.2, "value_clip": 0.2, "value_coefficient": 0.1, "beta": 0.0,
}  # fmt: skip


@exercise
def check_ppo_loop(loop, steps: int = 10, start: tuple | None = None) -> str:
    """Do `loop` and `train_ppo` end with the same weights, first after one step, then after `steps`? From `start`.

    `start`: (model, tokenizer, rows); without it `sprout-instruct` and the problems of `sprout-maths`.
    """
    if loop is None or loop is ...:
        raise NotStarted
    model, tokenizer, rows = start or _sprout_and_problems()
    begun = time.perf_counter()
    for number in (1, steps):
        pairs = [(policy := copy.deepcopy(model), ValueModel(copy.deepcopy(policy.model))) for _ in range(2)]
        first = _weights(*pairs[0])
        _call_loop(loop, pairs[0], tokenizer, rows, number)
        if torch.equal(_weights(*pairs[0]), first):
            raise NotStarted
        with tempfile.TemporaryDirectory() as folder, capture_output():
            train_ppo(*pairs[1], tokenizer, rows, [reward_func], folder=folder, steps=number, charts=False, **LOOP)
        apart = [(_weights(mine) - _weights(theirs)).abs().max().item() for mine, theirs in zip(*pairs)]
        names = [name for name, gap in zip(("the policy's", "the critic's"), apart) if not gap <= 1e-5]
        if names:
            after = "the first step" if number == 1 else f"{steps} steps (after one step all was well)"
            raise Wrong(f"After {after} {' and '.join(names)} weights are not those of `train_ppo`: {max(apart):.1e} apart.")
    seconds = time.perf_counter() - begun
    return f"After {steps} steps the largest difference of a weight is {max(apart):.0e} ({seconds:.0f} s for both)."


def _sprout_and_problems() -> tuple:
    """The model, tokenizer and rows that the loop begins with."""
    model, tokenizer = load_model_and_tokenizer("sprout-instruct")
    rows = [
        {"prompt": [{"role": "user", "content": row["question"]}], "ground_truth": extract_gold(row["answer"])}
        for row in load_course_dataset("sprout-maths", limit=200)
    ]
    return model.float().eval(), tokenizer, rows


def _call_loop(loop: Callable, pair: tuple, tokenizer, rows: list[dict], steps: int) -> None:
    """Let the student's loop train the pair in place; Wrong, in one line, when it raises."""
    try:
        loop(*pair, tokenizer, rows, steps)
    except Exception as error:
        said = (str(error).strip().splitlines() or ["no message"])[0][:160]
        raise Wrong(f"Your loop raised {type(error).__name__}: {said}") from None


def _weights(*modules: torch.nn.Module) -> torch.Tensor:
    """All weights of the modules in one vector."""
    return torch.cat([weight.detach().flatten() for module in modules for weight in module.parameters()])
