"""The look that all figures share, and how a figure is shown: once, as an image with alternative text.

Dark text on an opaque white ground (readable in JupyterLab's dark theme too), the Okabe-Ito colours (told
apart by colour-blind readers) and never colour alone, text of 9 points and more, at most 9.5 inches wide.
Left out on purpose: interactive charts (`helper.explorers`), style sheets, and any computing that is not drawing.
"""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from io import BytesIO

import matplotlib as mpl
import matplotlib.pyplot as plt
from IPython import get_ipython
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#999999",
)  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY)
INK, PALE = "#333333", "#E3E3E3"
LINES = ("-", "--", "-.", ":")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++")
FONT = {
    "text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK, "axes.edgecolor": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.facecolor": "white", "hatch.linewidth": 0.6,
    "font.size": 10, "axes.titlesize": 11, "axes.labelsize": 10, "xtick.labelsize": 9, "ytick.labelsize": 9,
    "legend.fontsize": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#E5E5E5", "axes.axisbelow": True, "text.parse_math": False,
}  # fmt: skip


DRAWING = threading.RLock()


@contextmanager
def drawing(changes: dict | None = None) -> Iterator[None]:
    """The course's look for what is drawn in the block, or in the function under it; `changes` to that look.

    In one thread at a time: the settings of matplotlib are those of the whole process, and a widget may redraw while the
    charts of a training are drawn. Else one would be drawn with the settings of the other, and these could stay for ever.
    """
    with DRAWING, mpl.rc_context(FONT | (changes or {})):
        yield


class Picture(Figure):
    """A figure that a notebook shows as one image with alt text (`alt`), for readers who cannot see it."""

    alt = ""

    def _ipython_display_(self) -> None:
        show_figure(self, self.alt)


def show_figure(figure: Figure, alt: str) -> None:
    """Show a figure once, with a text that says what it shows; outside a notebook only the text.

    As HTML, because alt text given as metadata of an image is lost when a notebook becomes a web page.
    """
    show(image_html(figure, alt), alt)
    with DRAWING:
        plt.close(figure)


def show(html: str, text: str) -> None:
    """Show `html` in a notebook, and `text` where there is none. The caller has escaped the HTML."""
    if in_notebook():
        display({"text/html": html, "text/plain": text}, raw=True)
    else:
        print(text)


def in_notebook() -> bool:
    """Whether outputs go to a notebook: not plain Python, and not IPython in a terminal."""
    return getattr(get_ipython(), "kernel", None) is not None


def image_html(figure: Figure, alt: str) -> str:
    """The figure as an `<img>` of a PNG, 100 pixels an inch, with its alt text."""
    png = BytesIO()
    with DRAWING:
        figure.savefig(png, format="png", dpi=100)
    width, height = (round(100 * inches) for inches in figure.get_size_inches())
    data = base64.b64encode(few_colours(png.getvalue())).decode("ascii")
    size = f'width="{width}" height="{height}" style="max-width: 100%; height: auto"'
    return f'<img alt="{escape(alt)}" {size} src="data:image/png;base64,{data}">'


def few_colours(png: bytes) -> bytes:
    """The same picture on white in at most 128 colours: charts need no more, and it takes less than half of the bytes."""
    picture = Image.open(BytesIO(png)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    smaller = BytesIO()
    reduced = Image.alpha_composite(white, picture).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    reduced.save(smaller, format="png", optimize=True)
    return min(png, smaller.getvalue(), key=len)


def make_figure(rows: int, columns: int, width: float, height: float, layout: str | None = "constrained"):
    """A figure and its axes as a flat list."""
    with drawing():
        figure, axes = plt.subplots(rows, columns, figsize=(width, height), facecolor="white", squeeze=False,
                                    layout=layout, FigureClass=Picture)  # fmt: skip
        plt.close(figure)  # the cell shows the returned figure; without this it would show twice
    return figure, list(axes.flat)


@drawing()
def make_panels(columns: int, width: float, height: float):
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])
