"""What the recordings of lesson 05 share: the warm-up in tags, the lesson's settings, one run, and its held-out score.

Every run begins with the warm-up of the lesson: the model's own answers, right or wrong, put into tags. The settings are
the lesson's own; `tests/test_factory.py` holds the two together.
Left out on purpose: the other skills, which the lesson measures.
"""

from __future__ import annotations

import copy
import time
from functools import cache, partial

from factory.recordings.shared import curve, fresh, model_and_problems
from factory.stages import prompts_and_completions
from helper import answers_match, extract_boxed, generate_responses, load_course_dataset, load_suite, set_seed
from helper.algorithms import group_advantages, grpo_loss, train_grpo, train_sft
from helper.machine.device import bf16_is_fast
from helper.rewards import TAGS, tag_format_reward, tagged_answer, tagged_reward

REWARDS = [tagged_reward, tag_format_reward]
LONGEST = 110  # tokens an answer may have
WARM_UP = {"steps": 120, "learning_rate": 5e-4, "batch_size": 8}
WARM_UP_PROBLEMS = 900
KEPT_ROWS = 250  # of the SFT data, so that the warm-up does not cost the other skills
DR_GRPO = partial(grpo_loss, loss_type="dr_grpo")
GRPO = {
    "steps": 56, "learning_rate": 2e-4, "max_new_tokens": LONGEST, "prompts_per_step": 12, "group_size": 4,
    "temperature": 1.0, "advantage": partial(group_advantages, scale="none"), "loss": DR_GRPO,
}  # fmt: skip


def into_tags(answer: str) -> str:
    r"""A boxed answer of Sprout, "lines\n\boxed{72}", in the four tags."""
    *lines, _ = answer.strip().split("\n")
    return "<reasoning>\n" + "\n".join(lines) + f"\n</reasoning>\n<answer>{extract_boxed(answer)}</answer>"


def warmed_up(seed: int, held_out: int = 500) -> tuple:
    """`sprout-instruct` after the warm-up, its tokenizer, the rows for GRPO, and its verdicts; made once a seed."""
    model, *rest = _warm_up(seed, held_out)
    return copy.deepcopy(model), *rest


@cache
def _warm_up(seed: int, held_out: int) -> tuple:
    model, tokenizer, rows = model_and_problems()
    shown = warm_up_rows(model, tokenizer, rows, seed)
    folder = fresh("warm_up")
    train_sft(model, tokenizer, shown, folder=folder, **WARM_UP, bf16=bf16_is_fast(), seed=seed, charts=False)
    model.trained_steps = 0
    return model, tokenizer, rows, verdicts(model, tokenizer, held_out)


def warm_up_rows(model, tokenizer, rows: list[dict], seed: int) -> list[dict]:
    """The model's own answers in tags, and some rows of other skills."""
    set_seed(seed)
    questions = [row["prompt"][0]["content"] for row in rows[:WARM_UP_PROBLEMS]]
    own = generate_responses(model, tokenizer, questions, max_new_tokens=72, temperature=1.0)
    tagged = [
        {"prompt": row["prompt"], "completion": [{"role": "assistant", "content": into_tags(answer)}]}
        for row, answer in zip(rows, own)
        if "\n" in answer and extract_boxed(answer)
    ]
    some = load_course_dataset("sprout-sft", limit=KEPT_ROWS, seed=seed)
    others = prompts_and_completions([row for row in some if "\\boxed" not in row["messages"][-1]["content"]])
    return tagged + others


def verdicts(model, tokenizer, held_out: int = 500) -> dict[str, list]:
    """Greedy answers to word problems: questions, texts, which are right, and which have all four tags once."""
    problems = load_suite("word_problems")[:held_out]
    questions = [row["question"] for row in problems]
    texts = generate_responses(model, tokenizer, questions, max_new_tokens=LONGEST, batch_size=300)
    right = [answers_match(tagged_answer(text), str(row["value"])) for text, row in zip(texts, problems)]
    tagged = [all(text.count(tag) == 1 for tag in TAGS) for text in texts]
    return {"questions": questions, "texts": texts, "right": right, "format": tagged}


def own_run(seed: int, held_out: int = 500, reference: bool = False, **changes) -> tuple[dict, dict]:
    """Train with `train_grpo`, with a frozen copy for a `reference` if asked; its row, and the verdicts after."""
    model, tokenizer, rows, before = warmed_up(seed, held_out)
    settings = GRPO | changes | {"bf16": bf16_is_fast(), "seed": seed, "charts": False}
    frozen, start, start_cpu = copy.deepcopy(model) if reference else None, time.perf_counter(), time.process_time()
    live = train_grpo(model, tokenizer, rows, REWARDS, folder=fresh("own"), reference=frozen, **settings)
    log, seconds, cpu_seconds = live.table(), time.perf_counter() - start, time.process_time() - start_cpu
    after = verdicts(model, tokenizer, held_out)
    row = summary(before, after, seconds, int(log["tokens"].sum())) | {"reward": curve(log["reward"])}
    row["cpu_seconds"], last = round(cpu_seconds, 1), log.iloc[-3:]  # of all threads: what others run does not count
    row["entropy"] = round(float(last["entropy"].mean()), 4)
    row["length"] = round(float(last["completions/mean_length"].mean()), 1)
    row["cut"] = round(float(last["completions/clipped_ratio"].mean()), 3)
    return row, after


def summary(before: dict, after: dict, seconds: float, tokens: int) -> dict:
    """One row of the record."""
    n = len(before["right"])
    return {
        "n": n, "before": sum(before["right"]) / n, "after": sum(after["right"]) / n,
        "format_before": sum(before["format"]) / n, "format_after": sum(after["format"]) / n,
        "seconds": round(seconds, 1), "tokens": tokens,
    }  # fmt: skip


def plain(settings: dict) -> dict:
    """The settings for a JSON file: the loss by its arguments, the advantage in words."""
    simple = {key: value for key, value in settings.items() if isinstance(value, int | float | str)}
    return simple | settings["loss"].keywords | {"advantage": "group_advantages, scale none"}
