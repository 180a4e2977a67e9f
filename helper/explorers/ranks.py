"""Explorer: how much of a matrix its best approximation of rank r keeps, and how many numbers that stores."""

import torch
from ipywidgets import IntSlider

from helper.explorers.explorer import Explorer, choice, look
from helper.figures.figure import BLUE, GREY, ORANGE, drawing, image_html, make_panels
from helper.figures.page import View, fact_list, page


def explore_ranks(matrices: dict[str, torch.Tensor], rank: int = 8) -> Explorer:
    """Choose a matrix and a rank r; see the error of the nearest matrix of that rank, and its size.

    The nearest is the truncated singular value decomposition (Eckart and Young 1936). Beside it stands a matrix of the
    same shape drawn from a normal distribution. ValueError for no matrix, or for what is none.
    """
    if not matrices or any(matrix.dim() != 2 for matrix in matrices.values()):
        raise ValueError("Give one matrix or more, each with two dimensions.")
    spectra = {name: relative_errors(matrix) for name, matrix in matrices.items()}
    shapes = {name: tuple(matrix.shape) for name, matrix in matrices.items()}
    noise = {shape: relative_errors(normal_matrix(*shape)) for shape in set(shapes.values())}
    most = min(min(shape) for shape in shapes.values())
    controls = {
        "matrix": choice("matrix", {name: name for name in matrices}),
        "rank": IntSlider(min(rank, most), min=1, max=most, **look("rank r")),
    }
    return Explorer(controls, lambda matrix, rank: ranks_view(matrix, spectra[matrix], shapes[matrix], noise, rank))


@drawing()
def ranks_view(name: str, errors: list[float], shape: tuple[int, int], noise: dict, rank: int) -> View:
    """The error by rank of one matrix and of noise, and the numbers stored by rank."""
    tall, wide = shape
    random = noise[shape]
    stored, whole = rank * (tall + wide), tall * wide
    figure, (left, right) = make_panels(2, 7, 3)
    ranks = range(len(errors))
    left.plot(ranks, errors, color=BLUE, label=name)
    left.plot(ranks, random, "--", color=ORANGE, label="a random matrix")
    left.plot([rank], [errors[rank]], "o", color=BLUE)
    missed = "error of the best rank-r\napproximation, share of ‖ΔW‖"
    left.set(title="what is missed", xlabel="rank r", ylabel=missed, ylim=(0, 1.05))
    left.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, handlelength=1.4)
    right.plot(ranks, [r * (tall + wide) for r in ranks], color=BLUE, label="B and A")
    right.axhline(whole, color=GREY, linestyle=":", label="the whole matrix")
    right.plot([rank], [stored], "o", color=BLUE)
    right.set(title="what is stored", xlabel="rank r", ylabel="numbers", ylim=(0, None))
    right.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, handlelength=1.4)
    facts = {
        "matrix": f"{name}, {tall} × {wide}",
        "error of rank " + str(rank): f"{errors[rank]:.1%} (a random matrix: {random[rank]:.1%})",
        "numbers stored": f"{stored:,} of {whole:,}, {stored / whole:.1%}",
        "rank for an error of 10%": str(next(r for r in ranks if errors[r] <= 0.1)),
    }
    words = "; ".join(f"{fact}: {value}" for fact, value in facts.items()) + "."
    return View(words, page(image_html(figure, words), fact_list(facts)))


def relative_errors(matrix: torch.Tensor) -> list[float]:
    """What the nearest matrix of rank 0, 1, 2, … misses: the root of the squares left, as a share of the matrix's norm."""
    squares = torch.linalg.svdvals(matrix.detach().double().cpu()).square()
    if not squares.sum() > 0:
        raise ValueError("The matrix is 0 everywhere: there is nothing to approximate.")
    left = torch.cat([squares.flip(0).cumsum(0).flip(0), squares.new_zeros(1)])
    return (left / squares.sum()).sqrt().tolist()


def normal_matrix(tall: int, wide: int) -> torch.Tensor:
    """A matrix of independent normal numbers, always the same one."""
    return torch.randn(tall, wide, generator=torch.Generator().manual_seed(0))
