"""Alarms during a training: each sounds at its fault, and at no other time."""

import math
from types import SimpleNamespace

import pytest
import torch
from tiny_trainers import KINDS, tiny_trainer

from helper.trainers.alarms import TrainingAlarms, add_alarms


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_without_faults_raises_no_alarm(kind, tiny, tmp_path, capsys):
    changes = {"max_completion_length": 64, "generation_kwargs": {"max_new_tokens": 64}} if kind == "grpo" else {}
    trainer = tiny_trainer(kind, tiny, tmp_path, steps=8, learning_rate=1e-4, **changes)
    alarms = add_alarms(trainer)
    trainer.train()
    alarms.given.pop("completions_cut_off", None)  # a random model never ends
    assert not alarms.given and len(alarms._log) == 8


def test_add_alarms_twice_leaves_one(tiny, tmp_path):
    trainer = tiny_trainer("sft", tiny, tmp_path)
    add_alarms(trainer)
    alarms = add_alarms(trainer)
    assert [c for c in trainer.callback_handler.callbacks if isinstance(c, TrainingAlarms)] == [alarms]


def test_an_alarm_is_given_once(capsys):
    alarms = TrainingAlarms()
    log_all(alarms, [{"loss": 0.0, "reward": 0.0, "frac_reward_zero_std": 1.0}] * 20)
    assert capsys.readouterr().out.count("\n") == 1 and list(alarms.given) == ["no_spread"]
    alarms.on_train_begin(None, SimpleNamespace(global_step=0), None)
    assert not alarms.given


def log_all(alarms, logs, beta=0.1):
    args = SimpleNamespace(beta=beta, max_completion_length=32)
    for step, row in enumerate(logs, start=1):
        alarms.on_log(args, SimpleNamespace(global_step=step), None, logs={"learning_rate": 1e-4, **row})


def grpo(reward=0.5, spread=0.5, entropy=1.0, cut=0.0):
    return {
        "loss": 0.0, "reward": reward, "frac_reward_zero_std": spread, "entropy": entropy,
        "completions/clipped_ratio": cut,
    }  # fmt: skip


def dpo(margin=0.1, chosen=0.1, logp=-20.0):
    return {
        "loss": 0.69, "rewards/margins": margin, "rewards/chosen": chosen, "logps/chosen": logp, "entropy": 1.0,
        "mean_token_accuracy": 0.5,
    }  # fmt: skip


def sft(loss=1.0, accuracy=0.5, entropy=1.0):
    return {"loss": loss, "mean_token_accuracy": accuracy, "entropy": entropy}


@pytest.mark.parametrize(
    "logs, name, words",
    [
        ([grpo(spread=1.0, reward=0.0)] * 3, "no_spread", "equal rewards (mean 0.00)"),
        ([grpo(reward=math.inf)], "reward_not_finite", "the mean reward is inf"),
        ([grpo(reward=None)], "reward_not_finite", "the mean reward is nan"),
        ([grpo()] + [grpo(entropy=0.01)] * 3, "entropy_collapsed", "0.0100 nats"),
        ([grpo(cut=0.9)] * 3, "completions_cut_off", "90% of the completions are cut off at max_completion_length=32"),
        ([grpo(0.6)] * 5 + [grpo(0.1)] * 5, "reward_fell", "from 0.60 at its best"),
        ([dpo(0.0, 0.0)] * 3, "pairs_alike", "0.693"),
        ([dpo(2.0, -2.0, -60.0)] * 3, "chosen_unlearned", "log-probability -60, -40 under the first model"),
        ([sft(0.0, 0.0, 0.0)] * 3, "nothing_trained", "every label is masked"),
    ],
)
def test_each_alarm(logs, name, words, capsys):
    alarms = TrainingAlarms()
    log_all(alarms, logs)
    assert list(alarms.given) == [name] and words in alarms.given[name]
    assert capsys.readouterr().out.startswith("Alarm at step ")


@pytest.mark.parametrize(
    "logs",
    [
        [grpo(spread=1.0)] * 2 + [grpo(spread=0.9)] + [grpo(spread=1.0)] * 2,
        [grpo(entropy=e) for e in (0.06, 0.05, 0.047, 0.05, 0.04, 0.026, 0.03)],  # a good run of the lesson
        [grpo(reward=r) for r in (0.36, 0.47, 0.45, 0.48, 0.46, 0.53, 0.54, 0.76, 0.62, 0.79, 0.72)],
        [grpo(reward=r) for r in (0.02, 0.06, 0.0, 0.0, 0.02, 0.0, 0.0, 0.0, 0.0)],  # too little to fall
        [grpo(cut=c) for c in (0.9, 0.8, 0.5, 0.4, 0.9)],
        [dpo(0.0, 0.0), dpo(), dpo()],  # the first step is always 0
        [dpo(0.0, 0.0) | {"learning_rate": 0.0}] * 4,  # and so is a warm-up from 0
        [dpo(2.0, -0.5, -25.0)] * 5,  # 5 nats less
        [sft(0.01, 1.0, 0.02), sft(8.0, 0.0, 3.0), sft(8.0, 0.0, 3.0), sft(8.0, 0.0, 3.0)],
    ],
)
def test_no_false_alarm(logs):
    alarms = TrainingAlarms()
    log_all(alarms, logs)
    assert not alarms.given


ODD = [
    None, "text", "nan", b"1", math.nan, math.inf, -math.inf, 1e308, -1e308, 10**400, [1.0], {}, True, torch.ones(3),
    object(),
]  # fmt: skip


@pytest.mark.parametrize("base", [grpo(), dpo(), sft()])
def test_whatever_else_is_logged_stops_nothing_and_gives_no_false_alarm(base):
    for odd in ODD:
        alarms = TrainingAlarms()
        log_all(alarms, [base | {key: odd for key in base if key != "loss"} | {"loss": 1.0, "more": odd, 7: odd}] * 6)
        alarms.given.pop("reward_not_finite", None)  # true, where it is inf
        large = isinstance(odd, float | bool) and math.isfinite(odd)  # true, where a share is above 1 ...
        assert large or not alarms.given, odd


@pytest.mark.parametrize("logs", [None, "text", 7, [], {}, {"loss": None}, {"loss": "nan"}, {"loss": [math.nan]}])
def test_logs_that_are_none_are_passed_over(logs):
    alarms = TrainingAlarms()
    alarms.on_log(SimpleNamespace(), SimpleNamespace(global_step=1), None, logs=logs)
    assert not alarms.given and not alarms._log


def test_settings_without_a_limit_or_a_beta_stop_no_alarm():
    for row in (grpo(cut=0.9), dpo(2.0, -2.0, -60.0), grpo(spread=1.0)):
        alarms = TrainingAlarms()
        row.pop("reward", None)
        for step in range(6):
            alarms.on_log(SimpleNamespace(), SimpleNamespace(global_step=step), None, logs=row)


def test_logs_of_evaluation_and_of_the_end_are_passed_over():
    alarms = TrainingAlarms()
    log_all(alarms, [{"eval_loss": math.nan}, {"train_loss": math.nan, "train_runtime": 1.0}])
    assert not alarms.given and not alarms._log


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_no_number_stops_the_run_before_the_weights(value, tiny, tmp_path):
    trainer = tiny_trainer("sft", tiny, tmp_path)
    add_alarms(trainer)
    plain, steps = trainer.compute_loss, []

    def spoiled(*args, **kwargs):
        steps.append(1)
        return plain(*args, **kwargs) * (value if len(steps) == 3 else 1.0)

    trainer.compute_loss = spoiled
    with pytest.raises(FloatingPointError, match="stopped in step 3: the gradient is nan.*smaller learning_rate"):
        trainer.train()
    assert all(torch.isfinite(weight).all() for weight in trainer.model.parameters())


def test_a_loss_that_is_no_number_stops_the_run():
    with pytest.raises(FloatingPointError, match="stopped in step 2: the loss is nan"):
        log_all(TrainingAlarms(), [sft(), sft(math.nan)])


def test_every_alarm_reads_names_that_the_trainers_log(tiny, tmp_path):
    logged = {"learning_rate"}
    for kind in KINDS:
        trainer = tiny_trainer(kind, tiny, tmp_path / kind, steps=1)
        trainer.train()
        logged |= set(trainer.state.log_history[0])
    assert set(grpo()) | set(dpo()) | set(sft()) <= logged
