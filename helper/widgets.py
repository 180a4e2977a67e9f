"""Explorers: move a control, see what changes. One public function each; put the call last in a cell.

In a running JupyterLab an explorer is a widget, and every control works with the keyboard. In a saved notebook or on
the web, where no kernel runs, the same output shows its first state as a page with alternative text.
Left out on purpose: what is drawn (views.py), anything that trains, and controls that need a mouse.
"""

import json
import threading
from collections.abc import Callable
from pathlib import Path

from ipywidgets import (
    HTML,
    BoundedIntText,
    Button,
    FloatSlider,
    HBox,
    Layout,
    SelectionSlider,
    Text,
    Textarea,
    ToggleButtons,
    VBox,
    Widget,
)

from helper.models import project_folder
from helper.views import (
    MASKS,
    View,
    advantages_view,
    answers_view,
    dpo_view,
    full_prompt,
    in_words,
    likeliest_token,
    next_token_view,
    rates_view,
    read_rewards,
    rewards_view,
    tokens_view,
)

BETAS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
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


def _look(name: str, at_once: bool = False) -> dict:
    """Description and size shared by the controls; they shrink with the window.

    `at_once`: every key counts; else Enter, leaving the field or letting go of the slider.
    """
    look = {"style": {"description_width": "130px"}, "layout": Layout(width="auto", max_width="700px")}
    return look | {"description": name, "continuous_update": at_once}


def _choice(name: str, options: dict) -> ToggleButtons:
    """Buttons of which one is chosen: JupyterLab takes the arrow keys away from a drop-down list."""
    style = {"description_width": "130px", "button_width": "auto"}
    return ToggleButtons(options=list(options.items()), description=name, style=style)


def _button(name: str, press: Callable[[], None]) -> Button:
    button = Button(description=name, layout=Layout(width="auto"))
    button.on_click(lambda _: press())
    return button


def explore_next_token(models: dict[str, tuple], text: str = "What is an LLM?", k: int = 8) -> Explorer:
    """The `k` likeliest next tokens of several models, {name: (model, tokenizer)}, after a text that you type.

    A button a model appends its likeliest token to the answer so far, so that an answer can be written token by token.
    """
    controls = {
        "text": Text(text, **_look("text")),
        "chat": _choice("the models read it", {"as it is": False, "in the chat template": True}),
        "answer": Textarea("", rows=2, placeholder="(nothing yet)", **_look("answer so far")),
    }  # fmt: skip
    buttons = {}
    for name in models:
        buttons[f"append {name}"] = _button(f"append {name}'s likeliest token", lambda name=name: append(name))
    buttons["clear"] = _button("clear the answer", lambda: setattr(controls["answer"], "value", ""))

    def append(name: str) -> None:
        model, tokenizer = models[name]
        state = {key: control.value for key, control in controls.items()}
        try:
            controls["answer"].value += likeliest_token(model, tokenizer, full_prompt(tokenizer, **state))
        except ValueError:
            explorer.redraw()  # says what is wrong with the text

    explorer = Explorer(controls | buttons, lambda **state: next_token_view(models, k=k, **state))
    return explorer


def chat_side_by_side(
    models: dict[str, tuple],
    message: str = "What is an LLM?",
    max_new_tokens: int = 60,
    seed: int = 0,
    system_message: str | None = None,
) -> Explorer:
    """Type a message, and every model of {name: (model, tokenizer)} answers it.

    Temperature 0 is greedy; above, `seed` decides the draw. The random numbers of the lesson are not touched.
    """
    controls = {
        "message": Text(message, **_look("message")),
        "longest": BoundedIntText(max_new_tokens, min=1, max=512, **_look("tokens at most")),
        "temperature": FloatSlider(0.0, min=0.0, max=2.0, step=0.1, **_look("temperature")),
        "seed": BoundedIntText(seed, min=0, max=2**31 - 1, **_look("seed")),
        "ask": _button("ask", lambda: explorer.redraw()),
    }

    def show(**state) -> View:
        return answers_view(models, system_message=system_message, **state)

    explorer = Explorer(controls, show, moves=["message"], waiting="The models are writing …")
    return explorer


def explore_tokens(tokenizer, messages: list[dict]) -> Explorer:
    """The tokens of a conversation that you can edit, with the loss mask and the end of each turn.

    `messages`: {"role", "content"} each; the last is the answer that is trained on.
    """
    roles = [message["role"] for message in messages]
    controls = {
        f"message {number}": Textarea(message["content"], rows=2, **_look(message["role"], at_once=True))
        for number, message in enumerate(messages)
    }
    controls["mask"] = _choice("the loss is on", {words: mask for mask, words in MASKS.items()})

    def show(mask: str, **texts: str) -> View:
        edited = [{"role": role, "content": text} for role, text in zip(roles, texts.values(), strict=True)]
        return tokens_view(tokenizer, edited, mask)

    return Explorer(controls, show)


def explore_dpo_loss(chosen: float = 0.0, rejected: float = 0.0, beta: float = 0.2) -> Explorer:
    """DPO's loss, gradient weight and implicit rewards for both log-ratios log π/π_ref (nats) and β (one of BETAS)."""
    ratio = {"min": -15.0, "max": 15.0, "step": 0.5}
    controls = {
        "chosen": FloatSlider(chosen, **ratio, **_look("chosen log-ratio")),
        "rejected": FloatSlider(rejected, **ratio, **_look("rejected log-ratio")),
        "beta": SelectionSlider(options=[(f"{b:g}", b) for b in BETAS], value=beta, **_look("β")),
    }
    return Explorer(controls, dpo_view)


def explore_group_advantages(rewards: list[float] = (1, 0, 2)) -> Explorer:
    """Edit the rewards of a group; see its advantages, with and without division by std.

    ValueError for `rewards` that are none.
    """
    text = ", ".join(f"{reward:g}" for reward in rewards)
    read_rewards(text)
    return Explorer({"text": Text(text, **_look("rewards of a group"))}, advantages_view)


def reward_playground(
    reward_functions: list[Callable] | dict[str, Callable], expected: str = "72", completion: str = "\\boxed{72}"
) -> Explorer:
    """Type a completion; see what every reward function pays for it, and why. A function's error is shown in words."""
    functions = reward_functions
    if not isinstance(functions, dict):
        functions = {function.__name__: function for function in reward_functions}
    controls = {
        "completion": Textarea(completion, rows=3, **_look("completion", at_once=True)),
        "expected": Text(str(expected), **_look("expected answer", at_once=True)),
    }
    return Explorer(controls, lambda **state: rewards_view(functions, **state))


def explore_learning_rates(path: str | Path | None = None) -> Explorer:
    """Move through recorded SFT runs that differ in the learning rate only: loss, held-out score, answers.

    `path`: a record of `python -m factory.record`; None takes the course's own. FileNotFoundError says how to make it.
    """
    path = Path(path or project_folder() / "data" / "recorded" / "learning_rates.json")
    if not path.is_file():
        raise FileNotFoundError(f"There is no record {path}: `make record` makes it.")
    record = json.loads(path.read_text(encoding="utf-8"))
    rates = [run["learning_rate"] for run in record["runs"]]
    slider = SelectionSlider(options=[(f"{rate:g}", rate) for rate in rates], **_look("learning rate"))
    return Explorer({"rate": slider}, lambda rate: rates_view(record, rate))
