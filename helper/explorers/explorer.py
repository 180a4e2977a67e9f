"""What all explorers share: controls above what they show, and a static page where no kernel runs.

In a running JupyterLab an explorer is a widget, and every control works with the keyboard. In a saved notebook or on
the web the same output shows its first state as a page with alternative text. A view is a plain function from the controls'
values to words and HTML, and stands in one file with its controls.
Left out on purpose: anything that trains, and controls that need a mouse.
"""

import math
import threading
from collections.abc import Callable

from ipywidgets import HTML, Button, HBox, Layout, ToggleButtons, VBox, Widget

from helper.figures.page import View, in_words

ONE_AT_A_TIME = threading.RLock()  # clicks and moves come in two threads in JupyterLab: the last one must win
NOTE = "This is a picture of an explorer. Run the cell in JupyterLab, and its controls appear: "


class Explorer(VBox):
    """Controls above what they show. `controls`: by name; set a `.value` as a hand would. `shown`: the View.

    `show` takes the controls' values by name; a ValueError's words are shown. It is called when one of `moves` changes
    (None: any of them); `waiting` is said meanwhile.
    """

    def __init__(
        self, controls: dict[str, Widget], show: Callable[..., View], moves: list[str] | None = None, waiting: str = ""
    ):
        self.controls, self.show, self.waiting = controls, show, waiting
        self.values = {name: control for name, control in controls.items() if not isinstance(control, Button)}
        self.view = HTML(layout=Layout(width="auto", margin="4px 0"))
        self.draw()
        for name in moves or self.values:
            controls[name].observe(self.redraw, "value")
        buttons = [control for control in controls.values() if isinstance(control, Button)]
        row = [HBox(buttons, layout=Layout(flex_flow="row wrap"))] if buttons else []
        super().__init__([*self.values.values(), *row, self.view])

    def state(self) -> dict:
        """The controls' values by name."""
        return {name: control.value for name, control in self.values.items()}

    def draw(self) -> None:
        """Show what belongs to the controls' values."""
        try:
            self.shown = self.show(**self.state())
        except ValueError as error:
            self.shown = in_words(str(error))
        self.view.value = self.shown.html

    def redraw(self, _=None) -> None:
        """The same after a move. Any error becomes words: raised in a widget, nobody would see it."""
        with ONE_AT_A_TIME:
            if self.waiting:
                self.view.value = in_words(self.waiting).html
            try:
                self.draw()
            except Exception as error:
                self.shown = in_words(f"{type(error).__name__}: {error}")
                self.view.value = self.shown.html

    def _repr_mimebundle_(self, **options) -> dict:
        """The widget, and for where there is none the page and its words."""
        names = ", ".join(control.description for control in self.controls.values())
        note = in_words(f"{NOTE}{names}.").html
        bundle = {"text/html": self.shown.html + note, "text/plain": self.shown.words}
        return super()._repr_mimebundle_(**options) | bundle


def look(name: str, at_once: bool = False) -> dict:
    """Description and size shared by the controls; they shrink with the window.

    `at_once`: every key counts; else Enter, leaving the field or letting go of the slider.
    """
    look = {"style": {"description_width": "130px"}, "layout": Layout(width="auto", max_width="700px")}
    return look | {"description": name, "continuous_update": at_once}


def choice(name: str, options: dict) -> ToggleButtons:
    """Buttons of which one is chosen: JupyterLab takes the arrow keys away from a drop-down list."""
    style = {"description_width": "130px", "button_width": "auto"}
    return ToggleButtons(options=list(options.items()), description=name, style=style)


def button(name: str, press: Callable[[], None]) -> Button:
    button = Button(description=name, layout=Layout(width="auto"))
    button.on_click(lambda _: press())
    return button


LONGEST_TEXT = 1000  # characters: the memory that attention takes grows with the square of the length


def check_text(text: str) -> None:
    """ValueError, in words for the student, for a text that is empty or too long."""
    if not text.strip():
        raise ValueError("There is no text yet: type one.")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"The text has {len(text):,} characters; at most {LONGEST_TEXT:,} are allowed here.")


MOST_TOKENS = 16


def numbers_in(text: str, wrong: str) -> list[float]:
    """The numbers in a text, separated by commas, semicolons or spaces; ValueError says what is `wrong` with a word."""
    numbers = []
    for word in text.replace(",", " ").replace(";", " ").split():
        try:
            numbers.append(float(word))
        except ValueError:
            raise ValueError(f'"{word[:40]}" {wrong}') from None
    return numbers


def read_numbers(text: str, name: str) -> list[float]:
    """The numbers of the tokens of a response; ValueError says what is wrong with them, and calls them `name`."""
    numbers = numbers_in(text, f"in the {name} is not a number. Write them as in: 0, 0, 0.5, 1")
    if not all(math.isfinite(number) and abs(number) <= 1e6 for number in numbers):
        raise ValueError(f"The {name} must be numbers of at most a million: no nan, no inf.")
    if not 1 <= len(numbers) <= MOST_TOKENS:
        raise ValueError(f"A response has 1 to {MOST_TOKENS} tokens here; these are {len(numbers)} {name}.")
    return numbers


def decimal(value: float, places: int = 3) -> str:
    """0.500, -0.500, and 0.000 for what is rounded to zero."""
    return f"{round(value, places) + 0.0:.{places}f}"


def signed(value: float, places: int = 3) -> str:
    """The same, with a plus before what is above zero."""
    return ("+" if round(value, places) > 0 else "") + decimal(value, places)
