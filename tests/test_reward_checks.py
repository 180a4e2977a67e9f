"""Rewards, tried before a training and guarded during it."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_trainers import tiny_trainer

from helper.rewards import boxed_format_reward, completion_text, graded_reward, random_reward, reward_func
from helper.trainers.reward_checks import check_reward, guard_reward

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


def tensor(completions, **kwargs):
    return torch.zeros(len(completions))


def array_of_bools(completions, **kwargs):
    return np.array([True, False])


def one_number(completions, **kwargs):
    return 0.5


def texts(completions, **kwargs):
    return ["1.0" for _ in completions]


def list_of_tensors(completions, **kwargs):
    return [torch.tensor(1.0) for _ in completions]


@pytest.mark.parametrize(
    "function, words",
    [
        (without_kwargs, r"without_kwargs: add \*\*kwargs: the trainer also passes prompts, completion ids"),
        (wrong_name, 'wrong_name: its first parameter must be named "completions"'),
        (unknown_column, 'unknown_column asks for "answer".* columns: completion, ground_truth'),
        (no_return, "no_return returned None: does it end with `return`"),
        (tensor, r"tensor returned a Tensor of shape \(3,\): return a list of floats"),
        (array_of_bools, r"array_of_bools returned a ndarray of shape \(2,\)"),
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
