"""Explorer: one message, and every model's answer to it."""

from html import escape

from ipywidgets import BoundedIntText, FloatSlider, Text

from helper.explorers.explorer import Explorer, button, check_text, look
from helper.figures.page import TEXT, View, fact_list, page
from helper.generation import generate_responses


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
        "message": Text(message, **look("message")),
        "longest": BoundedIntText(max_new_tokens, min=1, max=512, **look("tokens at most")),
        "temperature": FloatSlider(0.0, min=0.0, max=2.0, step=0.1, **look("temperature")),
        "seed": BoundedIntText(seed, min=0, max=2**31 - 1, **look("seed")),
        "ask": button("ask", lambda: explorer.redraw()),
    }

    def show(**state) -> View:
        return answers_view(models, system_message=system_message, **state)

    explorer = Explorer(controls, show, moves=["message"], waiting="The models are writing …")
    return explorer


def answers_view(
    models: dict, message: str, longest: int, temperature: float, seed: int, system_message: str | None = None
) -> View:
    """Each model's answer to one message. The draws have a generator of their own: the lesson's random numbers stay."""
    check_text(message)
    options, answers = {"max_new_tokens": longest, "temperature": temperature, "seed": seed}, {}
    for name, (model, tokenizer) in models.items():
        answers[name] = generate_responses(model, tokenizer, message, system_message, **options) or "(nothing)"
    place = f"flex:1 1 220px;border:1px solid #999999;padding:6px 10px;{TEXT}"
    cards = [f'<div style="{place}"><b>{escape(name)}</b><br>{escape(text)}</div>' for name, text in answers.items()]
    cards = f'<div style="display:flex;flex-wrap:wrap;gap:8px">{"".join(cards)}</div>'
    words = "\n".join([f"Asked: {message}", *(f"{name}: {text}" for name, text in answers.items())])
    return View(words, page(fact_list({"asked": message}), cards))
