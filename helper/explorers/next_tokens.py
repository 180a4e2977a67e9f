"""Explorer: the likeliest next tokens of several models after a text."""

import pandas as pd
from ipywidgets import Text, Textarea

from helper.explorers.explorer import Explorer, button, check_text, choice, look
from helper.figures.figure import image_html
from helper.figures.page import View, fact_list, page
from helper.figures.tokens import plot_next_tokens, show_token
from helper.generation import next_logits, next_token_table


def explore_next_token(models: dict[str, tuple], text: str = "What is an LLM?", k: int = 8) -> Explorer:
    """The `k` likeliest next tokens of several models, {name: (model, tokenizer)}, after a text that you type.

    A button a model appends its likeliest token to the answer so far, so that an answer can be written token by token.
    """
    controls = {
        "text": Text(text, **look("text")),
        "chat": choice("the models read it", {"as it is": False, "in the chat template": True}),
        "answer": Textarea("", rows=2, placeholder="(nothing yet)", **look("answer so far")),
    }  # fmt: skip
    buttons = {}
    for name in models:
        buttons[f"append {name}"] = button(f"append {name}'s likeliest token", lambda name=name: append(name))
    buttons["clear"] = button("clear the answer", lambda: setattr(controls["answer"], "value", ""))

    def append(name: str) -> None:
        model, tokenizer = models[name]
        state = {key: control.value for key, control in controls.items()}
        try:
            controls["answer"].value += likeliest_token(model, tokenizer, full_prompt(tokenizer, **state))
        except ValueError:
            explorer.redraw()  # says what is wrong with the text

    explorer = Explorer(controls | buttons, lambda **state: next_token_view(models, k=k, **state))
    return explorer


def next_token_view(models: dict, text: str, chat: bool, answer: str, k: int = 8) -> View:
    """The next-token distributions of several models after the same text."""
    tables = {
        name: next_token_table(model, tokenizer, full_prompt(tokenizer, text, chat, answer), k)
        for name, (model, tokenizer) in models.items()
    }
    words = "; ".join(f"{name}: {_top_tokens(table)}" for name, table in tables.items())
    words = f"The likeliest next tokens. {words}."
    tokenizer = next(iter(models.values()))[1]
    shown = show_token(full_prompt(tokenizer, text, chat, answer))
    return View(words, page(fact_list({"the models read": shown}), image_html(plot_next_tokens(tables), words)))


def _top_tokens(table: pd.DataFrame, k: int = 3) -> str:
    return ", ".join(f"{token} {share:.0%}" for token, share in table.head(k).itertuples(index=False))


def likeliest_token(model, tokenizer, text: str) -> str:
    """The text of the likeliest next token, also when it is a special one."""
    return tokenizer.decode([next_logits(model, tokenizer, text).argmax().item()])


def full_prompt(tokenizer, text: str, chat: bool, answer: str) -> str:
    """`text` as it is, or as a message in the chat template, and after it what has been answered so far."""
    check_text(text)
    check_text(text + answer)
    if not chat:
        return text + answer
    messages = [{"role": "user", "content": text}]
    options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
    return tokenizer.apply_chat_template(messages, **options) + answer
