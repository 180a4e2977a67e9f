"""The reference course's work on a CPU against the same work done our way: time, tokens a second, and the same losses.

    python -m factory.reference_speed --only generation    8 questions × 50 tokens: one by one in float32 by the
        library's `generate`, as the reference course has it, and together by `generate_responses`' own loop.
    python -m factory.reference_speed --only sft           100 rows of about 200 tokens, 13 optimiser steps: its SFTConfig
        (batch 1 × 8, one epoch, lr 8e-5, float32, gradient checkpointing off), and `quick_sft_settings` with
        `quick_log_probs` and `keep_freed_memory`. The same rows in the same steps.

On a random model of SmolLM2-135M's shape; `generation` takes SmolLM2-135M-Instruct itself where `make real-model` has put
it. Each side of `sft` is a process of its own, and they take turns, a step
each: what else runs on the machine then slows both alike, and neither waits while it is timed. Writes
`data/recorded/reference_speed.json`; the part that is not asked for stays. Its settings: lesson 3 of "Post-training of
LLMs" (DeepLearning.AI), which turns gradient checkpointing off; TRL 1.16's own default is on, which is slower still.
Left out on purpose: the times on a GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import statistics
import time
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from factory import ROOT
from factory.real_sizes import PLAIN, RUNS, make_model, status_kb
from factory.recordings.shared import RECORDED, write
from helper import bf16_is_fast, load_course_dataset, set_seed
from helper.generation import generate_tokens
from helper.library import attention_of
from helper.machine.memory import keep_freed_memory
from helper.models import REAL_MODEL, prepare_model
from helper.trainers.log_probs import quick_log_probs
from helper.trainers.speed import quick_sft_settings

RECORD = RECORDED / "reference_speed.json"
REAL = ROOT / "models" / REAL_MODEL
SHAPE = "llama-135M"
HEROES, NEW_TOKENS = ("a lion", "a baker", "an old car", "the sea", "a king", "two sisters", "a robot", "the moon"), 50
ROWS, TOKENS = 100, 200
THEIRS = {
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 8,
    "bf16": False,
    "activation_checkpointing": False,
}
SETTINGS = PLAIN | {"learning_rate": 8e-5, "num_train_epochs": 1}
ROUNDS = 3  # of generation, in turns


def load(attention: str, folder: Path = RUNS / SHAPE):
    """The model in `folder` and its tokenizer, in float32; the random one of the shape is made at the first call."""
    if not (folder / "config.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        make_model(SHAPE, folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prepare_model(model, tokenizer)
    return model.eval(), tokenizer


def conversations(tokenizer, rows: int) -> Dataset:
    """Conversations of about TOKENS tokens: rows of the course's SFT data, one after the other until there are as many."""
    made, messages = [], []
    for row in load_course_dataset("sprout-sft"):
        messages += [message for message in row["messages"] if message["role"] != "system"]
        if len(tokenizer(tokenizer.apply_chat_template(messages, tokenize=False)).input_ids) >= TOKENS - 20:
            made.append({"messages": messages})
            messages = []
        if len(made) == rows:
            return Dataset.from_list(made)
    raise ValueError(f"The data gives {len(made)} rows of {TOKENS} tokens, and {rows} were asked for.")


def record_generation() -> dict:
    """Tokens a second of both ways, in turns; the medians of ROUNDS rounds."""
    folder = REAL if (REAL / "config.json").exists() else RUNS / SHAPE
    model, tokenizer = load("sdpa", folder)  # the library's default, which the reference course leaves
    ours, _ = load("eager", folder)  # load_model_and_tokenizer's choice on a CPU
    template = partial(tokenizer.apply_chat_template, tokenize=False, add_generation_prompt=True)
    asked = [f"Write a long story about {hero}." for hero in HEROES]  # answers that go on to the limit
    prompts = [tokenizer(template([{"role": "user", "content": text}])).input_ids for text in asked]

    def one_by_one() -> int:
        count = 0
        for prompt in prompts:
            ids = torch.tensor([prompt])
            options = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": tokenizer.pad_token_id}
            with torch.no_grad():
                new = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
            count += new.shape[1] - len(prompt)
        return count

    def together() -> int:
        return sum(map(len, generate_tokens(ours, tokenizer, prompts, NEW_TOKENS)))

    speeds = {"one by one, float32": [], "together, bf16" if bf16_is_fast() else "together, float32": []}
    for _ in range(ROUNDS):
        for name, run in zip(speeds, (one_by_one, together)):
            begun = time.perf_counter()
            count = run()
            speeds[name].append(count / (time.perf_counter() - begun))
            print(name, f"{speeds[name][-1]:.1f} tokens a second", flush=True)
    medians = [statistics.median(values) for values in speeds.values()]
    return {
        "command": "python -m factory.reference_speed --only generation", "model": folder.name, "questions": len(HEROES),
        "new_tokens": NEW_TOKENS, "threads": torch.get_num_threads(),
        "tokens_per_second": {name: [round(value, 1) for value in values] for name, values in speeds.items()},
        "times_faster": round(medians[1] / medians[0], 2),
    }  # fmt: skip


class Turns(TrainerCallback):
    """Takes turns with the other side: the seconds of each optimiser step, without the time that it waited."""

    def __init__(self, mine, others):
        self.mine, self.others = mine, others
        self.seconds: list[float] = []
        self.mine.acquire()

    def pass_on(self):
        """Let the other side make its step, and go on when it has."""
        self.others.release()
        self.mine.acquire()
        self.begun = time.perf_counter()

    def on_train_begin(self, args, state, control, **kwargs):
        self.pass_on()  # the other side loads its model

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(time.perf_counter() - self.begun)
        self.pass_on()


def sft_side(side: str, rows: int, answer: Connection, mine, others) -> None:
    """Train one way in turns with the other, and send what it took. Runs in a process of its own."""
    turns = Turns(mine, others)
    ours = side == "ours"
    kept = ours and keep_freed_memory()
    model, tokenizer = load("eager" if ours else "sdpa")
    way = quick_sft_settings() if ours else THEIRS
    set_seed(0)
    with quick_log_probs() if ours else contextlib.nullcontext():
        trainer = SFTTrainer(
            model=model, processing_class=tokenizer, train_dataset=conversations(tokenizer, rows),
            args=SFTConfig(output_dir=str(RUNS / "trained"), **SETTINGS | way),
        )  # fmt: skip
        trainer.add_callback(turns)
        trainer.train()
    others.release()
    log = [row for row in trainer.state.log_history if "loss" in row]
    answer.send({
        "settings": SETTINGS | way, "keep_freed_memory": kept, "quick_log_probs": ours,
        "attention": attention_of(model), "rows": rows, "tokens": int(log[-1]["num_tokens"]),
        "seconds": round(sum(turns.seconds), 1), "step_seconds": [round(value, 2) for value in turns.seconds],
        "loss": [round(row["loss"], 4) for row in log], "grad_norm": [round(float(row["grad_norm"]), 4) for row in log],
        "peak_mb": round(1024 * status_kb("self", "VmHWM") / 1e6), "threads": torch.get_num_threads(),
    })  # fmt: skip


def record_sft(rows: int) -> dict:
    """Both ways, a step each in turns, and how they compare."""
    spawn = multiprocessing.get_context("spawn")
    turns = [spawn.Semaphore(1), spawn.Semaphore(0)]
    answers, sides = {}, {}
    for place, side in enumerate(("theirs", "ours")):
        answer, end = spawn.Pipe(duplex=False)
        answers[answer] = side
        # A daemon: if one side fails, the other is stopped with this process.
        spawn.Process(target=sft_side, args=(side, rows, end, turns[place], turns[1 - place]), daemon=True).start()
        end.close()  # here, so that recv raises EOFError if the process dies
    while answers:
        answer = wait(list(answers))[0]
        side = answers.pop(answer)
        try:
            sides[side] = answer.recv()
        except EOFError:
            raise RuntimeError(f"{side} failed: its error is above.") from None
        print(side, sides[side], flush=True)
    return {
        "command": "python -m factory.reference_speed --only sft" + (f" --rows {rows}" if rows != ROWS else ""),
        "shape": SHAPE, "rows": rows, **sides, **compare_sides(sides["theirs"], sides["ours"]),
    }  # fmt: skip


def compare_sides(theirs: dict, ours: dict) -> dict:
    """Share of the time in all and in the middle step, and the largest difference of a step's loss as a share of it.

    ValueError for unlike work.
    """
    if theirs["tokens"] != ours["tokens"] or len(theirs["loss"]) != len(ours["loss"]):
        raise ValueError("The two runs did not see the same tokens in as many steps, so they cannot be compared.")
    shares = [b / a for a, b in zip(theirs["step_seconds"], ours["step_seconds"])]
    apart = [abs(b - a) / a for a, b in zip(theirs["loss"], ours["loss"])]
    return {
        "time_share": round(ours["seconds"] / theirs["seconds"], 3),
        "median_step_share": round(statistics.median(shares), 3),
        "largest_loss_difference": round(max(apart), 5),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("generation", "sft"))
    parser.add_argument("--rows", type=int, default=ROWS, help="of sft; fewer for a trial")
    parser.add_argument("--to", type=Path, default=RECORD, help="the file to write")
    options = parser.parse_args()
    made = json.loads(options.to.read_text()) if options.to.exists() else {}
    for name, run in (("generation", record_generation), ("sft", lambda: record_sft(options.rows))):
        if options.only in (None, name):
            kept_as = name
            if name == "generation" and not bf16_is_fast():
                kept_as = "generation_without_bf16"  # beside the record of a processor that has it
            made[kept_as] = run()
            print({key: value for key, value in made[kept_as].items() if not isinstance(value, dict)}, flush=True)
            write(made, options.to)


if __name__ == "__main__":
    main()
