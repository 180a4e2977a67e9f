"""Alarms during training, for the mistakes that TRL's trainers pass over in silence.

Left out on purpose: several processes, and repair: nothing is changed, a mistake is named and the student mends it.
"""

import math
from collections.abc import Mapping

import torch
from transformers import TrainerCallback

from helper.machine.terminal import on_terminal, say

PATIENCE = 3  # logged steps in a row: one or two such steps come by chance
CUT_OFF = 0.5  # share of completions at the length limit: from here on most of them never reach their answer
RUNNING = 5  # logged steps in a running mean of rewards: fewer are mostly the noise of small batches
FALLEN = 0.5  # of the best running mean: early enough to stop
NOTEWORTHY_REWARD = 0.1  # below this the running mean of a 0/1 reward is mostly noise
COLLAPSED = 0.1  # of the first entropy: a good run here went down to 0.4 of it, a collapse goes to nothing
ZERO_MARGIN = 1e-5  # rounding of equal log-probabilities stays below; one update moves more
UNLEARNED_NATS, UNLEARNED_SHARE = 10.0, 0.5  # a chosen answer that lost e^10 and half its log-probability again


def add_alarms(trainer) -> "TrainingAlarms":
    """Put TrainingAlarms on a trainer, once; call it before training."""
    for callback in list(trainer.callback_handler.callbacks):
        if isinstance(callback, TrainingAlarms):
            trainer.remove_callback(callback)
    alarms = TrainingAlarms()
    trainer.add_callback(alarms)
    return alarms


class TrainingAlarms(TrainerCallback):
    """A trainer callback that says, at most once a run for each reason, that something goes wrong, and what to try.

    It only prints; `given` holds what it said. It stops the run (FloatingPointError) for a loss or gradient that is
    nan or inf, before that reaches the weights: the library leaves such losses out of its log.
    """

    def __init__(self):
        self.given: dict[str, str] = {}
        self._log: list[dict] = []

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step == 0:
            self.given.clear()
            self._log.clear()

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if args.fp16:  # its scaler tries out scales that overflow, and skips those steps
            return
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        if not math.isfinite(norm):
            raise FloatingPointError(_not_finite("gradient", norm, state.global_step + 1))

    def on_train_end(self, args, state, control, **kwargs):
        if state.global_step == 0:
            self._say("no_step", state.global_step, "no step was made: the data set has too few rows for one batch.")

    def on_log(self, args, state, control, logs=None, **kwargs):
        loss = number(logs.get("loss")) if isinstance(logs, Mapping) else None
        if loss is None:  # an evaluation's, the summary at the end, or somebody's own
            return
        if not math.isfinite(loss):
            raise FloatingPointError(_not_finite("loss", loss, state.global_step))
        values = {key: math.nan if value is None else number(value) for key, value in logs.items()}  # None: nan throughout
        self._log.append({key: value for key, value in values.items() if value is not None})
        for alarm in ALARMS:
            words = alarm(self._log, args) if alarm.__name__ not in self.given else None
            if words:
                self._say(alarm.__name__, state.global_step, words)

    def _say(self, alarm: str, step: int, words: str) -> None:
        self.given[alarm] = words
        start = "\r" if on_terminal() else ""  # over the progress line
        say(f"{start}Alarm at step {step}: {words}")


def number(value) -> float | None:
    """What was logged, as a number; None for what is none: a callback may log anything."""
    try:
        return None if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # None, a huge whole number, a tensor of several
        return None


def no_spread(log: list[dict], args) -> str | None:
    last = _last(log, "frac_reward_zero_std")
    if not last or min(last) < 1:
        return None
    return (
        f"for {PATIENCE} logged steps every group had equal rewards (mean {log[-1].get('reward', math.nan):.2f}): nothing "
        "is learned. At the lowest reward: easier prompts, or an SFT model that sometimes gets there. At the highest: "
        "harder prompts. In between: does the reward read the completion at all?"
    )


def reward_not_finite(log: list[dict], args) -> str | None:
    reward = log[-1].get("reward", 0.0)
    if math.isfinite(reward):
        return None
    return f"the mean reward is {reward}, and its groups train nothing. Wrap the function: guard_reward(reward_func)."


def entropy_collapsed(log: list[dict], args) -> str | None:
    last = _last(log, "entropy") if "reward" in log[-1] else None
    if not last or not max(last) < COLLAPSED * log[0].get("entropy", 0.0):  # nan: no
        return None
    return (
        f"the entropy has collapsed to {last[-1]:.4f} nats per token: the samples of a group are nearly all alike. "
        "Try a smaller learning_rate, beta=0.02 (a penalty for leaving the first model), or a higher temperature."
    )


def completions_cut_off(log: list[dict], args) -> str | None:
    last, longest = _last(log, "completions/clipped_ratio"), getattr(args, "max_completion_length", None)
    if not last or min(last) <= CUT_OFF:
        return None
    return (
        f"{last[-1]:.0%} of the completions are cut off at max_completion_length={longest}, before "
        "their answer. Raise it; if they never end, the model has not learned its end token (check_trained_end)."
    )


def reward_fell(log: list[dict], args) -> str | None:
    rewards = [row["reward"] for row in log if math.isfinite(row.get("reward", math.nan))]
    means = [_mean(rewards[i : i + RUNNING]) for i in range(len(rewards) - RUNNING + 1)]
    if not means or max(means) < NOTEWORTHY_REWARD or means[-1] >= FALLEN * max(means):
        return None
    return (
        f"the reward fell to {means[-1]:.2f}, from {max(means):.2f} at its best (means of {RUNNING} logged steps). "
        "The updates are too large: try a third of the learning_rate, or more completions a step."
    )


def pairs_alike(log: list[dict], args) -> str | None:
    margins, rates = _last(log, "rewards/margins"), _last(log, "learning_rate")
    if not margins or not rates or min(rates) == 0 or max(map(abs, margins)) > ZERO_MARGIN:
        return None
    return (
        f"for {PATIENCE} logged steps chosen and rejected were equally likely (margin 0, where the sigmoid loss is "
        "ln 2 = 0.693). Are they the same text (validate_preferences), cut off alike by max_length, or is the "
        "learning_rate tiny?"
    )


def chosen_unlearned(log: list[dict], args) -> str | None:
    rewards, logps = _last(log, "rewards/chosen"), _last(log, "logps/chosen")
    if not rewards or not logps or not getattr(args, "beta", 0):
        return None
    lost = -_mean(rewards) / args.beta
    before = _mean(logps) + lost
    if not lost >= max(UNLEARNED_NATS, UNLEARNED_SHARE * abs(before)):
        return None
    return (
        f"the chosen answers lose probability too: log-probability {_mean(logps):.0f}, {before:.0f} under the first "
        'model. The answers fall apart. Try a smaller learning_rate, a larger beta, or loss_type=["sigmoid", "sft"].'
    )


def nothing_trained(log: list[dict], args) -> str | None:
    keys = ("loss", "entropy", "mean_token_accuracy")
    if "rewards/margins" in log[-1] or any(_last(log, key) is None or any(_last(log, key)) for key in keys):
        return None
    return (
        "the loss is exactly 0: no token is trained, every label is masked. Does the data collator mask too "
        "much, or is the completion column empty? check_trained_end(trainer, tokenizer) looks into the rows."
    )


ALARMS = (
    no_spread, reward_not_finite, entropy_collapsed, completions_cut_off, reward_fell, pairs_alike, chosen_unlearned,
    nothing_trained,
)  # fmt: skip


def _not_finite(what: str, value: float, step: int) -> str:
    return (
        f"Training stopped in step {step}: the {what} is {value}. The weights are as the last whole update left them. Try a "
        "smaller learning_rate, more warmup_steps, max_grad_norm=1.0 or bf16=False, and look for a nan or inf in what "
        "you compute yourself."
    )


def _last(log: list[dict], key: str) -> list[float] | None:
    """The last PATIENCE values of `key`, None when it was not logged so often in a row, or not as a finite number."""
    values = [row.get(key, math.nan) for row in log[-PATIENCE:]]
    return values if len(values) == PATIENCE and all(map(math.isfinite, values)) else None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
