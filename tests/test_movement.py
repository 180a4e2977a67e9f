"""How far a model has moved: KL against slow code, weights against known changes; β's controller; the frontier."""

import copy

import pytest
import torch
from tiny import make_model, make_tokenizer

from helper.algorithms.batches import log_probabilities
from helper.algorithms.movement import adapted_beta, answer_kl, kl_frontier, texts_batch, tilted_policy, weights_moved

ASKED = [[{"role": "user", "content": text}] for text in ("one two", "what is the capital", "12 + 34")]
ANSWERS = ["three four", "a place", "= 46 and five"]


@pytest.fixture(scope="module")
def two():
    tokenizer = make_tokenizer()
    return tokenizer, make_model(tokenizer, 0), make_model(tokenizer, 1)


def test_the_kl_is_summed_over_the_vocabulary_and_the_tokens(two):
    tokenizer, first, second = two
    batch = texts_batch(tokenizer, ASKED, ANSWERS)
    found = answer_kl(first, second, batch, micro_batch=2)
    for row, (prompt, answer) in enumerate(zip(ASKED, ANSWERS)):
        begun = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        said = [*prompt, {"role": "assistant", "content": answer}]
        ids = torch.tensor([tokenizer.apply_chat_template(said, return_dict=False)])
        with torch.no_grad():
            p, q = (model(input_ids=ids).logits[0, len(begun) - 1 : -1].softmax(-1) for model in (first, second))
        assert batch.mask[row].sum() == len(p)
        assert found[row] == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-4)
    assert answer_kl(first, first, batch).abs().max() < 1e-6 and (found > 0).all()


def test_it_is_the_mean_of_the_log_ratio_of_samples(two):
    """For one token, enumerated: Σ p (log p - log q) over all tokens that may come first."""
    tokenizer, first, second = two
    batch = texts_batch(tokenizer, ASKED[:1], ANSWERS[:1])
    one = texts_batch(tokenizer, ASKED[:1] * len(tokenizer), ANSWERS[:1] * len(tokenizer))
    one.ids[:, -one.length] = torch.arange(len(tokenizer))
    logps = [log_probabilities(model, one)[:, 0] for model in (first, second)]
    batch.mask[:, 1:] = 0
    assert answer_kl(first, second, batch).item() == pytest.approx(
        (logps[0].exp() * (logps[0] - logps[1])).sum().item(), rel=1e-3
    )


def test_texts_and_prompts_must_be_as_many(two):
    with pytest.raises(ValueError, match="3 prompts and 1 answers"):
        texts_batch(two[0], ASKED, ANSWERS[:1])


def test_weights_moved_names_the_layer(two):
    _, model, _ = two
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model.layers[1].mlp.up_proj.weight.mul_(1.5)
    found = weights_moved(model, other)
    assert set(found) == {"embedding", "layer 0", "layer 1", "end", "all"}
    assert found["embedding"] == found["layer 0"] == found["end"] == 0 < found["all"] < found["layer 1"] < 0.5
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    assert weights_moved(model, other)["all"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("kl", "expected"),
    [(1.0, 0.1), (1.1, 0.1 * 1.01), (0.95, 0.1 * 0.995), (100.0, 0.1 * 1.02), (0.0, 0.1 * 0.98), (-5.0, 0.1 * 0.98)],
)
def test_the_controller_is_proportional_and_clipped(kl, expected):
    assert adapted_beta(0.1, kl, target=1.0) == pytest.approx(expected)


def test_the_controller_refuses_what_would_stay_for_ever():
    for beta, target in ((0.0, 1.0), (0.1, 0.0), (0.1, -1.0)):
        with pytest.raises(ValueError, match="above 0"):
            adapted_beta(beta, 0.5, target)


def test_no_policy_on_a_grid_is_better_than_the_tilted_one():
    reference, rewards, beta = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.0, 1.0, 0.2]), 0.4
    grid = torch.tensor([(i, j, 60 - i - j) for i in range(1, 59) for j in range(1, 60 - i)]) / 60
    worth = (grid * rewards).sum(1) - beta * (grid * (grid / reference).log()).sum(1)
    best = tilted_policy(reference, rewards, beta)
    ours = (best * rewards).sum() - beta * (best * (best / reference).log()).sum()
    assert best.sum() == pytest.approx(1.0) and ours >= worth.max()
    twice = tilted_policy(best, rewards, beta)
    assert torch.allclose(twice, tilted_policy(reference, rewards, beta / 2), atol=1e-6)


def test_the_frontier_is_that_of_the_tilted_policies():
    shares, betas = [0.0, 0.1, 0.5, 1.0], [2.0, 0.5, 0.1]
    for beta, right, kl in kl_frontier(shares, betas):
        pairs = [torch.tensor([p, 1 - p], dtype=torch.float64) for p in shares]
        best = [tilted_policy(pair, torch.tensor([1.0, 0.0], dtype=torch.float64), beta) for pair in pairs]
        assert right == pytest.approx(sum(each[0].item() for each in best) / 4)
        kls = [torch.special.xlogy(b, b / p.clamp(min=1e-300)).sum().item() for b, p in zip(best, pairs)]
        assert kl == pytest.approx(sum(kls) / 4)
    ((_, right, kl),) = kl_frontier(shares, [0])
    assert right == 0.75 and kl == pytest.approx(-(torch.tensor([0.1, 0.5]).log().sum().item()) / 4, rel=1e-6)
