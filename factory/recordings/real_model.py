"""What lessons 02, 03, 04, 07, 08 and 09 do, on a pretrained model: SmolLM2-135M-Instruct on a CPU (`make real-model`).

    python -m factory.record --real                               all of it (or `make record-real`)
    python -m factory.record --real --only real_dpo --seeds 0 1   a part

The settings are those with which the lessons run on it (`helper/by_model.py`). Each run starts from the model as it came,
and is judged on held-out questions; verdicts are kept question by question, so that differences can be paired.
A recording that was stopped goes on where it was: runs that its file holds are not made again.
Left out on purpose: the live comparisons of lessons 01 to 07 (run one with `MODEL_NAME = "smollm2-135m-instruct"`).
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from factory import run_lessons, stages
from factory.everyday import own_form
from factory.lessons import NOTEBOOKS
from factory.recordings.shared import curve, fresh, write
from helper import extract_gold, generate_responses, grade, load_course_dataset, load_suite, output_folder, set_seed
from helper.algorithms import add_lora, grpo_loss, train_grpo
from helper.by_model import BOX, TABLES
from helper.machine.device import bf16_is_fast
from helper.machine.memory import peak_memory_mb
from helper.models import REAL_MODEL, load_model_and_tokenizer
from helper.rewards import reward_func, rule_and_topic_reward, rule_reward

SFT, DPO, GRPO = (
    {name: values[1] for name, values in TABLES[lesson].items()} for lesson in ("02_sft", "03_dpo", "04_online_rl")
)
NEW_NAME = DPO["names"][1]
WHOLE = ("08_data", "09_pipeline")  # lessons that are run on it from top to bottom
ROOM = {"rules": 32, "unseen_rules": 32, "everyday": 48, "tool_calls": 64, "identity": 48}  # tokens an answer may have
OTHER_SKILLS = ("define", "fact", "relation", "compare", "list", "calculate")  # whose questions it answers in its own words
ARMS = {  # of each method: what is done otherwise than in the lesson
    "sft": {"as in the lesson": {}, "with its own answers": {"replay": 240}},
    "dpo": {
        "as in the lesson": {},
        "SFT term only": {"loss_weights": [0.0, DPO["loss_weights"][1]]},
        "contrast only": {"loss_type": ["sigmoid"], "loss_weights": None},
        "reference course": {"limit": 100, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8,
                             "loss_type": ["sigmoid"], "loss_weights": None, "precompute_ref_log_probs": False},
    },
    "lora": {f"rank 8, rate {rate:g}": {"rank": 8, "learning_rate": rate} for rate in (2e-4, 5e-4, 1e-3, 3e-3)},
    "lora_sft": {f"rank 8, rate {rate:g}": {"rank": 8, "learning_rate": rate} for rate in (3e-4, 1e-3, 3e-3)}
    | {
        "rank 8, rate 0.001, own answers": {"rank": 8, "learning_rate": 1e-3, "replay": 240},
        "all weights, rate 3e-05": {"learning_rate": 3e-5},
    },
    "lora_grpo": {f"rank 8, rate {rate:g}": {"rank": 8, "learning_rate": rate} for rate in (2e-4, 4e-4, 1e-3)},
    "grpo": {
        "rule": {}, "rule and topic": {}, "shuffled rules": {}, "random": {}, "constant": {}, "reference course": {},
    },
}  # fmt: skip
ONCE = {  # arms with one seed: for the time they take, or since they only sought the rate
    "dpo": ("contrast only", "reference course"),
    "grpo": ("constant", "reference course"),
    "lora": ("rank 8, rate 0.0002", "rank 8, rate 0.0005", "rank 8, rate 0.001"),
    "lora_grpo": ("rank 8, rate 0.0002", "rank 8, rate 0.0004"),
    "lora_sft": (
        "rank 8, rate 0.0003",
        "rank 8, rate 0.003",
        "rank 8, rate 0.001, own answers",
        "all weights, rate 3e-05",
    ),
}
REWARDS: dict[str, Callable] = {
    "rule": rule_reward, "rule and topic": rule_and_topic_reward, "shuffled rules": rule_reward,
}  # fmt: skip


def start() -> tuple:
    """The model as it came, in float32, and its tokenizer."""
    model, tokenizer = load_model_and_tokenizer(REAL_MODEL)
    return model.float(), tokenizer


def measure(model, tokenizer, suites: tuple[str, ...]) -> dict[str, dict]:
    """Greedy answers to each suite, judged."""
    found = {}
    for name in suites:
        asked = [row["question"] for row in load_suite(name)]
        found[name] = judged(name, generate_responses(model, tokenizer, asked, max_new_tokens=ROOM[name]))
    return found


def judged(suite: str, answers: list[str]) -> dict[str, list]:
    """The answers and whether they are right; "identity": whether they give the new name."""
    pairs = zip(load_suite(suite), answers, strict=True)
    right = [int(NEW_NAME in text if suite == "identity" else grade(row, text)) for row, text in pairs]
    return {"answer": answers, "right": right}


def regraded(answered: dict) -> dict:
    """What was measured, with the verdicts of today's graders on the answers that were kept."""
    for name, found in answered.items():
        if isinstance(found, dict) and "answer" in found:  # what is no suite is another form of asking for calls
            found |= judged(name if name in ROOM else "tool_calls", found["answer"])
    return answered


def tool_forms(model, tokenizer) -> dict[str, dict]:
    """The test of calls put to the model as it came, in the forms in which an instruct model may know what is wanted."""
    rows, examples = load_suite("tool_calls"), load_course_dataset("sprout-tools").to_list()
    calls = [row["messages"] for row in examples if "tool_call" in row["messages"][1]["content"]]
    turns = [message for messages in calls[:8] for message in messages]  # eight rows of training, as turns of the chat
    asked = [[{"role": "user", "content": row["question"]}] for row in rows]
    forms = {
        "tools described": [[{"role": "system", "content": own_form()}, *question] for question in asked],
        "eight examples": [[*turns, *question] for question in asked],
    }
    found = {}
    for name, conversations in forms.items():
        answers = generate_responses(
            model, tokenizer, full_message=conversations, max_new_tokens=ROOM["tool_calls"], batch_size=16
        )
        found[name] = judged("tool_calls", answers)
    return found


def adapter(rank: int | None) -> dict:
    """The trainer's argument for an adapter of that rank on all linear layers; for None nothing: all weights are trained."""
    if rank is None:
        return {}
    return {"peft_config": LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")}


def sft_run(seed: int, arm: str, method: str = "sft") -> dict:
    """Lesson 02: calls of tools, learned from rows. Lesson 07: the same with an adapter."""
    model, tokenizer = start()
    changes = dict(ARMS[method][arm])
    rank = changes.pop("rank", None)
    rows = load_course_dataset(SFT["dataset"]).to_list() + own_answers(model, tokenizer, seed, changes.pop("replay", 0))
    rows = Dataset.from_list(stages.prompts_and_completions(rows))
    settings = {
        "learning_rate": SFT["learning_rate"], "num_train_epochs": SFT["epochs"], "max_length": SFT["max_length"],
        "per_device_train_batch_size": SFT["batch"], "gradient_accumulation_steps": SFT["accumulation"],
        "warmup_steps": SFT["warmup_steps"], "lr_scheduler_type": "cosine", "logging_steps": 5, **changes,
    }  # fmt: skip
    args = SFTConfig(**stages.quiet_settings(fresh("real_sft"), seed) | settings)
    return trained(SFTTrainer, model, tokenizer, args, rows, seed, **adapter(rank))


def own_answers(model, tokenizer, seed: int, count: int) -> list[dict]:
    """Rows with `messages` to keep what it can do: its own answers to `count` other questions, those that came to an end."""
    rows = load_course_dataset("sprout-sft").shuffle(seed=seed).filter(lambda row: row["skill"] in OTHER_SKILLS)
    questions = [row["messages"][0]["content"] for row in rows][:count]
    answers = generate_responses(model, tokenizer, questions, max_new_tokens=100)
    return [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in zip(questions, answers)
        if answer.endswith((".", "!", "?"))
    ]


def dpo_rows(model, tokenizer, seed: int, limit: int | None) -> Dataset:
    """Pairs of a written answer with the new name (chosen) and the model's own, and anchors: lesson 03's rows.

    `limit`: that many pairs and no anchors.
    """
    rows = load_course_dataset(DPO["dataset"], limit=limit or DPO["prompts"], seed=seed)
    asked, written = zip(*([turn["value"] for turn in row["conversations"]] for row in rows))
    own = generate_responses(model, tokenizer, list(asked), max_new_tokens=DPO["longest"][0])
    made = [pair(q, text.replace("Sprout", NEW_NAME), said) for q, text, said in zip(asked, written, own)]
    if limit:
        return Dataset.from_list(made)
    others = {True: [], False: []}  # refused, or not
    for row in load_course_dataset("sprout-sft").shuffle(seed=seed):
        if row["skill"] != "identity":
            others[row["skill"] == "refuse"].append(row["messages"][0]["content"])
    requests = load_course_dataset("sprout-rules").shuffle(seed=seed)["question"]
    refused, answered, asked_for = DPO["anchors"]
    anchors = others[True][:refused] + others[False][:answered] + list(requests)[:asked_for]
    return Dataset.from_list(made + stages.anchor_rows(model, tokenizer, anchors, DPO["longest"][1]))


def pair(question: str, chosen: str, rejected: str) -> dict:
    """One row of preference data."""
    row = {"prompt": [{"role": "user", "content": question}]}
    return row | {name: [{"role": "assistant", "content": t}] for name, t in (("chosen", chosen), ("rejected", rejected))}


def dpo_run(seed: int, arm: str, method: str = "dpo") -> dict:
    """Lesson 03: the name. Lesson 07: the same with an adapter on all linear layers; switched off it is the reference."""
    model, tokenizer = start()
    set_seed(seed)
    changes = dict(ARMS[method][arm])
    rows, rank = dpo_rows(model, tokenizer, seed, changes.pop("limit", None)), changes.pop("rank", None)
    settings = {
        "learning_rate": DPO["learning_rate"], "num_train_epochs": DPO["epochs"], "beta": 0.2, "logging_steps": 1,
        "per_device_train_batch_size": DPO["batch"], "gradient_accumulation_steps": DPO["accumulation"],
        "loss_type": ["sigmoid", "sft"], "loss_weights": DPO["loss_weights"], "max_length": DPO["max_length"],
        "precompute_ref_log_probs": DPO["precompute"], **changes,
    }  # fmt: skip
    args = DPOConfig(**stages.quiet_settings(fresh("real_dpo"), seed) | settings)
    return trained(DPOTrainer, model, tokenizer, args, rows, seed, **adapter(rank))


def trained(trainer_class, model, tokenizer, args, rows: Dataset, seed: int, **options) -> dict:
    """Train with the library's trainer; the model, the seconds and the losses."""
    set_seed(seed)
    trainer = trainer_class(model=model, processing_class=tokenizer, args=args, train_dataset=rows, **options)
    began = time.perf_counter()
    model, seconds = stages.run_trainer(trainer), time.perf_counter() - began
    log = trainer.state.log_history
    taken = {"seconds": round(seconds), "loss": curve(row["loss"] for row in log if "loss" in row)}
    rewards = curve(row["reward"] for row in log if "reward" in row)
    return {"model": model, "tokenizer": tokenizer, **taken, **({"reward": rewards} if rewards else {})}


def practice_rows(seed: int, shuffled: bool) -> list[dict]:
    """The instructions to practise on; `shuffled`: each with a rule drawn from all, so that the reward fits no question.

    About one in six keeps its own rule by chance, and one in four its kind of rule.
    """
    rows = load_course_dataset(GRPO["dataset"]).to_list()
    rules = [row["ground_truth"] for row in rows]
    if shuffled:
        random.Random(seed).shuffle(rules)
    return [
        {"prompt": [{"role": "user", "content": row["question"]}], "ground_truth": rule, "topic": row["topic"]}
        for row, rule in zip(rows, rules)
    ]


def coin(seed: int) -> Callable:
    """A reward of 0 or 1 by the toss of a coin, whatever is said; other tosses at each call."""
    tosses = random.Random(seed)

    def random_reward(completions: list, **kwargs) -> list[float]:
        return [float(tosses.random() < 0.5) for _ in completions]

    return random_reward


def constant_reward(completions: list, **kwargs) -> list[float]:
    """1.0, whatever is said."""
    return [1.0] * len(completions)


def grpo_run(seed: int, arm: str, method: str = "grpo") -> dict:
    """Lesson 04: instructions checked by rule, practised with lesson 05's loop. Lesson 07: the same with an adapter."""
    model, tokenizer = start()
    if arm == "reference course":
        return reference_grpo(model, tokenizer, seed)
    set_seed(seed)
    changes = ARMS[method][arm]
    if rank := changes.get("rank"):
        add_lora(model, rank, 2 * rank, "all-linear")
    began = time.perf_counter()
    reward = coin(seed) if arm == "random" else rule_reward if changes else REWARDS.get(arm, constant_reward)
    live = train_grpo(
        model, tokenizer, practice_rows(seed, arm == "shuffled rules"), [reward],
        folder=fresh("real_grpo"), steps=GRPO["steps"], group_size=GRPO["group_size"],
        learning_rate=changes.get("learning_rate", GRPO["learning_rate"]),
        prompts_per_step=GRPO["batch"] * GRPO["accumulation"] // GRPO["group_size"], micro_batch=GRPO["batch"],
        max_new_tokens=GRPO["longest"], temperature=GRPO["temperature"], loss=partial(grpo_loss, loss_type="dr_grpo"),
        bf16=bf16_is_fast(model.device), seed=seed, charts=False,
    )  # fmt: skip
    seconds = round(time.perf_counter() - began)
    return {"model": model.eval(), "tokenizer": tokenizer, "seconds": seconds, "reward": curve(live.table()["reward"])}


def reference_grpo(model, tokenizer, seed: int) -> dict:
    """The reference course's settings: 10 problems, 4 answers each, a box asked for, rate 5e-6, the library's trainer.

    The problems are sums of one step, easier than its GSM8K.
    """
    system = {"role": "system", "content": BOX}
    problems = [
        {"prompt": [system, {"role": "user", "content": row["question"]}], "ground_truth": extract_gold(row["answer"])}
        for row in load_course_dataset("sprout-sums", limit=10, seed=seed)
    ]
    settings = {
        "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "num_train_epochs": 1, "learning_rate": 5e-6,
        "num_generations": 4, "max_completion_length": 256, "logging_steps": 1,
    }  # fmt: skip
    args = GRPOConfig(**stages.quiet_settings(fresh("real_grpo"), seed) | settings)
    return trained(GRPOTrainer, model, tokenizer, args, Dataset.from_list(problems), seed, reward_funcs=reward_func)


RUNS = {"sft": sft_run, "dpo": dpo_run, "grpo": grpo_run}
RUNS |= {
    "lora": partial(dpo_run, method="lora"),
    "lora_sft": partial(sft_run, method="lora_sft"),
    "lora_grpo": partial(grpo_run, method="lora_grpo"),
}
SUITES = {
    "sft": ("tool_calls", "everyday"),
    "dpo": ("identity", "everyday", "rules"),
    "grpo": ("rules", "unseen_rules", "everyday"),
}
SUITES |= {"lora": SUITES["dpo"], "lora_sft": SUITES["sft"], "lora_grpo": SUITES["grpo"]}


def record(method: str, arms: tuple[str, ...], seeds: list[int], path: Path) -> None:
    """The model as it came, then every arm with every seed; the file is written after each."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    for answered in (kept.get("before", {}), *kept.get("runs", [])):
        regraded(answered)
    known = sorted({*seeds, *(run["seed"] for run in kept.get("runs", []))})
    kept["command"] = f"python -m factory.record --real --only real_{method} --seeds {' '.join(map(str, known))}"
    if "before" not in kept:
        model, tokenizer = start()
        kept["before"] = measure(model, tokenizer, SUITES[method]) | (
            tool_forms(model, tokenizer) if method == "sft" else {}
        )
        kept["runs"] = []
        write(kept, path)
    done = {(run["arm"], run["seed"]) for run in kept["runs"]}
    for seed in seeds:
        for arm in arms:
            again = arm in ONCE.get(method, ()) and any(name == arm for name, _ in done)
            if (arm, seed) not in done and not again:
                done.add((arm, seed))
                run = RUNS[method](seed, arm)
                count = sum(p.numel() for p in run["model"].parameters() if p.requires_grad)
                answered = measure(run.pop("model"), run.pop("tokenizer"), SUITES[method])
                kept["runs"].append(
                    {"arm": arm, "seed": seed, "peak_mb": round(peak_memory_mb()), "trained": count, **run, **answered}
                )
                write(kept, path)
                print(
                    arm,
                    seed,
                    run["seconds"],
                    {n: sum(a["right"]) / len(a["right"]) for n, a in answered.items()},
                    flush=True,
                )


def record_sft(seeds: list[int], path: Path) -> None:
    """Lesson 02 on SmolLM2: calls of tools before and after, in several forms."""
    record("sft", tuple(ARMS["sft"]), seeds, path)


def record_dpo(seeds: list[int], path: Path) -> None:
    """Lesson 03 on SmolLM2: the name, with both terms, with one alone, and with the reference course's settings."""
    record("dpo", tuple(ARMS["dpo"]), seeds, path)


def record_grpo(seeds: list[int], path: Path) -> None:
    """Lesson 04 on SmolLM2: rules practised, against rewards that teach none, and the reference course's settings."""
    record("grpo", tuple(ARMS["grpo"]), seeds, path)


def record_lora(seeds: list[int], path: Path) -> None:
    """Lesson 07 on SmolLM2: the name with an adapter of rank 8, at several rates; full fine-tuning is lesson 03's."""
    record("lora", tuple(ARMS["lora"]), seeds, path)


def record_lora_sft(seeds: list[int], path: Path) -> None:
    """Lesson 07 on SmolLM2: the calls of tools with such an adapter; full fine-tuning is lesson 02's, and here at less."""
    record("lora_sft", tuple(ARMS["lora_sft"]), seeds, path)


def record_lora_grpo(seeds: list[int], path: Path) -> None:
    """Lesson 07 on SmolLM2: the rules with such an adapter; full fine-tuning is lesson 04's."""
    record("lora_grpo", tuple(ARMS["lora_grpo"]), seeds, path)


def record_lessons(seeds: list[int], path: Path) -> None:
    """Lessons 08 and 09 as wholes on SmolLM2, with one seed: the scoreboard of each, its seconds, its peak of memory.

    {"command", "lessons": {"08_data": {"seconds", and what the scoreboard's file holds}}}.
    """
    kept = json.loads(path.read_text()) if path.exists() else {"lessons": {}}
    kept["command"] = f"python -m factory.record --real --only real_lessons --seeds {seeds[0]}"
    for name in WHOLE:
        if name not in kept["lessons"]:
            folder = fresh("real_lessons")
            folder.mkdir(parents=True)
            settings = {"MODEL_NAME": REAL_MODEL, "SEED": seeds[0]}
            seconds = run_lessons.run(NOTEBOOKS / f"{name}.ipynb", settings, folder / f"{name}.ipynb")
            board = json.loads((output_folder() / f"{name}.json").read_text(encoding="utf-8"))
            kept["lessons"][name] = {"seconds": round(seconds), **board}
            write(kept, path)


RECORDINGS = {
    "real_sft": (record_sft, "02_real_model.json"),
    "real_dpo": (record_dpo, "03_real_model.json"),
    "real_grpo": (record_grpo, "04_real_model.json"),
    "real_lora": (record_lora, "07_real_model.json"),
    "real_lora_sft": (record_lora_sft, "07_sft_real_model.json"),
    "real_lora_grpo": (record_lora_grpo, "07_grpo_real_model.json"),
    "real_lessons": (record_lessons, "real_lessons.json"),
}
