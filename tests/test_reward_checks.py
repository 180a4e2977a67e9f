"""Rewards, tried before a training and guarded during it."""

import copy
import functools
import math
import random
import re
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_trainers import tiny_trainer

from helper.machine.device import set_seed
from helper.rewards import boxed_format_reward, completion_text, graded_reward, random_reward, reward_func
from helper.trainers.reward_checks import check_reward, guard_reward, random_states

SAMPLES = [(r"So \boxed{72}.", "72"), (r"So \boxed{71}.", "72"), ("So 72.", "72")]


# The check before training


def test_a_good_reward_is_shown_with_its_samples():
    table = check_reward(reward_func, SAMPLES)
    assert table.columns.tolist() == ["completion", "ground_truth", "reward"]
    assert table["reward"].tolist() == [1.0, 0.0, 0.0]
    assert check_reward(graded_reward, SAMPLES)["reward"].tolist() == [1.0, 0.1, 0.0]
    assert check_reward(boxed_format_reward, SAMPLES, as_messages=False)["reward"].tolist() == [1.0, 1.0, 0.0]
    assert set(check_reward(random_reward, SAMPLES * 4)["reward"]) == {0.0, 1.0}


def test_samples_may_be_columns():
    def by_length(completions, prompts, wanted, **kwargs):
        assert prompts == ["Say a.", "Say b."]
        return [-float(abs(len(completion_text(c)) - w)) for c, w in zip(completions, wanted, strict=True)]

    samples = [{"completion": t, "wanted": 3, "prompt": p} for t, p in [("abc", "Say a."), ("a", "Say b.")]]
    assert check_reward(by_length, samples)["reward"].tolist() == [0.0, -2.0]


def without_kwargs(completions, ground_truth):
    return [0.0 for _ in completions]


def wrong_name(texts, **kwargs):
    return [0.0 for _ in texts]


def unknown_column(completions, answer, **kwargs):
    return [0.0 for _ in completions]


def no_return(completions, **kwargs):
    [0.0 for _ in completions]


def column(completions, **kwargs):
    return torch.zeros(len(completions), 1)


def one_for_all(completions, **kwargs):
    return np.float64(1.0)


def one_number(completions, **kwargs):
    return 0.5


def texts(completions, **kwargs):
    return ["1.0" for _ in completions]


def list_of_tensors(completions, **kwargs):
    return [torch.ones(1) for _ in completions]


@pytest.mark.parametrize(
    "function, words",
    [
        (without_kwargs, r"without_kwargs: add \*\*kwargs: the trainer also passes prompts, completion ids"),
        (wrong_name, 'wrong_name: its first parameter must be named "completions"'),
        (unknown_column, 'unknown_column asks for "answer".* columns: completion, ground_truth'),
        (no_return, "no_return returned None: does it end with `return`"),
        (column, r"column returned a Tensor of shape \(3, 1\): return a list of floats"),
        (one_for_all, r"one_for_all returned a float64 of shape \(\)"),
        (one_number, "one_number returned a float: return a list"),
        (texts, r"texts gave '1.0' for sample 0 \('So .*72.*a float is wanted, not a str"),
        (list_of_tensors, "list_of_tensors gave tensor.* for sample 0 .* not a Tensor"),
        ("a name", "A reward function is wanted, not 'a name'"),
        (int, "int: Python cannot say which parameters it takes"),
    ],
)
def test_a_reward_of_the_wrong_kind_is_named(function, words):
    with pytest.raises(TypeError, match=words):
        check_reward(function, SAMPLES)


def one_bad(value):
    def one_bad(completions, **kwargs):
        return [0.0, value, 1.0][: len(completions)]

    return one_bad


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, 1e39, -(10**400)])
def test_a_reward_that_is_no_finite_number_is_named_with_its_sample(value):
    with pytest.raises(ValueError, match=rf"one_bad gave {shown(value)} for sample 1 \('So .*71"):
        check_reward(one_bad(value), SAMPLES)
    with pytest.raises(ValueError, match=rf"one_bad gave {shown(value)} for completion 1 \('71"):
        guard_reward(one_bad(value))(completions=["72", "71", "70"])


def shown(value):
    return "-10+[.]{3}" if isinstance(value, int) else re.escape(repr(value))


def test_none_may_be_meant():
    assert check_reward(one_bad(None), SAMPLES, allow_none=True)["reward"].isna().tolist() == [False, True, False]


def test_numbers_of_other_kinds_are_taken():
    def kinds(completions, **kwargs):
        return [1, np.float32(0.5), np.bool_(True)]

    assert check_reward(kinds, SAMPLES)["reward"].tolist() == [1, 0.5, True]


def test_length_constant_and_chance():
    with pytest.raises(ValueError, match="<lambda> returned 1 rewards for 3 samples: return one for each"):
        check_reward(lambda completions, **kwargs: [0.0], SAMPLES)
    with pytest.raises(ValueError, match="gives 0.0 for all 3 samples. A constant reward trains nothing"):
        check_reward(lambda completions, **kwargs: [0.0] * len(completions), SAMPLES)
    calls = []

    def counting(completions, **kwargs):
        calls.append(1)
        return [0.0, float(len(calls)), 7.0]

    with pytest.raises(ValueError, match=r"counting gave 1.0, then 2.0 for sample 1 .*deterministic=False"):
        check_reward(counting, SAMPLES)
    assert len(check_reward(counting, SAMPLES, deterministic=False)) == 3
    with pytest.raises(ValueError, match="two samples or more"):
        check_reward(reward_func, SAMPLES[:1])
    with pytest.raises(ValueError, match=r"Sample 1 has \['text'\]"):
        check_reward(reward_func, [{"completion": "a"}, {"text": "b"}])


def test_an_error_inside_names_the_sample():
    def divides(completions, **kwargs):
        return [1 / completion_text(c).count("boxed") for c in completions]

    with pytest.raises(ValueError, match=r"divides fails on sample 2 \('So 72.'\): ZeroDivisionError"):
        check_reward(divides, SAMPLES)

    def takes_text(completions, **kwargs):
        return [float(c.endswith(".")) for c in completions]

    with pytest.raises(ValueError, match=r"sample 0 .*AttributeError.*Completions are message lists: completion_text"):
        check_reward(takes_text, SAMPLES)


def test_long_words_are_cut_to_one_line():
    def fails(completions, **kwargs):
        raise ValueError("first line\n" + "more\n" * 100)

    def long_text(completions, **kwargs):
        return ["word " * 10_000] * len(completions)

    def long_number(completions, **kwargs):
        return [10**5000] * len(completions)

    for function, words in ((fails, "ValueError: first line. Comp"), (long_text, "word w..."), (long_number, "too long")):
        with pytest.raises((TypeError, ValueError)) as caught:
            check_reward(function, SAMPLES)
        assert words in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "change", [lambda c: c.pop(), lambda c: c.clear(), lambda c: c[0].pop(0), lambda c: c[0][0].update(content="x")]
)
def test_a_reward_that_changes_its_inputs_is_named(change):
    def changes(completions, **kwargs):
        change(completions)
        return [0.0, 1.0]

    samples = [("So 72.", "72"), ("So 71.", "72")]
    with pytest.raises(ValueError, match=r"^changes: it changes its inputs \(completions\)"):
        check_reward(changes, samples)
    with pytest.raises(ValueError, match=r"^changes, step 3: it changes its inputs"):
        completions = [[{"role": "assistant", "content": text}] for text, _ in samples]
        guard_reward(changes)(completions=completions, trainer_state=SimpleNamespace(global_step=2))


def test_a_reward_that_changes_another_column_is_named():
    def changes(completions, ground_truth, **kwargs):
        ground_truth.sort()
        return [0.0, 1.0, 0.0]

    samples = [("a", "2"), ("b", "1"), ("c", "0")]
    with pytest.raises(ValueError, match=r"changes its inputs \(ground_truth\)"):
        check_reward(changes, samples)
    kept = check_reward(
        lambda completions, table, **kwargs: [0.0, 1.0], [{"completion": t, "table": np.ones(2)} for t in "ab"]
    )
    assert len(kept) == 2  # arrays are no reason to stumble


@pytest.mark.parametrize(
    "samples, error, words",
    [
        ("So 72.", TypeError, "The samples are a str, not a list"),
        (None, TypeError, "The samples are a NoneType"),
        ({"completion": ["a", "b"]}, TypeError, "The samples are a dict"),
        (["So 72.", "So 71."], TypeError, "Sample 0 is a str"),
        ([None, None], TypeError, "Sample 0 is a NoneType"),
        ([("a", "b", "c")] * 2, TypeError, "Sample 0 is a tuple of length 3"),
        ([("a", "b"), (None, "b")], TypeError, "The completion of sample 1 is a NoneType"),
        ([{"completions": "a"}] * 2, ValueError, "Sample 0 has a column `completions`, which the trainer passes"),
        ([{"completion": "a", "prompts": "b"}] * 2, ValueError, "column `prompts`"),
        ([{"completion": "a", "completion_ids": "b"}] * 2, ValueError, "column `completion_ids`"),
    ],
)
def test_samples_of_the_wrong_kind_are_named(samples, error, words):
    with pytest.raises(error, match=words) as caught:
        check_reward(reward_func, samples)
    assert 'a sample is a pair ("So 72.", "72")' in str(caught.value)


# The guard during training


def test_a_guarded_reward_is_the_same_function():
    guarded = guard_reward(reward_func)
    assert guarded.__name__ == "reward_func" and guarded.__doc__ == reward_func.__doc__
    completions, truths = [text for text, _ in SAMPLES], [truth for _, truth in SAMPLES]
    assert guarded(completions=completions, ground_truth=truths, prompts=[]) == [1.0, 0.0, 0.0]
    with pytest.raises(TypeError, match=r"add \*\*kwargs"):
        guard_reward(without_kwargs)


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_guarded_reward_stops_the_run_at_its_step(value, tiny, tmp_path):
    def late(completions, trainer_state, **kwargs):
        bad = trainer_state.global_step == 2
        return [0.0] * (len(completions) - 1) + [value if bad else 1.0]

    trainer = tiny_trainer("grpo", tiny, tmp_path)
    trainer.reward_funcs = [guard_reward(late)]
    with pytest.raises(ValueError, match=f"late, step 3 gave {value} for completion 3 "):
        trainer.train()


def as_messages(*texts):
    return [[{"role": "assistant", "content": text}] for text in texts]


COLUMNS = {
    "ground_truth": ["2", "1"], "prompts": [[{"role": "user", "content": "q"}]] * 2, "completion_ids": [[1, 2], [3]],
    "table": [{"a": [1]}, {"a": [2]}],
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("change", ["sort", "inside", "clear", "append"])
def test_a_guard_sees_changes_of_every_input(name, change):
    def changes(completions, **kwargs):
        values = kwargs[name]
        inner = values[0]
        {
            "sort": lambda: values.reverse(),
            "inside": lambda: inner.clear() if hasattr(inner, "clear") else values.__setitem__(0, "x"),
            "clear": values.clear,
            "append": lambda: values.append(values[0]),
        }[change]()
        return [0.0, 1.0]

    columns = copy.deepcopy(COLUMNS) if name != "prompts" else {**COLUMNS, "prompts": [["q"], ["r"]]}
    with pytest.raises(ValueError, match=rf"^changes, step 5: it changes its inputs \({name}\)"):
        guard_reward(changes)(completions=as_messages("a", "b"), trainer_state=SimpleNamespace(global_step=4), **columns)


def test_a_guard_takes_what_cannot_be_compared_or_copied():
    class Stubborn:
        def __deepcopy__(self, memo):
            raise RuntimeError("no copy")

    def plain(completions, **kwargs):
        return [0.0, 1.0]

    columns = {"array": [np.ones(2)] * 2, "stubborn": [Stubborn()] * 2, "log_metric": print}
    assert guard_reward(plain)(completions=as_messages("a", "b"), **columns) == [0.0, 1.0]


# Random numbers

SEEDS = {
    "torch": lambda: torch.manual_seed(5),
    "torch, as the run": lambda: torch.manual_seed(torch.initial_seed()),
    "numpy": lambda: np.random.seed(5),
    "random": lambda: random.seed(5),
    "all": lambda: set_seed(5),
    "and draws": lambda: torch.manual_seed(5) and torch.rand(3),
    "random and draws": lambda: (random.seed(5), random.random()),
}


def seeding(kind):
    def seeding(completions, **kwargs):
        SEEDS[kind]()
        return [float(number) for number in range(len(completions))]

    return seeding


@pytest.mark.parametrize("kind", SEEDS)
def test_a_reward_that_seeds_the_training_is_named(kind):
    before = random_states()
    with pytest.raises(ValueError, match="^seeding: it seeds the random numbers of (torch|numpy|random), from which the tr"):
        check_reward(seeding(kind), SAMPLES)
    assert random_states() == before  # the check leaves them alone
    guarded = guard_reward(seeding(kind))
    with pytest.raises(ValueError, match="^seeding: it seeds the random numbers"):
        for _ in range(2):
            guarded(completions=as_messages("a", "b"))
            torch.rand(1), np.random.random(), random.random()  # the training goes on


@pytest.mark.parametrize("kind", ["torch", "torch, as the run"])
def test_a_seed_of_torch_is_seen_at_the_first_call(kind):
    torch.rand(1)
    with pytest.raises(ValueError, match="it seeds the random numbers of torch"):
        guard_reward(seeding(kind))(completions=as_messages("a", "b"))


def test_a_reward_may_draw_and_have_a_generator_of_its_own():
    def draws(completions, **kwargs):
        own = random.Random(5).random() + torch.rand(1, generator=torch.Generator().manual_seed(5)).item()
        return [own + random.random() + np.random.random() + torch.rand(1).item() for _ in completions]

    guarded = guard_reward(draws)
    for _ in range(700):  # once around each generator's block
        guarded(completions=as_messages("a", "b"))
    assert len(check_reward(draws, SAMPLES, deterministic=False)) == 3
    assert len(check_reward(reward_func, SAMPLES)) == 3


# Partial functions, NumPy's numbers, tensors


def weighted(completions, weight, power=1, **kwargs):
    return [weight * len(completion_text(completion)) ** power for completion in completions]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (functools.partial(weighted, weight=2.0), "weighted(weight=2.0)"),
        (functools.partial(functools.partial(weighted, power=2), weight=3), "weighted(power=2, weight=3)"),
        (functools.partial(weighted, weight=1, power=1), "weighted(weight=1, power=1)"),
        (functools.partial(reward_func), "reward_func()"),
        (reward_func, "reward_func"),
    ],
)
def test_a_partial_function_has_its_functions_name(function, name):
    assert guard_reward(function).__name__ == name
    assert len(check_reward(function, SAMPLES)) == 3
    broken = functools.partial(lambda completions, **kwargs: None) if name == "reward_func" else None
    if broken:
        with pytest.raises(TypeError, match=r"^<lambda>\(\) returned None"):
            check_reward(broken, SAMPLES)


@pytest.mark.parametrize(
    "values",
    [
        list(np.float32([0, 1, 0.5])), list(np.float64([0, 1, 0.5])), list(np.int64([0, 1, 2])),
        list(np.array([True, False, True])), [Fraction(1, 2), 1, 0], [True, False, 0.5],
    ],
)  # fmt: skip
def test_lists_of_numbers_are_taken(values):
    table = check_reward(lambda completions, **kwargs: values[: len(completions)], SAMPLES)
    assert table["reward"].tolist() == values


@pytest.mark.parametrize(
    "values",
    [
        np.array([0, 1, 0.5], dtype=np.float32), np.array([0, 1, 2]), np.array([False, True, False]),
        np.array([0, 1, 0.5], dtype=object), torch.tensor([0.0, 1.0, 0.5]), torch.tensor([0, 1, 2]),
        torch.tensor([0.0, 1.0, 0.5], dtype=torch.bfloat16), torch.tensor([0.0, 1.0, 0.5], requires_grad=True),
        pd.Series([0.0, 1.0, 0.5]), [torch.tensor(0.0), torch.tensor(1), 0.5], [np.array(0.0), np.array(True), 0.5],
        [torch.tensor(0.0, requires_grad=True), np.float32(1), np.int8(0)],
    ],
)  # fmt: skip
def test_what_is_a_list_of_numbers_in_other_clothes_is_taken(values):
    plain = [float(value.detach() if isinstance(value, torch.Tensor) else value) for value in values]
    table = check_reward(lambda completions, **kwargs: values[: len(completions)], SAMPLES)
    assert table["reward"].tolist() == plain
    paid = guard_reward(lambda completions, **kwargs: values)(completions=as_messages("a", "b", "c"))
    assert type(paid) is list and paid == plain and not any(isinstance(value, torch.Tensor | np.ndarray) for value in paid)


@pytest.mark.parametrize("array", [np.array, torch.tensor])
def test_arrays_are_looked_at_as_lists_are(array):
    with pytest.raises(ValueError, match=r"<lambda> returned 2 rewards for 3 completions"):
        guard_reward(lambda completions, **kwargs: array([1.0, 0.0]))(completions=as_messages("a", "b", "c"))
    with pytest.raises(ValueError, match=r"<lambda>, step 5 gave nan for completion 1 \('b'\)"):
        state = SimpleNamespace(global_step=4)
        guard_reward(lambda completions, **kwargs: array([1.0, math.nan]), state=state)(completions=as_messages("a", "b"))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (torch.zeros(3, 1), r"a Tensor of shape \(3, 1\): return a list of floats, one a sample\.$"),
        (np.zeros((1, 3)), r"a ndarray of shape \(1, 3\): return a list"),
        (np.array(["1.0"] * 3), "gave '1.0' for sample 0 .* a float is wanted, not a str"),
        (np.array([object()] * 3), "a float is wanted, not a object"),
        (torch.ones(3, dtype=torch.complex64), "a float is wanted, not a complex"),
        (torch.tensor(1.0), r"a Tensor of shape \(\): return a list of floats, one a sample\.$"),
        (np.array(1.0), r"a ndarray of shape \(\): return a list"),
        (np.float64(1.0), r"a float64 of shape \(\): return a list"),
        ([np.array("1.0")] * 3, "gave '1.0' for sample 0 .* a float is wanted, not a str"),
        ([torch.ones(1)] * 3, "a float is wanted, not a Tensor.$"),
        ([[1.0]] * 3, "a float is wanted, not a list"),
        ([1j] * 3, "a float is wanted, not a complex"),
        ({0: 1.0}, "returned a dict: return a list"),
        ((r for r in [1.0, 0.0, 1.0]), "returned a generator: return a list"),
    ],
)
def test_results_of_other_kinds_say_what_to_do(result, words):
    with pytest.raises(TypeError, match=words):
        check_reward(lambda completions, **kwargs: result, SAMPLES)
    with pytest.raises(TypeError, match=words.replace("sample", "completion")):
        guard_reward(lambda completions, **kwargs: result)(completions=as_messages("a", "b", "c"))
