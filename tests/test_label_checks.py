"""The chat template and the end token, looked at before a training."""

import copy
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import make_tokenizer
from tiny_trainers import tiny_rows, tiny_trainer
from transformers import AutoTokenizer

from helper.models import CHATML_TEMPLATE, PLAIN_TEMPLATE
from helper.trainers.label_checks import check_chat_template, check_trained_end


def test_our_templates_pass(tokenizer, capsys):
    check_chat_template(tokenizer, own=True)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    "template, words",
    [
        (None, "no chat template"),
        (CHATML_TEMPLATE.replace("{% if add_generation_prompt %}", "{% if false %}"), "add_generation_prompt"),
        (CHATML_TEMPLATE.replace("<|im_end|>", "\n"), "closes the assistant's turn with no special token"),
        (CHATML_TEMPLATE.replace("<|im_end|>", "<|end|>"), r"<\|end\|>, in the chat template, is not one token"),
        ("{% for message in messages %}", "The chat template fails on .* TemplateSyntaxError: "),
        ("{{ nothing.there }}", "The chat template fails on .* UndefinedError: 'nothing' is undefined"),
        ("{{ raise_exception('No.') }}", "The chat template fails on .* TemplateError: No"),
        ("{{ 1 // 0 }}", "The chat template fails on .* ZeroDivisionError"),
        (CHATML_TEMPLATE.replace("{% else %}{{ message['content']", "{% else %}{{ ''"), "drops the user's message"),
        (CHATML_TEMPLATE.replace("{{ message['content'] + '<|im_end|>' }}", "{{ '<|im_end|>' }}"), "drops the assistant's"),
        (
            CHATML_TEMPLATE.replace("'<|im_start|>assistant\n' }}", "'BOT:' }}"),
            r"turn with 'BOT:' for generating, but with '<",
        ),
    ],
)
def test_a_template_that_cannot_be_trained_on(template, words):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(ValueError, match=words):
        check_chat_template(tokenizer)


@pytest.mark.parametrize("name", ["qwen2_5", "qwen2_5_training", "qwen3", "qwen3_training", "qwen3_instruct_2507"])
def test_the_templates_of_the_library_pass(name):
    tokenizer = make_tokenizer()
    folder = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
    tokenizer.chat_template = (folder / f"{name}.jinja").read_text("utf-8")
    check_chat_template(tokenizer)


@pytest.mark.parametrize("template, pad", [(PLAIN_TEMPLATE, "<|endoftext|>"), (CHATML_TEMPLATE, "<|im_end|>")])
def test_pad_as_end_token(template, pad, capsys):
    tokenizer = make_tokenizer(template=template)
    tokenizer.pad_token = pad
    check_chat_template(tokenizer)
    assert capsys.readouterr().out.startswith("Warning: pad token = end token")
    with pytest.raises(ValueError, match="Give padding a token of its own"):
        check_chat_template(tokenizer, own=True)
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="no pad token"):
        check_chat_template(tokenizer)


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_the_end_of_the_turn_is_trained(kind, tiny, tmp_path):
    trainer = tiny_trainer(kind, tiny, tmp_path)
    state = torch.get_rng_state()
    assert check_trained_end(trainer, trainer.processing_class) == 1.0
    assert torch.equal(torch.get_rng_state(), state)  # looking changes no run


def test_an_end_that_is_not_trained(tiny, tmp_path, tokenizer):
    trainer = tiny_trainer("sft", tiny, tmp_path)
    rows = [trainer.train_dataset[i] for i in range(4)]
    batch, end = trainer.data_collator(rows), tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert check_trained_end(batch, tokenizer) == 1.0
    masked = copy.deepcopy(batch)
    masked["labels"][masked["input_ids"] == end] = -100
    with pytest.raises(ValueError, match="which ends a turn, is in no row's labels"):
        check_trained_end(masked, tokenizer)
    masked["labels"][:] = -100
    with pytest.raises(ValueError, match="No token is trained"):
        check_trained_end(masked, tokenizer)
    padded = copy.deepcopy(batch)
    row = int((padded["attention_mask"] == 0).any(1).nonzero()[-1])
    padded["labels"][row] = padded["input_ids"][row]
    with pytest.raises(ValueError, match=f"Row {row} is trained on its padding"):
        check_trained_end(padded, tokenizer)
    batch["labels"][0][batch["input_ids"][0] == end] = -100
    assert check_trained_end(batch, tokenizer) == 0.75


def test_rows_that_are_cut_off_are_counted(tiny, tmp_path):
    rows = tiny_rows("sft")[:3]
    rows += [{**rows[0], "completion": [{"role": "assistant", "content": "one two three " * 20}]}]
    trainer = tiny_trainer("sft", tiny, tmp_path, rows=rows, max_length=48)
    assert check_trained_end(trainer, trainer.processing_class) == 0.75


def test_the_end_must_be_a_label(tokenizer):
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    with pytest.raises(ValueError, match="is in no row's labels"):
        check_trained_end({"input_ids": [[5, 6, end]], "labels": [[-100, -100, 9]]}, tokenizer)
    for kind in (list, np.array, torch.tensor):
        assert check_trained_end({"labels": kind([[-100, 7, end]])}, tokenizer) == 1.0
        assert check_trained_end({"input_ids": kind([5, end]), "completion_mask": kind([0, 1])}, tokenizer) == 1.0


@pytest.mark.parametrize(
    "batch, error, words",
    [
        ({"input_ids": [[1]]}, ValueError, "The batch has input_ids: it needs `labels`, or `input_ids` and `comp"),
        ({}, ValueError, "The batch has nothing: it needs `labels`"),
        ({"labels": [[1, 2], [3]]}, ValueError, "`labels` is no table of numbers: its rows must be of one length"),
        ([[1, 2]], TypeError, "A trainer or a batch is wanted, not a list"),
    ],
)
def test_what_is_no_batch_is_named(batch, error, words, tokenizer):
    with pytest.raises(error, match=words):
        check_trained_end(batch, tokenizer)


# Answers that arrive whole

TRL = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
QUESTION, THOUGHT = {"role": "user", "content": "one"}, {"role": "assistant", "content": "<think>one two</think>four"}


def with_template(tiny, folder, name):
    """The tiny model in a folder of its own, with another chat template."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = (TRL / f"{name}.jinja").read_text("utf-8")
    tokenizer.bos_token = "<|endoftext|>"
    shutil.copytree(tiny, folder / name)
    tokenizer.save_pretrained(folder / name)
    return folder / name


ROWS = {
    "split": ("sft", {"prompt": [QUESTION], "completion": [THOUGHT]}),
    "whole": ("sft", {"messages": [QUESTION, THOUGHT]}),
    "pairs": ("dpo", {"prompt": [QUESTION], "chosen": [THOUGHT], "rejected": [{"role": "assistant", "content": "two"}]}),
    "rejected": ("dpo", {"prompt": [QUESTION], "chosen": [{"role": "assistant", "content": "two"}], "rejected": [THOUGHT]}),
}


@pytest.mark.parametrize("form", ROWS)
def test_thoughts_lost_before_training_are_said(form, tiny, tmp_path):
    kind, row = ROWS[form]
    trainer = tiny_trainer(kind, with_template(tiny, tmp_path, "deepseek_r1_distill"), tmp_path, rows=[row] * 4)
    with pytest.raises(
        ValueError, match=r"Row 0: the chat template drops a part of the answer \('<think>one two</think>four'"
    ):
        check_trained_end(trainer, trainer.processing_class)
    kept = tiny_trainer(kind, with_template(tiny, tmp_path, "qwen3"), tmp_path, rows=[row] * 4)
    assert check_trained_end(kept, kept.processing_class) == 1.0


def test_a_streamed_data_set_is_looked_at(tiny, tmp_path):
    trainer = tiny_trainer("sft", tiny, tmp_path)
    trainer.train_dataset = trainer.train_dataset.to_iterable_dataset()
    for _ in range(2):  # looking takes nothing away
        assert check_trained_end(trainer, trainer.processing_class) == 1.0
    assert len(list(trainer.train_dataset)) == len(tiny_rows("sft"))
    trainer.train_dataset = trainer.train_dataset.filter(lambda row: False)
    with pytest.raises(ValueError, match="has dropped every row"):
        check_trained_end(trainer, trainer.processing_class)


def test_a_trainer_without_labels_says_so(tiny, tmp_path):
    trainer = tiny_trainer("grpo", tiny, tmp_path)
    with pytest.raises(ValueError, match="A GRPOTrainer writes its answers while it trains.*completions/clipped_ratio"):
        check_trained_end(trainer, trainer.processing_class)
    other = tiny_trainer("sft", tiny, tmp_path)
    other.train_dataset = None
    with pytest.raises(ValueError, match="A SFTTrainer has no train_dataset"):
        check_trained_end(other, other.processing_class)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content }}{% endfor %}",  # no mark between the two
        "{% for m in messages %}{{ '[INST] ' + m.content + eos_token }}{% endfor %}",
        CHATML_TEMPLATE.replace("{% if add_generation_prompt %}", "{% if false %}"),
    ],
)
def test_only_a_mark_that_opens_the_answer_does_without_a_generation_prompt(template):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(ValueError, match="pays no heed to add_generation_prompt"):
        check_chat_template(tokenizer)
    asked, answered = "'Q: ' + m.content + ' A:'", "' ' + m.content + eos_token"
    tokenizer.chat_template = f"{{% for m in messages %}}{{{{ {asked} if m.role == 'user' else {answered} }}}}{{% endfor %}}"
    check_chat_template(tokenizer)
