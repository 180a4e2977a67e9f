"""Repositories that stand in for the Hub's: the names the course uses, with small random weights and made-up rows.

What lessons and helpers depend on is as on the Hub: the architecture's class with tied embeddings, the special tokens,
the chat template, pad and end tokens, generation settings, columns and the form of the files. The rest is small: a
few narrow layers, a tokenizer trained on the course's own rows, some hundred rows. The models know nothing.

Each fact was taken from the repository's public page, https://huggingface.co/<name> (files `config.json`,
`tokenizer_config.json`, `generation_config.json`), https://huggingface.co/datasets/<name> for data sets; Qwen's
templates are the copies that TRL ships. Assumed, because no page was seen: the files of the `banghua/` models are like
those of the models they were trained from; the data sets other than GSM8K are one Parquet file of one split, `train`.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pyarrow
import pyarrow.parquet
import torch
import trl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

ROOT = Path(__file__).resolve().parents[2]
GSM8K = ROOT.parent / "shared" / "gsm8k"  # the real problems, where they are at hand
OTHER = "another"  # a revision beside `main`; on the Hub it would be a branch or a tag
END, START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SMOLLM_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
SMOLLM_TEMPLATE = (  # ChatML; without a system message it brings its own
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\n" + SMOLLM_SYSTEM + "<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """What a group of models has in common."""

    model: type
    config: type
    tokenizer_class: str
    template: str | None  # a file of TRL's, or the text itself; None: the model has none
    end: str
    pad: str | None
    bos: str | None
    generation: dict  # of generation_config.json, tokens by name


QWEN_SAMPLING = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1}
QWEN_INSTRUCT = {"bos_token_id": END, "eos_token_id": [TURN_END, END], "pad_token_id": END, **QWEN_SAMPLING}
QWEN3 = Family(
    Qwen3ForCausalLM, Qwen3Config, "Qwen2Tokenizer", "qwen3.jinja", END, END, None,
    {"bos_token_id": END, "eos_token_id": END, "do_sample": False, "max_new_tokens": 2048},
)  # fmt: skip
QWEN2 = Family(
    Qwen2ForCausalLM, Qwen2Config, "Qwen2Tokenizer", "qwen2_5.jinja", TURN_END, END, None, QWEN_INSTRUCT
)  # fmt: skip
SMOLLM = Family(
    LlamaForCausalLM, LlamaConfig, "GPT2Tokenizer", None, END, None, END, {"bos_token_id": END, "eos_token_id": END}
)  # fmt: skip
SMOLLM_INSTRUCT = Family(
    LlamaForCausalLM, LlamaConfig, "GPT2Tokenizer", SMOLLM_TEMPLATE, TURN_END, TURN_END, START,
    {"bos_token_id": START, "eos_token_id": TURN_END, "pad_token_id": TURN_END},
)  # fmt: skip
MODELS = {
    "Qwen/Qwen3-0.6B-Base": QWEN3,
    "Qwen/Qwen2.5-0.5B-Instruct": QWEN2,
    "HuggingFaceTB/SmolLM2-135M": SMOLLM,
    "HuggingFaceTB/SmolLM2-135M-Instruct": SMOLLM_INSTRUCT,
    "banghua/Qwen3-0.6B-SFT": QWEN3,
    "banghua/Qwen2.5-0.5B-DPO": QWEN2,
    "banghua/Qwen2.5-0.5B-GRPO": QWEN2,
    "Qwen/Qwen2.5-1.5B-Instruct": QWEN2,
}
DATASETS = ("banghua/DL-SFT-Dataset", "banghua/DL-DPO-Dataset", "mrfakename/identity", "openai/gsm8k")
SHAPES = {"narrow": (64, 128, 2), "wide": (256, 512, 2)}  # hidden size, width of the MLP, layers


def make_all(folder: Path, shape: str = "narrow") -> Path:
    """Make every repository, in its revisions, under `folder`/models and `folder`/datasets; returns `folder`."""
    for seed, (name, family) in enumerate(MODELS.items()):
        make_model(revision_folder(folder, "model", name), family, seed, shape)
    make_model(revision_folder(folder, "model", "Qwen/Qwen3-0.6B-Base", OTHER), QWEN3, seed=100, shape=shape)
    for name in DATASETS:
        make_dataset(revision_folder(folder, "dataset", name), name)
    make_dataset(revision_folder(folder, "dataset", "mrfakename/identity", OTHER), "mrfakename/identity", rows=10)
    return folder


def revision_folder(folder: Path, kind: str, name: str, revision: str = "main") -> Path:
    """Where a repository's files of one revision are; `kind` is "model" or "dataset"."""
    return folder / f"{kind}s" / name / revision


def make_model(folder: Path, family: Family, seed: int = 0, shape: str = "narrow", **changes) -> Path:
    """Write one model's repository; `changes` replaces entries of its tokenizer_config.json, for planted mistakes."""
    folder.mkdir(parents=True)
    tokenizer = trained_tokenizer(family.tokenizer_class)
    ids = {token: tokenizer.token_to_id(token) for token in (END, START, TURN_END)}
    write_tokenizer(folder, tokenizer, family, changes)
    hidden, inner, layers = SHAPES[shape]
    per_head = {"head_dim": 32} if family.config is Qwen3Config else {}
    config = family.config(
        vocab_size=-(-tokenizer.get_vocab_size() // 64) * 64,  # padded, as Qwen's is
        hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 64, max_position_embeddings=8192, tie_word_embeddings=True,
        bos_token_id=ids[family.bos or END], eos_token_id=ids[family.end], pad_token_id=ids.get(family.pad),
        **per_head,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = family.model(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    settings = {key: [ids[t] for t in v] if isinstance(v, list) else ids.get(v, v) for key, v in family.generation.items()}
    write_json(folder / "generation_config.json", settings)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nlibrary_name: transformers\n---\n", "utf-8")
    return folder


@cache
def trained_tokenizer(tokenizer_class: str) -> Tokenizer:
    """A byte-level BPE tokenizer of some 1,000 tokens, trained on the course's SFT rows, with the family's tokens.

    Ids of special tokens: first for SmolLM2, last for Qwen, as in their vocabularies. `<think>` is added, not special.
    """
    rows = read_rows(ROOT / "data" / "sft" / "train.jsonl")[:800]
    texts = [message["content"] for row in rows for message in row["messages"]]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [END, START, TURN_END]
    first = special if tokenizer_class == "GPT2Tokenizer" else []
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=1000, special_tokens=first, initial_alphabet=alphabet, show_progress=False)
    )
    if not first:
        tokenizer.add_special_tokens(special)
        tokenizer.add_tokens(["<think>", "</think>"])
    return tokenizer


def write_tokenizer(folder: Path, tokenizer: Tokenizer, family: Family, changes: dict) -> None:
    """tokenizer.json, vocab.json, merges.txt and tokenizer_config.json, in the form in which these models came out."""
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))
    added = {
        str(number): {
            "content": token.content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
            "special": token.special,
        }
        for number, token in tokenizer.get_added_tokens_decoder().items()
    }  # fmt: skip
    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "bos_token": family.bos,
        "clean_up_tokenization_spaces": False,
        "eos_token": family.end,
        "model_max_length": 8192,
        "pad_token": family.pad,
        "tokenizer_class": family.tokenizer_class,
        "unk_token": END if family.tokenizer_class == "GPT2Tokenizer" else None,
        "chat_template": template_text(family.template),
        **changes,
    }
    absent = ("chat_template",) if not config["chat_template"] else ()
    write_json(folder / "tokenizer_config.json", {key: value for key, value in config.items() if key not in absent})


def template_text(template: str | None) -> str | None:
    """The text of a template, read from TRL's copies where it is the name of one."""
    if template is None or not template.endswith(".jinja"):
        return template
    return (Path(trl.__file__).parent / "chat_templates" / template).read_text("utf-8")


def make_dataset(folder: Path, name: str, rows: int = 200, **renamed: str) -> Path:
    """Write one data set's repository; `renamed` gives columns another name, for planted mistakes."""
    splits, configuration = dataset_rows(name, rows), "main" if name == "openai/gsm8k" else "default"
    place = "main" if name == "openai/gsm8k" else "data"
    (folder / place).mkdir(parents=True)
    for split, table in splits.items():
        table = [{renamed.get(column, column): value for column, value in row.items()} for row in table]
        path = folder / place / f"{split}-00000-of-00001.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), path)
    lines = [f"  - split: {split}\n    path: {place}/{split}-*" for split in splits]
    card = "\n".join(["---", "configs:", f"- config_name: {configuration}", "  data_files:", *lines, "---", ""])
    (folder / "README.md").write_text(card, "utf-8")
    return folder


def dataset_rows(name: str, rows: int) -> dict[str, list[dict]]:
    """{split: rows} in the columns of the data set `name`; its text is the course's own, GSM8K's where it is at hand."""
    if name == "openai/gsm8k":
        if GSM8K.is_dir():
            return {split: read_rows(GSM8K / f"{split}.jsonl") for split in ("train", "test")}
        tables = {split: read_rows(ROOT / "data" / "maths" / f"{split}.jsonl")[:rows] for split in ("train", "test")}
        return {split: [{key: r[key] for key in ("question", "answer")} for r in rs] for split, rs in tables.items()}
    if name == "banghua/DL-SFT-Dataset":
        sft = read_rows(ROOT / "data" / "sft" / "train.jsonl")[:rows]
        return {"train": [{"messages": row["messages"]} for row in sft]}
    if name == "banghua/DL-DPO-Dataset":
        pairs = read_rows(ROOT / "data" / "preferences" / "train.jsonl")[:rows]
        return {"train": [{side: row.get("prompt", []) + row[side] for side in ("chosen", "rejected")} for row in pairs]}
    identity = read_rows(ROOT / "data" / "identity" / "train.jsonl")[:rows]
    return {"train": [{"conversations": row["conversations"]} for row in identity]}


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2), "utf-8")
