"""Two rewards by rule that ask for form, added to the right answer, then mended: `04_rule_rewards.json`.

Brevity, at three weights, and a part of a point for each line with a sum. Mended, each multiplies the reward for the right
answer instead of being added to it. Equal steps, samples and learning rate; a run that is in the record is not made again.
Left out on purpose: a rate for each arm, and answers (verdicts, words and lines only, and three answers that nobody picked).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

from factory.recordings.lesson_03 import once, resumed
from factory.recordings.reach import LONGEST, LOOP, RATE, SUITES, suite
from factory.recordings.shared import command, fresh, model_and_problems
from helper import evaluate, extract_boxed
from helper.algorithms import train_grpo
from helper.machine.device import bf16_is_fast
from helper.recorded import as_digits
from helper.rewards import reward_func

STEPS, N = 20, 300  # N: held-out word problems
WORDS, LINE, MOST_LINES = 30, 0.25, 4
WEIGHTS = (0.25, 1.0, 4.0)


def brevity(text: str) -> float:
    """1 for an empty text, falling to 0 at `WORDS` words.

    >>> brevity("x " * 15)
    0.5
    """
    return max(0.0, 1 - len(text.split()) / WORDS)


def lines_with_sums(text: str) -> int:
    """How many lines have an equals sign."""
    return sum("=" in line for line in text.splitlines())


def added(form: Callable[[str], float], weight: float, completions: list, ground_truth: list[str], **kwargs) -> list[float]:
    """The right answer's point, and so much for the form, whatever the answer."""
    right = reward_func(completions, ground_truth)
    return [paid + weight * form(each[-1]["content"]) for paid, each in zip(right, completions, strict=True)]


def multiplied(form: Callable[[str], float], completions: list, ground_truth: list[str], **kwargs) -> list[float]:
    """The right answer's point times one and the form: nothing for a wrong answer, however it looks."""
    right = reward_func(completions, ground_truth)
    return [paid * (1 + form(each[-1]["content"])) for paid, each in zip(right, completions, strict=True)]


def few_lines(text: str) -> float:
    """`LINE` for each of the first `MOST_LINES` lines with a sum."""
    return LINE * min(lines_with_sums(text), MOST_LINES)


ARMS: dict[str, Callable] = {
    "right answer only": reward_func,
    **{f"+ {weight:g} × brevity": partial(added, brevity, weight) for weight in WEIGHTS},
    "right × (1 + brevity)": partial(multiplied, brevity),
    f"+ {LINE:g} for each line": partial(added, lines_with_sums, LINE),
    "right × (1 + lines, few)": partial(multiplied, few_lines),
}


def judged(model, tokenizer, seed: int) -> dict:
    """Greedy verdicts on the held-out problems, which are boxed, mean words and lines, and three answers drawn blindly."""
    problems = suite(SUITES[0])[:N]
    table = evaluate(model, tokenizer, problems, max_new_tokens=LONGEST, batch_size=256)
    shown = random.Random(seed).sample(range(N), 3)
    return {
        "word_problems": as_digits(table["right"]),
        "boxed": as_digits(bool(extract_boxed(text)) for text in table["answer"]),
        "words": round(float(table["answer"].str.split().str.len().mean()), 2),
        "lines": round(float(table["answer"].map(lines_with_sums).mean()), 2),
        "shown": [[problems[place]["question"], table["answer"].iloc[place]] for place in shown],
    }


def one_run(arm: str, seed: int) -> dict:
    """Train with an arm's reward; what it was paid, and what is right."""
    model, tokenizer, rows = model_and_problems()
    return practised(model, tokenizer, rows, ARMS[arm], seed) | judged(model, tokenizer, seed)


def practised(model, tokenizer, rows: list[dict], reward: Callable, seed: int, **options) -> dict:
    """Train the model with a reward; what it was paid in the first and in the last four steps."""
    log = train_grpo(
        model, tokenizer, rows, [reward], folder=fresh("rule_rewards"), steps=STEPS, learning_rate=RATE, seed=seed,
        bf16=bf16_is_fast(), charts=False, **LOOP, **options,
    ).table()  # fmt: skip
    paid = log["reward"].tolist()
    return {"paid_first": round(sum(paid[:4]) / 4, 3), "paid_last": round(sum(paid[-4:]) / 4, 3)}


def record_rule_rewards(seeds: list[int], path: Path) -> None:
    """Each arm of `ARMS` with the first seed, then with the next."""
    settings = {"steps": STEPS, "learning_rate": RATE, "answers": LOOP["prompts_per_step"] * LOOP["group_size"]}
    record = resumed(path, {"command": command("rule_rewards", seeds), "seeds": seeds, "n": N, **settings})
    if "before" not in record:
        record["before"] = judged(*model_and_problems()[:2], 0)
    for seed in seeds:
        for arm in ARMS:
            once(record, path, "runs", {"arm": arm, "seed": seed}, partial(one_run, arm, seed))
