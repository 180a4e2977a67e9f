"""Tokens as pictures: the likeliest next ones, and which tokens of a row are trained."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from helper.figures.figure import BLUE, COLOURS, PALE, RED, SKY, drawing, make_figure


def plot_next_tokens(tables: dict[str, pd.DataFrame]) -> Figure:
    """Bars of the likeliest next tokens, side by side: {title: `next_token_table(...)`}.

    "before" and "after" have the colours that they have in every figure.
    """
    longest, said = max(len(table) for table in tables.values()), []
    with drawing():
        figure, axes = make_figure(1, len(tables), min(4.5 * len(tables), 9.5), 0.9 + 0.3 * longest)
        for axis, (title, table), colour in zip(axes, tables.items(), COLOURS * 9, strict=False):
            places = np.arange(len(table))[::-1]
            colour = {"before": RED, "after": BLUE}.get(title, colour)
            axis.barh(places, table["probability"], color=colour)
            axis.set_yticks(places, list(table["token"]), family="monospace")
            shown = [f"{value:.0%}" if value >= 0.01 else "<1%" for value in table["probability"]]
            for place, value, text in zip(places, table["probability"], shown, strict=True):
                axis.text(value + 0.015, place, text, va="center", fontsize=9)
            axis.set(title=title, xlabel="probability", xlim=(0, 1.14), xticks=[0, 0.5, 1])
            axis.grid(axis="y", visible=False)
            first = [f'"{token}" {text}' for token, text in zip(table["token"], shown, strict=True)][:3]
            said.append(f"{title}: {', '.join(first)}")
    figure.alt = f"The likeliest next tokens. {'; '.join(said)}."
    return figure


def plot_sft_mask(tokens: list[str], mask: list[int]) -> Figure:
    """The tokens of a training row as a strip: `mask` 1 is trained (in the loss; blue, framed), 0 is only read."""
    if len(tokens) != len(mask):
        raise ValueError(f"{len(tokens)} tokens and {len(mask)} mask values.")
    shown = [token.replace(" ", "␣").replace("\n", "\\n") or "∅" for token in tokens]
    places, across, line = [], 0.0, 0
    for token in shown:
        if across and across + len(token) + 1 > 102:
            across, line = 0.0, line + 1
        places.append((across, line))
        across += len(token) + 1.6
    with drawing():
        figure, (axis,) = make_figure(1, 1, 9, 0.55 + 0.36 * (line + 1))
        for token, trained, (x, y) in zip(shown, mask, places, strict=True):
            look = {"facecolor": SKY, "edgecolor": "black"} if trained else {"facecolor": PALE, "edgecolor": "white"}
            box = {**look, "linewidth": 1, "boxstyle": "square,pad=0.25"}
            axis.text(x, -y, token, family="monospace", fontsize=9.5, bbox=box, va="center", color="black")
        axis.set(xlim=(-1, 106), ylim=(-line - 0.6, 0.6))
        axis.axis("off")
        patches = [
            Patch(facecolor=SKY, edgecolor="black", label="trained: in the loss"),
            Patch(facecolor=PALE, label="read only: masked"),
        ]
        figure.legend(handles=patches, loc="outside upper left", ncols=2, frameon=False)
    trained = "".join(token for token, used in zip(tokens, mask, strict=True) if used)
    figure.alt = f"{len(tokens)} tokens of a training row, {sum(map(bool, mask))} of them trained: {trained!r}."
    return figure


def show_token(token: str) -> str:
    """A token with its spaces and line ends visible."""
    return token.replace(" ", "␣").replace("\n", "\\n").replace("\t", "\\t")
