"""One step of SFT, DPO and GRPO on models of the true sizes, with random weights: memory predicted and measured.

SFT is also done with LoRA and with QLoRA. Of these two the largest memory is counted after the loading, which takes more
than such a training, and without the pages of the checkpoint's file, which the system may take back at any time. The C
library is made to give back at once what is freed (MALLOC_MMAP_THRESHOLD_, man 3 mallopt): what it keeps otherwise is
chance, and was up to a third of the peak when it was tried without.

    python -m factory.real_sizes                                            all rows
    python -m factory.real_sizes --models llama-135M --methods sft dpo      these; the other rows stay as recorded

Each row is a process of its own, whose largest memory the kernel counts (VmHWM, so Linux only), and which is stopped when
it takes more than `--limit-gb`. Writes `data/recorded/real_sizes.json` after each row. The settings are the reference
course's on a CPU: float32, batch 1 × 8 accumulation, about 200 tokens; 4 generations for GRPO.
Left out on purpose: weights that have learned anything. They do not change what a step costs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    LlamaConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    TrainerCallback,
)
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from factory import ROOT
from factory.recordings.shared import RECORDED, write
from helper.library import attention_of
from helper.machine.costs import METHODS, training_cost
from helper.machine.memory import give_back_memory
from helper.machine.scale import ALL_LINEAR

RECORD = RECORDED / "real_sizes.json"
RUNS = ROOT / "runs" / "real_sizes"
LENGTH = 200  # tokens of a row, its chat template included, about
GENERATED = 100  # of them by GRPO
STEP = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "max_steps": 1}
PLAIN = {
    "use_cpu": True, "bf16": False, "activation_checkpointing": False, "logging_steps": 1, "save_strategy": "no",
    "report_to": "none", "disable_tqdm": True, "seed": 0,
}  # fmt: skip
OF_METHOD = {
    "sft": {"learning_rate": 8e-5},
    "dpo": {"learning_rate": 5e-5, "beta": 0.2, "precompute_ref_log_probs": True},
    "grpo": {"learning_rate": 5e-6, "num_generations": 4, "max_completion_length": GENERATED},
}
ADAPTED = {"sft-lora": False, "sft-qlora": True}  # -> are the layers' matrices in 4 bits
CALLED = {"sft-lora": "SFT, LoRA", "sft-qlora": "SFT, QLoRA"} | {method: method.upper() for method in METHODS}
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def configs() -> dict[str, PreTrainedConfig]:
    """The shapes, as the models' own config.json on the Hub have them.

    https://huggingface.co/HuggingFaceTB/SmolLM2-135M, https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct and
    https://huggingface.co/Qwen/Qwen3-0.6B-Base, each /blob/main/config.json.
    """
    return {
        "llama-135M": LlamaConfig(
            hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, intermediate_size=1536,
            vocab_size=49152, tie_word_embeddings=True, max_position_embeddings=8192,
        ),
        "qwen2.5-0.5B": Qwen2Config(
            hidden_size=896, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2, intermediate_size=4864,
            vocab_size=151936, tie_word_embeddings=True, max_position_embeddings=32768,
        ),
        "qwen3-0.6B": Qwen3Config(
            hidden_size=1024, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8, head_dim=128,
            intermediate_size=3072, vocab_size=151936, tie_word_embeddings=True, max_position_embeddings=32768,
        ),
    }  # fmt: skip


def make_model(name: str, folder: Path) -> None:
    """Save a random model of that shape with the course's own tokenizer, whose words are the first of its vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "data" / "models" / "sprout-base")
    torch.manual_seed(0)
    config = configs()[name]
    config.bos_token_id, config.eos_token_id = None, tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    unfinished = folder.with_suffix(".unfinished")
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(unfinished, folder)


def digits(count: int, seed: int) -> str:
    """A text of so many tokens: the course's tokenizer has one for each digit."""
    return "".join(random.Random(seed).choices("0123456789", k=count))


def data(method: str, rows: int = 8) -> Dataset:
    """`rows` rows of about LENGTH tokens, in the columns of a method's trainer."""

    def messages(role: str, count: int, seed: int) -> list[dict]:
        return [{"role": role, "content": digits(count, seed)}]

    room = LENGTH - 10  # the chat template's own tokens
    made = []
    for seed in range(rows):
        asked = messages("user", room // 2 if method == "grpo" else room // 4, seed)
        answers = [messages("assistant", room - room // 4, seed + 1000 * i) for i in (1, 2)]
        if method == "sft":
            made.append({"messages": asked + answers[0]})
        elif method == "dpo":
            made.append({"prompt": asked, "chosen": answers[0], "rejected": answers[1]})
        else:
            made.append({"prompt": asked})
    return Dataset.from_list(made)


def some_reward(completions: list, **kwargs) -> list[float]:
    """A reward with a spread in each group, so that there is something to learn."""
    return [float(i % 2) for i in range(len(completions))]


def make_trainer(method: str, model, tokenizer, folder: Path):
    """The trainer of a method with the settings of the record."""
    adapter = {"peft_config": LoraConfig(**LORA)} if method in ADAPTED else {}
    method = method.split("-")[0]
    settings = STEP | PLAIN | OF_METHOD[method] | {"output_dir": str(folder)}
    common = {"model": model, "processing_class": tokenizer, "train_dataset": data(method), **adapter}
    if method == "sft":
        return SFTTrainer(args=SFTConfig(**settings), **common)
    if method == "dpo":
        return DPOTrainer(args=DPOConfig(**settings), **common)
    return GRPOTrainer(args=GRPOConfig(**settings), reward_funcs=some_reward, **common)


class Seconds(TrainerCallback):
    """The seconds of a run's step, from its first forward pass (or generation) to the end of the optimiser's."""

    def on_step_begin(self, args, state, control, **kwargs):
        self.begun = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds = time.perf_counter() - self.begun


def status_kb(pid: int | str, name: str) -> int:
    """A number of /proc/PID/status in kB; 0 when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name + ":")), 0)


def four_bits(wanted: bool) -> dict:
    """What loads a model with its layers' matrices in NF4, computing in float32; nothing where they are to stay."""
    if not wanted:
        return {}
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    return {"quantization_config": config, "device_map": {"": "cpu"}}


def one_step(name: str, method: str) -> dict:
    """Predict, load, train one step. Runs in the process whose memory is measured."""
    folder = RUNS / name
    libraries = 1024 * status_kb("self", "VmRSS")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **four_bits(ADAPTED.get(method, False)))
    adapter = {}
    if method in ADAPTED:
        adapter = {"lora_rank": LORA["r"], "lora_targets": ALL_LINEAR, "four_bit": ADAPTED[method]}
        for weight in model.parameters():
            weight.data = weight.data.clone()  # no longer a page of the file
    cost = training_cost(
        model.config, method.split("-")[0], 1, LENGTH, accumulation=8, steps=1, libraries=libraries,
        completion=GENERATED if method == "grpo" else None, precompute_reference=method == "dpo", **adapter,
    )  # fmt: skip
    trainer = make_trainer(method, model, tokenizer, RUNS / "trained")
    seconds = Seconds()
    trainer.add_callback(seconds)
    if method in ADAPTED:  # the largest memory so far is set back (man 5 proc: clear_refs)
        give_back_memory()
        Path("/proc/self/clear_refs").write_text("5")
    trainer.train()
    log = [row for row in trainer.state.log_history if "loss" in row]
    return {
        "model": name, "method": method, "called": CALLED[method], "parameters": cost.parameters, "dtype": "float32",
        "tokens": LENGTH, "settings": STEP | OF_METHOD[method.split("-")[0]] | (LORA if adapter else {}),
        "attention": attention_of(model),
        "predicted_mb": round(cost.peak / 1e6), "measured_mb": round(1024 * status_kb("self", "VmHWM") / 1e6),
        "predicted_parts_mb": {part: round(size / 1e6) for part, size in cost.parts.items()},
        "step_seconds": round(seconds.seconds, 1), "loss": round(log[-1]["loss"], 4),
        "threads": torch.get_num_threads(),
    }  # fmt: skip


def run_child(words: list[str], limit_gb: float, seconds: float = 3600) -> tuple[str, int]:
    """Run this module in a process of its own: its output, and its largest memory in MB as seen from outside.

    MemoryError when it took more than the limit, RuntimeError when it failed; it is stopped in either case.
    """
    command = [sys.executable, "-m", "factory.real_sizes", *words]
    given = os.environ | ({"MALLOC_MMAP_THRESHOLD_": "131072"} if ADAPTED.keys() & set(words) else {})
    child = subprocess.Popen(command, cwd=ROOT, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak, end = 0, time.monotonic() + seconds
    try:
        while child.poll() is None:
            peak = max(peak, status_kb(child.pid, "VmHWM"))
            if 1024 * peak > 1e9 * limit_gb:
                raise MemoryError(f"{' '.join(words)} took more than {limit_gb} GB and was stopped.")
            if time.monotonic() > end:
                raise RuntimeError(f"{' '.join(words)} took more than {seconds:.0f} s and was stopped.")
            time.sleep(0.1)
    finally:
        child.kill()
        output, errors = child.communicate()
    if child.returncode:
        raise RuntimeError(f"{' '.join(words)} failed:\n{errors[-3000:]}")
    return output, round(1024 * peak / 1e6)


def record(models: list[str], methods: list[str], limit_gb: float, path: Path = RECORD) -> None:
    """Run and write row by row; rows of other models and methods stay."""
    old = json.loads(path.read_text()) if path.exists() else {"rows": []}
    rows = {(row["model"], row["method"]): row for row in old["rows"]}
    for name in models:
        if not (RUNS / name / "config.json").exists():
            RUNS.mkdir(parents=True, exist_ok=True)
            run_child(["--make", name], limit_gb)
        for method in methods:
            begun = time.perf_counter()
            output, outside = run_child(["--step", name, method], limit_gb)
            row = json.loads(output.splitlines()[-1])
            row["measured_mb"] = max(row["measured_mb"], outside if method in METHODS else 0)
            row["predicted_to_measured"] = round(row["predicted_mb"] / row["measured_mb"], 3)
            row["whole_seconds"] = round(time.perf_counter() - begun, 1)
            row["command"] = f"python -m factory.real_sizes --models {name} --methods {method} --limit-gb {limit_gb:g}"
            rows[name, method] = row
            print({key: value for key, value in row.items() if key != "predicted_parts_mb"}, flush=True)
            order = [(name, method) for name in configs() for method in (*METHODS, *ADAPTED)]
            whole = {"command": "python -m factory.real_sizes", "torch": torch.__version__.split("+")[0]}
            write(whole | {"rows": [rows[key] for key in order if key in rows]}, path)


def main() -> None:
    """The command line; --make and --step are for the processes it starts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(configs()), default=list(configs()))
    parser.add_argument("--methods", nargs="+", choices=(*METHODS, *ADAPTED), default=[*METHODS, *ADAPTED])
    parser.add_argument("--limit-gb", type=float, default=17)
    parser.add_argument("--make", metavar="MODEL", help=argparse.SUPPRESS)
    parser.add_argument("--step", nargs=2, metavar=("MODEL", "METHOD"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a process it started ends with it
    if options.make:
        make_model(options.make, RUNS / options.make)
    elif options.step:
        print(json.dumps(one_step(*options.step)))
    else:
        record(options.models, options.methods, options.limit_gb)


if __name__ == "__main__":
    main()
