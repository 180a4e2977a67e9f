"""What the checks of all lessons share: the verdict, calling a student's function, reading what it returned.

A check compares a student's function with a slow plain reference on several cases. Where they differ it computes what
each common mistake would have given, and names the one that gives the student's numbers.
Left out on purpose: points, time limits, and hiding the references. They may be read.
"""

import copy
import functools
import math
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch

NOTHING = "Not started. (Written already? Then nothing is returned: is a `return` missing?)"


@dataclass(frozen=True, repr=False)
class Verdict:
    """What a check says: `right` is True, False, or None when nothing was written yet; shown as its message."""

    right: bool | None
    message: str

    def __repr__(self) -> str:
        return self.message


class Wrong(Exception):
    """Ends a check; its text is what the student is told."""


class NotStarted(Exception):
    """Ends a check of an untouched stub."""


def exercise(body: Callable[..., str]) -> Callable[..., Verdict]:
    """Makes a check of a function that returns its praise, or raises Wrong or NotStarted."""

    @functools.wraps(body)
    def check(*args, **kwargs) -> Verdict:
        try:
            return Verdict(True, f"Right. {body(*args, **kwargs)}".strip())
        except NotStarted as so_far:
            return Verdict(None, str(so_far) or NOTHING)
        except Wrong as wrong:
            return Verdict(False, str(wrong))
        except Exception as error:  # a kind of value that no reader expects
            return Verdict(False, f"What came back cannot be checked: {type(error).__name__}: {error}"[:300])

    check.__annotations__["return"] = Verdict
    return check


def call(function: Callable, case: str, arguments: tuple, keywords: dict | None = None):
    """What `function` returns for copies of the arguments; Wrong, in one line, when it raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*copy.deepcopy(arguments), **copy.deepcopy(keywords or {}))
    except Exception as error:
        said = (str(error).strip().splitlines() or ["no message"])[0][:160]
        raise Wrong(f"{case}: your code raised {type(error).__name__}: {said}{_line_of(function, error)}") from None


def _line_of(function: Callable, error: Exception) -> str:
    """The student's line that failed, as far as its source is known."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file and frame.line]
    return f" (in the line `{lines[-1]}`)" if lines else ""


def call_all(function: Callable, cases: dict[str, tuple]) -> dict:
    """{case: what came back}; NotStarted when that is nothing in every case, Wrong when in some."""
    if function is None or function is ...:
        raise NotStarted
    if not callable(function):
        raise Wrong(f"Give the function itself to the check (its name, without brackets), not {show(function)}.")
    got = {case: call(function, case, arguments) for case, arguments in cases.items()}
    empty = [case for case, value in got.items() if value is None or value is ...]
    if len(empty) == len(got):
        raise NotStarted
    if empty:
        raise Wrong(f"{empty[0]}: nothing came back. Every way through the function needs a `return`.")
    return got


def judge(function: Callable, cases: dict[str, tuple], reference: Callable, mistakes: dict[str, Callable], read) -> None:
    """Raises Wrong unless `function` gives what `reference` gives for every case.

    `mistakes`: {what to say: a wrong function with the same arguments}. One that gives the student's values in all
    cases that are wrong is named. `read(value, wanted, case)` turns what came back into a number or a list of them.
    """
    wanted = {case: reference(*copy.deepcopy(arguments)) for case, arguments in cases.items()}
    got = {case: read(value, wanted[case], case) for case, value in call_all(function, cases).items()}
    wrong = [case for case in cases if not close(got[case], wanted[case])]
    for message, mistake in mistakes.items():
        if wrong and all(close(got[case], mistake(*copy.deepcopy(cases[case]))) for case in wrong):
            raise Wrong(message)
    if wrong:
        case = wrong[0]
        hint = " (nan: 0/0, the logarithm of 0, or inf - inf)" if "nan" in show(got[case]) else ""
        raise Wrong(f"{case}: wanted {show(wanted[case])}, got {show(got[case])}{hint}.")


def close(one, other, relative: float = 2e-3, absolute: float = 1e-4) -> bool:
    """Whether two numbers, or two lists of them of any depth, are the same up to rounding; nan is nan."""
    if isinstance(one, list) or isinstance(other, list):
        return (
            isinstance(one, list)
            and isinstance(other, list)
            and len(one) == len(other)
            and all(close(a, b, relative, absolute) for a, b in zip(one, other, strict=True))
        )
    if isinstance(one, Real) and isinstance(other, Real):
        both_nan = math.isnan(one) and math.isnan(other)
        return both_nan or math.isclose(one, other, rel_tol=relative, abs_tol=absolute)
    return one == other


def as_number(value, wanted=None, case: str = "") -> float:
    """A Python, NumPy or torch number, or an array that holds a single one, as a float."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        if value.size != 1 if isinstance(value, np.ndarray) else value.numel() != 1:
            raise Wrong(f"{case}: an array of shape {tuple(value.shape)} came back; a single number was wanted.")
        value = value.item()
    if not isinstance(value, Real):
        raise Wrong(f"{case}: {show(value)} came back, {a_kind(value)}; a number was wanted.")
    return float(value)


def as_loss(value, wanted=None, case: str = "") -> float:
    """A loss: as `as_number`, but a tensor, since `.backward()` must be able to run."""
    if not isinstance(value, torch.Tensor):
        kind = a_kind(value)
        raise Wrong(
            f"{case}: {kind} came back; a loss must stay a tensor, or there is no gradient (no `.item()`, no `float`)."
        )
    if value.numel() != 1:
        raise Wrong(f"{case}: a tensor of shape {tuple(value.shape)} came back; the loss is a single number: take the mean.")
    return float(value)


def as_vector(value, wanted: list, case: str) -> list[float]:
    """A list, tuple, array or tensor of as many numbers as `wanted`, as a list of floats."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        if value.ndim != 1:
            raise Wrong(f"{case}: shape {tuple(value.shape)} came back; ({len(wanted)},) was wanted.")
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        raise Wrong(f"{case}: {show(value)} came back, {a_kind(value)}; {len(wanted)} numbers were wanted.")
    if len(value) != len(wanted):
        raise Wrong(f"{case}: {len(value)} numbers came back; {len(wanted)} were wanted.")
    return [as_number(number, None, case) for number in value]


def as_text(value, wanted=None, case: str = "") -> str:
    """A text."""
    if not isinstance(value, str):
        raise Wrong(f"{case}: {show(value)} came back, {a_kind(value)}; a text was wanted.")
    return value


def needs_gradient(function: Callable, case: str, arguments: tuple, expected: list[torch.Tensor]) -> None:
    """Raises Wrong unless the loss has these gradients with respect to the first arguments."""
    inputs = [argument.clone().requires_grad_() for argument in arguments[: len(expected)]]
    own = [1.0 * leaf for leaf in inputs]  # may be changed in place, as a model's output may
    loss = call(lambda: function(*own, *copy.deepcopy(arguments[len(expected) :])), case, ())
    if not loss.requires_grad:
        raise Wrong(f"{case}: the number is right, but it has no gradient: is there a `detach`, `no_grad` or `item` in it?")
    gradients = call(lambda: torch.autograd.grad(loss.sum(), inputs, allow_unused=True), f"{case}, its gradient", ())
    for got, wanted in zip(gradients, expected, strict=True):
        if got is None or not torch.allclose(got.float(), wanted.float(), rtol=2e-3, atol=1e-4):
            raise Wrong(f"{case}: the number is right, its gradient is not: is a part of it detached?")


def show(value, digits: int = 4, longest: int = 160) -> str:
    """A value as short text for a message."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        value = value.tolist()
    if isinstance(value, float):
        return f"{value:.{digits}f}" if math.isfinite(value) else str(value)
    if isinstance(value, (list, tuple)):
        text = "[" + ", ".join(show(part, digits) for part in value) + "]"
    else:
        text = repr(value)
    return text if len(text) <= longest else text[: longest - 4] + " ..."


def a_kind(value) -> str:
    """ "a float", "an int": the type of a value, with its article."""
    name = type(value).__name__
    return ("an " if name[0].lower() in "aeio" else "a ") + name


def judge_claims(claims: dict, truths: list[tuple[bool, str]]) -> None:
    """Passes when each claim is marked as in `truths` (in order: is it true, and why); else Wrong or NotStarted."""
    if all(said is None for said in claims.values()):
        raise NotStarted("Not started.")
    if len(claims) != len(truths):
        raise Wrong(f"There should be {len(truths)} claims, and there are {len(claims)}: was one removed or added?")
    for (claim, said), (true, why) in zip(claims.items(), truths, strict=True):
        if said is not None and not isinstance(said, bool):
            raise Wrong(f"{show(said)} is neither True nor False.")
        if said is not None and said != true:
            raise Wrong(f"Think again: {show(claim)}. Hint: {why}.")
    still = sum(said is None for said in claims.values())
    if still:
        raise NotStarted(f"Right so far; {still} not started.")


def as_table(value, wanted: list[list], case: str) -> list[list[float]]:
    """A tensor, an array or a list of rows, as many rows and columns as `wanted`, as lists of floats."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        if tuple(value.shape) != (len(wanted), len(wanted[0])):
            raise Wrong(f"{case}: shape {tuple(value.shape)} came back; ({len(wanted)}, {len(wanted[0])}) was wanted.")
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        raise Wrong(f"{case}: {show(value)} came back; {len(wanted)} rows of numbers were wanted.")
    if len(value) != len(wanted):
        raise Wrong(f"{case}: {len(value)} rows came back; {len(wanted)} were wanted.")
    return [as_vector(row, wanted[i], f"{case}, row {i}") for i, row in enumerate(value)]
