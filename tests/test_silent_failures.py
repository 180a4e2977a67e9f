"""Mistakes that the library passes over: each test trains through one without complaint, then has it caught."""

import math

import pytest
import torch
from datasets import Dataset
from tiny_trainers import tiny_rows, tiny_trainer

from helper.rewards import completion_text
from helper.trainers.alarms import add_alarms
from helper.trainers.label_checks import check_chat_template, check_trained_end
from helper.trainers.reward_checks import check_reward, guard_reward
from helper.validation import validate_messages, validate_preferences


def weights(trainer):
    return torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()]).clone()


def train_grpo(reward, tiny, folder, steps=4, alarms=True):
    """Whether the weights moved, the names of the alarms given, and what was logged."""
    trainer = tiny_trainer("grpo", tiny, folder, steps=steps, save_strategy="no")
    trainer.reward_funcs = [reward]
    given = add_alarms(trainer).given if alarms else {}
    before = weights(trainer)
    trainer.train()
    given.pop("completions_cut_off", None)  # true of every random model
    return not torch.equal(before, weights(trainer)), list(given), trainer.state.log_history


def reward_of(value):
    """A reward of `value` for every completion, but in the first of each four."""

    def odd_reward(completions, **kwargs):
        return [0.0 if i % 4 == 0 else value for i in range(len(completions))]

    return odd_reward


SAMPLES = [("a", "1"), ("b", "2"), ("c", "3")]


def test_an_infinite_reward_trains_nothing(tiny, tmp_path):
    moved, alarms, _ = train_grpo(reward_of(math.inf), tiny, tmp_path)
    assert not moved and alarms == ["reward_not_finite"]
    with pytest.raises(ValueError, match=r"gave inf for sample 1 \('b'\)"):
        check_reward(reward_of(math.inf), SAMPLES)
    with pytest.raises(ValueError, match="odd_reward, step 1 gave inf for completion 1"):
        train_grpo(guard_reward(reward_of(math.inf)), tiny, tmp_path)


@pytest.mark.parametrize("value", [math.nan, None])
def test_a_nan_or_missing_reward_is_left_out(value, tiny, tmp_path):
    _, _, log = train_grpo(reward_of(value), tiny, tmp_path)
    assert log[0]["reward"] == 0.0  # as if the others were not there
    with pytest.raises(ValueError, match=rf"gave {value} for sample 1 \('b'\)"):
        check_reward(reward_of(value), SAMPLES)
    with pytest.raises(ValueError, match=f"odd_reward, step 1 gave {value} for completion 1"):
        train_grpo(guard_reward(reward_of(value)), tiny, tmp_path)


def test_constant_rewards_train_nothing(tiny, tmp_path, capsys):
    def constant(completions, **kwargs):
        return [1.0] * len(completions)

    moved, alarms, _ = train_grpo(constant, tiny, tmp_path)
    assert not moved and alarms == ["no_spread"]
    assert "Alarm at step 3: for 3 logged steps every group had equal rewards (mean 1.00)" in capsys.readouterr().out
    with pytest.raises(ValueError, match="gives 1.0 for all 3 samples"):
        check_reward(constant, SAMPLES)


def test_a_reward_without_kwargs_is_a_bare_type_error(tiny, tmp_path):
    def no_kwargs(completions, truth):
        return [0.0] * len(completions)

    with pytest.raises(TypeError, match="unexpected keyword argument 'prompts'"):
        train_grpo(no_kwargs, tiny, tmp_path)
    for check in (guard_reward, lambda function: check_reward(function, SAMPLES)):
        with pytest.raises(TypeError, match=r"no_kwargs: add \*\*kwargs: the trainer also passes prompts"):
            check(no_kwargs)


def test_a_reward_that_reads_text_gets_message_lists():
    def reads_text(completions, **kwargs):
        return [float("a" in completion) for completion in completions]  # "in" looks for a message here

    with pytest.raises(ValueError, match="gives 0.0 for all 3 samples"):
        check_reward(reads_text, SAMPLES)
    assert check_reward(reads_text, SAMPLES, as_messages=False)["reward"].tolist() == [1.0, 0.0, 0.0]
    read = check_reward(lambda completions, **kw: [float("a" in completion_text(c)) for c in completions], SAMPLES)
    assert read["reward"].tolist() == [1.0, 0.0, 0.0]


def test_equal_pairs_stay_at_ln_2(tiny, tmp_path, capsys):
    rows = [{**row, "rejected": row["chosen"]} for row in tiny_rows("dpo")]
    trainer = tiny_trainer("dpo", tiny, tmp_path, rows=rows, save_strategy="no")
    add_alarms(trainer)
    trainer.train()
    assert all(row["loss"] == pytest.approx(math.log(2)) for row in trainer.state.log_history if "loss" in row)
    assert "Alarm at step 3: for 3 logged steps chosen and rejected were equally likely" in capsys.readouterr().out
    with pytest.raises(ValueError, match="row 0: .*same"):
        validate_preferences([{**row, "prompt": row["prompt"]} for row in rows])


@pytest.mark.parametrize("message", [{"role": "bot", "content": "two"}, {"role": "assistant", "content": None}])
def test_wrong_roles_and_missing_content_train(message, tiny, tmp_path):
    question = {"role": "user", "content": "one"}
    good = {"messages": [question, {"role": "assistant", "content": "two"}]}
    rows = [good, {"messages": [question, message]}] * 4
    if message["content"]:  # the template of the course refuses to add None to a text; others print "None"
        tiny_trainer("sft", tiny, tmp_path, steps=1, rows=rows, save_strategy="no").train()
    with pytest.raises(ValueError, match="row 1: "):
        validate_messages(rows)


def test_a_wrong_column_is_a_key_error(tiny, tmp_path):
    rows = [{"mesages": [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]}]
    with pytest.raises(KeyError, match="text"):
        tiny_trainer("sft", tiny, tmp_path, rows=rows)
    with pytest.raises(ValueError, match="messages"):
        validate_messages(rows)


def test_text_prompts_skip_the_chat_template(tiny, tmp_path):
    rows = [{"prompt": "one", "completion": " two"}] * 4
    trainer = tiny_trainer("sft", tiny, tmp_path, rows=rows, save_strategy="no")
    tokenizer = trainer.processing_class
    assert "<|im_start|>" not in tokenizer.decode(trainer.train_dataset[0]["input_ids"])
    with pytest.raises(ValueError, match=r"<\|im_end\|>, which ends a turn, is in no row's labels"):
        check_trained_end(trainer, tokenizer)
    with pytest.raises(ValueError, match="row 0: "):
        validate_preferences([{"prompt": "one", "chosen": "two", "rejected": "three"}])


def test_padding_masked_by_id_takes_the_end_along(tiny, tmp_path):
    trainer = tiny_trainer("sft", tiny, tmp_path, save_strategy="no")
    tokenizer, plain = trainer.processing_class, trainer.data_collator
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")

    def mask_by_id(rows):
        batch = plain(rows)
        batch["labels"][batch["input_ids"] == end] = -100
        return batch

    trainer.data_collator = mask_by_id
    trainer.train()  # without a word
    with pytest.raises(ValueError, match="the model never learns to stop"):
        check_trained_end(trainer, tokenizer)
    tokenizer.pad_token = "<|im_end|>"
    with pytest.raises(ValueError, match="pad token = end token"):
        check_chat_template(tokenizer, own=True)


def test_rows_cut_off_before_their_answer_are_dropped(tiny, tmp_path):
    trainer = tiny_trainer("sft", tiny, tmp_path, max_length=8, save_strategy="no")
    with pytest.raises(ValueError, match="num_samples=0"):  # had one row been short enough: without a word
        trainer.train()
    with pytest.raises(ValueError, match="dropped every row: the answers lie beyond max_length"):
        check_trained_end(trainer, trainer.processing_class)


def test_masked_labels_leave_nothing_to_train(tiny, tmp_path, capsys):
    trainer = tiny_trainer("sft", tiny, tmp_path, save_strategy="no")
    plain = trainer.data_collator
    trainer.data_collator = lambda rows: (batch := plain(rows)) | {"labels": torch.full_like(batch["labels"], -100)}
    add_alarms(trainer)
    before = weights(trainer)
    trainer.train()
    assert torch.equal(before, weights(trainer))
    assert "Alarm at step 3: the loss is exactly 0" in capsys.readouterr().out
    with pytest.raises(ValueError, match="No token is trained"):
        check_trained_end(trainer, trainer.processing_class)


def test_too_few_rows_make_no_step(tiny, tmp_path, capsys):
    changes = {"steps_per_generation": 4, "gradient_accumulation_steps": 4, "save_strategy": "no"}
    trainer = tiny_trainer("grpo", tiny, tmp_path, rows=tiny_rows("grpo")[:3], **changes)
    add_alarms(trainer)
    trainer.train()
    assert "Alarm at step 0: no step was made" in capsys.readouterr().out


def test_a_nan_loss_is_left_out_of_the_log(tiny, tmp_path):
    def train(alarms):
        trainer = tiny_trainer("sft", tiny, tmp_path, save_strategy="no")
        plain = trainer.compute_loss
        trainer.compute_loss = lambda *args, **kwargs: plain(*args, **kwargs) * math.nan
        if alarms:
            add_alarms(trainer)
        trainer.train()
        return trainer

    ruined = train(alarms=False)
    assert all(row["loss"] == 0.0 for row in ruined.state.log_history if "loss" in row)
    assert torch.isnan(weights(ruined)).any()
    with pytest.raises(FloatingPointError, match="stopped in step 1: the gradient is nan"):
        train(alarms=True)


def test_the_tiny_rows_are_good_ones():
    assert validate_preferences(tiny_rows("dpo")) == len(Dataset.from_list(tiny_rows("dpo"))) == 14
