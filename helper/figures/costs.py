"""The cost of a training run as a page: its parts with bars, what fits here, and what to change."""

from __future__ import annotations

from html import escape

from IPython.display import HTML, display

from helper.figures.page import CELL, page
from helper.machine.costs import Cost, Time, what_fits


def show_cost(cost: Cost, available: int | None = None, duration: Time | None = None) -> None:
    """Show, before a run, its memory by part, what fits here and what to change, and the time if it was estimated."""
    fits = what_fits(cost, available)
    display(HTML(cost_page(cost, fits, duration)))


def cost_words(cost: Cost, fits: list[dict], duration: Time | None = None) -> str:
    """What `show_cost` shows, in a sentence or two of plain text."""
    first = fits[0]
    words = f"Predicted peak {_size(cost.peak)}, which {'fits' if first['fits'] else 'does not fit'} here"
    good = next((row for row in fits if row["fits"]), None)
    if not first["fits"]:
        words += (
            f"; {good['change'].removeprefix('and ')} brings it to {_size(good['peak'])}"
            if good
            else "; nor does any change"
        )
    words += f". {cost.parameters / 1e6:,.1f}M parameters, {cost.trained / 1e6:,.1f}M of them trained."
    if duration:
        words += f" About {_span(duration.seconds)} ({_span(duration.low)} to {_span(duration.high)})."
    return words


def cost_page(cost: Cost, fits: list[dict], duration: Time | None = None) -> str:
    """The cost as a static page: one sentence, the parts with bars, and the changes."""
    largest = max(cost.parts.values())
    parts = [
        (name, _size(value), f'<div role="img" aria-label="{_size(value)}" style="background:#0072B2;height:10px;'
         f'width:{max(1, round(180 * value / largest))}px"></div>')
        for name, value in cost.parts.items() if value
    ]  # fmt: skip
    peaks = [
        (escape(row["change"]), _size(row["peak"]), "yes" if row["fits"] else "no", escape(row["price"])) for row in fits
    ]
    when = max(cost.moments, key=cost.moments.get)
    return page(
        f"<p>{escape(cost_words(cost, fits, duration))}</p>",
        _table(("part", "memory", ""), parts),
        f"<p>Not all are there at once; the most when {escape(when) if when[:3] == 'the' else escape(when) + ' runs'}.</p>",
        _table(("what to change", "predicted peak", "fits here", "its price"), peaks),
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table of cells that are HTML already."""

    def line(kind: str, cells: tuple[str, ...]) -> str:
        others = "".join(f'<{kind} style="{CELL}">{cell}</{kind}>' for cell in cells[1:])
        return f'<tr><th style="{CELL}">{cells[0]}</th>{others}</tr>'

    body = "".join(line("td", row) for row in rows)
    head = f"<thead>{line('th', head)}</thead>"
    return f'<table style="border-collapse:collapse;margin:6px 0">{head}<tbody>{body}</tbody></table>'


def _size(size: float) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
