"""The factorial record of lesson 06: its loop is PPO's where it should be, and its advantages are what their names say."""

import copy
from functools import partial

import pytest
import torch
from tiny import make_model, make_tokenizer
from tiny_trainers import tiny_rows

from factory.recordings import over_laboratory, ppo_factorial
from helper import set_seed
from helper.algorithms import ValueModel, log_probabilities, response_log_probabilities, sample_batch
from helper.algorithms.train_ppo import ppo_optimizer, ppo_update, values_of

CLOSE = {"rtol": 0, "atol": 1e-5}


def by_length(completions, **kwargs):
    return [len(completion[-1]["content"]) % 7 / 7 for completion in completions]


@pytest.fixture(scope="module")
def sampled():
    """A tiny policy, a critic that says something, and a batch of four answers to each of three prompts."""
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    critic = ValueModel(copy.deepcopy(model.model)).eval()
    torch.nn.init.normal_(critic.head.weight, std=0.02)
    set_seed(0)
    batch = sample_batch(model, tokenizer, tiny_rows("grpo")[:3], [by_length], 4, 8)
    batch.old_logps = log_probabilities(model, batch)
    return model, critic, batch


def test_short_passes_say_the_same(sampled):
    model, critic, batch = sampled
    ours = ppo_factorial.each_token(batch, partial(response_log_probabilities, model))
    torch.testing.assert_close(ours, batch.old_logps * batch.mask, **CLOSE)
    torch.testing.assert_close(ppo_factorial.each_token(batch, critic), values_of(critic, batch) * batch.mask, **CLOSE)


def test_an_update_is_that_of_ppo(sampled):
    pairs = [copy.deepcopy(sampled[:2]) for _ in range(2)]
    batch = copy.copy(sampled[2])
    ppo_factorial.with_advantages(batch, sampled[1], "critic 0.95", 4)
    for (model, critic), step in zip(pairs, (ppo_factorial.update, ppo_update)):
        step(model, critic, ppo_optimizer(model, critic, 1e-4, 1e-3), batch)
    for ours, theirs in zip(*pairs):
        for one, other in zip(ours.parameters(), theirs.parameters()):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("baseline", ["batch mean", "group mean", "critic 0.95", "critic 1"])
def test_advantages_are_whitened_and_nothing_where_nothing_was_learned(baseline, sampled):
    batch = copy.copy(sampled[2])
    batch.rewards = torch.tensor([0.0, 1, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1])  # the second group has no spread
    critic = sampled[1] if baseline.startswith("critic") else None
    explained = ppo_factorial.with_advantages(batch, critic, baseline, 4)
    assert (batch.advantages * (1 - batch.mask) == 0).all()
    assert (batch.advantages[4:8] == 0).all() == (baseline == "group mean")
    assert set(explained) == ({"explained_variance", "kl"} if critic else set())
    assert (batch.advantages * batch.mask).sum() / batch.mask.sum() == pytest.approx(0, abs=0.2)


def test_the_arms_and_the_time_they_get():
    arms = ppo_factorial.arms()
    assert len(set(arms)) == len(arms) == 2 * 2 * 4 - 2 + 1 and ("48 x 1", 1, "group mean") not in arms
    for prompts, answers in ppo_factorial.DRAWS.values():
        assert prompts * answers == ppo_factorial.ANSWERS
    for updates, setting in ppo_factorial.UPDATES.items():
        assert setting["epochs"] * ppo_factorial.ANSWERS // setting["minibatch"] == updates
    assert min(ppo_factorial.STEPS.values()) == ppo_factorial.EQUAL_SAMPLES


def test_a_record_goes_on_only_with_its_settings(tmp_path):
    path = tmp_path / "record.json"
    ppo_factorial.write({"command": "old", "settings": {"a": 1}, "runs": [1]}, path)
    assert over_laboratory.opened(path, "best_of_n", [0], {"a": 1})["runs"] == [1]
    assert over_laboratory.opened(path, "best_of_n", [0], {"a": 2})["runs"] == []
    assert len(over_laboratory.arms()) == 5 + 2 + 3
