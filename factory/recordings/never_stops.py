"""Lesson 05, a model that never stops: it was shown answers without an end; GRPO on it, and what mends it.

The lesson's warmed-up model gets some more SFT, in which no end token is in the loss, and behind each answer the page goes
on with other problems, as in a base model's text. Then short runs of `train_grpo` from that model. Seeds in the outer loop,
written after each run.
Left out on purpose: the other skills, tuned rates.
"""

from __future__ import annotations

import copy
import random
from functools import cache, partial
from pathlib import Path

import torch

from factory.recordings.grpo_ablations import HELD_OUT as ABLATED
from factory.recordings.grpo_ablations import SHORT, sample_with_overlong_penalty
from factory.recordings.lesson_03 import once, resumed
from factory.recordings.shared import command, fresh, model_and_problems
from factory.recordings.tagged_runs import GRPO, LONGEST, REWARDS, WARM_UP, plain, warm_up_rows, warmed_up
from helper import answers_match, load_suite
from helper.algorithms import pad_responses, response_log_probabilities, sft_loss, train_grpo, train_sft
from helper.algorithms.batches import prompt_ids
from helper.algorithms.runs import LARGEST_NORM
from helper.generation import generate_tokens, stop_token_ids
from helper.machine.device import bf16_is_fast, set_seed
from helper.machine.sizes import PAD_TO
from helper.rewards import tagged_answer

HELD_OUT = 100  # word problems
WITHOUT_END = 40  # steps of SFT in which no answer ends
LESSONS_IN_STOPPING = 15  # steps of the cure, an SFT with the end token
STEPS = 8  # of GRPO


def nothing_behind(completions, **kwargs) -> list[float]:
    """1.0 where nothing but the end follows the closing tag, else 0.0."""
    return [float(completion[-1]["content"].rstrip().endswith("</answer>")) for completion in completions]


ARMS = {  # name -> steps of the cure, rewards, another way to sample
    "before RL": None,
    "GRPO, rewards as they are": (0, REWARDS, {}),
    "GRPO, text behind the tag costs": (0, [*REWARDS, nothing_behind], {}),
    "GRPO, overlong penalty": (0, REWARDS, {"sample": sample_with_overlong_penalty}),
    "cure, then GRPO as it was": (LESSONS_IN_STOPPING, REWARDS, {}),
}


@cache
def never_shown_an_end(seed: int) -> tuple:
    """A model that writes on and on, its tokenizer, the rows for GRPO, and the warm-up's rows in tags, with their ends."""
    model, tokenizer, rows, _ = warmed_up(seed, ABLATED)
    shown = warm_up_rows(*model_and_problems()[:2], rows, seed)
    tagged = [row for row in shown if "</answer>" in row["completion"][0]["content"]]
    optimizer = torch.optim.AdamW(model.parameters(), lr=WARM_UP["learning_rate"], weight_decay=0.0)
    rng, size = random.Random(seed), WARM_UP["batch_size"]
    for _ in range(WITHOUT_END):
        loss = loss_without_end(model, tokenizer, rng.sample(tagged, size), rng.sample(rows, 2 * size))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
        optimizer.step()
    return model.eval(), tokenizer, rows, tagged


def loss_without_end(model, tokenizer, rows: list[dict], others: list[dict]) -> torch.Tensor:
    """The SFT loss of answers behind which other questions go on, and no end comes."""
    prompts = [prompt_ids(tokenizer, row) for row in rows]
    questions = [other["prompt"][0]["content"] for other in others]
    texts = ["\n\n".join([row["completion"][0]["content"], *questions[2 * i : 2 * i + 2]]) for i, row in enumerate(rows)]
    answers = [tokenizer(text, add_special_tokens=False).input_ids[: LONGEST + 16] for text in texts]
    ids, attention_mask, mask = pad_responses(prompts, answers, tokenizer.pad_token_id, model.device, PAD_TO)
    return sft_loss(response_log_probabilities(model, ids, attention_mask, mask.shape[1]), mask)


def judged(model, tokenizer, seed: int) -> dict:
    """Greedy and sampled answers to held-out problems: right in tags, and cut off at the limit without an end."""
    problems, ends = load_suite("word_problems")[:HELD_OUT], set(stop_token_ids(model, tokenizer))
    prompts = [prompt_ids(tokenizer, {"prompt": [{"role": "user", "content": row["question"]}]}) for row in problems]
    set_seed(seed)
    found: dict = {"n": len(problems)}
    for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        ids = generate_tokens(
            model, tokenizer, prompts, LONGEST, batch_size=100, temperature=temperature, keep_end=True
        )  # fmt: skip
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        right = [answers_match(tagged_answer(text), str(row["value"])) for text, row in zip(texts, problems)]
        found[f"right, {name}"] = sum(right) / len(right)
        found[f"cut, {name}"] = sum(row[-1] not in ends for row in ids) / len(ids)
        found[f"tokens, {name}"] = sum(map(len, ids)) / len(ids)
        found[f"answer, {name}"] = texts[0]
    return found


def one_arm(arm: str, seed: int) -> dict:
    """A row of the record."""
    start, tokenizer, rows, tagged = never_shown_an_end(seed)
    model, changes = copy.deepcopy(start), ARMS[arm]
    if changes is None:
        return judged(model, tokenizer, seed)
    cure, rewards, other = changes
    if cure:
        options = {**WARM_UP, "steps": cure, "bf16": bf16_is_fast(), "seed": seed, "charts": False}
        train_sft(model, tokenizer, tagged, folder=fresh("cure"), **options)
        model.trained_steps = 0
    settings = GRPO | SHORT | {"steps": STEPS} | other | {"bf16": bf16_is_fast(), "seed": seed, "charts": False}
    log = train_grpo(model, tokenizer, rows, rewards, folder=fresh("never"), **settings).table()
    cuts = [round(float(share), 3) for share in log["completions/clipped_ratio"]]
    return judged(model, tokenizer, seed) | {"cut, by step": cuts, "tokens sampled": int(log["tokens"].sum())}


def record_never_stops(seeds: list[int], path: Path) -> None:
    """A model that was shown no end of an answer: GRPO with three rewards on it, and a cure."""
    head = {
        "command": command("never_stops", seeds), "settings": plain(GRPO | SHORT | {"steps": STEPS}), "longest": LONGEST,
        "without_end": WITHOUT_END, "cure": LESSONS_IN_STOPPING, "threads": torch.get_num_threads(),
    }  # fmt: skip
    record = resumed(path, head)
    for seed in seeds:
        for arm in ARMS:
            once(record, path, "runs", {"arm": arm, "seed": seed}, partial(one_arm, arm, seed))
