"""Losses beside Bradley-Terry's, labels of steps, and process reward models, against slow references."""

import itertools
import math

import pytest
import torch
from tiny import make_tokenizer
from transformers import AutoModelForSequenceClassification

from helper import load_course_dataset
from helper.algorithms import (
    bradley_terry_loss,
    conversation_ids,
    learned_process_reward,
    plackett_luce_loss,
    process_reward_loss,
    squared_error_loss,
    step_labels,
    step_scores,
    steps_of,
    train_process_reward_model,
)
from helper.algorithms.process_rewards import step_ends

CLOSE = {"rtol": 0, "atol": 1e-5}


def slow_plackett_luce(scores: list[float]) -> float:
    """Minus the log of the product of choices, one after the other."""
    chance = 1.0
    for i in range(len(scores) - 1):
        chance *= math.exp(scores[i]) / sum(math.exp(score) for score in scores[i:])
    return -math.log(chance)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_plackett_luce_is_the_likelihood_of_the_order(size):
    torch.manual_seed(size)
    scores = torch.randn(6, size)
    wanted = sum(map(slow_plackett_luce, scores.tolist())) / 6
    torch.testing.assert_close(plackett_luce_loss(scores), torch.tensor(wanted), **CLOSE)
    orders = torch.stack([scores[0][list(order)] for order in itertools.permutations(range(size))])
    assert sum(math.exp(-plackett_luce_loss(order[None]).item()) for order in orders) == pytest.approx(1, abs=1e-5)


def test_plackett_luce_of_two_is_bradley_terry_and_of_one_an_error():
    scores = torch.tensor([[2.0, 1.0], [-500.0, 500.0]], requires_grad=True)
    torch.testing.assert_close(plackett_luce_loss(scores), bradley_terry_loss(*scores.T), **CLOSE)
    plackett_luce_loss(scores).backward()
    assert scores.grad.isfinite().all()
    for wrong in (torch.zeros(3, 1), torch.zeros(3)):
        with pytest.raises(ValueError, match="K answers from 2"):
            plackett_luce_loss(wrong)


def test_squared_error_and_process_loss_against_plain_python():
    scores, grades, right = [0.5, -2.0, 7.0], [1.0, -4.0, 9.0], [1, 0, 0]
    squared = sum((s - g) ** 2 for s, g in zip(scores, grades)) / 3
    steps = -sum(math.log(1 / (1 + math.exp(-s if r else s))) for s, r in zip(scores, right)) / 3
    assert squared_error_loss(torch.tensor(scores), torch.tensor(grades)).item() == pytest.approx(squared, abs=1e-5)
    for labels in (torch.tensor(right), torch.tensor(right).bool(), torch.tensor(right).float()):
        assert process_reward_loss(torch.tensor(scores), labels).item() == pytest.approx(steps, abs=1e-5)
    for loss in (squared_error_loss, process_reward_loss):
        with pytest.raises(ValueError, match="give one"):
            loss(torch.zeros(2), torch.zeros(3))


@pytest.mark.parametrize(
    ("answer", "labels"),
    [
        ("Eggs: 6 * 12 = 72\nLeft: 72 - 2 = 70\n\\boxed{70}", [True, True]),
        ("Eggs: 6 * 12 = 71\nLeft: 71 - 2 = 69\n\\boxed{69}", [False, True]),  # the mistake is where it is made
        ("Eggs: 6 * 12 = 72\nLeft: 74 - 2 = 72\n\\boxed{72}", [True, False]),  # 74 is from nowhere
        ("Sum: 2 + 6 * 12 - 2 = 72", [True]),
        ("Half: 12 / 6 = 2\nNone: 12 / 0 = 0", [True, False]),
        ("Many eggs\n\n6 * 12 = 72", [False, True]),
        ("Eggs: 6 * 12 = 72 eggs", [False]),
        ("Eggs: -6 + 12 = 6", [False]),  # no negative numbers: the sum is not read
        ("Half: 2 / 12 = 0", [False]),
        ("\\boxed{70}\nEggs: 6 * 12 = 72", []),
        ("", []),
    ],
)
def test_labels_of_steps(answer, labels):
    assert step_labels("There are 6 boxes of 12 eggs and 2 break; none is 0.", answer) == labels
    assert len(steps_of(answer)) == len(labels)


def test_every_step_of_the_worked_answers_is_right():
    rows = load_course_dataset("sprout-maths")
    labels = [step_labels(row["question"], row["answer"].split("####")[0]) for row in rows]
    assert sum(map(len, labels)) > 10_000 and all(map(all, labels))


SAID = [("one two", "one: 1 + 1 = 2\ntwo: 1 + 1 = 3\n\\boxed{3}"), ("three", "four"), ("six", ""), ("six", "1\n1")]
TALKS = [[{"role": "user", "content": asked}, {"role": "assistant", "content": answer}] for asked, answer in SAID]


@pytest.fixture
def model(tiny):
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=1).eval()


def test_ends_are_the_last_tokens_of_the_lines():
    tokenizer = make_tokenizer()
    ids, _ = conversation_ids(tokenizer, TALKS)
    for row, talk in enumerate(TALKS):
        ends, wanted = step_ends(tokenizer, talk), steps_of(talk[-1]["content"])
        assert len(ends) == len(wanted)
        for end, line in zip(ends, wanted):
            assert tokenizer.decode(ids[row, : end + 1]).rstrip("\n").endswith(line)


def test_scores_are_those_of_the_text_up_to_each_step(model, tokenizer):
    scores, rows = step_scores(model, tokenizer, TALKS)
    assert rows == [0, 0, 1, 3, 3] and scores.requires_grad
    ids, mask = conversation_ids(tokenizer, TALKS)
    ends = [(row, end) for row, talk in enumerate(TALKS) for end in step_ends(tokenizer, talk)]
    for score, (row, end) in zip(scores.tolist(), ends):
        alone = model(input_ids=ids[row : row + 1, : end + 1], attention_mask=mask[row : row + 1, : end + 1])
        assert alone.logits.item() == pytest.approx(score, abs=1e-5)


def test_the_reward_is_the_mean_probability(model, tokenizer):
    scores, rows = step_scores(model, tokenizer, TALKS)
    wanted = [scores.sigmoid()[[i for i, row in enumerate(rows) if row == place]].mean().item() for place in range(4)]
    wanted[2] = 0.0  # no step at all
    reward = learned_process_reward(model, tokenizer, batch_size=3)
    paid = reward(prompts=[talk[:1] for talk in TALKS], completions=[talk[1:] for talk in TALKS], ground_truth=[""] * 4)
    assert paid == pytest.approx(wanted, abs=1e-5)


def test_it_learns_which_steps_are_right(model, tokenizer, tmp_path):
    talks = [TALKS[0], TALKS[3]]
    labels = [[True, False], [False, False]]
    settings = {"folder": tmp_path, "steps": 40, "learning_rate": 3e-3, "conversations_per_step": 2, "charts": False}
    log = train_process_reward_model(model, tokenizer, talks, labels, **settings).table()
    assert log["loss"].iloc[-1] < log["loss"].iloc[0] / 2 and log["accuracy"].iloc[-1] == 1
    assert (step_scores(model, tokenizer, talks)[0] > 0).tolist() == [True, False, False, False]


@pytest.mark.parametrize(("labels", "wanted"), [([[True]], 1), ([[True, False], [True]], 3), ([[True, False], []], 1)])
def test_labels_that_do_not_fit_are_refused(labels, wanted, model, tokenizer, tmp_path):
    settings = {"folder": tmp_path, "steps": 1, "learning_rate": 1e-3, "conversations_per_step": wanted, "charts": False}
    with pytest.raises(ValueError):
        train_process_reward_model(model, tokenizer, TALKS[:2], labels, **settings)
