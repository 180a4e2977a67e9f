"""Checks before training and alarms during it, for the mistakes that TRL's trainers pass over in silence.

Before: `check_reward`, `check_chat_template`, `check_trained_end` (rows: the validators in `helper.validation`).
During: `guard_reward` round a reward function, `add_alarms` on a trainer.
Left out on purpose: asynchronous reward functions, reward models, several processes, and repair: nothing is
changed, a mistake is named and the student mends it.
"""

import copy
import functools
import inspect
import math
import numbers
import re
import sys
from collections.abc import Iterable, Mapping
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from transformers import TrainerCallback

from helper.models import end_of_turn_id
from helper.rewards import completion_text
from helper.validation import shorten

# What TRL's GRPO trainer passes to a reward function beside the columns of the data set.
PASSED = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")

LARGEST_REWARD = torch.finfo(torch.float32).max  # the trainer's tensors: what is larger becomes inf there
EMPTY_THOUGHT = re.compile(r"<think>\s*(</think>\s*)?$")  # some templates put it into the generation prompt only
SAMPLE = 'a sample is a pair ("So 72.", "72") or a dict {"completion": "So 72.", "ground_truth": "72"}'

PATIENCE = 3  # logged steps in a row: one or two such steps come by chance
CUT_OFF = 0.5  # share of completions at the length limit: from here on most of them never reach their answer
RUNNING = 5  # logged steps in a running mean of rewards: fewer are mostly the noise of small batches
FALLEN = 0.5  # of the best running mean: early enough to stop
NOTEWORTHY_REWARD = 0.1  # below this the running mean of a 0/1 reward is mostly noise
COLLAPSED = 0.1  # of the first entropy: a good run here went down to 0.4 of it, a collapse goes to nothing
ZERO_MARGIN = 1e-5  # rounding of equal log-probabilities stays below; one update moves more
UNLEARNED_NATS, UNLEARNED_SHARE = 10.0, 0.5  # a chosen answer that lost e^10 and half its log-probability again


def check_reward(
    reward_func, samples: list, deterministic: bool = True, allow_none: bool = False, as_messages: bool = True
) -> pd.DataFrame:
    """Call a reward function as GRPOTrainer will, and show what it gives: the samples' columns and `reward`.

    `samples`, two or more that deserve different rewards: (completion text, expected answer) pairs, the answer being
    passed as `ground_truth`, or dicts of `completion` and the data set's other columns. `as_messages`: completions
    arrive as message lists, as they do when the prompts are message lists. `allow_none`: None is meant, for
    "no opinion on this one".
    Raises TypeError (signature, kind of result) or ValueError (length, nan, inf, constant), naming the sample.
    """
    columns = _sample_columns(samples)
    name, texts = _name(reward_func), columns["completion"]
    _check_signature(reward_func, (*PASSED, *columns))
    rewards = _call_on_samples(reward_func, columns, as_messages)
    _raise_if_faulty(name, rewards, texts, allow_none, place="sample")
    if len(set(rewards)) == 1:
        raise ValueError(
            f"{name} gives {rewards[0]} for all {len(texts)} samples. A constant reward trains nothing: test it "
            "with a right and a wrong completion, and see which condition is never met."
        )
    again = _call_on_samples(reward_func, columns, as_messages) if deterministic else rewards
    for number, (first, second) in enumerate(zip(rewards, again, strict=True)):
        if first != second:
            raise ValueError(
                f"{name} gave {first}, then {second} for sample {number} ({_short(texts[number])}). If it is meant "
                "to be random: check_reward(..., deterministic=False)."
            )
    return pd.DataFrame({**columns, "reward": rewards})


def guard_reward(reward_func, allow_none: bool = False):
    """The same reward function, stopping the run at its first nan, inf, None or wrong length.

    The trainer would go on: nan and None count as "no opinion", and an inf gives its whole group a gradient of zero.
    Raises ValueError, or TypeError for what is no list of numbers, with the step and the completion.
    """
    _check_signature(reward_func)
    name = _name(reward_func)

    @functools.wraps(reward_func)
    def guarded(completions: list, **kwargs) -> list[float]:
        texts = [completion_text(completion) for completion in completions]
        before = copy.deepcopy(completions)
        rewards = reward_func(completions=completions, **kwargs)
        state = kwargs.get("trainer_state")
        where = name if state is None else f"{name}, step {state.global_step + 1}"
        if completions != before:
            raise ValueError(_changes_inputs(where, "completions"))
        _raise_if_faulty(where, rewards, texts, allow_none)
        return rewards

    guarded.__name__ = name  # the trainer logs under it
    return guarded


def check_chat_template(tokenizer, own: bool = False) -> None:
    """Check that a chat template can be trained on: one ValueError that says what is wrong.

    It renders what both say, opens the assistant's turn with `add_generation_prompt` as the training text does, and
    closes it with an end token; its special tokens are one token each, and padding has a token. Pad = end token is an
    error for a tokenizer of our `own`, else a printed warning: some models on the Hub ship it, and it is harmless where
    padding is masked by position.
    """
    if not tokenizer.chat_template:
        raise ValueError("The tokenizer has no chat template: the trainer cannot turn messages into text.")
    question, answer = {"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello."}
    closed = _render(tokenizer, [question])
    opened = _render(tokenizer, [question], add_generation_prompt=True)
    if not (opened.startswith(closed) and len(opened) > len(closed)):
        raise ValueError(
            "The chat template pays no heed to add_generation_prompt: without the opening of the assistant's turn, "
            "the model may go on with the user's."
        )
    trained = _render(tokenizer, [question, answer])
    for said in (question, answer):
        if said["content"] not in trained:
            raise ValueError(f"The chat template drops the {said['role']}'s message: write message['content'] into it.")
    if not trained.startswith((opened, EMPTY_THOUGHT.sub("", opened))):
        raise ValueError(
            f"The chat template opens the assistant's turn with {_short(opened[len(closed) :])} for generating, but with "
            f"{_short(trained[len(closed) :])} for training: the model is asked in a form it never met. Make both the same."
        )
    _check_special_tokens(tokenizer, trained + opened)
    end = end_of_turn_id(tokenizer)
    if end is None:
        raise ValueError(
            "The chat template closes the assistant's turn with no special token: the model cannot learn to stop."
        )
    if tokenizer.pad_token_id is None:
        raise ValueError('The tokenizer has no pad token: give it one of its own, such as "<|pad|>".')
    if tokenizer.pad_token_id in (end, tokenizer.eos_token_id):
        words = f"pad token = end token ({tokenizer.pad_token}): whatever masks padding by its id masks the end too"
        if own:
            raise ValueError(f"{words}, and the model never learns to stop. Give padding a token of its own.")
        print(f"Warning: {words}. Let check_trained_end(trainer, tokenizer) show that it does not.")


def _render(tokenizer, messages: list[dict], **options) -> str:
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, **options)
    except Exception as error:  # whatever stands in the template
        raise ValueError(f"The chat template fails on a question and an answer. {_words(error)}") from None


def check_trained_end(trainer_or_batch, tokenizer, rows: int = 16) -> float:
    """The share of rows (of a trainer's first `rows`, or of a batch) in which the model is taught to end its turn.

    For SFT and DPO trainers and for batches with `labels` or `completion_mask`. Raises ValueError when no label is the
    end-of-turn token, or when padding is trained on. A share below 1: rows cut off at `max_length`. Rows cut off before
    their answer are not seen: the trainer has dropped them.
    """
    batch = _first_rows(trainer_or_batch, rows) if hasattr(trainer_or_batch, "train_dataset") else trainer_or_batch
    end, labels = end_of_turn_id(tokenizer), _labels(batch)
    if end is None:
        raise ValueError("The tokenizer has no token that ends a turn: see check_chat_template(tokenizer).")
    trained, mask = labels != -100, batch.get("attention_mask")
    padding = torch.zeros_like(trained) if mask is None else _table(mask, "attention_mask") == 0
    if (trained & padding).any():
        row = int((trained & padding).any(1).nonzero()[0])
        raise ValueError(f"Row {row} is trained on its padding: label it -100.")
    if not trained.any():
        raise ValueError("No token is trained: every label is -100. Did max_length cut the answers off?")
    taught = (labels == end).any(1)
    if not taught.any():
        raise ValueError(
            f"{tokenizer.convert_ids_to_tokens(end)}, which ends a turn, is in no row's labels: the model never learns "
            "to stop. Either padding is masked by id where pad = end token, or max_length cuts every row off, or the "
            "template lacks it."
        )
    return taught.float().mean().item()


def _labels(batch) -> torch.Tensor:
    """A batch's labels, (rows, tokens); made from ids and mask where a trainer has only these."""
    if not isinstance(batch, Mapping):
        raise TypeError(f"A trainer or a batch is wanted, not a {type(batch).__name__}.")
    if batch.get("labels") is not None:
        return _table(batch["labels"], "labels")
    if batch.get("input_ids") is None or batch.get("completion_mask") is None:
        raise ValueError(
            f"The batch has {shorten(', '.join(map(str, batch)), 100) or 'nothing'}: it needs `labels`, or `input_ids` and "
            "`completion_mask`. A trainer's data_collator makes it from rows."
        )
    ids, mask = _table(batch["input_ids"], "input_ids"), _table(batch["completion_mask"], "completion_mask")
    return ids.masked_fill(mask == 0, -100)


def _table(values, name: str) -> torch.Tensor:
    """Lists, an array or a tensor as a tensor of two dimensions."""
    try:
        table = torch.as_tensor(values)
    except (TypeError, ValueError):
        raise ValueError(
            f"`{name}` is no table of numbers: its rows must be of one length, as the collator makes them."
        ) from None
    return table[None] if table.dim() == 1 else table


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
        if "loss" not in (logs or {}):  # an evaluation's, or the summary at the end
            return
        values = {key: math.nan if value is None else float(value) for key, value in logs.items()}  # None: nan throughout
        if not math.isfinite(values["loss"]):
            raise FloatingPointError(_not_finite("loss", values["loss"], state.global_step))
        self._log.append(values)
        for alarm in ALARMS:
            words = alarm(self._log, args) if alarm.__name__ not in self.given else None
            if words:
                self._say(alarm.__name__, state.global_step, words)

    def _say(self, alarm: str, step: int, words: str) -> None:
        self.given[alarm] = words
        start = "\r" if sys.stdout.isatty() else ""  # over the progress line
        print(f"{start}Alarm at step {step}: {words}", flush=True)


def no_spread(log: list[dict], args) -> str | None:
    last = _last(log, "frac_reward_zero_std")
    if not last or min(last) < 1:
        return None
    return (
        f"for {PATIENCE} logged steps every group had equal rewards (mean {log[-1]['reward']:.2f}): nothing is "
        "learned. At the lowest reward: easier prompts, or an SFT model that sometimes gets there. At the highest: "
        "harder prompts. In between: does the reward read the completion at all?"
    )


def reward_not_finite(log: list[dict], args) -> str | None:
    reward = log[-1].get("reward", 0.0)
    if math.isfinite(reward):
        return None
    return f"the mean reward is {reward}, and its groups train nothing. Wrap the function: guard_reward(reward_func)."


def entropy_collapsed(log: list[dict], args) -> str | None:
    last = _last(log, "entropy") if "reward" in log[-1] else None
    if not last or max(last) >= COLLAPSED * log[0].get("entropy", 0.0):
        return None
    return (
        f"the entropy has collapsed to {last[-1]:.4f} nats a token: the samples of a group are nearly all alike. "
        "Try a smaller learning_rate, beta=0.02 (a penalty for leaving the first model), or a higher temperature."
    )


def completions_cut_off(log: list[dict], args) -> str | None:
    last = _last(log, "completions/clipped_ratio")
    if not last or min(last) <= CUT_OFF:
        return None
    return (
        f"{last[-1]:.0%} of the completions are cut off at max_completion_length={args.max_completion_length}, before "
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
    if lost < max(UNLEARNED_NATS, UNLEARNED_SHARE * abs(before)):
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
    """The last PATIENCE values of `key`, None when it was not logged so often in a row."""
    values = [row.get(key) for row in log[-PATIENCE:]]
    return values if len(values) == PATIENCE and None not in values else None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _sample_columns(samples: list) -> dict[str, list]:
    if isinstance(samples, str | dict) or not isinstance(samples, Iterable):
        raise TypeError(f"The samples are a {type(samples).__name__}, not a list: {SAMPLE}.")
    rows = [_sample_row(sample, number) for number, sample in enumerate(samples)]
    if len(rows) < 2:
        raise ValueError("A reward is checked on two samples or more, which deserve different rewards.")
    for number, row in enumerate(rows):
        if "completion" not in row or set(row) != set(rows[0]):
            columns = shorten(str(sorted(row, key=str)), 100)
            raise ValueError(f"Sample {number} has {columns}: each needs `completion`, and the same other columns.")
        if not isinstance(row["completion"], str):
            raise TypeError(f"The completion of sample {number} is a {type(row['completion']).__name__}: {SAMPLE}.")
    return {column: [row[column] for row in rows] for column in rows[0]}


def _sample_row(sample, number: int) -> dict:
    if isinstance(sample, list | tuple) and len(sample) == 2:
        return {"completion": sample[0], "ground_truth": sample[1]}
    if not isinstance(sample, dict):
        length = f" of length {len(sample)}" if isinstance(sample, list | tuple) else ""
        raise TypeError(f"Sample {number} is a {type(sample).__name__}{length}: {SAMPLE}.")
    own = [name for name in PASSED if name in sample]
    if own:
        raise ValueError(f"Sample {number} has a column `{own[0]}`, which the trainer passes itself: {SAMPLE}.")
    return dict(sample)


def _check_signature(reward_func, passed: tuple | None = None) -> None:
    if not callable(reward_func):
        raise TypeError(f"A reward function is wanted, not {_repr(reward_func)}.")
    try:
        parameters = inspect.signature(reward_func).parameters.values()
    except (TypeError, ValueError):
        words = "Python cannot say which parameters it takes (is it a builtin?). Write def reward(completions, **kwargs)."
        raise TypeError(f"{_name(reward_func)}: {words}") from None
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise TypeError(
            f"{_name(reward_func)}: add **kwargs: the trainer also passes prompts, completion ids and the data set's "
            "columns."
        )
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY, p.POSITIONAL_ONLY)]
    if not any(p.name == "completions" and p.kind is not p.POSITIONAL_ONLY for p in named):
        raise TypeError(f'{_name(reward_func)}: its first parameter must be named "completions".')
    for parameter in named if passed is not None else ():
        if parameter.default is parameter.empty and parameter.name not in passed:
            raise TypeError(
                f'{_name(reward_func)} asks for "{parameter.name}", which the trainer does not pass. It passes '
                f"{', '.join(PASSED)} and the data set's columns: {', '.join(sorted(set(passed) - set(PASSED)))}."
            )


def _call_on_samples(reward_func, columns: dict[str, list], as_messages: bool):
    try:
        inputs = _inputs(columns, as_messages)
        before = copy.deepcopy(inputs)
        watched = [name for name in inputs if _are_equal(inputs[name], before[name])]
        rewards = _call(reward_func, inputs)
    except Exception as error:
        hint = " Completions are message lists: completion_text(completion) is the text." if as_messages else ""
        for number, text in enumerate(columns["completion"]):
            try:
                one = {name: values[number : number + 1] for name, values in columns.items()}
                _call(reward_func, _inputs(one, as_messages))
            except Exception:
                words = f"{_words(error)}{hint}"
                raise ValueError(f"{_name(reward_func)} fails on sample {number} ({_short(text)}): {words}") from error
        raise ValueError(f"{_name(reward_func)} fails on the samples together: {_words(error)}{hint}") from error
    for name in watched:
        if not _are_equal(inputs[name], before[name]):
            raise ValueError(_changes_inputs(_name(reward_func), name))
    return rewards


def _inputs(columns: dict[str, list], as_messages: bool) -> dict[str, list]:
    """The lists that a reward function is given; copies, whatever it does to them."""
    texts = columns["completion"]
    others = {name: values for name, values in columns.items() if name not in ("completion", "prompt")}
    prompts = columns.get("prompt", [[{"role": "user", "content": ""}] if as_messages else ""] * len(texts))
    completions = [[{"role": "assistant", "content": text}] if as_messages else text for text in texts]
    inputs = {"prompts": prompts, "completions": completions, "completion_ids": [[0] for _ in texts], **others}
    return copy.deepcopy(inputs)


def _call(reward_func, inputs: dict[str, list]):
    state = SimpleNamespace(global_step=0)
    return reward_func(**inputs, trainer_state=state, log_extra=lambda *a: None, log_metric=lambda *a: None)


def _are_equal(one: list, other: list) -> bool:
    """False also where it cannot be told, as of arrays."""
    try:
        return bool(one == other)
    except Exception:
        return False


def _changes_inputs(where: str, name: str) -> str:
    return f"{where}: it changes its inputs ({name}), which other rewards and the trainer still read. Work on a copy."


def _raise_if_faulty(where: str, rewards, texts: list[str], allow_none: bool, place: str = "completion") -> None:
    if rewards is None:
        raise TypeError(f"{where} returned None: does it end with `return`?")
    if not isinstance(rewards, list | tuple):
        shape = f" of shape {tuple(rewards.shape)}" if hasattr(rewards, "shape") else ""
        raise TypeError(f"{where} returned a {type(rewards).__name__}{shape}: return a list of floats, one a {place}.")
    if len(rewards) != len(texts):
        raise ValueError(f"{where} returned {len(rewards)} rewards for {len(texts)} {place}s: return one for each.")
    for number, (reward, text) in enumerate(zip(rewards, texts, strict=True)):
        what = f"{where} gave {_repr(reward)} for {place} {number} ({_short(text)})"
        if reward is None and not allow_none:
            raise ValueError(f"{what}: is there a way through it without `return`? If None is meant: allow_none=True.")
        if reward is not None and not isinstance(reward, numbers.Real | np.bool_):
            raise TypeError(f"{what}: a float is wanted, not a {type(reward).__name__}.")
        if reward is not None and not _is_finite(reward):
            raise ValueError(f"{what}: a reward must be a finite number. Divided by zero, or took a logarithm of it?")


def _is_finite(reward) -> bool:
    try:
        return abs(float(reward)) <= LARGEST_REWARD
    except OverflowError:
        return False


def _check_special_tokens(tokenizer, text: str) -> None:
    marks = set(re.findall(r"<\|[^<>|]+\|>", text)) | {token for token in tokenizer.all_special_tokens if token in text}
    for mark in sorted(marks):
        ids = tokenizer(mark, add_special_tokens=False).input_ids
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            raise ValueError(f"{mark}, in the chat template, is not one token of the vocabulary but {len(ids)}.")


def _first_rows(trainer, rows: int) -> dict:
    """As the trainer will see them, but without its data loader, which would move the random numbers on."""
    data = trainer.train_dataset
    if not len(data):
        raise ValueError("The trainer has dropped every row: the answers lie beyond max_length. Raise it.")
    return trainer.data_collator([data[i] for i in range(min(rows, len(data)))])


def _name(reward_func) -> str:
    return getattr(reward_func, "__name__", type(reward_func).__name__)


def _words(error: Exception) -> str:
    """An exception in words: its kind and its first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {shorten(lines[0], 200) if lines else ''}."


def _repr(value) -> str:
    """A value as Python shows it: its first line, not all of a long one."""
    try:
        return shorten(repr(value).splitlines()[0], 200)
    except ValueError:  # an int of thousands of digits
        return f"a {type(value).__name__} too long to show"


def _short(text: str, longest: int = 60) -> str:
    return repr(text if len(text) <= longest else text[:longest] + "…")
