"""The explorers of GRPO and PPO are moved by their controls' values; what they show is computed here in another way."""

import math
import re
from html import unescape

import numpy as np
import pytest

from factory.lessons import WIDGETS
from helper.explorers.clip import explore_clip, surrogate
from helper.explorers.gae import explore_gae, read_response
from helper.explorers.kl import DIRECTION, REFERENCE, explore_kl_estimators, kl_estimates
from helper.explorers.normalisers import LONGEST, explore_normalisers

HOSTILE = '<img src=x onerror=alert(1)>"><script>alert(1)</script> $x$'


@pytest.fixture
def explorers():
    return {
        "clip": explore_clip(), "kl": explore_kl_estimators(), "gae": explore_gae(), "normalisers": explore_normalisers(),
    }  # fmt: skip


@pytest.fixture(scope="module")
def moved():
    """Explorers for tests that move every control of one: each move draws a picture."""
    return {"clip": explore_clip(), "gae": explore_gae(), "normalisers": explore_normalisers()}


def move(explorer, **values):
    """Set controls as a hand would; what is shown then, in words."""
    for name, value in values.items():
        explorer.controls[name].value = value
    assert explorer.view.value == explorer.shown.html
    return explorer.shown.words


def cells(html):
    """The table's rows, without its head."""
    rows = re.findall(r"<tr>(.*?)</tr>", html)[1:]
    return [[unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def test_every_explorer_has_a_static_page_and_named_controls(explorers):
    for name, explorer in explorers.items():
        bundle = explorer._repr_mimebundle_()
        assert set(bundle) == {WIDGETS, "text/html", "text/plain"}, name
        assert explorer.view.value in bundle["text/html"] and "Run the cell in JupyterLab" in bundle["text/html"]
        assert all(control.description for control in explorer.controls.values()), name
        (tag,) = re.findall(r"<img[^>]*>", bundle["text/html"])
        assert unescape(re.search(r' alt="([^"]*)"', tag).group(1)) == bundle["text/plain"] == explorer.shown.words
        assert 'src="data:image/png;base64,iVBOR' in tag and "max-width: 100%" in tag


def test_every_control_changes_what_is_shown(explorers):
    new = {
        "clip": {"epsilon_high": 0.28, "advantage": -1.0, "epsilon": 0.3, "ratio": 0.5},
        "kl": {"moved": -2.0},
        "gae": {"rewards": "0 0 0 0 0 0 0 2", "values": "0 0 0 0 0 0 0 1", "gamma": 0.9, "lam": 0.5},
        "normalisers": {"right": 20, "wrong": 5},
    }
    for name, changes in new.items():
        assert set(changes) == set(explorers[name].controls)
        for control, value in changes.items():
            before = explorers[name].view.value
            move(explorers[name], **{control: value})
            assert explorers[name].view.value != before, (name, control)


@pytest.mark.parametrize(
    ("ratio", "advantage", "epsilon", "high", "value", "gradient"),
    [
        (1.0, 1.0, 0.2, 0.2, 1.0, 1.0), (1.2, 1.0, 0.2, 0.2, 1.2, 1.2), (1.22, 1.0, 0.2, 0.2, 1.2, 0.0),
        (1.22, 1.0, 0.2, 0.28, 1.22, 1.22), (0.5, 2.0, 0.2, 0.2, 1.0, 1.0), (0.78, -1.0, 0.2, 0.28, -0.8, 0.0),
        (0.8, -1.0, 0.2, 0.28, -0.8, -0.8), (2.0, -2.0, 0.05, 0.5, -4.0, -4.0), (1.5, 0.0, 0.2, 0.2, 0.0, 0.0),
    ],
)  # fmt: skip
def test_the_surrogate_and_its_gradient(ratio, advantage, epsilon, high, value, gradient, moved):
    words = move(moved["clip"], advantage=advantage, epsilon=epsilon, epsilon_high=high, ratio=ratio)
    assert f"surrogate, the smaller: {value:.3f}; " in words
    sign = "+" if gradient > 0 else ""
    push = f"pushed {'up' if gradient > 0 else 'down'}" if gradient else "not pushed"
    assert f"gradient with respect to log π: {sign}{gradient:.3f}: this token is {push}; " in words
    border = f"ρ above {1 + high:g}" if advantage > 0 else f"ρ below {1 - epsilon:g}" if advantage else "everywhere"
    assert f"gradient 0 where: {border}: " in words


def test_the_gradient_of_the_surrogate_is_its_slope():
    ratios, step = np.array([0.3, 0.79, 0.81, 1.0, 1.19, 1.31, 1.9]), 1e-6
    for advantage in (-2.0, -0.5, 0.5, 2.0):
        ends = [surrogate(ratios * math.exp(move), advantage, 0.2, 0.3)[0] for move in (-step, step)]
        slope = (ends[1] - ends[0]) / (2 * step)
        assert np.allclose(surrogate(ratios, advantage, 0.2, 0.3)[1], slope, atol=1e-6)


def policy_at(moved, change=0.0, token=0):
    logits = np.log(REFERENCE) + moved * np.array(DIRECTION)
    logits[token] += change
    return np.exp(logits) / np.exp(logits).sum()


def divergence(p, q):
    return float((p * np.log(p / q)).sum())


@pytest.mark.parametrize("moved", [-3.0, -0.5, 0.1, 1.0, 3.0])
def test_the_kl_estimates_and_their_gradients(moved):
    """k1 and k3 have the right mean; k1's gradient is 0, k2's the true one, k3's that of KL(reference || policy)."""
    q, p, step = np.array(REFERENCE), policy_at(moved), 1e-6
    policy, rows = kl_estimates(moved)
    kl, d = divergence(p, q), np.log(q / p)
    assert np.allclose(policy, p) and rows["exact"].mean == pytest.approx(kl)
    for kind, values in {"k1": -d, "k2": d**2 / 2, "k3": q / p - 1 - d}.items():
        mean = (p * values).sum()
        assert rows[kind].mean == pytest.approx(mean)
        assert rows[kind].std == pytest.approx(math.sqrt((p * values**2).sum() - mean**2))
    assert rows["k1"].mean == pytest.approx(kl) == rows["k3"].mean and abs(rows["k2"].mean - kl) > 1e-5
    moves = [[policy_at(moved, change, token) for change in (-step, step)] for token in range(4)]
    true = [(divergence(up, q) - divergence(down, q)) / (2 * step) for down, up in moves]
    other = [(divergence(q, up) - divergence(q, down)) / (2 * step) for down, up in moves]
    assert np.allclose(rows["exact"].gradient, true, atol=1e-8) and np.allclose(rows["k2"].gradient, true, atol=1e-8)
    assert np.allclose(rows["k3"].gradient, other, atol=1e-8) and np.allclose(rows["k3"].gradient, p - q)
    assert not rows["k1"].gradient.any() and not np.allclose(rows["k3"].gradient, true, atol=1e-4)


def test_the_kl_explorer_says_what_the_estimates_are_worth():
    explorer = explore_kl_estimators()
    words, p, q = move(explorer, moved=3.0), policy_at(3.0), np.array(REFERENCE)
    true = p * (np.log(p / q) - divergence(p, q))
    length = np.linalg.norm(p - q) / np.linalg.norm(true)
    cosine = (p - q) @ true / np.linalg.norm(p - q) / np.linalg.norm(true)
    assert f"Exact KL to the reference {divergence(p, q):.3f} nats" in words
    gradients = ["0: only noise", "the true one", f"another one: {length:.2f} times as long, cosine {cosine:.3f}"]
    assert [row[-1] for row in cells(explorer.view.value)] == gradients
    assert "the policy is the reference" in move(explorer, moved=0.0) and "-0.000" not in explorer.view.value


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 0.0), (0.5, 1.0), (0.0, 0.0)])
def test_advantages_and_returns_are_the_sums_of_the_paper(gamma, lam, moved):
    rewards, values = [0.0, -0.5, 0.25, 2.0], [0.5, 1.0, -1.0, 0.75, 0.0]  # the value behind the last token is 0
    explorer = moved["gae"]
    words = move(explorer, rewards="0 -0.5; 0.25, 2", values="0.5, 1, -1, 0.75", gamma=gamma, lam=lam)
    errors = [rewards[t] + gamma * values[t + 1] - values[t] for t in range(4)]

    def advantages(lam):
        return [sum((gamma * lam) ** later * errors[t + later] for later in range(4 - t)) for t in range(4)]

    monte_carlo = [sum(gamma ** (s - t) * rewards[s] for s in range(t, 4)) - values[t] for t in range(4)]
    assert advantages(1.0) == pytest.approx(monte_carlo)
    returns = [a + v for a, v in zip(advantages(lam), values)]
    columns = [rewards, values[:4], errors, advantages(lam), monte_carlo, returns]
    shown = [[float(cell) for cell in row[1:]] for row in cells(explorer.view.value)]
    assert np.allclose(np.array(shown).T, columns, atol=6e-4) and f"γ = {gamma:g}, λ = {lam:g}." in words


@pytest.mark.parametrize(
    ("rewards", "said"),
    [
        ("1, two", '"two" in the rewards is not a number'), ("", "these are 0 rewards"), ("1 " * 17, "these are 17"),
        ("nan 1", "no nan, no inf"), ("1e400", "no nan, no inf"), ("1e7", "at most a million"),
        ("0, 1", "Rewards: 2, values: 8. Each token needs one of both."), (HOSTILE, "is not a number"),
    ],
)  # fmt: skip
def test_bad_numbers_are_answered_in_words(rewards, said):
    explorer = explore_gae()
    assert said in move(explorer, rewards=rewards)
    assert said in unescape(explorer.view.value) and "<img" not in explorer.view.value
    assert "values" in move(explorer, rewards="0, 0", values="?")
    assert "return: 1.000, 1.000" in move(explorer, values="0 0", rewards="0 1", lam=1.0)  # and it goes on
    with pytest.raises(ValueError, match=re.escape(said)):
        read_response(rewards, "0 0 0 0 0 0 0 0")
    with pytest.raises(ValueError, match="Each token needs one of both"):
        explore_gae([1], [1, 2])  # in a cell an error stays an error


@pytest.mark.parametrize(("right", "wrong"), [(8, 32), (1, 64), (64, 1), (10, 10)])
def test_the_weights_of_the_tokens(right, wrong, moved):
    explorer = moved["normalisers"]
    words = move(explorer, right=right, wrong=wrong)
    weights = {"grpo": (1 / right / 2, 1 / wrong / 2), "dapo": (1 / (right + wrong),) * 2, "dr_grpo": (1 / LONGEST / 2,) * 2}
    for row, (name, (r, w)) in zip(cells(explorer.view.value), weights.items(), strict=True):
        assert row[0] == name and f"{name}: per token {row[1]} and {row[2]}" in words
        assert [float(cell) for cell in row[1:]] == pytest.approx([r, w, r * right, w * wrong], abs=6e-4)
