"""NF4 by hand: against a slow loop, its definition, and bitsandbytes where that is installed; planted mistakes."""

import inspect
from types import SimpleNamespace

import pytest
import torch

from helper import load_model_and_tokenizer
from helper.algorithms import nf4
from helper.algorithms.nf4 import (
    EVEN_LEVELS,
    NF4_LEVELS,
    dequantise,
    normal_levels,
    packed,
    quantise,
    relative_error,
    unpacked,
)


def matrix(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.03 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def changed(old: str = "", new: str = "") -> SimpleNamespace:
    """The module, with one piece of its source replaced."""
    text = inspect.getsource(nf4)
    assert text.count(old) == 1 or not old, f"{old!r} stands {text.count(old)} times in the source"
    names = {"__name__": nf4.__name__}
    exec(text.replace(old, new) if old else text, names)
    return SimpleNamespace(**names)


def slowly(weight: torch.Tensor, levels: list[float], block: int) -> tuple[list[int], list[float], list[float]]:
    """Codes, largest values and what is left, one weight after the other in plain Python."""
    values, codes, largest, left = weight.flatten().tolist(), [], [], []
    for start in range(0, len(values), block):
        part = values[start : start + block]
        scale = max(abs(value) for value in part)
        largest.append(scale)
        for value in part:
            nearest = min(range(16), key=lambda i: abs((value / scale if scale else 0) - levels[i]))
            codes.append(nearest)
            left.append(levels[nearest] * scale)
    return codes, largest, left


def check(functions, weight: torch.Tensor, levels: torch.Tensor = NF4_LEVELS, block: int = 64) -> None:
    codes, largest, left = slowly(weight, levels.tolist(), block)
    found = functions.quantise(weight, levels, block)
    assert functions.unpacked(found.packed, weight.numel()).tolist() == codes
    assert found.largest.tolist() == pytest.approx(largest)
    values = functions.dequantise(found)
    assert values.shape == weight.shape and values.flatten().tolist() == pytest.approx(left, abs=1e-8)
    assert found.bytes == (len(codes) + 1) // 2 + 4 * len(largest)


SHAPES = [(64, 128), (7, 9), (1, 1), (3, 64), (65,)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("levels, block", [(NF4_LEVELS, 64), (EVEN_LEVELS, 16)])
def test_a_slow_loop_gives_the_same(shape, levels, block):
    check(nf4, matrix(*shape), levels, block)


MISTAKES = [
    ("blocks.abs().amax(1)", "blocks.amax(1)"),
    ("blocks.abs().amax(1)", "blocks.abs().amax().repeat(len(blocks))"),  # one scale for the whole matrix
    ("blocks.abs().amax(1)", "blocks.abs().mean(1)"),
    ("(levels[1:] + levels[:-1]) / 2", "levels[1:]"),  # rounds down
    ("pairs[:, 0] << 4 | pairs[:, 1]", "pairs[:, 0] << 3 | pairs[:, 1]"),
    ("[packed >> 4, packed & 15]", "[packed & 15, packed >> 4]"),
    ("(values * quantised.largest[:, None])", "values"),
    ("values.flatten()\n", "values.T.flatten()\n"),
    ("self.packed.numel() + 4", "self.packed.numel() + 1"),
]


@pytest.mark.parametrize("right, wrong", MISTAKES)
def test_a_mistake_is_caught(right, wrong):
    check(changed(), matrix(7, 40))
    with pytest.raises((AssertionError, RuntimeError)):
        check(changed(right, wrong), matrix(7, 40))


def test_the_levels_follow_from_their_definition():
    assert torch.allclose(normal_levels(), NF4_LEVELS, atol=1e-6)
    wrong = changed("(1 / 32 + 1 / 30) / 2", "1 / 32").normal_levels()
    assert not torch.allclose(wrong, NF4_LEVELS, atol=1e-3)
    assert (NF4_LEVELS < 0).sum() == 7 and (NF4_LEVELS > 0).sum() == 8 and (NF4_LEVELS == 0).any()


def test_bitsandbytes_has_the_same_bytes_and_values():
    functional = pytest.importorskip("bitsandbytes").functional
    model, _ = load_model_and_tokenizer("sprout-instruct")
    for weight in (model.model.layers[0].self_attn.q_proj.weight.detach().float(), matrix(100, 7), matrix(64, 64, seed=1)):
        theirs, state = functional.quantize_4bit(weight, quant_type="nf4", blocksize=64)
        ours = quantise(weight)
        assert torch.allclose(state.code, NF4_LEVELS, atol=1e-7) and torch.equal(state.absmax, ours.largest)
        assert torch.equal(theirs.flatten(), ours.packed)
        assert torch.allclose(functional.dequantize_4bit(theirs, state), dequantise(ours), atol=1e-7)


def test_two_weights_a_byte():
    codes = torch.tensor([1, 15, 7], dtype=torch.uint8)
    assert packed(codes).tolist() == [31, 112] and torch.equal(unpacked(packed(codes), 3), codes)


def test_four_bits_and_a_scale_for_64():
    weight = matrix(256, 64)
    assert quantise(weight).bytes * 8 / weight.numel() == 4.5
    assert quantise(weight.bfloat16()).shape == weight.shape


def test_the_levels_suit_normal_weights_and_smaller_blocks_cost_less_error():
    weight = matrix(512, 64)
    assert 0.07 < relative_error(weight) < 0.11  # of a normal distribution: about 9%
    assert relative_error(weight) < relative_error(weight, EVEN_LEVELS)
    assert relative_error(weight, block=16) < relative_error(weight) < relative_error(weight, block=1024)


def test_what_4_bits_hold_exactly_stays():
    weight = torch.cat([NF4_LEVELS * 3, torch.zeros(48), torch.zeros(64)])
    assert torch.equal(dequantise(quantise(weight)), weight)
    assert torch.equal(dequantise(quantise(dequantise(quantise(matrix(64, 64))))), dequantise(quantise(matrix(64, 64))))


@pytest.mark.parametrize("weight", [torch.tensor([]), torch.tensor([1.0, float("nan")]), torch.tensor([float("inf")])])
def test_what_is_no_matrix_of_weights(weight):
    with pytest.raises(ValueError, match="finite numbers"):
        quantise(weight)


@pytest.mark.parametrize("levels", [torch.linspace(-1, 1, 8), torch.zeros(16), -NF4_LEVELS])
def test_what_are_no_levels(levels):
    with pytest.raises(ValueError, match="16 levels"):
        quantise(matrix(2, 2), levels)
