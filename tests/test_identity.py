"""What a run is: its digests, and twenty planted other runs that are refused, each with what differs."""

import copy
import math
import os
import re
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from tiny import make_model
from tiny_trainers import KINDS, length_reward, tiny_rows, tiny_trainer
from torch.utils.data import IterableDataset
from transformers import AutoModelForCausalLM, TrainerCallback

from helper.algorithms import Run
from helper.algorithms.runs import checked_settings
from helper.trainers import identity
from helper.trainers.checkpoints import resume_training, run_description
from helper.trainers.identity import data_digest, differences, digest, function_identity, name_of, plain, weights_digest
from helper.trainers.interrupts import TrainingStopped

# Digests

TEXTS = st.one_of(st.none(), st.text(max_size=5))


def in_order(value):
    """The value with the keys of its dictionaries in order: hypothesis draws them in any, which a list's digest sees."""
    if isinstance(value, list):
        return [in_order(part) for part in value]
    return {key: in_order(value[key]) for key in sorted(value)} if isinstance(value, dict) else value


ROW = st.fixed_dictionaries(
    {
        "messages": st.none() | st.lists(st.fixed_dictionaries({"role": TEXTS, "content": TEXTS}), max_size=3),
        "ids": st.lists(st.integers(0, 300), max_size=4),
        "more": st.fixed_dictionaries({"share": st.sampled_from([None, 0.5, 1e308]), "right": st.booleans()}),
    }
).map(in_order)


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(ROW, min_size=2, max_size=12), cut=st.integers(1, 11), extra=st.integers(0, 3))
def test_a_data_set_has_one_digest_however_it_came_about(rows, cut, extra):
    whole = Dataset.from_list(rows, features=FEATURES)
    wanted, cut = data_digest(whole), min(cut, len(rows) - 1)
    backwards = list(range(len(rows)))[::-1]
    pieces = [whole.select(range(cut)), whole.select(range(cut, len(rows)))]
    longer = Dataset.from_list(rows[:1] * extra + rows, features=FEATURES)
    for same in (
        concatenate_datasets(pieces),
        whole.select(backwards).select(backwards),
        longer.select(range(extra, len(longer))),
        longer.filter(lambda row, i: i >= extra, with_indices=True),
        whole.map(lambda row: row, writer_batch_size=2),
        whole.with_format("torch"),
        whole.add_column("ref_chosen_logps", [0.5] * len(rows)),
    ):
        assert data_digest(same) == wanted


FEATURES = Dataset.from_list(
    [{"messages": [{"role": "a", "content": "b"}], "ids": [1], "more": {"share": 0.5, "right": True}}]
).features


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(ROW, min_size=2, max_size=8), place=st.integers(0, 7), other=ROW)
def test_any_other_row_makes_another_digest(rows, place, other):
    place %= len(rows)
    changed = [*rows[:place], other, *rows[place + 1 :]]
    for made in (partial(Dataset.from_list, features=FEATURES), list):
        assert (data_digest(made(rows)) == data_digest(made(changed))) == (plain(rows) == plain(changed))


def test_columns_order_and_number_of_rows_count():
    data = Dataset.from_list(tiny_rows("sft"))
    others = [data.rename_column("prompt", "question"), data.select([1, 0, *range(2, len(data))]), data.select(range(13))]
    assert len({data_digest(data), *map(data_digest, others)}) == 4


def test_of_a_huge_set_or_a_stream_it_is_said_what_was_read(monkeypatch):
    rows = [{"n": n} for n in range(1000)]
    assert data_digest(rows).endswith("(all rows)") and data_digest(None) == "no data"
    stream = Dataset.from_list(rows).to_iterable_dataset()
    assert data_digest(stream) == data_digest(stream) and data_digest(stream).endswith("(the first 100 rows of a stream)")
    table = Dataset.from_list(rows)
    monkeypatch.setattr(identity, "MOST", 400)
    monkeypatch.setattr(identity, "LARGEST", table.data.nbytes / 1e6 / 2.5)
    assert data_digest(rows).endswith("(one row in 3)") and data_digest(table).endswith("(one row in 3)")
    assert data_digest(table.shuffle(seed=0).select(range(100))).endswith("(all rows)")  # of its own rows


class Once(IterableDataset):
    """A stream that can be read once."""

    def __init__(self, rows):
        self.rows = iter(rows)

    def __iter__(self):
        return self.rows


def test_a_stream_that_can_be_read_once_is_not_read():
    stream = Once([{"n": 1}, {"n": 2}])
    assert data_digest(stream).startswith("not read") and [row["n"] for row in stream] == [1, 2]


def test_rows_of_tensors_and_pictures_count_in_full():
    rows = [{"x": torch.zeros(5000), "y": np.zeros(5000)}]
    found = {digest(rows)}
    for name in ("x", "y"):
        changed = copy.deepcopy(rows)
        changed[0][name][2500] = 1  # printed, the middle is left out
        found.add(digest(changed))
    assert len(found) == 3


def test_one_weight_of_all_makes_another_digest(tokenizer):
    model, same = make_model(tokenizer), make_model(tokenizer)
    assert weights_digest(model) == weights_digest(same) != weights_digest(make_model(tokenizer, seed=1))
    found = {weights_digest(model)}
    for name, weight in same.named_parameters():
        value = weight.view(-1)[weight.numel() // 2]
        before = value.item()
        value.data.copy_(torch.tensor(math.nextafter(before, math.inf)).nextafter(torch.tensor(math.inf)))
        found.add(weights_digest(same))
        assert value.item() != before, name
        value.data.fill_(before)
    assert len(found) == 1 + len(list(same.parameters())) and weights_digest(same) == weights_digest(model)
    assert weights_digest(model.bfloat16()) not in found


def test_what_lora_draws_at_random_and_does_not_use_yet_counts_for_nothing(tokenizer):
    adapted = []
    for seed in (1, 2):
        model = make_model(tokenizer)
        torch.manual_seed(seed)
        adapted.append(get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")))
    first, second = (dict(model.named_parameters()) for model in adapted)
    name = next(name for name in first if "lora_A" in name)
    assert not torch.equal(first[name], second[name]) and weights_digest(adapted[0]) == weights_digest(adapted[1])
    first[name.replace("lora_A", "lora_B")].data.fill_(1.0)
    assert weights_digest(adapted[0]) != weights_digest(adapted[1])


def test_functions_are_told_by_name_arguments_and_weights(tokenizer):
    assert function_identity(partial(partial(length_reward, a=1), b=plain)) == "length_reward()[('a', 1), ('b', 'plain')]"
    names = {function_identity(torch.nn.Linear(2, 2)) for _ in range(2)}  # with weights of their own
    assert len(names) == 2 and all(name.startswith("Linear ") for name in names)
    zeros, ones = (partial(length_reward, numbers(2)) for numbers in (torch.zeros, torch.ones))
    assert function_identity(zeros) != function_identity(ones) and name_of(zeros) == "length_reward(tensor([0., 0.]))"
    assert plain({"a": np.int64(3), "b": object(), "c": {2, 1}, "d": torch.tensor(0.5), "e": length_reward}) == {
        "a": 3, "b": "<object object>", "c": ["1", "2"], "d": 0.5, "e": "length_reward",
    }  # fmt: skip


def test_differences_are_named_within_settings_too():
    there, here = {"a": 1, "b": {"r": 2, "alpha": 4}, "c": None}, {"a": 1, "b": {"r": 2, "alpha": 8}, "d": [1]}
    assert differences(there, there) == []
    assert differences(there, here) == [
        "b.alpha: 4 there, 8 here", "d: not noted there, [1] here", "c: None there, not noted here",
    ]  # fmt: skip


# Other runs of the library's trainers


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def stopped(tiny, tmp_path_factory):
    """Copies of the folders of runs that were interrupted after step 3 of 6."""
    made = {}

    def folder(kind, place):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            trainer = tiny_trainer(kind, tiny, made[kind])
            trainer.add_callback(Stop())
            with pytest.raises(TrainingStopped):
                resume_training(trainer)
        shutil.copytree(made[kind], place, dirs_exist_ok=True)
        return place

    return folder


def middle_row_changed(kind):
    rows = copy.deepcopy(tiny_rows(kind))
    rows[7]["prompt"][0]["content"] += "!"
    return rows


def middle_rows_swapped(kind):
    rows = tiny_rows(kind)
    return [*rows[:6], rows[7], rows[6], *rows[8:]]


def other_model(trainer):
    for weight in trainer.model.parameters():
        torch.nn.init.normal_(weight)


def other_weight(trainer):
    trainer.model.model.layers[1].mlp.up_proj.weight.data[3, 4] += 1e-6


def other_reference(trainer):
    trainer.ref_model.model.norm.weight.data[3] += 1e-6


def other_template(trainer):
    trainer.processing_class.chat_template += " "


def other_reward(trainer):
    trainer.reward_funcs = [partial(length_reward, strict=True)]


PLANTED = [
    ("sft", "first weights", other_model), ("sft", "first weights", other_weight), ("dpo", "first weights", other_weight),
    ("grpo", "first weights", other_weight), ("dpo", "weights of the reference", other_reference),
    *((kind, "contents of the data", {"rows": middle_row_changed(kind)}) for kind in KINDS),
    ("sft", "contents of the data", {"rows": middle_rows_swapped("sft")}),
    ("grpo", "tokenizer", other_template), ("grpo", "reward functions", other_reward),
    ("sft", "learning_rate", 2e-3), ("sft", "seed", 1), ("sft", "per_device_train_batch_size", 2), ("sft", "max_length", 64),
    ("sft", "warmup_steps", 2), ("sft", "lr_scheduler_type", "cosine"), ("sft", "weight_decay", 0.1),
    ("dpo", "beta", 0.3), ("dpo", "loss_type", ["ipo"]), ("grpo", "temperature", 0.7), ("grpo", "top_p", 0.9),
    ("grpo", "num_iterations", 2), ("grpo", "scale_rewards", "none"),
]  # fmt: skip


@pytest.mark.parametrize("kind, name, change", PLANTED)
def test_another_run_is_refused_with_what_differs(kind, name, change, stopped, tiny, tmp_path):
    settings = change if isinstance(change, dict) else {} if callable(change) else {name: change}
    trainer = tiny_trainer(kind, tiny, stopped(kind, tmp_path / "run"), **settings)
    if callable(change):
        change(trainer)
    before = weights_digest(trainer.model)
    with pytest.raises(ValueError, match="is of another run") as refused:
        resume_training(trainer)
    assert re.findall(r"(?:\(|; )([\w ]+): .+? there, ", str(refused.value)) == [name]
    assert weights_digest(trainer.model) == before and (tmp_path / "run" / "checkpoint-2").is_dir()


def test_an_adapters_settings_count(tiny, tmp_path):
    described = []
    for alpha in (4, 4, 8):
        model = AutoModelForCausalLM.from_pretrained(tiny)
        trainer = tiny_trainer("sft", tiny, tmp_path)
        trainer.model = get_peft_model(model, LoraConfig(r=2, lora_alpha=alpha, target_modules=["q_proj", "v_proj"]))
        described.append(run_description(trainer))
    assert differences(*described[:2]) == []
    assert differences(*described[1:]) == ["adapters.default.lora_alpha: 4 there, 8 here"]


# Other runs of our own loops


def run(folder, stop=False, model=None, reference=None, value_model=None, rows=(1, 2, 3), **settings):
    """A run of four steps, or one that breaks off in the third; its parts."""
    parts = {"model": model or linear(0), "reference": reference or linear(1), "value_model": value_model or linear(2)}
    with Run(folder, parts, 4, checked_settings(rows, [length_reward], **settings), save_every=1, charts=False) as steps:
        for step in steps:
            if stop and step == 3:
                break
            for part in (parts["model"], parts["value_model"]):
                part.weight.data += step
            steps.log(loss=0.0)
    return parts


def linear(seed):
    torch.manual_seed(seed)
    return torch.nn.Linear(2, 2)


@pytest.mark.parametrize(
    "name, change",
    [
        ("first weights of the model", {"model": linear(7)}),
        ("first weights of the value_model", {"value_model": linear(7)}),
        ("first weights of the reference", {"reference": linear(7)}), ("rows", {"rows": (1, 5, 3)}),
        ("rows", {"rows": (2, 1, 3)}), ("seed", {"seed": 1}), ("learning_rate", {"learning_rate": 2.0}),
        ("loss", {"loss": partial(length_reward, beta=0.1)}),
    ],
)  # fmt: skip
def test_another_run_of_our_own_is_refused_with_what_differs(name, change, tmp_path):
    common = {"seed": np.int64(0), "learning_rate": np.float32(1.0), "loss": length_reward}
    run(tmp_path, stop=True, **common)
    with pytest.raises(ValueError, match=rf"other settings \({name}\)\. Delete it to start anew.* there, "):
        run(tmp_path, **common | change)
    whole = run(tmp_path / "whole", **common)
    resumed = run(tmp_path, **common)
    assert weights_digest(resumed["model"]) == weights_digest(whole["model"]) and not (tmp_path / "run.pt").exists()


def test_the_same_parts_go_on_in_one_process_and_another_reference_does_not(tmp_path):
    parts = run(tmp_path, stop=True)
    with pytest.raises(ValueError, match=r"\(first weights of the reference\)"):
        run(tmp_path, **parts | {"reference": copy.deepcopy(parts["model"])} | {"reference": linear(7)})
    run(tmp_path, **parts)
    assert not (tmp_path / "run.pt").exists() and parts["model"].trained_steps == 4
    assert not hasattr(parts["reference"], "trained_steps")
    parts["model"].trained_steps = 0  # as in lesson 05: what was trained is the start of the next run
    run(tmp_path, stop=True, **parts)
    assert torch.load(tmp_path / "run.pt")["settings"]["first weights of the model"] == parts["model"].first_weights
    parts["model"].trained_steps = 0
    with pytest.raises(ValueError, match=r"\(first weights of the model\)"):
        run(tmp_path, **parts)


@pytest.mark.parametrize("spoil", ["garbage", "a folder", "another object", "cut off"])
def test_a_file_that_is_no_checkpoint_is_said_so(spoil, tmp_path):
    run(tmp_path, stop=True)
    path = tmp_path / "run.pt"
    whole = path.read_bytes()
    path.unlink()
    if spoil == "a folder":
        path.mkdir()
    elif spoil == "another object":
        torch.save([1], path)
    else:
        path.write_bytes(whole[:100] if spoil == "cut off" else b"no checkpoint")
    with pytest.raises(ValueError, match=r"run.pt is no checkpoint that can be read \(.*\)\. Delete it to start anew"):
        run(tmp_path)


def test_stray_files_and_links_stop_no_run_of_our_own(tmp_path):
    (tmp_path / "run.pt").symlink_to("nowhere")
    (tmp_path / "run.unfinished").mkdir()
    (tmp_path / "run.lock").symlink_to("nowhere")
    run(tmp_path)
    assert not os.listdir(tmp_path)
