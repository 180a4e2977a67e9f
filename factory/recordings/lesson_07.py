"""The recorded runs of lesson 07: LoRA against full fine-tuning, for SFT, DPO and GRPO on word problems, `07_lora.json`.

All begin with `sprout-instruct`. Of each method and arm, three learning rates with the first seed (a fourth where the best
is the lowest or highest), which is of use for nothing else; the best on problems that are neither trained nor reported with
the other seeds.

The file's keys (verdicts are texts, a "0" or "1" for each question in the suite's order: `helper.recorded.share_right`;
`helper.preference_runs.apart(record, suite, first, second)` compares runs question by question and seed by seed):

    command, seeds, threads
    settings   method -> {"steps": ..., "batch": ...} and others, as plain values
    arms       method -> arm -> the learning rates that were tried first. Methods: "SFT", "DPO", "GRPO". Arms of SFT: "full",
               "upper half", "all-linear, rank 1" (4, 16), "attention, rank 4"; of the others: "full",
               "all-linear, rank 8". alpha is twice the rank
    before     {"word_problems": verdicts (200), "other_skills": verdicts (90), "held_out_concepts": verdicts (50)}
    tuning     a row for each (method, arm, learning_rate), all with the first seed: what a run has. The heat map of
               rate × rank is here
    runs       a row for each (method, arm, seed but the first), at the best rate: {"method", "arm", "seed", "learning_rate",
               "trained": parameters that training changes, "bytes": of a file with them in float32,
               "cpu_seconds": the processor's, of training (GRPO: with its sampling), "seconds": of the clock, with judging,
               "validation", "word_problems", "other_skills", "held_out_concepts": verdicts after}.
               "validation": for SFT the loss of an answer's token on 96 problems (lower is better, null after a run astray),
               for DPO and GRPO the share of 100 problems answered rightly (higher is better)
    peaks      a row for some arms of SFT: {"method", "arm", "start_mb": what a process of its own holds with the model
               loaded, "peak_mb": the most that it holds in two steps of training}

Left out on purpose: dropout, other alphas, the choice of the rate on more than one seed.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from functools import cache, partial
from itertools import chain
from pathlib import Path

import torch
from safetensors.torch import save_file

from factory.recordings.expert_iteration import LOOP
from factory.recordings.lesson_03 import once, resumed, trained
from factory.recordings.lesson_06 import alone
from factory.recordings.practice_rounds import (
    TRAINED,
    Clock,
    pairs_of,
    questions,
    sampled,
    shown,
    start,
    tests,
    validation,
    verdicts,
    written_answers,
)
from factory.recordings.shared import command, fresh
from helper import load_course_dataset, load_suite, reward_func
from helper.algorithms import add_lora, loss_of_rows, train_grpo
from helper.algorithms.lora import ALL_LINEAR, trained_parameters
from helper.machine.device import bf16_is_fast
from helper.machine.memory import give_back_memory, held_bytes

SETTINGS = {
    "SFT": {"steps": 24, "batch": 16},
    "DPO": {"steps": 20, "batch": 8, "beta": 0.1, "loss": "0.5 sigmoid + SFT on the chosen"},
    "GRPO": {"steps": 15, "prompts": LOOP["prompts_per_step"], "group": LOOP["group_size"]},
}
LOSS_PROBLEMS = 96  # whose loss chooses the learning rate of SFT
OTHERS = 50  # held-out concepts
TARGETS = {"attention": ["q_proj", "k_proj", "v_proj", "o_proj"], "all-linear": ALL_LINEAR}
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
LOW, FULL, LORA = RATES[2:5], RATES[3:6], RATES[4:7]
ARMS: dict[str, dict[str, tuple[float, ...]]] = {  # method -> arm -> learning rates
    "SFT": {
        "full": FULL, "all-linear, rank 4": LORA, "attention, rank 4": LORA, "all-linear, rank 16": LORA,
        "all-linear, rank 1": LORA, "upper half": FULL,
    },
    "DPO": {"full": LOW, "all-linear, rank 8": LORA},
    "GRPO": {"full": LOW, "all-linear, rank 8": LORA},
}  # fmt: skip
PEAKS = ("full", "upper half", "attention, rank 4", "all-linear, rank 16")  # of SFT; memory hangs little on the method here


def prepared(arm: str, seed: int):
    """A copy of `sprout-instruct` with what the arm trains."""
    model = copy.deepcopy(start()[0])
    torch.manual_seed(seed)  # of A
    if "rank" in arm:
        targets, rank = arm.split(", rank ")
        add_lora(model, int(rank), 2 * int(rank), TARGETS[targets])
    elif arm == "upper half":
        model.get_input_embeddings().requires_grad_(False)
        for layer in model.model.layers[: len(model.model.layers) // 2]:
            layer.requires_grad_(False)
    return model


# ---------------------------------------------------------------- the methods: (model, rate, seed, clock) -> trained model


def sft(model, rate: float, seed: int, clock: Clock):
    """SFT on written answers, the same rows in the same order for all arms."""
    steps, batch = SETTINGS["SFT"].values()
    rows = random.Random(seed).sample([shown(*row) for row in written_answers().items()], steps * batch)
    with clock:
        return trained(
            model, start()[1], rows, "imitation", {}, steps=steps, learning_rate=rate, batch_size=batch, seed=seed
        )[0]


@cache
def pairs(seed: int) -> list[dict]:
    """Pairs of the first model's own answers, right against wrong."""
    asked = list(chain(*questions(seed)))
    return pairs_of(asked, *sampled(start()[0], asked, seed))


def dpo(model, rate: float, seed: int, clock: Clock):
    """DPO with the SFT term; the reference is the model before, which is an adapter's model with the adapter off."""
    settings, rows = SETTINGS["DPO"], pairs(seed)
    with clock:
        return trained(
            model, start()[1], rows, "both", {"beta": settings["beta"]}, steps=settings["steps"], learning_rate=rate,
            batch_size=settings["batch"], seed=seed,
        )[0]  # fmt: skip


def grpo(model, rate: float, seed: int, clock: Clock):
    """GRPO with a verifiable reward, on the questions of expert iteration (lesson 08)."""
    rows = list(chain(*questions(seed)))
    with clock:
        train_grpo(
            model, start()[1], rows, [reward_func], folder=fresh("lora"), steps=SETTINGS["GRPO"]["steps"],
            learning_rate=rate, seed=seed, bf16=bf16_is_fast(), charts=False, **LOOP,
        )  # fmt: skip
    return model


METHODS: dict[str, Callable] = {"SFT": sft, "DPO": dpo, "GRPO": grpo}


# ---------------------------------------------------------------- what is measured


@torch.no_grad()
def validation_loss(model) -> float | None:
    """The mean loss of a token of written answers that no run trains on; None after a run astray."""
    rows = load_course_dataset("sprout-maths").to_list()[TRAINED : TRAINED + LOSS_PROBLEMS]
    parts = []
    for row in rows:
        made = shown(row["question"], row["answer"].replace("#### ", "\\boxed{") + "}")
        parts.append({"prompt": made["prompt"], "completion": made["chosen"]})
    losses = [loss_of_rows(model, start()[1], parts[i : i + 16]).item() for i in range(0, len(parts), 16)]
    mean = sum(losses) / len(losses)
    return round(mean, 5) if mean == mean else None


@cache
def suites() -> dict[str, list[dict]]:
    """The tests of lesson 08, and concepts that no SFT row names."""
    concepts = load_suite("held_out_concepts")
    return tests() | {"held_out_concepts": concepts[:: len(concepts) // OTHERS][:OTHERS]}


def bytes_of_checkpoint(model, folder: Path) -> int:
    """The size of a file with what was trained, in float32."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().contiguous() for name, weight in model.named_parameters() if weight.requires_grad}
    save_file(weights, folder / "trained.safetensors")
    return (folder / "trained.safetensors").stat().st_size


def one_run(method: str, arm: str, rate: float, seed: int) -> dict:
    """Train an arm; what is written of it."""
    clock = Clock()
    model = METHODS[method](prepared(arm, seed), rate, seed, clock).eval()
    return {
        "trained": sum(trained_parameters(model).values()), "bytes": bytes_of_checkpoint(model, fresh("lora_file")),
        "cpu_seconds": clock.read(), "validation": validation_loss(model) if method == "SFT" else validation(model),
        **verdicts(model, suites()),
    }  # fmt: skip


def peak(arm: str) -> dict:
    """What this process holds with the model loaded, and the most in two steps of SFT; Linux only.

    Its peak so far is of the imports, so it is set back first (man 5 proc: clear_refs).
    """
    model, rows = prepared(arm, 0), [shown(*row) for row in written_answers().items()][:64]
    give_back_memory()
    Path("/proc/self/clear_refs").write_text("5")
    before = held_bytes(torch.device("cpu"))
    trained(model, start()[1], rows, "imitation", {}, steps=2, learning_rate=1e-3, batch_size=16, seed=0)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {"start_mb": round(before / 1e6), "peak_mb": round(int(status["VmHWM"].split()[0]) * 1024 / 1e6)}


def tuned(record: dict, method: str, arm: str) -> list[dict]:
    """The arm's rows of tuning, the best first; a run that went astray is the last."""
    rows = [row for row in record["tuning"] if (row["method"], row["arm"]) == (method, arm)]
    sign = 1 if method == "SFT" else -1
    return sorted(rows, key=lambda row: (row["validation"] is None, sign * (row["validation"] or 0.0)))


def tune(record: dict, path: Path, method: str, arm: str, seed: int) -> None:
    """All rates of the arm with the first seed, and the next one of RATES where the best is the first or last of them."""

    def add(rate: float) -> None:
        about = {"method": method, "arm": arm, "learning_rate": rate, "seed": seed}
        once(record, path, "tuning", about, partial(one_run, method, arm, rate, seed))

    rates = ARMS[method][arm]
    for rate in rates:
        add(rate)
    place = {rates[0]: RATES.index(rates[0]) - 1, rates[-1]: RATES.index(rates[-1]) + 1}
    best = tuned(record, method, arm)[0]["learning_rate"]
    if best in place:
        add(RATES[place[best]])


def record_lora(seeds: list[int], path: Path) -> None:
    """LoRA against full fine-tuning for SFT, DPO and GRPO; the first seed chooses the rates, the others are reported."""
    arms = {method: {arm: list(rates) for arm, rates in some.items()} for method, some in ARMS.items()}
    record = resumed(path, {"command": command("lora", seeds), "seeds": seeds, "settings": SETTINGS, "arms": arms})
    record["threads"] = torch.get_num_threads()
    record["before"] = record.get("before") or verdicts(start()[0], suites())
    record.setdefault("peaks", [])
    for arm in PEAKS:
        once(record, path, "peaks", {"method": "SFT", "arm": arm}, partial(alone, peak, arm))
    for method, some in ARMS.items():
        for arm in some:
            tune(record, path, method, arm, seeds[0])
            rate = tuned(record, method, arm)[0]["learning_rate"]
            for seed in seeds[1:]:
                about = {"method": method, "arm": arm, "learning_rate": rate, "seed": seed}
                once(record, path, "runs", about, partial(one_run, *about.values()))


RECORDINGS = {"lora": (record_lora, "07_lora.json")}
