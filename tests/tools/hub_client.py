"""A process that loads by name from the Hub at HF_ENDPOINT and does what it is told: `test_hub.py` talks to it.

The libraries read HF_ENDPOINT and HF_HOME when they are imported, so the tests cannot set them for themselves. A line
on standard input is a request, {"do": name of a function below, ...arguments}; the answer is one line on standard
output, {"value": ...} or {"error": class, "message": text}. What the functions print goes to standard error.
"""

import copy
import gc
import json
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from helper import algorithms as course
from helper import (
    answers_match,
    check_trained_end,
    extract_gold,
    generate_responses,
    load_course_dataset,
    load_model_and_tokenizer,
    set_seed,
    validate_problems,
)
from helper.converters import from_sharegpt
from helper.models import end_of_turn_id
from helper.trainers.label_checks import check_chat_template
from helper.validation import validate_messages, validate_preferences

torch.set_num_threads(1)
STEPS, TOKENS = 5, 8
CHAT = [{"role": "user", "content": "What is 6 * 12?"}, {"role": "assistant", "content": "72"}]
LOADED = {}  # a name's model and tokenizer, as they came


def load(name: str, revision: str | None = None) -> dict:
    """Load a model by name, and say what lessons rely on: class, tokens, template, and that it generates."""
    model, tokenizer = load_model_and_tokenizer(name, revision=revision)
    if revision is None:
        LOADED[name] = model, tokenizer
    set_seed(0)
    texts = generate_responses(model, tokenizer, ["Hi", "Who are you?"], max_new_tokens=TOKENS, temperature=1.0)
    asked = {"tokenize": False, "add_generation_prompt": True}
    return {
        "class": type(model).__name__,
        "tied": model.get_output_embeddings().weight is model.get_input_embeddings().weight,
        "query_norm": hasattr(model.model.layers[0].self_attn, "q_norm"),
        "weights": float(sum(p.double().abs().sum() for p in model.parameters())),
        "end": tokenizer.eos_token,
        "pad": tokenizer.pad_token,
        "turn_end": tokenizer.decode([end_of_turn_id(tokenizer) or 0]),
        "stops": tokenizer.convert_ids_to_tokens(sorted(model.generation_config.eos_token_id)),
        "sampling": model.generation_config.do_sample or model.generation_config.repetition_penalty not in (None, 1.0),
        "chat": tokenizer.apply_chat_template(CHAT, tokenize=False),
        "prompt": tokenizer.apply_chat_template(CHAT[:1], **asked),
        "prompt_no_thinking": tokenizer.apply_chat_template(CHAT[:1], enable_thinking=False, **asked),
        "template_fault": fault_of(check_chat_template, tokenizer),
        "texts": texts,
    }


def fault_of(check, *arguments) -> str:
    """What a check complains of, "" where it does not."""
    try:
        check(*arguments)
    except ValueError as error:
        return str(error)
    return ""


def rows(name: str, split: str = "train", revision: str | None = None, limit: int | None = None) -> dict:
    """Load a data set by name: its columns, their number, and the first row."""
    dataset = load_course_dataset(name, split, limit=limit, revision=revision)
    return {"columns": dataset.column_names, "rows": len(dataset), "first": dataset[0]}


def prepared(name: str) -> int:
    """Bring a data set into the form that its lesson trains on; how many rows are in order."""
    dataset = load_course_dataset(name)
    if name == "mrfakename/identity":
        return validate_messages(from_sharegpt(dataset))
    if "gsm8k" in name:
        return validate_problems(dataset)
    return (validate_preferences if "DPO" in name else validate_messages)(dataset)


def golds() -> dict:
    """GSM8K's answers, split by split: problems, and those whose answer is got out of the worked solution rightly."""
    found = {}
    for split in ("test", "train"):
        answers = list(load_course_dataset("openai/gsm8k", split)["answer"])
        plain = [answer.split("####")[1].strip().replace(",", "") for answer in answers]
        got = [extract_gold(answer) for answer in answers]
        found[split] = [len(answers), sum(answers_match(a, b) and a == b for a, b in zip(got, plain, strict=True))]
    return found


@cache
def training_rows(kind: str) -> list[dict]:
    """Rows of the lessons' data sets in the form that trainers and loops read."""
    if kind == "sft":
        chosen = load_course_dataset("banghua/DL-SFT-Dataset", limit=24)
        return [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in chosen]
    if kind == "dpo":
        return list(load_course_dataset("banghua/DL-DPO-Dataset", limit=24))
    problems = load_course_dataset("openai/gsm8k", limit=24)
    return [
        {"prompt": [{"role": "user", "content": row["question"]}], "ground_truth": extract_gold(row["answer"])}
        for row in problems
    ]


def some_spread(completions, **kwargs) -> list[float]:
    """A reward that differs within a group whatever a random model writes."""
    return [float(sum(map(ord, completion[-1]["content"])) % 7) for completion in completions]


def train(name: str, kind: str, by: str) -> dict:
    """Train a fresh copy of a loaded model for STEPS steps, by the "library" or the "course"; save it, load it again."""
    set_seed(0)
    if name not in LOADED:
        LOADED[name] = load_model_and_tokenizer(name)
    model, tokenizer = copy.deepcopy(LOADED[name][0]), LOADED[name][1]
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    with tempfile.TemporaryDirectory() as folder:
        losses = (by_library if by == "library" else by_course)(model, tokenizer, kind, folder)
        after = torch.cat([p.detach().flatten() for p in model.parameters()])
        model.save_pretrained(f"{folder}/saved")
        tokenizer.save_pretrained(f"{folder}/saved")
        again, its_tokenizer = load_model_and_tokenizer(f"{folder}/saved")
        same = torch.cat([p.detach().flatten() for p in again.parameters()])
        conversation = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
        prompts = [t.apply_chat_template(CHAT[:1], **conversation) for t in (tokenizer, its_tokenizer)]
    return {
        "steps": len(losses),
        "finite": bool(torch.tensor(losses).isfinite().all() and after.isfinite().all()),
        "changed": float((after - before).abs().max()),
        "kept": bool(torch.equal(after, same)) and prompts[0] == prompts[1],
        "class": type(again).__name__,
    }


def by_library(model, tokenizer, kind: str, folder: str) -> list[float]:
    """The lesson's trainer with its settings of importance; the loss of each step."""
    settings = {
        "output_dir": folder, "use_cpu": True, "bf16": False, "max_steps": STEPS, "logging_steps": 1, "learning_rate": 1e-3,
        "per_device_train_batch_size": 4, "activation_checkpointing": False, "report_to": "none", "disable_tqdm": True,
        "save_strategy": "no", "dataloader_pin_memory": False, "seed": 0,
    }  # fmt: skip
    common = {"model": model, "processing_class": tokenizer, "train_dataset": Dataset.from_list(training_rows(kind))}
    if kind == "sft":
        trainer = SFTTrainer(args=SFTConfig(max_length=256, **settings), **common)
        check_trained_end(trainer, tokenizer)
    elif kind == "dpo":
        trainer = DPOTrainer(args=DPOConfig(max_length=256, beta=0.2, **settings), **common)
    else:
        args = GRPOConfig(
            num_generations=4, max_completion_length=TOKENS, chat_template_kwargs={"enable_thinking": False}, **settings
        )
        trainer = GRPOTrainer(reward_funcs=some_spread, args=args, **common)
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def by_course(model, tokenizer, kind: str, folder: str) -> list[float]:
    """The course's own loops; its DPO is a loss without a loop, so the loop stands here."""
    settings = {"folder": f"{folder}/run", "steps": STEPS, "learning_rate": 1e-3, "charts": False}
    chosen = training_rows(kind)
    if kind == "sft":
        live = course.train_sft(model, tokenizer, chosen, batch_size=4, **settings)
        return live.table()["loss"].tolist()
    if kind == "grpo":
        grouped = {"prompts_per_step": 2, "group_size": 4, "max_new_tokens": TOKENS}
        live = course.train_grpo(model, tokenizer, chosen, [some_spread], **grouped, **settings)
        return live.table()["loss"].tolist()
    reference = {id(row): [answer_score(model, tokenizer, row[side]).detach() for side in SIDES] for row in chosen}
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-3), []
    for step in range(STEPS):
        batch = chosen[4 * step : 4 * step + 4]
        scores = [torch.stack([answer_score(model, tokenizer, row[side]) for row in batch]) for side in SIDES]
        old = [torch.stack([reference[id(row)][number] for row in batch]) for number in (0, 1)]
        loss = course.dpo_loss(*scores, *old, beta=0.2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


SIDES = ("chosen", "rejected")


def answer_score(model, tokenizer, messages: list[dict]) -> torch.Tensor:
    """The log-probability of a conversation's last answer, in nats, a scalar with its gradient."""
    prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    start, ids = len(tokenizer(prompt, add_special_tokens=False).input_ids), tokenizer(whole, add_special_tokens=False)
    ids = torch.tensor([ids.input_ids])
    logits = model(input_ids=ids).logits[:, start - 1 : -1]
    return logits.log_softmax(-1).gather(-1, ids[:, start:, None]).sum()


def raw(name: str) -> dict:
    """Without the helper: what a repository's files themselves say of its tokenizer, and the model's size."""
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForCausalLM.from_pretrained(name)
    return {
        "end": tokenizer.eos_token,
        "pad": tokenizer.pad_token,
        "template": bool(tokenizer.chat_template),
        "generation": {key: value for key, value in model.generation_config.to_diff_dict().items() if "version" not in key},
        "parameters": model.num_parameters(),
    }


DO = {function.__name__: function for function in (load, rows, prepared, golds, train, raw)}


def main() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr
    gc.freeze()  # trainers collect garbage: not among all that was imported
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"value": DO[request.pop("do")](**request)}
        except Exception as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
