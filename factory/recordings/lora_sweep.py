"""LoRA against full fine-tuning: word problems by SFT from `sprout-instruct`; rank, targets and learning rate swept.

Every arm has the same rows in the same order and as many steps; its learning rate is the one of four with the lowest
loss on problems that are neither trained nor reported. All rates with the first seed, the best with the others. Each
run is written when it is done, and a run that the file holds is not made again.
It joins `factory.record` with lesson 07's file (`RECORDINGS` in `lesson_07.py`), once there is a record.
Left out on purpose: DPO and GRPO (runs of their own), dropout, other alphas than twice the rank.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

from factory import stages
from factory.recordings.lesson_06 import alone
from factory.recordings.shared import command, fresh, write
from helper import evaluate, load_course_dataset, load_model_and_tokenizer, load_suite
from helper.algorithms import loss_of_rows
from helper.machine.memory import peak_memory_mb

STEPS, BATCH = 80, 16
VALIDATION = 96  # problems for the choice of the learning rate
LONGEST = 96  # tokens an answer may have
SUITES = {"word_problems": 250, "instructions": 195, "held_out_concepts": 100}  # the first is learned, the others kept
RANKS = (1, 2, 4, 8, 16, 32)
TARGETS = {"attention": ["q_proj", "k_proj", "v_proj", "o_proj"], "all-linear": "all-linear"}
ARMS = {
    "full": {}, "upper half": {},
    **{f"{targets}, rank {rank}": {"targets": targets, "rank": rank} for targets in TARGETS for rank in RANKS},
}  # fmt: skip
RATES = {"full": (1e-4, 3e-4, 1e-3, 3e-3), "lora": (3e-4, 1e-3, 3e-3, 1e-2)}


def problem_rows(split: str) -> list[dict]:
    """Problems as conversations, their result in a box as the suite wants it."""
    rows = []
    for row in load_course_dataset("sprout-maths", split):
        steps, result = row["answer"].rsplit("#### ", 1)
        answer = f"{steps}\\boxed{{{result.strip()}}}"
        rows.append({
            "messages": [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": answer}]
        })  # fmt: skip
    return rows


def rates(arm: str) -> tuple[float, ...]:
    return RATES["lora" if "rank" in ARMS[arm] else "full"]


def prepared(arm: str, seed: int):
    """`sprout-instruct` in float32 with what the arm trains; its tokenizer."""
    model, tokenizer = load_model_and_tokenizer("sprout-instruct")
    model, parts = model.float(), ARMS[arm]
    torch.manual_seed(seed)  # of A
    if "rank" in parts:
        targets, rank = TARGETS[parts["targets"]], parts["rank"]
        model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, task_type="CAUSAL_LM"))
    elif arm == "upper half":
        model.get_input_embeddings().requires_grad_(False)
        for layer in model.model.layers[: len(model.model.layers) // 2]:
            layer.requires_grad_(False)
    return model, tokenizer


def bytes_of_checkpoint(model, folder: Path) -> int:
    """The size of a file with what was trained, in float32."""
    folder.mkdir(parents=True, exist_ok=True)
    trained = {name: weight.detach().contiguous() for name, weight in model.named_parameters() if weight.requires_grad}
    save_file(trained, folder / "trained.safetensors")
    return (folder / "trained.safetensors").stat().st_size


@torch.no_grad()
def validation_loss(model, tokenizer, rows: list[dict]) -> float:
    """The mean loss of a token of the answers; nan where the run went astray."""
    parts = stages.prompts_and_completions(rows)
    losses = [loss_of_rows(model, tokenizer, parts[i : i + BATCH]).item() for i in range(0, len(parts), BATCH)]
    return sum(losses) / len(losses)


def scores(model, tokenizer) -> dict[str, str]:
    """Suite -> "1" for each right answer and "0" for each wrong one, in the suite's order."""
    found = {}
    for suite, number in SUITES.items():
        rows = load_suite(suite)
        rows = [rows[i * len(rows) // number] for i in range(number)]
        right = evaluate(model, tokenizer, rows, max_new_tokens=LONGEST)["right"]
        found[suite] = "".join(str(int(answer)) for answer in right)
    return found


def one_run(arm: str, rate: float, seed: int) -> dict:
    """Train an arm; validation loss, held-out answers, seconds, peak of memory up to the end of training, bytes."""
    model, tokenizer = prepared(arm, seed)
    rows = random.Random(seed).sample(problem_rows("train"), STEPS * BATCH)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    folder, begun = fresh("lora_sweep"), time.perf_counter()
    settings = {"max_steps": STEPS, "per_device_train_batch_size": BATCH, "learning_rate": rate, "warmup_steps": 8}
    model = stages.train_sft(model, tokenizer, rows, folder, seed, **settings)
    seconds, peak = time.perf_counter() - begun, peak_memory_mb()
    size = bytes_of_checkpoint(model, folder)
    return {
        "arm": arm, "learning_rate": rate, "seed": seed, "trained": trained, "bytes": size, "seconds": round(seconds, 1),
        "peak_mb": round(peak), "loss": validation_loss(model, tokenizer, problem_rows("test")[:VALIDATION]),
        "right": scores(model, tokenizer),
    }  # fmt: skip


def best_rate(runs: list[dict], arm: str, seed: int) -> float:
    """The arm's learning rate with the lowest validation loss with this seed; one whose loss is nan is never it."""
    tried = [run for run in runs if run["arm"] == arm and run["seed"] == seed and run["loss"] == run["loss"]]
    return min(tried, key=lambda run: run["loss"])["learning_rate"]


def record_lora_sweep(seeds: list[int], path: Path) -> None:
    """LoRA against full fine-tuning: rank, targets, learning rate; learned, forgotten, seconds, peak, bytes."""
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"runs": []}
    record |= {"command": command("lora_sweep", seeds), "steps": STEPS, "batch": BATCH, "suites": SUITES}
    record["threads"] = torch.get_num_threads()
    if "before" not in record:
        model, tokenizer = load_model_and_tokenizer("sprout-instruct")
        record["before"] = scores(model.float(), tokenizer)
        write(record, path)

    def add(arm: str, rate: float, seed: int) -> None:
        if not any((run["arm"], run["learning_rate"], run["seed"]) == (arm, rate, seed) for run in record["runs"]):
            record["runs"].append(run := alone(one_run, arm, rate, seed))
            print({**run, "right": {name: text.count("1") / len(text) for name, text in run["right"].items()}}, flush=True)
            write(record, path)

    for arm in sorted(ARMS, key=lambda arm: ARMS[arm].get("rank", 4) not in (4, 32)):  # the ends of the table first
        for rate in rates(arm):
            add(arm, rate, seeds[0])
    for seed in seeds[1:]:
        for arm in ARMS:
            add(arm, best_rate(record["runs"], arm, seeds[0]), seed)
