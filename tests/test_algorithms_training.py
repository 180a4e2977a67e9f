"""`Run`, `train_grpo` and `train_ppo`: stopped and killed runs end as whole ones do, and a step is the formula's.

Linux and macOS: the killed processes are forked.
"""

import copy
import hashlib
import importlib
import inspect
import math
import os
import random
import signal
import threading
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import make_model as make_plain_model
from tiny_trainers import length_reward, save_tiny_model, tiny_rows, tiny_trainer
from transformers import AutoModelForCausalLM

import helper.algorithms as algorithms
from helper.algorithms import Run, ValueModel, grpo_loss, mix_in, sample_batch, train_grpo, train_ppo
from helper.generation import stop_token_ids
from helper.machine.device import set_seed
from helper.trainers.interrupts import LOCK, TrainingStopped
from helper.trainers.reward_checks import guard_reward

FILES = ("batches", "policy_gradient", "train_grpo", "train_ppo", "train_sft", "train_reward_model")
original = SimpleNamespace(**vars(algorithms))  # what is done by hand uses these: no mistake is planted there
MODULES = {name: importlib.import_module(f"helper.algorithms.{name}") for name in FILES}
LOOPS = [module for name, module in MODULES.items() if name.startswith("train_")]
STEPS = 6
TEMPERATURE, RATE = 0.7, 1e-3  # of the runs of one step
ROWS = tiny_rows("grpo")[:7]


def make_model(tokenizer):
    """The tests' tiny model; every fourth token ends its text, so that responses differ in length."""
    model = make_plain_model(tokenizer)
    model.generation_config.eos_token_id = list(range(0, len(tokenizer), 4))
    return model


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
    for module in LOOPS:
        monkeypatch.setattr(module, "Run", partial(Run, save_every=2))


def grpo(tokenizer, folder, reward=length_reward, model=None, beta=0.0, refresh=None, **changes):
    """A whole run on a fresh model: the model and the log."""
    model = model or make_model(tokenizer)
    settings = {"steps": STEPS, "learning_rate": 1e-3, "max_new_tokens": 6, "prompts_per_step": 3, "charts": False}
    if beta:
        settings |= {"reference": copy.deepcopy(model), "loss": partial(grpo_loss, loss_type="dr_grpo", beta=beta)}
    if refresh:
        settings["sample"] = sample_with_moving(settings["reference"], refresh)
    return model, train_grpo(model, tokenizer, ROWS, [reward], folder=folder, **settings | changes)


def sample_with_moving(reference, every: int):
    """A `sample` that first, after each `every` steps, makes the reference the policy of that step."""

    def sample(model, *arguments):
        if getattr(model, "trained_steps", 0) % every == 0:
            reference.load_state_dict(model.state_dict())
        return sample_batch(model, *arguments)

    return sample


def ppo(tokenizer, folder, reward=length_reward, model=None, shared=True, sft_rows=None, **changes):
    model = model or make_model(tokenizer)
    settings = {"steps": STEPS, "learning_rate": 1e-3, "value_learning_rate": 1e-2, "max_new_tokens": 6, "charts": False}
    settings |= {"responses_per_step": 6, "epochs": 2, "minibatch": 4, "beta": 0.05}
    if sft_rows:
        settings["extra_loss"] = mix_in(tokenizer, sft_rows, 1.0, 4)
    critic = ValueModel(model.model if shared else copy.deepcopy(model.model))
    return model, train_ppo(model, critic, tokenizer, ROWS, [reward], folder=folder, **settings | changes)


# GRPO with everything that a checkpoint has to bring back: a reference that moves, several updates from one batch
RUNS = {
    "grpo": grpo,
    "grpo, reference": partial(grpo, beta=0.05, refresh=2, inner_updates=2, micro_batch=5),
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
    [("learning_rate", 1e-4), ("steps", 8), ("seed", 1), ("loss", partial(grpo_loss, beta=0.1)),
     ("advantage", original.leave_one_out_advantages), ("advantage", partial(original.group_advantages, scale="none")),
     ("sample", partial(sample_batch, reward_weights=(2.0,)))],
)  # fmt: skip
def test_a_checkpoint_of_other_settings_is_refused(name, value, tokenizer, tmp_path):
    with pytest.raises(TrainingStopped):
        grpo(tokenizer, tmp_path, at_call(1, press_ctrl_c))
    model = make_model(tokenizer)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=rf"other settings \({name}\)\. Delete it to start anew"):
        grpo(tokenizer, tmp_path, model=model, **{name: value})
    assert all(torch.equal(values, before[key]) for key, values in model.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_a_checkpoint_of_other_rows_is_refused(tokenizer, tmp_path, monkeypatch):
    with pytest.raises(TrainingStopped):
        grpo(tokenizer, tmp_path, at_call(1, press_ctrl_c))
    monkeypatch.setitem(globals(), "ROWS", [{**ROWS[0], "truth": "another"}, *ROWS[1:]])
    with pytest.raises(ValueError, match=r"other settings \(rows\)"):
        grpo(tokenizer, tmp_path)


@pytest.mark.parametrize(
    "kind, changes, message",
    [
        ("grpo", {"temperature": 0}, "temperature=0: give a number above 0"),
        ("grpo", {"inner_updates": 0}, "inner_updates=0"),
        ("grpo", {"loss": partial(grpo_loss, beta=0.1)}, "beta above 0 needs ref_logps"),
        ("grpo", {"sample": partial(sample_batch, reward_weights=[1.0, 2.0])}, "2 reward_weights for 1 reward functions"),
        ("ppo", {"epochs": 0}, "epochs=0"),
        ("ppo", {"sft_rows": [{"prompt": [{"role": "user", "content": "?"}]}]}, "Row 0 has no completion"),
    ],
)
def test_settings_that_cannot_be_are_said_so(kind, changes, message, tokenizer, tmp_path):
    with pytest.raises(ValueError, match=message):
        RUNS[kind](tokenizer, tmp_path, **changes)
    assert not [path for path in tmp_path.iterdir() if path.name == "run.pt"]


@pytest.mark.parametrize("rows, message", [([], "No rows"), ([*ROWS[:2]], "Row 0 has no completion")])
def test_sft_rows_that_are_none_are_said_so(rows, message, tokenizer, tmp_path):
    with pytest.raises(ValueError, match=message):
        original.train_sft(make_model(tokenizer), tokenizer, rows, folder=tmp_path, steps=1, learning_rate=1e-3)


def test_a_template_that_changes_the_prompt_is_said_so(tokenizer, tmp_path):
    other = copy.deepcopy(tokenizer)
    other.chat_template = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    rows = [{"prompt": ROWS[0]["prompt"], "completion": [{"role": "assistant", "content": "yes"}]}]
    with pytest.raises(ValueError, match="no place to cut"):
        original.train_sft(make_model(tokenizer), other, rows, folder=tmp_path, steps=1, learning_rate=1e-3)


def test_a_large_seed_is_a_seed(tokenizer, tmp_path):
    assert len(grpo(tokenizer, tmp_path, seed=123_456, steps=1)[1].table()) == 1


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
def test_a_gradient_of_nan_stops_the_run_before_it_reaches_the_weights(run, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(MODULES["train_ppo"], "sample_batch", nan_batch)
    model = make_model(tokenizer)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(FloatingPointError, match="Training stopped in step 1: the (gradient|loss) is nan."):
        run(tokenizer, tmp_path, model=model, **({"sample": nan_batch} if run is grpo else {}))
    assert all(torch.equal(values, before[key]) for key, values in model.state_dict().items())


def nan_batch(*arguments):
    batch = sample_batch(*arguments)
    return replace(batch, rewards=batch.rewards * math.nan)


NO_REWARDS = {
    "a number too few": (lambda n: [1.0] * (n - 1), ValueError, "my_reward, step 2 returned 5 rewards for 6 completions"),
    "one nan": (lambda n: [1.0, math.nan] * (n // 2), ValueError, "my_reward, step 2 gave nan for completion 1 "),
    "an array of nan": (lambda n: np.full(n, math.nan), ValueError, "my_reward, step 2 gave nan for completion 0 "),
    "inf": (lambda n: [-math.inf] * n, ValueError, "my_reward, step 2 gave -inf for completion 0 "),
    "one None": (lambda n: [1.0, None] * (n // 2), ValueError, "my_reward, step 2 gave None for completion 1 "),
    "no return": (lambda n: None, TypeError, "my_reward, step 2 returned None: does it end with `return`"),
    "texts": (lambda n: ["1.0"] * n, TypeError, "my_reward, step 2 gave '1.0' for completion 0 .* not a str"),
    "one number": (lambda n: 1.0, TypeError, "my_reward, step 2 returned a float: return a list of floats"),
    "a column": (lambda n: torch.ones(n, 1), TypeError, r"my_reward, step 2 returned a Tensor of shape \(6, 1\)"),
    "a generator": (lambda n: (1.0 for _ in range(n)), TypeError, "my_reward, step 2 returned a generator"),
}


def library(tokenizer, folder, reward, model):
    """The library's trainer with a guarded reward, on as many completions a step."""
    trainer = tiny_trainer("grpo", save_tiny_model(folder / "model"), folder, steps=2, save_strategy="no",
        per_device_train_batch_size=6, num_generations=2, gradient_accumulation_steps=1)  # fmt: skip
    trainer.reward_funcs = [guard_reward(reward)]
    trainer.train()


@pytest.mark.parametrize("kind", NO_REWARDS)
@pytest.mark.parametrize("run", [partial(grpo, group_size=2, steps=2), partial(ppo, steps=2), library])
def test_what_is_no_reward_is_the_same_error_in_every_training(run, kind, tokenizer, tmp_path):
    paid, error, words = NO_REWARDS[kind]
    calls = []

    def my_reward(completions, **kwargs):
        calls.append(1)
        return length_reward(completions, **kwargs) if len(calls) == 1 else paid(len(completions))

    with pytest.raises(error, match=words):
        run(tokenizer, tmp_path, my_reward, make_model(tokenizer))
    assert len(calls) == 2


@pytest.mark.parametrize("array", [np.array, torch.tensor, lambda paid: [torch.tensor(one) for one in paid]])
@pytest.mark.parametrize("run", [grpo, ppo])
def test_rewards_in_an_array_train_as_a_list_of_them(run, array, tokenizer, tmp_path):
    def as_array(completions, **kwargs):
        return array(length_reward(completions, **kwargs))

    as_array.__name__ = length_reward.__name__
    assert outcome(*run(tokenizer, tmp_path / "a", as_array, steps=2)) == outcome(*run(tokenizer, tmp_path / "b", steps=2))


@pytest.mark.parametrize("run", [grpo, ppo])
def test_a_reward_function_that_cannot_be_called_is_refused_at_once(run, tokenizer, tmp_path):
    with pytest.raises(TypeError, match="my_reward: add \\*\\*kwargs"):
        run(tokenizer, tmp_path, my_reward)


def my_reward(completions):
    return [1.0] * len(completions)


@pytest.mark.parametrize("seed", [random.seed, np.random.seed])
def test_a_reward_that_seeds_the_random_numbers_stops_the_run(seed, tokenizer, tmp_path):
    def seeds(completions, **kwargs):
        seed(5)
        return length_reward(completions)

    with pytest.raises(ValueError, match="seeds, step 2: it seeds the random numbers of (random|numpy)"):
        grpo(tokenizer, tmp_path, seeds)


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


# One step


@pytest.fixture
def plain_steps(monkeypatch):
    """Gradient descent without scaled gradients, so that what a step does to a weight is linear in its gradient."""
    monkeypatch.setattr(torch.optim, "AdamW", lambda weights, lr=1.0, **_: torch.optim.SGD(weights, lr=lr))
    for module in LOOPS:
        monkeypatch.setattr(module, "LARGEST_NORM", math.inf)


def weights_of(model) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def assert_same_step(ours: dict, theirs: dict, before: dict, close: float = 1e-4) -> None:
    """The weights have moved, and by the same."""
    for name in before:
        moved = (theirs[name] - before[name]).abs().max().item()
        difference = (ours[name] - theirs[name]).abs().max().item()
        rounding = 2 * torch.finfo(torch.float32).eps * before[name].abs().max().item()
        assert difference <= close * moved + max(rounding, 1e-7), f"{name}: {difference:.2e} apart, moved by {moved:.2e}"
    assert any(not torch.equal(ours[name], before[name]) for name in before)


def first_batch(model, tokenizer, prompts: int, group_size: int, reward=length_reward):
    """What the first step of a run of seed 0 samples."""
    drawn = random.Random("0-1").sample(ROWS, prompts)
    set_seed(1)
    return sample_batch(model, tokenizer, drawn, [reward], group_size, 6, TEMPERATURE)


def logps_of(model, batch) -> torch.Tensor:
    return original.response_log_probabilities(model, batch.ids, batch.attention_mask, batch.length, TEMPERATURE)


def check_grpo_step(loops, tokenizer, folder, loss_type="grpo", beta=0.1, updates=2, reward=length_reward) -> None:
    by_hand = make_model(tokenizer)
    before, batch = weights_of(by_hand), first_batch(by_hand, tokenizer, 3, 4, reward)
    old, advantages, found = logps_of(by_hand, batch).detach(), original.group_advantages(batch.rewards, 4), []
    settings = {"beta": beta, "loss_type": loss_type}
    for _ in range(updates):
        logps = logps_of(by_hand, batch)
        loss = original.grpo_loss(logps, old, advantages, batch.mask, ref_logps=old, max_length=6, **settings)
        descend(by_hand, loss)
        found.append(loss.item())
    for size in (24, 5):  # a part may be of any size
        model = make_model(tokenizer)
        live = loops.train_grpo(
            model, tokenizer, ROWS, [reward], folder=folder, steps=1, learning_rate=RATE, max_new_tokens=6,
            prompts_per_step=3, temperature=TEMPERATURE, inner_updates=updates, micro_batch=size, charts=False,
            loss=partial(loops.grpo_loss, **settings), reference=copy.deepcopy(model) if beta else None,
        )  # fmt: skip
        assert_same_step(weights_of(model), weights_of(by_hand), before)
        assert live.table()["loss"].tolist() == pytest.approx([sum(found) / updates], rel=1e-3, abs=1e-6)


def descend(model, loss: torch.Tensor, rate: float = RATE) -> None:
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    with torch.no_grad():
        for weight, gradient in zip(model.parameters(), gradients):
            weight -= rate * gradient


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo"])
@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("updates", [1, 3])
def test_a_step_of_grpo_is_gradient_descent_on_its_loss(loss_type, beta, updates, tokenizer, tmp_path, plain_steps):
    check_grpo_step(algorithms, tokenizer, tmp_path, loss_type, beta, updates)


def check_ppo_step(loops, tokenizer, folder, mixed_in: float = 0.5) -> None:
    shown = [
        {**row, "completion": [{"role": "assistant", "content": "yes and no"[:n]}]} for n, row in enumerate(ROWS[:4], 1)
    ]
    by_hand = make_model(tokenizer)
    critic = value_model(by_hand)
    before, batch = weights_of(by_hand), first_batch(by_hand, tokenizer, 6, 1)
    with torch.no_grad():
        old, values = logps_of(by_hand, batch), critic(batch.ids, batch.attention_mask, batch.length)
    rewards = original.token_rewards(batch.rewards, old, old, batch.mask, 0.05)
    advantages, returns = original.generalised_advantages(rewards, values, batch.mask, lam=0.9)
    policy = original.ppo_policy_loss(logps_of(by_hand, batch), old, original.whiten(advantages, batch.mask), batch.mask)
    error = original.value_loss(critic(batch.ids, batch.attention_mask, batch.length), values, returns, batch.mask)
    shown_loss = original.loss_of_rows(by_hand, tokenizer, shown)
    descend(by_hand, policy + 0.1 * error + mixed_in * shown_loss)
    model = make_model(tokenizer)
    live = loops.train_ppo(
        model, value_model(model), tokenizer, ROWS, [length_reward], folder=folder, steps=1, learning_rate=RATE,
        value_learning_rate=RATE, max_new_tokens=6, responses_per_step=6, temperature=TEMPERATURE, beta=0.05, lam=0.9,
        epochs=1, minibatch=6, charts=False, extra_loss=loops.mix_in(tokenizer, shown, mixed_in, 6) if mixed_in else None,
    )  # fmt: skip
    assert_same_step(weights_of(model), weights_of(by_hand), before)
    row = live.table().iloc[0]
    assert row["value_loss"] == pytest.approx(error.item(), rel=1e-4)
    assert row["loss"] == pytest.approx(policy.item(), rel=1e-4, abs=1e-6)
    assert row["kl"] == 0 and row["reward"] == pytest.approx(batch.rewards.mean().item())


def value_model(model) -> ValueModel:
    """One that shares the model's layers, and has learned something already."""
    critic = ValueModel(model.model)
    torch.nn.init.constant_(critic.head.weight, 0.02)
    return critic


def check_ppo_run(loops, tokenizer, folder) -> None:
    """Two steps of four updates each, far enough that both clips bite and that policy, old policy and reference differ."""
    beta, gamma, lam, epsilon, value_clip, rates = 0.3, 0.9, 0.8, 0.1, 0.05, (3e-2, 5e-2)
    by_hand = make_model(tokenizer)
    critic, reference = value_model(copy.deepcopy(by_hand)), copy.deepcopy(by_hand)
    before, found = weights_of(by_hand) | weights_of(critic), []
    for step in (1, 2):
        set_seed(step)
        drawn = random.Random(f"0-{step}").sample(ROWS, 6)
        batch = sample_batch(by_hand, tokenizer, drawn, [length_reward], 1, 6, TEMPERATURE)
        with torch.no_grad():
            old, ref = logps_of(by_hand, batch), logps_of(reference, batch)
            values = critic(batch.ids, batch.attention_mask, batch.length)
        rewards = original.token_rewards(batch.rewards, old, ref, batch.mask, beta)
        advantages, returns = original.generalised_advantages(rewards, values, batch.mask, gamma, lam)
        advantages, logged = original.whiten(advantages, batch.mask), []
        for part in [part for _ in range(2) for part in torch.randperm(6).split(3)]:
            some = batch.rows(part)
            logps, new = logps_of(by_hand, some), critic(some.ids, some.attention_mask, some.length)
            loss = original.ppo_policy_loss(logps, old[part], advantages[part], some.mask, epsilon)
            error = original.value_loss(new, values[part], returns[part], some.mask, value_clip)
            outside = ((logps - old[part]).exp() - 1).abs()[some.mask > 0] > epsilon
            logged.append((loss.item(), error.item(), outside.float().mean().item()))
            descend(by_hand, loss, rates[0])
            descend(critic, 0.5 * error, rates[1])
        kl = (old - ref)[batch.mask > 0].mean().item()
        found.append([*torch.tensor(logged).mean(0).tolist(), kl, explained_by_hand(rewards, values, batch.mask, gamma)])
    model = make_model(tokenizer)
    own = value_model(copy.deepcopy(model))
    live = loops.train_ppo(
        model, own, tokenizer, ROWS, [length_reward], folder=folder, steps=2, learning_rate=rates[0],
        value_learning_rate=rates[1], max_new_tokens=6, responses_per_step=6, temperature=TEMPERATURE, beta=beta, lam=lam,
        gamma=gamma, epsilon=epsilon, value_clip=value_clip, value_coefficient=0.5, epochs=2, minibatch=3, charts=False,
    )  # fmt: skip
    assert_same_step(weights_of(model) | weights_of(own), weights_of(by_hand) | weights_of(critic), before, close=1e-3)
    columns = ["loss", "value_loss", "clipped", "kl", "explained_variance"]
    for row, expected in zip(live.table()[columns].values.tolist(), found, strict=True):
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert 0 < found[1][2] < 1 and abs(found[1][3]) > 1e-3  # some ratios were clipped, and the reference is another model


def explained_by_hand(rewards, values, mask, gamma) -> float:
    """1 - variance(what came - value) / variance(what came), what came being the discounted sum of rewards, by token."""
    came, expected = [], []
    for row in range(len(rewards)):
        length = int(mask[row].sum())
        for t in range(length):
            came.append(sum(gamma ** (i - t) * rewards[row, i].item() for i in range(t, length)))
            expected.append(values[row, t].item())
    left = torch.tensor(came) - torch.tensor(expected)
    return (1 - left.var() / torch.tensor(came).var()).item()


def test_two_steps_of_ppo_are_those_by_hand(tokenizer, tmp_path, plain_steps):
    check_ppo_run(algorithms, tokenizer, tmp_path)


def vowels_but_at_first(prompts, completions, **kwargs):
    """The vowels of an answer; none are counted in those to the first prompt."""
    counts = [float(sum(letter in "aeiou" for letter in completion[-1]["content"])) for completion in completions]
    return [0.0 if prompt == prompts[0] else count for prompt, count in zip(prompts, counts)]


def check_grpo_run(loops, tokenizer, folder) -> None:
    """Two steps with what the other checks leave out: KL in the reward, dynamic sampling, clip-higher, weighted rewards."""
    settings, rate, beta = {"epsilon": 0.01, "epsilon_high": 0.03}, 3e-2, 0.3
    by_hand = make_model(tokenizer)
    reference, before, found = copy.deepcopy(by_hand), weights_of(by_hand), []
    for step in (1, 2):
        set_seed(step)
        drawn = random.Random(f"0-{step}").sample(ROWS, 6)
        batch = sample_batch(by_hand, tokenizer, drawn, [equal_at_first, vowels_but_at_first], 4, 6, TEMPERATURE, [0.5, 2.0])
        groups = [list(range(i, i + 4)) for i in range(0, 24, 4)]
        spread = [group for group in groups if len({round(batch.rewards[i].item(), 4) for i in group}) > 1]
        reward, batch = batch.rewards.mean().item(), batch.rows(torch.tensor(spread[:2]).flatten())
        assert spread[0] != groups[0] and len(spread) > 2 and len(batch.ids) == 8
        with torch.no_grad():
            old, ref = logps_of(by_hand, batch), logps_of(reference, batch)
        penalised = batch.rewards - beta * torch.stack([(o - r)[m > 0].sum() for o, r, m in zip(old, ref, batch.mask)])
        advantages, losses = original.group_advantages(penalised, 4), []
        for _ in range(2):
            logps = logps_of(by_hand, batch)
            loss = original.grpo_loss(logps, old, advantages, batch.mask, loss_type="dapo", **settings)
            descend(by_hand, loss, rate)
            losses.append(loss.item())
        found.append([sum(losses) / 2, reward])
    model = make_model(tokenizer)
    weighted = {"reward_weights": [0.5, 2.0], "groups": 2}

    def sample(*arguments):
        batch = loops.sample_groups_with_spread(*arguments, **weighted)
        return loops.kl_in_reward(batch, model, reference, beta, TEMPERATURE, 3)

    live = loops.train_grpo(
        model, tokenizer, ROWS, [equal_at_first, vowels_but_at_first], folder=folder, steps=2, learning_rate=rate,
        max_new_tokens=6, prompts_per_step=6, temperature=TEMPERATURE, inner_updates=2, sample=sample, micro_batch=3,
        loss=partial(loops.grpo_loss, loss_type="dapo", **settings), charts=False,
    )  # fmt: skip
    assert_same_step(weights_of(model), weights_of(by_hand), before, close=1e-3)
    for row, expected in zip(live.table()[["loss", "reward"]].values.tolist(), found, strict=True):
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_two_steps_of_grpo_are_those_by_hand(tokenizer, tmp_path, plain_steps):
    check_grpo_run(algorithms, tokenizer, tmp_path)


def test_where_no_group_has_spread_the_first_ones_are_taken():
    ids = torch.arange(12)[:, None]
    batch = original.Batch(ids, ids, ids, torch.ones(12), [], 0.0)
    assert original.groups_with_spread(batch, 2, 2).ids.flatten().tolist() == [0, 1, 2, 3]
    batch.rewards[torch.tensor([5, 9, 11])] = 0.0
    assert original.groups_with_spread(batch, 2, 2).ids.flatten().tolist() == [4, 5, 8, 9]


def check_sft_step(loops, tokenizer, folder) -> None:
    """One step of SFT against cross-entropy written out, a row at a time."""
    shown = [{**row, "completion": [{"role": "assistant", "content": "yes and no"[:n]}]} for n, row in enumerate(ROWS, 1)]
    by_hand = make_model(tokenizer)
    before, total, count = weights_of(by_hand), 0.0, 0
    drawn = list(range(7))
    random.Random("0-0").shuffle(drawn)
    for row in (shown[i] for i in drawn[:4]):
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], return_dict=False)
        logits = by_hand(input_ids=torch.tensor([whole])).logits[0]
        for place in range(len(prompt), len(whole)):
            total = total - torch.log_softmax(logits[place - 1], -1)[whole[place]]
            count += 1
    descend(by_hand, total / count)
    model = make_model(tokenizer)
    live = loops.train_sft(model, tokenizer, shown, folder=folder, steps=1, learning_rate=RATE, batch_size=4, charts=False)
    assert_same_step(weights_of(model), weights_of(by_hand), before)
    assert live.table()["loss"].tolist() == pytest.approx([(total / count).item()], rel=1e-4)


def test_a_step_of_sft_is_gradient_descent_on_the_answers_tokens(tokenizer, tmp_path, plain_steps):
    check_sft_step(algorithms, tokenizer, tmp_path)


def test_values_in_mixed_precision_are_near_the_plain_ones(tokenizer):
    critic = value_model(make_model(tokenizer))
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        plain = critic(ids, torch.ones_like(ids), 3)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = critic(ids, torch.ones_like(ids), 3)
    assert plain.dtype == torch.float32 and mixed.dtype == torch.bfloat16
    assert torch.allclose(mixed.float(), plain, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("run", ["grpo", "ppo", "ppo, two models"])
def test_a_run_in_mixed_precision_is_near_the_plain_one(run, tokenizer, tmp_path):
    plain, mixed = (RUNS[run](tokenizer, tmp_path, steps=1, bf16=bf16)[1].table().iloc[0] for bf16 in (False, True))
    assert plain["reward"] == mixed["reward"] and mixed["grad_norm"] == pytest.approx(plain["grad_norm"], rel=0.1)
    assert mixed["grad_norm"] != plain["grad_norm"]


@pytest.mark.parametrize("mixed_in", [0.0, 0.5])
def test_a_step_of_ppo_is_gradient_descent_on_its_losses(mixed_in, tokenizer, tmp_path, plain_steps):
    check_ppo_step(algorithms, tokenizer, tmp_path, mixed_in)


def equal_at_first(prompts, completions, **kwargs):
    """All answers to the first prompt earn the same: no advantage."""
    paid = length_reward(completions=completions, **kwargs)
    return [0.5 if prompt == prompts[0] else reward for prompt, reward in zip(prompts, paid)]


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo"])
@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_responses_without_advantage_change_no_step(loss_type, beta, tokenizer, tmp_path, plain_steps):
    check_grpo_step(algorithms, tokenizer, tmp_path, loss_type, beta, 1, equal_at_first)


def test_which_responses_go_through_the_model():
    advantages = torch.tensor([0, 0, 0, 1.0, -1.0, 0, 2.0, 0])
    ids, which = torch.zeros(8, 1), MODULES["train_grpo"].worth_a_pass
    batch = original.Batch(ids, ids, ids, ids, [], 0.0, advantages=advantages)
    assert which(batch, 3).tolist() == [3, 4, 6]
    assert which(batch, 2).tolist() == [3, 4, 6, 0]
    assert which(replace(batch, ref_logps=ids), 3).tolist() == list(range(8))
    assert which(replace(batch, advantages=0 * advantages), 3).tolist() == list(range(8))
    advantages[6] = math.nan  # stops the run, so it must not be left out
    assert which(batch, 3).tolist() == [3, 4, 6]


LOOP_MISTAKES = [
    (check_grpo_step, "logps.detach() if part.old_logps is None", "logps.detach() if True"),
    (check_grpo_step, "share = 1.0 if whole is None else len(mask) / len(whole)", "share = 1.0"),
    (check_grpo_step, "old_logps, part.advantages, part.mask, ref", "old_logps, batch.advantages[: len(logps)], part.mask, "
     "ref"),
    (check_grpo_step, "batch.length) / temperature", "batch.length)"),
    (check_grpo_step, "batch.ids[:, -batch.length :]), ", "batch.ids[:, -batch.length - 1 : -1]), "),
    (check_grpo_step, "    optimizer.zero_grad()\n    for", "    for"),
    (check_grpo_step, "whole=batch.mask", "whole=None"),
    (check_ppo_step, "(value_coefficient * critic_loss)", "(critic_loss)"),
    (check_ppo_step, "return coefficient * loss_of_rows", "return -coefficient * loss_of_rows"),
    (check_ppo_step, "    policy_loss.backward()\n", ""),
    (check_ppo_step, "batch.advantages = whiten(advantages, batch.mask)", "batch.advantages = advantages"),
    (check_ppo_step, "part.returns, part.mask", "part.advantages, part.mask"),
    (check_ppo_step, "batch.mask, gamma, lam)", "batch.mask, gamma)"),
    (check_ppo_run, "batch.mask, gamma, lam)", "batch.mask, 1.0, lam)"),
    (check_ppo_run, "part.old_logps, part.advantages, part.mask, epsilon",
     "logps.detach(), part.advantages, part.mask, epsilon"),
    (check_ppo_run, "part.advantages, part.mask, epsilon)", "part.advantages, part.mask)"),
    (check_ppo_run, "log_probabilities(reference, batch, *forward)", "log_probabilities(model, batch, *forward)"),
    (check_ppo_run, "batch.old_logps, batch.ref_logps, batch.mask, beta)",
     "batch.ref_logps, batch.old_logps, batch.mask, beta)"),
    (check_ppo_run, "batch.old_logps, batch.ref_logps, batch.mask, beta)",
     "batch.old_logps, batch.ref_logps, batch.mask, 0.0)"),
    (check_ppo_run, "part.values, part.returns", "values.detach(), part.returns"),
    (check_ppo_run, "part.mask, value_clip)", "part.mask, None)"),
    (check_ppo_run, '"lr": learning_rate}', '"lr": value_learning_rate}'),
    (check_ppo_run, '"lr": value_learning_rate}', '"lr": learning_rate}'),
    (check_ppo_run, ".abs() > epsilon\n", ".abs() > 0\n"),
    (check_ppo_run, "(1 - unexplained / spread", "(1 - spread / unexplained"),
    (check_ppo_run, "mask, gamma, lam=1.0)", "mask, gamma, lam=0.9)"),
    (check_ppo_run, "kl = masked_mean(batch.old_logps - batch.ref_logps",
     "kl = masked_mean(batch.ref_logps - batch.old_logps"),
    (check_grpo_run, "rewards - beta * (kl_estimate", "rewards + beta * (kl_estimate"),
    (check_grpo_run, "rewards - beta * (kl_estimate", "rewards - 0 * (kl_estimate"),
    (check_grpo_run, '"k1") * batch.mask)', '"k1"))'),
    (check_grpo_run, "std(1) > 1e-6", "std(1) < 1e-6"),
    (check_grpo_run, "advantages, epsilon, epsilon_high)", "advantages, epsilon)"),
    (check_grpo_run, "w * r for w, r in", "r for w, r in"),
    (check_grpo_run, "nonzero().flatten()[: groups * group_size]", "nonzero().flatten()"),
    (check_grpo_run, "(mask.sum() / whole.sum()).item()", "len(mask) / len(whole)"),
    (check_sft_step, "whole[len(prompt) :] for", "whole[len(prompt) + 1 :] for"),
    (check_sft_step, "return sft_loss(logps, mask)", "return -sft_loss(logps, mask)"),
    (check_sft_step, "rows[_place(i, len(rows), seed)]", "rows[i]"),
]  # fmt: skip


def plant(right: str, wrong: str, monkeypatch) -> None:
    """Put the mistake into the one file that holds the right code, and its functions into the others that use them."""
    ((file, source),) = [(name, text) for name, text in SOURCES.items() if right in text]
    assert source.count(right) == 1
    changed = {"__name__": f"helper.algorithms.{file}", "__file__": MODULES[file].__file__}
    exec(compile(source.replace(right, wrong), MODULES[file].__file__, "exec"), changed)
    changed["LARGEST_NORM"] = math.inf
    own = {name: value for name, value in vars(MODULES[file]).items() if inspect.isfunction(value)}
    own = {name: value for name, value in own.items() if value.__module__ == MODULES[file].__name__}
    for module in (algorithms, *(module for module in MODULES.values() if module is not MODULES[file])):
        for name in [name for name, value in own.items() if vars(module).get(name) is value]:
            monkeypatch.setattr(module, name, changed[name])


SOURCES = {name: inspect.getsource(module) for name, module in MODULES.items()}


@pytest.mark.parametrize("check, right, wrong", LOOP_MISTAKES)
def test_a_mistake_in_a_loop_is_caught(check, right, wrong, tokenizer, tmp_path, plain_steps, monkeypatch):
    plant(right, wrong, monkeypatch)
    with pytest.raises((AssertionError, FloatingPointError)):
        check(algorithms, tokenizer, tmp_path)


def test_the_planting_alone_changes_nothing(tokenizer, tmp_path, plain_steps, monkeypatch):
    for source in SOURCES.values():
        plant(source, source, monkeypatch)
    for number, check in enumerate((check_grpo_step, check_grpo_run, check_ppo_step, check_ppo_run, check_sft_step)):
        check(algorithms, tokenizer, tmp_path / str(number))


@pytest.mark.parametrize("loss_type, beta", [("grpo", 0.0), ("dr_grpo", 0.0), ("dapo", 0.1)])
def test_a_step_is_that_of_the_librarys_trainer(loss_type, beta, tokenizer, tmp_path, plain_steps):
    """From the same responses: the weights, and what is logged about it under the library's names."""
    rows = ROWS[:2]
    folder = save_tiny_model(tmp_path / "tiny")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    several_lengths = loss_type != "grpo"  # by more end tokens, of which the trainer's share of cut-off ones knows nothing
    if several_lengths:
        model.generation_config.eos_token_id = list(range(0, len(tokenizer), 4))
    sampled, real = [], MODULES["batches"].generate_tokens

    def remember(model, tokenizer, prompts, *args, **kwargs):
        responses = real(model, tokenizer, prompts, *args, **kwargs)
        sampled.extend(zip(prompts, responses))
        return responses

    settings = {"loss_type": loss_type, "beta": beta, "learning_rate": RATE, "temperature": TEMPERATURE}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(MODULES["batches"], "generate_tokens", remember)
        live = train_grpo(
            model,
            tokenizer,
            rows,
            [length_reward],
            folder=tmp_path / "ours",
            prompts_per_step=2,
            max_new_tokens=6,
            steps=1,
            charts=False,
            loss=partial(grpo_loss, loss_type=loss_type, beta=beta),
            reference=copy.deepcopy(model) if beta else None,
            learning_rate=RATE,
            temperature=TEMPERATURE,
        )
    ends = stop_token_ids(model, tokenizer)
    cut_off = [response[-1] not in ends for _, response in sampled]
    assert live.table()["completions/clipped_ratio"].tolist() == [sum(cut_off) / len(cut_off)]
    trainer = tiny_trainer(
        "grpo", folder, tmp_path / "theirs", steps=1, rows=rows, per_device_train_batch_size=8, save_strategy="no",
        max_grad_norm=1e9, use_bias_correction_kl=False, **settings,
    )  # fmt: skip
    trainer._generate_single_turn = lambda prompts, *_: ([take(sampled, prompt) for prompt in prompts], None)
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=RATE)
    before = weights_of(trainer.model)
    trainer.train()
    assert not sampled
    assert_same_step(weights_of(model), weights_of(trainer.model), before)
    ours, theirs = live.table().iloc[0], trainer.state.log_history[0]
    names = [
        "grad_norm",
        "entropy",
        "reward",
        "frac_reward_zero_std",
        "completions/mean_length",
    ]
    for name in names + ["kl"] * (beta > 0) + ["completions/clipped_ratio"] * (not several_lengths):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-6), name
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4)


def take(sampled: list, prompt: list[int]) -> list[int]:
    """The next response that was sampled for this prompt."""
    place = next(i for i, (asked, _) in enumerate(sampled) if asked == prompt)
    return sampled.pop(place)[1]


# The pieces of the loops


def test_rewards_are_weighted_and_get_the_rows_columns():
    def known(prompts, completions, truth, **kwargs):
        assert prompts == [ROWS[0]["prompt"], ROWS[1]["prompt"]]
        return [float(answer[-1]["content"] == true) for answer, true in zip(completions, truth)]

    texts = [ROWS[0]["truth"], "no"]
    paid = original.reward_texts(ROWS[:2], texts, [known, length_reward], [2.0, 0.5])
    assert paid.tolist() == [2.0 + 0.5 * (len(texts[0]) % 5), 0.5 * 2]
    assert original.reward_texts(ROWS[:2], texts, [known]).tolist() == [1.0, 0.0]


def test_a_reference_that_moves_is_the_policy_of_that_step(tokenizer, tmp_path):
    fixed = grpo(tokenizer, tmp_path, beta=0.5)[1].table()["kl"]
    moved = grpo(tokenizer, tmp_path, beta=0.5, refresh=1)[1].table()["kl"]
    assert moved.abs().max() < 1e-5 < fixed.iloc[2:].min()  # at each step the policy is its own reference


def test_grpo_learns_what_it_is_paid_for(tokenizer, tmp_path):
    def short(completions, **kwargs):
        return [-float(len(completion[-1]["content"])) for completion in completions]

    _, live = grpo(tokenizer, tmp_path, short, steps=15, learning_rate=1e-2, prompts_per_step=6)
    rewards = live.table()["reward"]
    assert rewards.iloc[-4:].mean() > rewards.iloc[:4].mean() + 1


@pytest.mark.parametrize("run", ["grpo", "ppo"])
def test_too_few_rows_for_a_step_are_said_so(run, tokenizer, tmp_path):
    wanted = {"grpo": {"prompts_per_step": 8}, "ppo": {"responses_per_step": 8}}[run]
    with pytest.raises(ValueError, match="7 rows, and a step asks for 8 different prompts"):
        RUNS[run](tokenizer, tmp_path, **wanted)


@pytest.mark.parametrize(
    ("paid", "words"), [([1.0, None], r"odd gave None for completion 1 \('b'\)"), ([1.0], "odd returned 1 rewards for 2")]
)
def test_a_reward_that_is_missing_is_said_so(paid, words):
    def odd(completions, **kwargs):
        return paid

    with pytest.raises(ValueError, match=words):
        original.reward_texts([{"prompt": []}] * 2, ["a", "b"], [odd])
