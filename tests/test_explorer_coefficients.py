"""The explorer of lesson 09: its bars are the gradients of the losses, and its controls change what is shown."""

import re
from html import unescape

import pytest
import torch
from test_explorers_rl import move

from factory.lessons import WIDGETS
from helper.algorithms import group_advantages, grpo_loss
from helper.explorers.coefficients import ANSWERS, METHODS, coefficients_of, explore_coefficients


def test_it_has_a_static_page_and_named_controls():
    explorer = explore_coefficients()
    bundle = explorer._repr_mimebundle_()
    assert set(bundle) == {WIDGETS, "text/html", "text/plain"}
    assert all(control.description for control in explorer.controls.values())
    (tag,) = re.findall(r"<img alt[^>]*>", bundle["text/html"])
    assert unescape(re.search(r' alt="([^"]*)"', tag).group(1)) == bundle["text/plain"] == explorer.shown.words


def test_every_control_changes_what_is_shown():
    explorer = explore_coefficients()
    for control, value in {"right": 1, "moved": 0.3, "beta": 0.4}.items():
        before = explorer.view.value
        move(explorer, **{control: value})
        assert explorer.view.value != before, control


@pytest.mark.parametrize("moved", [-1.0, -0.1, 0.0, 0.1, 1.0])
def test_the_bars_of_grpo_are_its_gradient(moved):
    rewards = (torch.arange(ANSWERS) < 3).double()
    old = torch.full((ANSWERS, 1), -3.0, dtype=torch.float64)
    logps = old.clone()
    logps[0] += moved
    logps.requires_grad_()
    mask, advantages = torch.ones_like(old), group_advantages(rewards, ANSWERS)
    grpo_loss(logps, old, advantages, mask, beta=0.3, ref_logps=old).backward()
    assert coefficients_of(3, moved, 0.3)["GRPO"] == pytest.approx((-ANSWERS * logps.grad[:, 0]).tolist())


def test_where_nothing_or_everything_is_right():
    nothing, everything = (coefficients_of(right, 0.0, 0.1) for right in (0, ANSWERS))
    assert set(nothing) == set(METHODS)
    assert "nothing is kept" in nothing["rejection"] and "no pair" in nothing["DPO"] and "no pair" in everything["DPO"]
    assert set(nothing["GRPO"]) == set(everything["GRPO"]) == {0.0}
    assert max(nothing["PPO"]) < 0 < min(everything["PPO"])
    said = move(explore_coefficients(), right=0)
    assert "nothing is right" in said


def test_the_answers_under_the_picture_hold():
    """Up by 0.3 the clip stops PPO, and the KL term is left of GRPO; down by 0.3 nothing is stopped."""
    up, down = coefficients_of(3, 0.3, 0.1), coefficients_of(3, -0.3, 0.1)
    assert up["PPO"][0] == 0 > up["GRPO"][0] and down["PPO"][0] > 0 and down["GRPO"][0] > 0
    lone = [coefficients_of(right, 0.0, 0.1)["GRPO"] for right in (1, 7)]
    assert max(map(abs, lone[0])) == lone[0][0] and max(map(abs, lone[1])) == -lone[1][-1]
