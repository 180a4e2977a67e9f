"""A reward function checked before training (`check_reward`) and guarded during it (`guard_reward`).

Left out on purpose: asynchronous reward functions, reward models, and repair: a mistake is named and the student mends it.
"""

import copy
import functools
import inspect
import numbers
import random
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch

from helper.rewards import completion_text
from helper.trainers.identity import name_of
from helper.validation import shorten

# What TRL's GRPO trainer passes to a reward function beside the columns of the data set.
PASSED = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
TOOLS = ("trainer_state", "log_extra", "log_metric")  # of these, what is no data
LARGEST_REWARD = torch.finfo(torch.float32).max  # the trainer's tensors: what is larger becomes inf there
SAMPLE = 'a sample is a pair ("So 72.", "72") or a dict {"completion": "So 72.", "ground_truth": "72"}'


def check_reward(
    reward_func, samples: list, deterministic: bool = True, allow_none: bool = False, as_messages: bool = True
) -> pd.DataFrame:
    """Call a reward function as GRPOTrainer will, and show what it gives: the samples' columns and `reward`.

    `samples`, two or more that deserve different rewards: (completion text, expected answer) pairs, the answer being
    passed as `ground_truth`, or dicts of `completion` and the data set's other columns. `as_messages`: completions
    arrive as message lists, as they do when the prompts are message lists. `allow_none`: None is meant, for
    "no opinion on this one".
    Raises TypeError (signature, kind of result) or ValueError (length, nan, inf, constant, changed inputs, random numbers
    begun anew), naming the sample. The random numbers are left as they were.
    """
    columns = _sample_columns(samples)
    name, texts = name_of(reward_func), columns["completion"]
    _check_signature(reward_func, (*PASSED, *columns))
    with _kept_random_numbers():
        rewards, again = _call_twice(reward_func, columns, as_messages)
    rewards, again = as_numbers(rewards), as_numbers(again)
    _raise_if_faulty(name, rewards, texts, allow_none, place="sample")
    if len(set(rewards)) == 1:
        raise ValueError(
            f"{name} gives {rewards[0]} for all {len(texts)} samples. A constant reward trains nothing: test it "
            "with a right and a wrong completion, and see which condition is never met."
        )
    for number, (first, second) in enumerate(zip(rewards, again if deterministic else rewards, strict=True)):
        if first != second:
            raise ValueError(
                f"{name} gave {first}, then {second} for sample {number} ({quoted(texts[number])}). If it is meant "
                "to be random: check_reward(..., deterministic=False)."
            )
    return pd.DataFrame({**columns, "reward": rewards})


def guard_reward(reward_func, allow_none: bool = False, state=None):
    """The same reward function, stopping the run at its first nan, inf, None or wrong length.

    The trainer would go on: nan and None count as "no opinion", and an inf gives its whole group a gradient of zero. It
    stops as well when the function changes what it is given (completions, prompts, columns), or seeds the random numbers
    from which the training draws. Raises ValueError, or TypeError for what is no list of numbers, with the step and the
    completion. `state`: tells the step where the training passes no `trainer_state`, as the course's own loops.
    """
    _check_signature(reward_func)
    name, left = name_of(reward_func), {}

    @functools.wraps(reward_func)
    def guarded(completions: list, **kwargs) -> list[float]:
        texts = [completion_text(completion) for completion in completions]
        inputs = {"completions": completions, **{key: kwargs[key] for key in kwargs if key not in TOOLS}}
        before, watched = _copies(inputs)
        drawn = random_states()
        rewards = as_numbers(reward_func(completions=completions, **kwargs))
        now = kwargs.get("trainer_state") or state
        where = name if now is None else f"{name}, step {now.global_step + 1}"
        _raise_if_changed(where, inputs, before, watched)
        left.update(_raise_if_seeded(where, drawn, left))
        _raise_if_faulty(where, rewards, texts, allow_none)
        return rewards

    guarded.__name__ = name  # the trainer logs under it
    return guarded


# The random numbers that trainings draw from


def random_states() -> dict[str, object]:
    """Where each library's generator stands; two that compare equal go on alike."""
    _, words, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (words.tobytes(), *rest),
        "random": random.getstate(),
    }


@contextmanager
def _kept_random_numbers():
    """Put every generator back to where it stood."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def _raise_if_seeded(where: str, before: dict, left: dict) -> dict:
    """Where the generators stand now; ValueError for one that began anew.

    `left`: where an earlier call left them. Who draws goes on from another place; who seeds ends at the same one, or, of
    PyTorch's, at the beginning of a seed.
    """
    after = random_states()
    begun = torch.Generator().manual_seed(torch.initial_seed()).get_state().numpy().tobytes()
    for name, state in after.items():
        if state != before[name] and state in (left.get(name), begun):
            raise ValueError(
                f"{where}: it seeds the random numbers of {name}, from which the training draws too: each step would draw "
                "the same. Take a generator of its own: random.Random(seed), torch.Generator().manual_seed(seed)."
            )
    return after


def _call_twice(reward_func, columns: dict[str, list], as_messages: bool) -> tuple:
    """What it gives for the samples, twice, with the random numbers at two places."""
    before = random_states()
    first = _call_on_samples(reward_func, columns, as_messages)
    left = _raise_if_seeded(name_of(reward_func), before, {})
    torch.rand(1), np.random.random(), random.random()  # to another place
    before = random_states()
    second = _call_on_samples(reward_func, columns, as_messages)
    _raise_if_seeded(name_of(reward_func), before, left)
    return first, second


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
        raise TypeError(f"{name_of(reward_func)}: {words}") from None
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise TypeError(
            f"{name_of(reward_func)}: add **kwargs: the trainer also passes prompts, completion ids and the data set's "
            "columns."
        )
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY, p.POSITIONAL_ONLY)]
    if not any(p.name == "completions" and p.kind is not p.POSITIONAL_ONLY for p in named):
        raise TypeError(f'{name_of(reward_func)}: its first parameter must be named "completions".')
    for parameter in named if passed is not None else ():
        if parameter.default is parameter.empty and parameter.name not in passed:
            raise TypeError(
                f'{name_of(reward_func)} asks for "{parameter.name}", which the trainer does not pass. It passes '
                f"{', '.join(PASSED)} and the data set's columns: {', '.join(sorted(set(passed) - set(PASSED)))}."
            )


def _call_on_samples(reward_func, columns: dict[str, list], as_messages: bool):
    try:
        inputs = _inputs(columns, as_messages)
        before, watched = _copies(inputs)
        rewards = _call(reward_func, inputs)
    except Exception as error:
        hint = " Completions are message lists: completion_text(completion) is the text." if as_messages else ""
        for number, text in enumerate(columns["completion"]):
            try:
                one = {name: values[number : number + 1] for name, values in columns.items()}
                _call(reward_func, _inputs(one, as_messages))
            except Exception:
                words = f"{in_one_line(error)}{hint}"
                raise ValueError(f"{name_of(reward_func)} fails on sample {number} ({quoted(text)}): {words}") from error
        raise ValueError(f"{name_of(reward_func)} fails on the samples together: {in_one_line(error)}{hint}") from error
    _raise_if_changed(name_of(reward_func), inputs, before, watched)
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


def _copies(inputs: dict[str, list]) -> tuple[dict[str, list], list[str]]:
    """Copies of what a reward function is given, and the names of those that can be compared."""
    before = {}
    for name, values in inputs.items():
        with suppress(Exception):  # pictures and the like may refuse
            before[name] = copy.deepcopy(values)
    return before, [name for name in before if _are_equal(inputs[name], before[name])]


def _raise_if_changed(where: str, inputs: dict, before: dict, watched: list[str]) -> None:
    changed = [name for name in watched if not _are_equal(inputs[name], before[name])]
    if changed:
        raise ValueError(
            f"{where}: it changes its inputs ({', '.join(changed)}), which other rewards and the trainer still read. Work "
            "on a copy."
        )


def _raise_if_faulty(where: str, rewards, texts: list[str], allow_none: bool, place: str = "completion") -> None:
    if rewards is None:
        raise TypeError(f"{where} returned None: does it end with `return`?")
    if not isinstance(rewards, list | tuple):
        shape = f" of shape {tuple(rewards.shape)}" if hasattr(rewards, "shape") else ""
        raise TypeError(f"{where} returned a {type(rewards).__name__}{shape}: return a list of floats, one a {place}.")
    if len(rewards) != len(texts):
        raise ValueError(f"{where} returned {len(rewards)} rewards for {len(texts)} {place}s: return one for each.")
    for number, (reward, text) in enumerate(zip(rewards, texts, strict=True)):
        what = f"{where} gave {_repr(reward)} for {place} {number} ({quoted(text)})"
        if reward is None and not allow_none:
            hint = "is there a way through it without `return`? If None is meant, in the library's trainer: allow_none=True."
            raise ValueError(f"{what}: {hint}")
        if reward is not None and not isinstance(reward, numbers.Real | np.bool_):
            raise TypeError(f"{what}: a float is wanted, not a {type(reward).__name__}.")
        if reward is not None and not _is_finite(reward):
            raise ValueError(f"{what}: a reward must be a finite number. Divided by zero, or took a logarithm of it?")


def as_numbers(rewards):
    """Rewards as a list of numbers, where that is what they are: an array of shape (n,), a list of 0-dimensional tensors."""
    if len(getattr(rewards, "shape", ())) == 1 and hasattr(rewards, "tolist"):
        rewards = rewards.tolist()
    if not isinstance(rewards, list | tuple):
        return rewards
    return [reward.item() if _is_0_dimensional(reward) else reward for reward in rewards]


def _is_0_dimensional(reward) -> bool:
    """Whether it is an array or a tensor of one number; NumPy's own numbers are numbers already."""
    is_array = getattr(reward, "shape", None) == () and hasattr(reward, "item")
    return is_array and not isinstance(reward, numbers.Real | np.bool_)


def _is_finite(reward) -> bool:
    try:
        return abs(float(reward)) <= LARGEST_REWARD
    except OverflowError:
        return False


def is_number(reward) -> bool:
    """Whether it is a finite number that the trainer can hold; NumPy's numbers are, arrays and tensors are not yet."""
    return isinstance(reward, numbers.Real | np.bool_) and _is_finite(reward)


def in_one_line(error: Exception) -> str:
    """An exception in words: its kind and its first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {shorten(lines[0], 200) if lines else ''}."


def _repr(value) -> str:
    """A value as Python shows it: its first line, not all of a long one."""
    try:
        return shorten(repr(value).splitlines()[0], 200)
    except ValueError:  # an int of thousands of digits
        return f"a {type(value).__name__} too long to show"


def quoted(text: str, longest: int = 60) -> str:
    return repr(text if len(text) <= longest else text[:longest] + "…")
