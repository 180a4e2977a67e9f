"""`Run`, `train_grpo` and `train_ppo`: stopped and killed runs end as whole ones do, and a step is the formula's.

Linux and macOS: the killed processes are forked.
"""

import copy
import hashlib
import json
import math
import os
import random
import signal
import threading
from functools import partial

import pytest
import torch
from conftest import make_model
from kill_runs import length_reward, save_tiny_model, tiny_rows, tiny_trainer
from transformers import AutoModelForCausalLM

import helper.algorithms as algorithms
from helper.algorithms import Run, ValueModel, sample_batch, train_grpo, train_ppo, training
from helper.checkpoints import LOCK, TrainingStopped
from helper.models import set_seed

STEPS = 6
ROWS = tiny_rows("grpo")[:7]


def at_call(number, what, then=length_reward):
    """A reward function that does something when it is called for the given time; a step calls it once."""
    calls = []

    def reward(completions, **kwargs):
        calls.append(1)
        if len(calls) == number:
            what()
        return then(completions, **kwargs)

    reward.__name__ = length_reward.__name__  # so that the settings of the run are the same
    return reward


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def press_twice():
    press_ctrl_c()
    press_ctrl_c()


def press_from_a_thread():
    timer = threading.Timer(0.01, press_ctrl_c)
    timer.start()
    timer.join()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """A checkpoint every second step."""
    monkeypatch.setattr(training, "Run", partial(Run, save_every=2))


def grpo(tokenizer, folder, reward=length_reward, model=None, **changes):
    """A whole run on a fresh model: the model and the log."""
    model = model or make_model(tokenizer)
    settings = {"steps": STEPS, "learning_rate": 1e-3, "max_new_tokens": 6, "prompts_per_step": 3, "charts": False}
    return model, train_grpo(model, tokenizer, ROWS, [reward], folder=folder, **settings | changes)


def ppo(tokenizer, folder, reward=length_reward, model=None, shared=True, **changes):
    model = model or make_model(tokenizer)
    settings = {"steps": STEPS, "learning_rate": 1e-3, "value_learning_rate": 1e-2, "max_new_tokens": 6, "charts": False}
    settings |= {"responses_per_step": 6, "epochs": 2, "micro_batch": 4, "beta": 0.05}
    critic = ValueModel(model.model if shared else copy.deepcopy(model.model))
    return model, train_ppo(model, critic, tokenizer, ROWS, [reward], folder=folder, **settings | changes)


# GRPO with everything that a checkpoint has to bring back: a reference that moves, several updates from one batch
RUNS = {
    "grpo": grpo,
    "grpo, reference": partial(grpo, beta=0.05, refresh_reference=2, inner_updates=2, micro_batch=5),
    "ppo": ppo,
    "ppo, two models": partial(ppo, shared=False),
}


def outcome(model, live) -> tuple[str, list[float]]:
    weights = hashlib.sha256()
    for values in model.state_dict().values():
        weights.update(values.numpy().tobytes())
    return weights.hexdigest(), live.table()["loss"].tolist()


@pytest.fixture(scope="module")
def whole(tokenizer, tmp_path_factory):
    """What uninterrupted runs end with."""
    known = {}

    def ends(kind):
        if kind not in known:
            known[kind] = outcome(*RUNS[kind](tokenizer, tmp_path_factory.mktemp("whole")))
        return known[kind]

    return ends


# Interrupts and kills


@pytest.mark.parametrize("what", [press_ctrl_c, press_from_a_thread])
@pytest.mark.parametrize("kind", RUNS)
def test_an_interrupted_run_ends_as_a_whole_one(kind, what, tokenizer, tmp_path, whole, capsys):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingStopped, match="Stopped after step 3 of 6 and saved. Run this cell again"):
        RUNS[kind](tokenizer, tmp_path, at_call(3, what))
    assert signal.getsignal(signal.SIGINT) is before and [path.name for path in tmp_path.iterdir()] == ["run.pt"]
    torch.rand(7)  # other random numbers, as in another process
    capsys.readouterr()
    assert outcome(*RUNS[kind](tokenizer, tmp_path)) == whole(kind)
    assert "Going on from step 3 of 6." in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_the_same_model_goes_on_too(tokenizer, tmp_path, whole):
    model = make_model(tokenizer)
    with pytest.raises(TrainingStopped):
        grpo(tokenizer, tmp_path, at_call(5, press_ctrl_c), model)
    assert not model.training
    assert outcome(*grpo(tokenizer, tmp_path, model=model)) == whole("grpo")


def test_a_second_interrupt_stops_at_once(tokenizer, tmp_path, whole):
    model = make_model(tokenizer)
    with pytest.raises(KeyboardInterrupt):
        grpo(tokenizer, tmp_path, at_call(4, press_twice), model)
    assert torch.load(tmp_path / "run.pt")["step"] == 2
    assert outcome(*grpo(tokenizer, tmp_path, model=model)) == whole("grpo")


def exit_code_of_a_child(what) -> int:
    pid = os.fork()
    if not pid:
        code = 1
        try:
            what()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("kind", ["grpo, reference", "ppo"])
def test_a_killed_run_ends_as_a_whole_one(kind, tokenizer, tmp_path, whole):
    assert exit_code_of_a_child(lambda: RUNS[kind](tokenizer, tmp_path, at_call(4, die))) == -signal.SIGKILL
    assert {path.name for path in tmp_path.iterdir()} == {"run.pt", LOCK}  # the dead process's lock is taken over
    assert outcome(*RUNS[kind](tokenizer, tmp_path)) == whole(kind)
    assert not list(tmp_path.iterdir())


def half_written(then, real_save=torch.save):
    """In the place of `torch.save`: writes half of the second checkpoint."""
    calls = []

    def save(saved, path):
        real_save(saved, path)
        calls.append(1)
        if len(calls) == 2:
            os.truncate(path, path.stat().st_size // 2)
            then()

    return save


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tokenizer, tmp_path, whole, capsys):
    def run():
        torch.save = half_written(die)
        grpo(tokenizer, tmp_path)

    assert exit_code_of_a_child(run) == -signal.SIGKILL
    assert {path.name for path in tmp_path.iterdir()} == {"run.pt", "run.unfinished", LOCK}
    assert outcome(*grpo(tokenizer, tmp_path)) == whole("grpo")
    assert "Going on from step 2 of 6." in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_checkpoint_before(tokenizer, tmp_path, whole, monkeypatch):
    def full():
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", half_written(full))
        with pytest.raises(OSError, match="No space left"):
            grpo(tokenizer, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]
    assert outcome(*grpo(tokenizer, tmp_path)) == whole("grpo")


# What is refused


@pytest.mark.parametrize(
    "name, value",
    [("learning_rate", 1e-4), ("steps", 8), ("seed", 1), ("advantage", algorithms.leave_one_out_advantages), ("beta", 0.1)],
)
def test_a_checkpoint_of_other_settings_is_refused(name, value, tokenizer, tmp_path):
    with pytest.raises(TrainingStopped):
        grpo(tokenizer, tmp_path, at_call(1, press_ctrl_c))
    model = make_model(tokenizer)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=rf"other settings \({name}\)\. Delete it to start anew"):
        grpo(tokenizer, tmp_path, model=model, **{name: value})
    assert all(torch.equal(values, before[key]) for key, values in model.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_a_model_that_has_been_trained_is_refused(tokenizer, tmp_path):
    model, _ = grpo(tokenizer, tmp_path, steps=1)
    with pytest.raises(RuntimeError, match="trained already: load it anew"):
        grpo(tokenizer, tmp_path, model=model, steps=1)


def test_a_model_left_within_its_first_step_is_refused(tokenizer, tmp_path, monkeypatch):
    model, real_step = make_model(tokenizer), torch.optim.AdamW.step

    def interrupted_step(self, *args, **kwargs):
        real_step(self, *args, **kwargs)
        press_twice()

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(torch.optim.AdamW, "step", interrupted_step)
        grpo(tokenizer, tmp_path, model=model, inner_updates=2)
    with pytest.raises(RuntimeError, match="trained already: load it anew"):
        grpo(tokenizer, tmp_path, model=model, inner_updates=2)


@pytest.mark.parametrize("run", [grpo, ppo])
def test_a_reward_of_nan_stops_the_run_before_it_reaches_the_weights(run, tokenizer, tmp_path):
    def nan_reward(completions, **kwargs):
        return [math.nan] * len(completions)

    model = make_model(tokenizer)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(FloatingPointError, match="Training stopped in step 1: the (gradient|loss) is nan."):
        run(tokenizer, tmp_path, nan_reward, model)
    assert all(torch.equal(values, before[key]) for key, values in model.state_dict().items())


def test_a_run_leaves_the_lock_and_the_handler_as_they_were(tmp_path):
    before, model = signal.getsignal(signal.SIGINT), torch.nn.Linear(2, 1)
    with pytest.raises(ZeroDivisionError), Run(tmp_path, {"model": model}, 3, {}, charts=False) as run:
        assert (tmp_path / LOCK).exists() and signal.getsignal(signal.SIGINT) is not before
        for _ in run:
            1 / 0  # noqa: B018
    assert not list(tmp_path.iterdir()) and signal.getsignal(signal.SIGINT) is before
    (tmp_path / "run.pt").write_bytes(b"no checkpoint")
    with pytest.raises(Exception), Run(tmp_path, {"model": model}, 3, {}):  # noqa: B017
        pass
    assert not (tmp_path / LOCK).exists() and signal.getsignal(signal.SIGINT) is before
