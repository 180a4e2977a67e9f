"""The explorer of ranks: what it shows is computed here in another way, control by control."""

import re
from html import unescape

import pytest
import torch

from factory.lessons import WIDGETS
from helper.explorers.ranks import explore_ranks, normal_matrix, relative_errors


def matrix(tall, wide, seed):
    return torch.randn(tall, wide, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def explorer():
    low = matrix(20, 2, 1) @ matrix(2, 12, 2)
    return explore_ranks({"low": low, "full": matrix(20, 12, 3)}, rank=2)


def test_the_errors_are_those_of_the_truncated_decomposition():
    W = matrix(7, 5, 4)
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    for rank, error in enumerate(relative_errors(W)):
        near = U[:, :rank] * S[:rank] @ Vh[:rank]
        assert error == pytest.approx(((W - near).norm() / W.norm()).item(), abs=1e-5)


def test_no_other_matrix_of_that_rank_is_nearer():
    W, rank = matrix(7, 5, 4), 2
    for seed in range(20):
        A = matrix(rank, 5, seed)
        B = W @ A.T @ torch.linalg.inv(A @ A.T)  # the best B for this A
        assert ((W - B @ A).norm() / W.norm()).item() >= relative_errors(W)[rank] - 1e-6


def test_what_it_says(explorer):
    bundle = explorer._repr_mimebundle_()
    assert set(bundle) == {WIDGETS, "text/html", "text/plain"} and bundle["text/plain"] == explorer.shown.words
    (tag,) = re.findall(r"<img[^>]*>", bundle["text/html"])
    assert unescape(re.search(r' alt="([^"]*)"', tag).group(1)) == explorer.shown.words
    assert "low, 20 × 12" in explorer.shown.words and "error of rank 2: 0.0%" in explorer.shown.words
    assert "64 of 240, 26.7%" in explorer.shown.words and "error of 10%: 2" in explorer.shown.words


def test_every_control_changes_what_is_shown(explorer):
    for name, value in (("rank", 5), ("matrix", "full")):
        before = explorer.view.value
        explorer.controls[name].value = value
        assert explorer.view.value != before, name
    full, random = (relative_errors(each)[5] for each in (matrix(20, 12, 3), normal_matrix(20, 12)))
    assert f"error of rank 5: {full:.1%} (a random matrix: {random:.1%})" in explorer.shown.words


@pytest.mark.parametrize("wrong", [{}, {"a": torch.zeros(3)}, {"a": torch.zeros(3, 3)}])
def test_what_is_no_matrix_is_refused(wrong):
    with pytest.raises(ValueError):
        explore_ranks(wrong)
