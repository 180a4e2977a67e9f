"""The recordings of lesson 09: rows, checkpoints, the penalty and its controller, two rounds; one tiny run of each."""

import json
from itertools import islice

import pytest
import torch

from factory.recordings import kl_prices, razor, two_rounds
from factory.recordings.practice_rounds import TRAINED, VALIDATION, start, validation_rows
from factory.recordings.razor import ARMS, TARGET, asked, rows_of, trained_to_target
from helper.algorithms.batches import draw


def test_one_row_in_ten_is_replayed_and_none_without():
    written = {row["prompt"][0]["content"] for row in start()[2][:TRAINED]}
    for kind, expected in (("written", 0), ("written and replay", 10)):
        rows = list(islice(rows_of(kind, 1), 100))
        assert sum(row["prompt"][-1]["content"] not in written for row in rows) == expected
        assert all(row["completion"][0]["role"] == "assistant" for row in rows)
    assert list(islice(rows_of("written", 1), 5)) == list(islice(rows_of("written", 1), 5))


def test_the_prompts_of_the_kl_are_trained_on_and_validated_on_by_no_run():
    prompts = {prompt[0]["content"] for prompt in asked("task")}
    trained = {row["prompt"][0]["content"] for row in start()[2][:TRAINED]}
    chosen = {row["question"] for row in validation_rows()[-VALIDATION:]}
    assert len(prompts) == razor.PROMPTS and not prompts & (trained | chosen)


@pytest.mark.parametrize("arm", ["SFT", "GRPO"])
def test_a_run_ends_at_its_first_checkpoint_above_the_target(arm, monkeypatch):
    shares, done = iter([0.4, TARGET - 0.01, TARGET, 0.9]), []
    monkeypatch.setattr(razor, "student", lambda: torch.nn.Linear(1, 1))
    monkeypatch.setattr(razor, "validation", lambda model: next(shares))
    for name in ("sft_steps", "grpo_steps"):
        monkeypatch.setattr(razor, name, lambda *_: iter(lambda: done.append(0), 1))
    _, about = trained_to_target(arm, 0)
    _, _, first, every, _ = ARMS[arm]
    assert about["reached"] and about["steps"] == first + 2 * every == len(done) and len(about["curve"]) == 3


def test_a_run_that_does_not_get_there_says_so(monkeypatch):
    monkeypatch.setattr(razor, "student", lambda: torch.nn.Linear(1, 1))
    monkeypatch.setattr(razor, "validation", lambda model: 0.2)
    monkeypatch.setattr(razor, "sft_steps", lambda *_: iter(lambda: 0, 1))
    _, about = trained_to_target("SFT", 0)
    assert not about["reached"] and about["steps"] == ARMS["SFT"][-1]


def small(monkeypatch):
    """Few prompts and questions."""
    few = {name: rows[:2] for name, rows in razor.suites().items()}
    monkeypatch.setattr(razor, "suites", lambda: few)
    monkeypatch.setattr(kl_prices, "tests", lambda: few)
    whole = razor.asked
    monkeypatch.setattr(razor, "asked", lambda kind: whole(kind)[:2])
    razor.said_before.cache_clear()
    monkeypatch.setattr(razor, "TEXTS", 1)
    razor.plain_texts.cache_clear()


@pytest.fixture(autouse=True)
def nothing_small_is_kept():
    yield
    razor.said_before.cache_clear()
    razor.plain_texts.cache_clear()


def test_a_tiny_run_is_measured_and_goes_on(tmp_path, monkeypatch):
    small(monkeypatch)
    arms = {"SFT": ("written", 1e-3, 1, 1, 1), "GRPO": ("practice", 1e-3, 1, 1, 1)}
    monkeypatch.setattr(razor, "ARMS", arms)
    monkeypatch.setattr(razor, "LOOP", razor.LOOP | {"prompts_per_step": 2})
    monkeypatch.setattr(razor, "validation", lambda model: 0.5)
    path = tmp_path / "razor.json"
    razor.record_razor([0], path)
    record = json.loads(path.read_text())
    assert [run["arm"] for run in record["runs"]] == ["SFT", "GRPO"]
    before, run = record["before"], record["runs"][0]
    assert before["kl_forward"] == before["moved"]["all"] == 0 and before["plain_loss"] > 0
    assert run["kl_forward"] > 0 and run["kl_reverse"] > 0 and run["moved"]["all"] > 0 and len(run["word_problems"]) == 2
    monkeypatch.setattr(razor, "one_run", lambda arm, seed: {"kl_forward": -1.0})
    razor.record_razor([0, 1], path)
    after = json.loads(path.read_text())
    assert after["runs"][:2] == record["runs"] and [run["seed"] for run in after["runs"]] == [0, 0, 1, 1]


def test_own_right_answers_are_the_models_own(monkeypatch):
    texts = iter([["right", "wrong"], ["right too", "wrong"]] * 9)
    monkeypatch.setattr(razor, "QUESTIONS", 2)
    monkeypatch.setattr(razor, "sampled", lambda model, rows, seed: ([next(texts) for _ in rows], [[1.0, 0.0]] * 2))
    rows = list(islice(razor.own_rows(None, 0), 2 * razor.ROUND * razor.BATCH))
    assert {row["completion"][0]["content"] for row in rows} == {"right", "right too"}


def test_the_penalty_is_taken_from_the_rewards_and_beta_follows_the_kl(monkeypatch):
    small(monkeypatch)
    model, tokenizer, rows = start()
    price = kl_prices.Price(0.5, adapts=True)
    batch = price(model, tokenizer, rows[:2], [kl_prices_reward], 2, 8)
    assert batch.rewards.tolist() == pytest.approx([1.0] * 4, abs=1e-4)  # the model is the reference: no KL yet
    assert price.log[0] == [0.0, 1.0, 0.5] and price.beta == pytest.approx(0.5 * (1 - 0.2 * kl_prices.GAIN))
    fixed = kl_prices.Price(0.5, adapts=False)
    fixed(model, tokenizer, rows[:2], [kl_prices_reward], 2, 8)
    assert fixed.beta == 0.5


def kl_prices_reward(completions, **kwargs):
    return [1.0] * len(completions)


def test_an_arm_of_two_rounds_goes_from_its_rows_back_to_the_start(tmp_path, monkeypatch):
    small(monkeypatch)
    few = {name: rows[:4] for name, rows in two_rounds.suites().items()}
    monkeypatch.setattr(two_rounds, "suites", lambda: few)
    arms = {"one long run": (3, False, 0), "two rounds": (2, True, 1), "start's rows": (0, True, 1)}
    for name, value in {"ARMS": arms, "HALF": 2, "MIDDLE": 1, "ASKED": 12, "ROWS": 3, "BATCH": 4, "GENERAL": 1}.items():
        monkeypatch.setattr(two_rounds, name, value)
    monkeypatch.setattr(razor, "LOOP", razor.LOOP | {"prompts_per_step": 2})
    writers, trained, practised = [], [], []
    accepted, imitate, practise = two_rounds.accepted, two_rounds.imitate, two_rounds.practise
    monkeypatch.setattr(two_rounds, "accepted", lambda model, seed: writers.append(moved(model)) or accepted(model, seed))
    monkeypatch.setattr(two_rounds, "imitate", lambda model, *rest: trained.append(moved(model)) or imitate(model, *rest))
    monkeypatch.setattr(two_rounds, "practise", lambda m, *rest: practised.append((moved(m), *rest)) or practise(m, *rest))
    path = tmp_path / "two_rounds.json"
    two_rounds.record_two_rounds([0], path)
    record = json.loads(path.read_text())
    long, rounds, control = record["runs"]
    assert writers == [True, False] and trained == [False, False]  # who writes differs, and all are trained from the start
    assert [first[2:] for first in practised] == [(1, 3), (1, 2), (3, 1), (1, 0), (3, 1)]
    assert [first[0] for first in practised] == [False, False, True, False, True]
    assert (long["updates"], rounds["updates"], control["updates"]) == (3, 4, 2)
    assert rounds["samples"] - control["samples"] == 2 * two_rounds.STEP and "acceptance" not in long
    assert 1 <= rounds["rows"] <= 3 and len(rounds["stages"]["SFT"]) == 2 and len(rounds["word_problems"]) == 4


def moved(model) -> bool:
    """Whether the model is not the start any more."""
    return razor.weights_moved(start()[0], model)["all"] > 0


def test_rejection_sampling_asks_what_no_practice_asks(monkeypatch):
    asked, drawn = [], []
    monkeypatch.setattr(
        two_rounds, "sampled", lambda model, rows, seed: asked.append(rows) or ([["x"]] * len(rows), [[1.0]] * len(rows))
    )
    rows, about = two_rounds.accepted(None, 0)
    for step in range(1, 40):
        drawn += draw(start()[2][: two_rounds.KEPT_APART], 12, 0, step)
    questions = [{row["prompt"][0]["content"] for row in each} for each in (asked[0], drawn)]
    assert not questions[0] & questions[1] and len(questions[0]) == two_rounds.ASKED
    assert len(rows) == about["rows"] == two_rounds.ROWS
