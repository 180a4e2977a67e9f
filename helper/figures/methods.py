"""One picture a method: LoRA's two thin matrices, PPO's four models, DPO's loss, GRPO's advantages and loop."""

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from helper.figures.figure import BLUE, COLOURS, GREY, INK, LINES, PALE, RED, SKY, drawing, make_figure


def plot_lora(rows: int = 8, columns: int = 8, rank: int = 2) -> Figure:
    """y = W·x + α/r·B·(A·x) as a picture: the frozen matrix, the two thin ones that are trained, and the input of both.

    W is (rows, columns), B (rows, rank), A (rank, columns), x (columns, 1); B is 0 at the start (Hu et al. 2021,
    arXiv 2106.09685, eq. 3).
    """
    with drawing():
        figure, (axis,) = make_figure(1, 1, 9, 2.9)
        place, tall = 0.0, max(rows, columns) / 2
        parts = (  # name, shape, colour, what stands behind it, what it is at the start
            ("W", rows, columns, PALE, "", "as it came"), ("x", columns, 1, "white", "+ α/r ·", "the input"),
            ("B", rows, rank, SKY, "", "0 at the start"), ("A", rank, columns, SKY, "", "random at the start"),
            ("x", columns, 1, "white", "", "the same"),
        )  # fmt: skip
        for name, height, width, colour, sign, first in parts:
            edge = 2.5 if colour == SKY else 1
            axis.add_patch(Rectangle((place, -height / 2), width, height, facecolor=colour, edgecolor=INK, linewidth=edge))
            axis.text(place + width / 2, 0, name, ha="center", va="center", fontsize=12)
            count = f"{height} x {width}" + (f" = {height * width}" if name != "x" else "")
            axis.text(place + width / 2, -tall - 0.4, f"{count}\n{first}", ha="center", va="top", fontsize=9)
            axis.text(place + width + 2.2, 0, sign, ha="center", va="center", fontsize=14)
            place += width + (4.4 if sign else 2.4)
        axis.text(-1.2, 0, "y =", ha="right", va="center", fontsize=14)
        axis.set(xlim=(-3.6, place), ylim=(-tall - 2.6, tall + 0.4), aspect="equal")
        axis.axis("off")
        frozen = Patch(facecolor=PALE, edgecolor=INK, label="frozen: W")
        trained = Patch(facecolor=SKY, edgecolor=INK, linewidth=2.5, label="trained: B and A")
        figure.legend(handles=[frozen, trained], loc="outside upper left", ncols=2, frameon=False)
    figure.alt = (
        f"y is W times x, plus α/r times B times A times x. W is a frozen {rows} x {columns} matrix of {rows * columns} "
        f"weights; B ({rows} x {rank}, 0 at the start) and A ({rank} x {columns}, random at the start) are trained, "
        f"{rank * (rows + columns)} weights together."
    )
    return figure


def plot_ppo() -> Figure:
    """The four models of PPO with a learned reward, and what flows between them in one step."""
    boxes = {  # name: centre, text, trained
        "policy": ((1.1, 2), "policy $π_θ$", True), "reference": ((4.6, 3.3), "reference $π_{ref}$", False),
        "reward": ((4.6, 2), "reward model $r$", False), "critic": ((4.6, 0.7), "critic $V$", True),
        "tokens": ((7.8, 2.65), "reward of\neach token", None), "gae": ((10.3, 1.7), "GAE", None),
    }  # fmt: skip
    arrows = (
        ("policy", "reference", "answer"), ("policy", "reward", "answer"), ("policy", "critic", "answer"),
        ("reference", "tokens", "KL term"), ("reward", "tokens", "score"),
        ("tokens", "gae", ""), ("critic", "gae", "values"),
    )  # fmt: skip
    with drawing({"text.parse_math": True}):
        figure, (axis,) = make_figure(1, 1, 9.5, 3.6)
        for start, end, text in arrows:
            (x, y), (u, v) = boxes[start][0], boxes[end][0]
            axis.annotate("", (u - 0.95, v), (x + 0.95, y), arrowprops={"arrowstyle": "->", "color": INK})
            axis.text((x + u) / 2, (y + v) / 2 + 0.1, text, ha="center", fontsize=9, backgroundcolor="white")
        for (x, y), text, trained in boxes.values():
            colour, width = {True: (SKY, 2.5), False: (PALE, 1), None: ("white", 1)}[trained]
            axis.add_patch(Rectangle((x - 0.95, y - 0.36), 1.9, 0.72, facecolor=colour, edgecolor=INK, linewidth=width))
            axis.text(x, y, text, ha="center", va="center")
        for model, height, what in (
            ("policy", -0.55, "advantages: clipped loss"),
            ("critic", -0.1, "returns: squared error"),
        ):
            x, y = boxes[model][0]
            axis.plot([10.3, 10.3, x], [1.34, height, height], color=BLUE, linestyle="--", linewidth=1.2)
            axis.annotate("", (x, y - 0.36), (x, height), arrowprops={"arrowstyle": "->", "color": BLUE, "linestyle": "--"})
            axis.text(7.6, height + 0.07, what, ha="center", fontsize=9)
        axis.set(xlim=(0, 11.4), ylim=(-0.75, 3.8))
        axis.axis("off")
        trained = Patch(facecolor=SKY, edgecolor=INK, linewidth=2.5, label="trained")
        figure.legend(handles=[trained, Patch(facecolor=PALE, edgecolor=INK, label="frozen")], loc="outside upper left",
                      ncols=2, frameon=False)  # fmt: skip
    figure.alt = (
        "4 models, 2 of them trained. The policy's answer goes to the frozen reference, which gives a KL term for each "
        "token, to the frozen reward model, which gives a score at the end, and to the critic, which gives a value before "
        "each token. The first two make the reward of each token; with the values GAE makes advantages, which train the "
        "policy, and returns, which train the critic."
    )
    return figure


def plot_dpo_loss(betas: list[float] = (0.05, 0.1, 0.5, 1.0)) -> Figure:
    """DPO's loss -log σ(β·m), and its gradient's weight without the factor β, σ(-β·m), against the margin m.

    m is the log-ratio of the chosen answer minus that of the rejected one, in nats (Rafailov et al. 2023,
    eq. 7).
    """
    margin = np.linspace(-20, 60, 401)
    with drawing():
        figure, (loss, weight) = make_figure(1, 2, 9, 3.2)
        for beta, colour, line in zip(betas, COLOURS * 9, LINES * 9, strict=False):
            loss.plot(
                margin,
                np.logaddexp(0, -beta * margin),
                line,
                color=colour,
                label=f"β = {beta:g}",
                linewidth=2,
            )
            weight.plot(margin, 1 / (1 + np.exp(beta * margin)), line, color=colour, linewidth=2)
        loss.plot(0, math.log(2), "o", color="black")
        loss.annotate("start: ln 2", (0, math.log(2)), (2, 2.2), arrowprops={"arrowstyle": "-"})
        loss.set(title="loss", xlabel="margin m (nats)", ylim=(0, 5))
        weight.set(title="push on each answer, divided by β", xlabel="margin m (nats)", ylim=(0, 1))
        figure.legend(loc="outside upper center", ncols=len(betas), frameon=False, handlelength=3)
    at_20 = ", ".join(f"{np.logaddexp(0, -20 * beta):.2g} for β = {beta:g}" for beta in betas)
    figure.alt = (
        "DPO's loss and its push on the answers against the margin m. Every loss is ln 2 = 0.69 at m = 0 and falls "
        f"as m grows, the faster the larger β: at m = 20 it is {at_20}. The push falls from 1 to 0 about m = 0."
    )
    return figure


def plot_group_advantages(rewards: list[float] | list[list[float]]) -> Figure:
    """Rewards of one or several groups, and the advantages (r - mean) / (std + 1e-4) that GRPO makes of them.

    std is the sample's (n - 1), as in the library (Shao et al. 2024, arXiv 2402.03300, section 4.1.2).
    """
    groups = [list(map(float, group)) for group in (rewards if isinstance(rewards[0], list | tuple) else [rewards])]
    said = []
    with drawing():
        figure, axes = make_figure(len(groups), 2, 9, 0.4 + 2.2 * len(groups))
        for row, group in enumerate(groups):
            values, numbers = np.array(group), np.arange(1, len(group) + 1)
            spread = values.std(ddof=1) if len(group) > 1 else 0.0
            advantages = (values - values.mean()) / (spread + 1e-4)
            left, right = axes[2 * row], axes[2 * row + 1]
            left.bar(numbers, values, color=GREY)
            left.axhline(values.mean(), color="black", linestyle="--", linewidth=1, label=f"mean {values.mean():.2f}")
            left.legend(frameon=False)
            right.bar(numbers, advantages, color=[BLUE if a >= 0 else RED for a in advantages])
            for number, advantage in zip(numbers, advantages, strict=True):
                side, place = (2, "bottom") if advantage >= 0 else (-2, "top")
                right.annotate(f"{advantage:+.1f}" if advantage else "0", (number, advantage), (0, side), ha="center",
                               textcoords="offset points", va=place, fontsize=9)  # fmt: skip
            right.axhline(0, color="black", linewidth=1)
            right.set_ylim(-max(1, *abs(advantages)) * 1.35, max(1, *abs(advantages)) * 1.35)
            if spread == 0:
                right.text(0.5, 0.75, "all alike: no signal", ha="center", transform=right.transAxes)
            left.set(title="reward", xticks=numbers, xlabel="response", ylim=(min(0, *values), max(1, *values) * 1.25))
            right.set(title="advantage", xticks=numbers, xlabel="response")
            listed = (", ".join(f"{x:.2g}" for x in numbers_of) for numbers_of in (values, advantages))
            said.append("rewards {} give the advantages {}".format(*listed) + (", no signal" if spread == 0 else ""))
    figure.alt = f"Groups of responses: {'; '.join(said)}."
    return figure


def plot_grpo_loop() -> Figure:
    """GRPO's loop as a loop: five stations in a ring, what each hands on, and the copies of the policy."""
    stations = (  # what stands in the box, what it hands on, and where that is written
        ("1 sample\nG responses", "token ids, mask", (2.05, 1.45)),
        ("2 reward\neach response", "rewards (B,)", (3.1, -0.55)),
        ("3 compare\nwithin the group", "advantages (B,)", (0.0, -1.66)),
        ("4 loss\nratio, clip, KL", "gradient", (-3.0, -0.55)), ("5 update\nthe policy $π_θ$", "new weights", (-2.0, 1.45)),
    )  # fmt: skip
    angles = [math.pi / 2 - 2 * math.pi * i / len(stations) for i in range(len(stations))]
    places = [(3.1 * math.cos(angle), 1.75 * math.sin(angle)) for angle in angles]
    with drawing({"text.parse_math": True}):
        figure, (axis,) = make_figure(1, 1, 8.5, 4.4)
        boxes = [
            Rectangle((x - 0.85, y - 0.34), 1.7, 0.68, facecolor=SKY if i == 4 else PALE, edgecolor=INK)
            for i, (x, y) in enumerate(places)
        ]
        for i, (box, (x, y), (text, handed, where)) in enumerate(zip(boxes, places, stations)):
            after = (i + 1) % len(boxes)
            _ring_arrow(axis, places[i], places[after], box, boxes[after], BLUE, -0.12)
            axis.text(*where, handed, ha="center", va="center", fontsize=9, backgroundcolor="white")
            axis.add_patch(box)
            axis.text(x, y, text, ha="center", va="center")
        _ring_arrow(axis, places[4], places[3], boxes[4], boxes[3], RED, -0.35)
        axis.text(-1.72, -0.42, "μ times\nper batch", ha="left", va="center", fontsize=9)
        kept = "$π_{old}$: the policy of step 1,\nkept for the ratio\n\n$π_{ref}$: the policy before RL,\nkept for the KL"
        axis.text(0.9, -0.15, kept, ha="center", va="center", fontsize=9)
        axis.set(xlim=(-4.3, 4.3), ylim=(-1.95, 2.3))
        axis.axis("off")
    figure.alt = (
        "A ring of 5 stations: 1 sample G responses to each prompt, 2 reward each, 3 compare within the group, 4 the loss "
        "with ratio, clip and KL, 5 update the policy; then again from 1 with the new weights. Steps 4 and 5 run μ times "
        "per batch. The sampling policy is kept for the ratio, the one before RL for the KL."
    )
    return figure


def _ring_arrow(axis, start: tuple, end: tuple, leaves: Rectangle, meets: Rectangle, colour: str, bend: float) -> None:
    """A bent arrow from the edge of one box to the edge of another."""
    style = {"arrowstyle": "-|>", "color": colour, "lw": 2, "connectionstyle": f"arc3,rad={bend}"}
    axis.annotate("", end, start, arrowprops={**style, "patchA": leaves, "patchB": meets})
