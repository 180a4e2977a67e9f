"""How far the gain of lesson 04 carries, and what a wrong reward does: `04_distance.json` and `04_controls.json`.

All runs are GRPO with lesson 04's settings in the short loop of lesson 05, which takes half the library's time a step
(`05_grpo_from_scratch.json` holds the two against each other). A run is made once: its models after 32 and 64 steps lie
under `runs/`, and each recording reads those it needs. With a constant learning rate the first half of a run is a run of
half the steps.
Left out on purpose: answers (verdicts only, a 0 or 1 for each question), and seconds of a run whose model was there.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import torch

from factory import ROOT
from factory.problem_tables import SEEN_STORIES
from factory.problems import make_problem, problem_key
from factory.recordings.lesson_03 import once, resumed
from factory.recordings.shared import command, model_and_problems
from factory.stages import GRPO_SETTINGS
from helper import evaluate, extract_boxed, load_model_and_tokenizer, load_suite
from helper.algorithms import grpo_loss, train_grpo
from helper.algorithms.batches import sample_batch
from helper.machine.device import bf16_is_fast
from helper.recorded import as_digits, load_recorded
from helper.rewards import boxed_format_reward, reward_func

MODELS = ROOT / "runs" / "record" / "reach"
SUITES = ("word_problems", "larger_numbers", "unseen_story_types", "another_hand")  # from near to far
HALF, WHOLE = GRPO_SETTINGS["max_steps"] // 2, GRPO_SETTINGS["max_steps"]
LONGEST = GRPO_SETTINGS["max_completion_length"]
FEW_TYPES = tuple(sorted(SEEN_STORIES)[::4])  # a quarter of the story types
PRACTICE_ROWS = 4000  # as many as `sprout-maths` has
LOOP = {
    "prompts_per_step": 12, "group_size": GRPO_SETTINGS["num_generations"], "max_new_tokens": LONGEST,
    "temperature": GRPO_SETTINGS["temperature"], "loss": partial(grpo_loss, loss_type="dr_grpo"),
}  # fmt: skip


def coin_reward(completions: list, **kwargs) -> list[float]:
    """0.0 or 1.0 by the toss of a fair coin, drawn anew at each step (the loop sets PyTorch's seed a step)."""
    return torch.randint(2, (len(completions),)).double().tolist()


def wrong_answer_reward(completions: list, ground_truth: list[str], **kwargs) -> list[float]:
    r"""1.0 for exactly one filled \boxed{} that is *not* the expected answer, else 0.0.

    >>> wrong_answer_reward([r"\boxed{72}", r"\boxed{71}", "71"], ["72"] * 3)
    [0.0, 1.0, 0.0]
    """
    right = reward_func(completions, ground_truth)
    return [float(boxed and not paid) for boxed, paid in zip(boxed_format_reward(completions), right, strict=True)]


RATE = GRPO_SETTINGS["learning_rate"]
ARMS: dict[str, dict] = {  # name -> what differs from the lesson: reward, learning rate, story types, steps
    "lesson": {},
    "13 story types": {"stories": FEW_TYPES},
    "coin, a tenth of the rate": {
        "reward": coin_reward,
        "learning_rate": RATE / 10,
        "steps": HALF,
    },
    "form only": {"reward": boxed_format_reward, "steps": HALF},
    "wrong answers paid": {"reward": wrong_answer_reward, "steps": HALF},
    "coin": {"reward": coin_reward, "steps": HALF},
}
CONTROLS = tuple(arm for arm, changes in ARMS.items() if "reward" in changes)


def practice_rows(stories: tuple[str, ...] | None) -> list[dict]:
    """The lesson's rows, or as many new ones of some story types only; no question of an evaluation among them."""
    if stories is None:
        return model_and_problems()[2]
    rng, names = random.Random(" ".join(stories)), itertools.cycle(stories)
    taken = {row["key"] for suite in SUITES for row in load_suite(suite) if "key" in row}
    rows = []
    while len(rows) < PRACTICE_ROWS:
        problem = make_problem(next(names), rng)
        if problem_key(problem) not in taken:
            taken.add(problem_key(problem))
            prompt = [{"role": "user", "content": problem.question}]
            rows.append({"prompt": prompt, "ground_truth": str(problem.answer)})
    return rows


def sample_and_keep(model, *arguments, folder: str, **options):
    """`sample_batch`, which first keeps the model in `folder` when HALF of the lesson's steps are done."""
    if getattr(model, "trained_steps", 0) == HALF:
        model.save_pretrained(folder)
    return sample_batch(model, *arguments, **options)


def trained(arm: str, seed: int, steps: int) -> Path:
    """The folder of an arm's model after `steps` (HALF or WHOLE) steps, trained if it is not there yet."""
    folder = MODELS / f"{arm.replace(', ', '-').replace(' ', '_')}-{seed}"
    if not (folder / str(steps) / "finished").exists():
        settings = {"steps": WHOLE, "learning_rate": RATE} | ARMS[arm]
        reward: Callable = settings.pop("reward", reward_func)
        model, tokenizer = load_model_and_tokenizer("sprout-instruct")
        rows = practice_rows(settings.pop("stories", None))
        begun, last = time.perf_counter(), settings["steps"]
        log = train_grpo(
            model, tokenizer, rows, [reward], folder=folder, seed=seed, charts=False, bf16=bf16_is_fast(),
            sample=partial(sample_and_keep, folder=str(folder / str(HALF))), **LOOP, **settings,
        ).table()  # fmt: skip
        model.save_pretrained(folder / str(last))
        for done in {HALF, last}:
            tokenizer.save_pretrained(folder / str(done))
            (folder / str(done) / "finished").write_text(f"{time.perf_counter() - begun:.0f} s\n")
        log.to_json(folder / "log.json", orient="records")
    return folder / str(steps)


@cache
def suite(name: str) -> list[dict]:
    """A suite, whole."""
    return load_suite(name)


def judged(model, tokenizer, names: tuple[str, ...]) -> dict:
    """Greedy verdicts on each suite, a text of 0 and 1; of the practised types also which answers are boxed, and words."""
    found = {}
    for name in names:
        table = evaluate(model, tokenizer, suite(name), max_new_tokens=LONGEST, batch_size=256)
        found[name] = as_digits(table["right"])
        if name == SUITES[0]:
            found["boxed"] = as_digits(bool(extract_boxed(text)) for text in table["answer"])
            found["words"] = round(float(table["answer"].str.split().str.len().mean()), 1)
    return found


def run(arm: str, seed: int, steps: int, names: tuple[str, ...]) -> dict:
    """Train, or take the trained model, and judge it."""
    return judged(*load_model_and_tokenizer(trained(arm, seed, steps)), names)


def begun(name: str, seeds: list[int], path: Path, names: tuple[str, ...]) -> dict:
    """The record at `path`, or a new one, with the verdicts on `sprout-instruct` before training."""
    settings = {key: value for key, value in LOOP.items() if isinstance(value, int | float)}
    head = {"command": command(name, seeds), "seeds": seeds, "learning_rate": RATE, **settings}
    record = resumed(path, head | {"n": {name: len(suite(name)) for name in names}})
    record.pop("tuning", None)
    if "before" not in record:
        record["before"] = judged(*load_model_and_tokenizer("sprout-instruct"), names)
    return record


def record_distance(seeds: list[int], path: Path) -> None:
    """Four suites by distance, before and after the lesson's run; more story types against more steps."""
    record = begun("distance", seeds, path, SUITES)
    record |= {"few_types": len(FEW_TYPES), "types": len(SEEN_STORIES)}
    about = {"arm": "sprout-grpo", "seed": 0, "steps": WHOLE}  # as it comes with the course, trained by the library
    once(record, path, "runs", about, lambda: judged(*load_model_and_tokenizer("sprout-grpo"), SUITES))
    for seed in seeds:
        for arm, steps in itertools.product(("lesson", "13 story types"), (WHOLE, HALF)):
            about = {"arm": arm, "seed": seed, "steps": steps}
            once(record, path, "runs", about, partial(run, arm, seed, steps, SUITES))


def record_controls(seeds: list[int], path: Path) -> None:
    """Rewards that know nothing of the answer, or pay for wrong ones, beside the right reward; half of the steps.

    The right reward's runs are those of `04_distance.json` where it has them.
    """
    record = begun("controls", seeds, path, SUITES[:1])
    beside = path.with_name("04_distance.json")
    there = load_recorded(beside)["runs"] if beside.is_file() else []
    keys = (SUITES[0], "boxed", "words")
    lesson = {run["seed"]: run for run in there if (run["arm"], run["steps"]) == ("lesson", HALF)}
    for seed in seeds:
        for arm in ("lesson", *CONTROLS):
            about = {"arm": arm, "seed": seed, "steps": HALF}
            known = {key: lesson[seed][key] for key in keys} if arm == "lesson" and seed in lesson else None
            once(record, path, "runs", about, partial(dict, known) if known else partial(run, arm, seed, HALF, SUITES[:1]))
