"""What the explorers of `helper.widgets` show: each view is a plain function from settings to words and HTML.

The page is white with dark text in either JupyterLab theme, no mark is by colour alone, and every text that a model,
a data set or a student wrote is escaped. A picture carries its words as alternative text.
Left out on purpose: anything that moves (the controls are in widgets.py) and figures that a lesson shows by
themselves (plots.py).
"""

import base64
import math
from collections.abc import Callable
from html import escape
from io import BytesIO
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from helper.answers import answers_match, extract_boxed
from helper.evaluation import wilson_interval
from helper.generation import generate_responses, next_token_table, plain_forward, show_token, text_ids
from helper.models import end_of_turn_id
from helper.plots import BLUE, FONT, GREY, ORANGE, RED, SKY, plot_next_tokens
from helper.rewards import hackable_reward

LONGEST_TEXT = 1000  # characters: the memory that attention takes grows with the square of the length
MOST_REWARDS = 16
MASKS = {
    "answer": "the answer",
    "everything": "all tokens",
    "no end": "the answer without its end",
}
PAGE = "background:#ffffff;color:#1a1a1a;padding:10px;font-size:14px;line-height:1.5;max-width:760px"
CELL = "background:#ffffff;color:#1a1a1a;border:1px solid #999999;padding:4px 8px;text-align:left;vertical-align:top"
TEXT = "white-space:pre-wrap;overflow-wrap:anywhere"  # line ends as written, and no text wider than its place
TOKEN = "display:inline-block;color:#1a1a1a;font-family:monospace;font-size:13px;padding:0 3px;margin:2px 1px"


class View(NamedTuple):
    """What an explorer shows: in plain words (also the picture's alternative text), and as HTML."""

    words: str
    html: str


def in_words(message: str) -> View:
    """A view that only says something: bad input, an error, what is going on."""
    return View(message, page(f"<p>{escape(message)}</p>"))


def page(*parts: str) -> str:
    """The parts on white ground; MathJax is told to leave their dollar signs alone."""
    return f'<div class="tex2jax_ignore mathjax_ignore" style="{PAGE}">{"".join(parts)}</div>'


def picture(figure: Figure, alt: str) -> str:
    """The figure as an <img>, at 100 dots an inch and never wider than its place."""
    data = BytesIO()
    figure.savefig(data, format="png", dpi=100)
    source = base64.b64encode(data.getvalue()).decode("ascii")
    return f'<img style="max-width:100%;height:auto" alt="{escape(alt)}" src="data:image/png;base64,{source}">'


def _facts(facts: dict[str, str]) -> str:
    items = "".join(f'<li style="{TEXT}"><b>{escape(name)}</b>: {escape(text)}</li>' for name, text in facts.items())
    return f'<ul style="margin:6px 0;padding-left:20px">{items}</ul>'


def _table(columns: list[str], rows: list[list[str]]) -> str:
    head = "".join(f'<th scope="col" style="{CELL}">{escape(column)}</th>' for column in columns)
    lines = [
        f'<th scope="row" style="{CELL}">{escape(first)}</th>'
        + "".join(f'<td style="{CELL};{TEXT}">{escape(cell)}</td>' for cell in others)
        for first, *others in rows
    ]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


@mpl.rc_context(FONT)
def _figure(columns: int, width: float, height: float):
    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def check_text(text: str) -> None:
    """ValueError, in words for the student, for a text that is empty or too long."""
    if not text.strip():
        raise ValueError("There is no text yet: type one.")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"The text has {len(text):,} characters; at most {LONGEST_TEXT:,} are allowed here.")


# Next tokens.


def full_prompt(tokenizer, text: str, chat: bool, answer: str) -> str:
    """`text` as it is, or as a message in the chat template, and after it what has been answered so far."""
    check_text(text)
    check_text(text + answer)
    if not chat:
        return text + answer
    messages = [{"role": "user", "content": text}]
    options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
    return tokenizer.apply_chat_template(messages, **options) + answer


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
    return View(words, page(_facts({"the models read": shown}), picture(plot_next_tokens(tables), words)))


def _top_tokens(table: pd.DataFrame, k: int = 3) -> str:
    return ", ".join(f"{token} {share:.0%}" for token, share in table.head(k).itertuples(index=False))


@torch.inference_mode()
def likeliest_token(model, tokenizer, text: str) -> str:
    """The text of the likeliest next token, also when it is a special one."""
    ids = torch.tensor([text_ids(tokenizer, text)], device=model.device)
    return tokenizer.decode([plain_forward(model)(input_ids=ids).logits[0, -1].argmax().item()])


# Answers side by side.


def answers_view(
    models: dict, message: str, longest: int, temperature: float, seed: int, system_message: str | None = None
) -> View:
    """Each model's answer to one message. The seed is used for this alone: the lesson's own random numbers stay."""
    check_text(message)
    options, answers = {"max_new_tokens": longest, "temperature": temperature}, {}
    for name, (model, tokenizer) in models.items():
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            text = generate_responses(model, tokenizer, message, system_message, **options)
        answers[name] = text or "(nothing)"
    place = f"flex:1 1 220px;border:1px solid #999999;padding:6px 10px;{TEXT}"
    cards = [f'<div style="{place}"><b>{escape(name)}</b><br>{escape(text)}</div>' for name, text in answers.items()]
    cards = f'<div style="display:flex;flex-wrap:wrap;gap:8px">{"".join(cards)}</div>'
    words = "\n".join([f"Asked: {message}", *(f"{name}: {text}" for name, text in answers.items())])
    return View(words, page(_facts({"asked": message}), cards))


# Tokens and the loss mask.


def labelled_tokens(tokenizer, messages: list[dict], mask: str = "answer") -> list[tuple[int, bool]]:
    """(token id, whether it is in the loss) for a conversation whose last message is the answer.

    `mask` is a key of MASKS. "answer" gives the labels of TRL's SFTTrainer for a row with prompt and completion;
    "no end" makes the mistake of masking every end token by its id.
    """
    template, end = tokenizer.apply_chat_template, end_of_turn_id(tokenizer)
    prompt = template(messages[:-1], tokenize=False, add_generation_prompt=True)
    prompt, whole = tokenizer([prompt, template(messages, tokenize=False)], add_special_tokens=False).input_ids
    same = [ours == theirs for ours, theirs in zip(prompt, whole)]
    start = same.index(False) if False in same else len(same)
    trained = [mask == "everything" or place >= start for place in range(len(whole))]
    return [(token, kept and not (mask == "no end" and token == end)) for token, kept in zip(whole, trained)]


def tokens_view(tokenizer, messages: list[dict], mask: str = "answer") -> View:
    """The tokens of a conversation: which are trained, which are only read, and where a turn ends."""
    check_text("".join(message["content"] for message in messages))
    tokens, end = labelled_tokens(tokenizer, messages, mask), end_of_turn_id(tokenizer)
    marks = [_token(show_token(tokenizer.decode([token])), trained, token == end) for token, trained in tokens]
    ends = [trained for token, trained in tokens if token == end]
    learned = "trained, so the model learns to stop" if ends and ends[-1] else "NOT trained, so it never learns to stop"
    count = sum(trained for _, trained in tokens)
    counts = f"{len(tokens)} tokens: {len(tokens) - count} only read (label -100), {count} trained"
    legend = [_token("read only", False, False), _token("trained", True, False), _token("end of turn", True, True)]
    facts = _facts({"the loss is on": MASKS[mask], "tokens": counts, "end of the answer's turn": learned})
    lines = [f'<div style="margin:6px 0">{" ".join(line)}</div>' for line in (legend, marks)]
    read = "".join(show_token(tokenizer.decode([token])) for token, trained in tokens if trained)
    return View(f"{counts}. End of the answer's turn: {learned}. Trained: {read}", page(lines[0], lines[1], facts))


def _token(text: str, trained: bool, end: bool) -> str:
    """Underlined on blue: trained. Plain on grey: read only. Bold in a frame: the end of a turn."""
    style = f"{TOKEN};background:{SKY if trained else '#e3e3e3'};text-decoration:{'underline' if trained else 'none'}"
    style += f";font-weight:bold;border:2px solid {RED}" if end else ""
    shown = escape(text or "∅")
    shown = f"<u>{shown}</u>" if trained else shown  # where a page takes the styles away, the tags stay
    return f'<span style="{style}">{f"<b>{shown}</b>" if end else shown}</span>'


# The DPO loss.


@mpl.rc_context(FONT)
def dpo_view(chosen: float, rejected: float, beta: float) -> View:
    """Loss, gradient weight and implicit rewards of one pair, from both log-ratios in nats (Rafailov et al., eq. 7)."""
    margin = chosen - rejected
    loss, weight = float(np.logaddexp(0, -beta * margin)), 1 / (1 + math.exp(beta * margin))
    axis_of_m = np.linspace(-32, 32, 257)
    figure, (left, right) = _figure(2, 7, 2.9)
    left.plot(axis_of_m, np.logaddexp(0, -beta * axis_of_m), color=BLUE, linewidth=2)
    left.axhline(math.log(2), color="black", linestyle=":", linewidth=1, label="ln 2: the start")
    top = max(4, 1.15 * loss)
    left.set(title=f"loss, β = {beta:g}", xlabel="margin m (nats)", ylim=(-0.04 * top, top))
    right.plot(axis_of_m, 1 / (1 + np.exp(beta * axis_of_m)), color=BLUE, linewidth=2)
    right.set(title="gradient weight σ(-β·m)", xlabel="margin m (nats)", ylim=(-0.04, 1.05))
    for axis, value in ((left, loss), (right, weight)):
        axis.plot(margin, value, "D", color=RED, markersize=9, label="this pair")
        axis.legend(frameon=False, loc="upper right")
    facts = {
        "margin m": f"{chosen:g} - ({rejected:g}) = {margin:g} nats",
        "loss -log σ(β·m)": f"{loss:.4f} (at the start: ln 2 = {math.log(2):.4f})",
        "gradient weight σ(-β·m)": f"{weight:.4f}",
        "push on each answer, β·σ(-β·m)": f"{beta * weight:.4f}",
        "implicit rewards": f"chosen {beta * chosen:+.3f}, rejected {beta * rejected:+.3f}",
    }
    words = "; ".join(f"{name} {text}" for name, text in facts.items())
    words = f"The DPO loss and its gradient weight against the margin, β = {beta:g}, with one pair marked: {words}."
    return View(words, page(picture(figure, words), _facts(facts)))


# Advantages of a group.


def read_rewards(text: str) -> list[float]:
    """The numbers in a text, separated by commas, semicolons or spaces; ValueError says what is wrong with them."""
    rewards = []
    for word in text.replace(",", " ").replace(";", " ").split():
        try:
            rewards.append(float(word))
        except ValueError:
            raise ValueError(f'"{word[:40]}" is not a number. Write the rewards as in: 1, 0, 0.5, 1') from None
    if not all(map(math.isfinite, rewards)):
        raise ValueError("nan and inf are no rewards: with one of them in a group, nothing right is learned from it.")
    if any(abs(reward) > 1e6 for reward in rewards):
        raise ValueError("A reward is too large: at most a million, please.")
    if not 2 <= len(rewards) <= MOST_REWARDS:
        raise ValueError(f"A group has 2 to {MOST_REWARDS} rewards here; these are {len(rewards)}.")
    return rewards


@mpl.rc_context(FONT)
def advantages_view(text: str) -> View:
    """Rewards of a group, and its advantages without and with division by std (Shao et al. 2024, section 4.1.2)."""
    rewards = np.array(read_rewards(text))
    centred = rewards - rewards.mean() if len(set(rewards)) > 1 else np.zeros(len(rewards))  # no rounding errors
    spread = float(rewards.std(ddof=1))
    scaled = centred / (spread + 1e-4)
    first = f"reward (mean {rewards.mean():.2f})"
    panels = {first: rewards, "reward - mean": centred, "(reward - mean) / std": scaled}
    figure, axes = _figure(3, 7, 2.7)
    for axis, (title, values) in zip(axes, panels.items()):
        numbers = np.arange(1, len(values) + 1)
        axis.bar(numbers, values, color=GREY if title == first else [BLUE if v >= 0 else ORANGE for v in values])
        axis.axhline(0, color="black", linewidth=1)
        axis.set(title=title, xlabel="response", xticks=numbers if len(values) <= 8 else numbers[::3])
        low, high = min(0, *values), max(0, *values)
        axis.set_ylim(low - 0.1 * (high - low or 5), high + 0.1 * (high - low or 5))
    axes[0].axhline(rewards.mean(), color="black", linestyle="--", linewidth=1)
    facts = {"mean and std": f"{rewards.mean():.3f} and {spread:.3f}"}
    facts |= {"advantages" if title == "reward - mean" else "divided by std": ", ".join(f"{v:+.2f}" for v in values)
              for title, values in list(panels.items())[1:]}  # fmt: skip
    if not centred.any():
        facts["no spread"] = "all rewards are the same, so every advantage is 0 and this group teaches nothing"
    words = f"Rewards {text}. " + "; ".join(f"{name}: {fact}" for name, fact in facts.items()) + "."
    return View(words, page(picture(figure, words), _facts(facts)))


# Rewards.


def rewards_view(functions: dict[str, Callable], completion: str, expected: str) -> View:
    """What each reward function pays for one completion, and what it saw in the text."""
    if len(completion) > LONGEST_TEXT:
        check_text(completion)
    rows = []
    for name, function in functions.items():
        paid, wrong = _pay(function, completion, expected)
        rows.append([name, paid, wrong or _reason(name, function, completion, expected)])
    words = "; ".join(f"{name} pays {paid}: {reason}" for name, paid, reason in rows)
    facts = _facts({"completion": completion or "(nothing)", "expected": expected})
    return View(words, page(facts, _table(["reward function", "pays", "why"], rows)))


def _pay(function: Callable, completion: str, expected: str) -> tuple[str, str]:
    """The reward as text, and what is wrong with it (mostly nothing)."""
    try:
        paid = function([[{"role": "assistant", "content": completion}]], ground_truth=[expected])
    except Exception as error:  # a student's own function may raise anything; the page says it
        return "error", f"{type(error).__name__}: {error}"
    if not isinstance(paid, list | tuple) or len(paid) != 1:
        return "?", f"it must return a list with one number a completion; it returned {paid!r:.80}"
    if isinstance(paid[0], str) or paid[0] is None or not math.isfinite(paid[0]):
        return str(paid[0]), "no usable reward: nothing right is learned from it"
    return f"{float(paid[0]):g}", ""


def _reason(name: str, function: Callable, text: str, expected: str) -> str:
    """What a rule of the course found in the text; of other rules, the first line of their docstring."""
    box, boxes = extract_boxed(text), text.count(r"\boxed")
    found = r"there is no complete \boxed{}"
    if box is not None:
        equal = "equal" if answers_match(box, expected) else "not equal"
        found = f'the last box holds "{box}", {equal} to "{expected}"'
    stands = "stands" if hackable_reward([text], [expected])[0] else "does not stand"
    filled = "with something in it" if box else "and no complete one is filled"
    reasons = {
        "reward_func": found,
        "graded_reward": found,
        "boxed_format_reward": rf"{boxes} × \boxed, {filled}",
        "hackable_reward": f"the number {expected} {stands} somewhere in the text",
        "random_reward": "a coin was tossed; nobody read the text",
    }
    about = (function.__doc__ or "(its docstring is empty)").strip().splitlines()[0]
    return reasons.get(name, about)


# Learning rates.


@mpl.rc_context(FONT)
def rates_view(record: dict, rate: float) -> View:
    """One of the recorded short runs among the others: its loss, its held-out score, its answers."""
    runs, n = record["runs"], record["n"]
    run = next(run for run in runs if run["learning_rate"] == rate)
    figure, (left, right) = _figure(2, 7, 3)
    for other in runs:
        left.plot(other["steps"], other["loss"], color="#CCCCCC", linewidth=1)
    left.plot(run["steps"], run["loss"], color=BLUE, linewidth=2.5, label=f"learning rate {rate:g}")
    left.set(title="training loss (nats a token)", xlabel="step", ylim=(0, None))
    left.legend(frameon=False)
    shares = [other["right"] / n for other in runs]
    ends = np.array([wilson_interval(other["right"], n) for other in runs]).T
    rates = [other["learning_rate"] for other in runs]
    right.errorbar(rates, shares, np.abs(ends - shares), fmt="o-", color=GREY, capsize=3, label="all runs")
    right.plot(rate, run["right"] / n, "D", color=RED, markersize=9, label="this run", zorder=3)
    right.set(title="right on held-out questions", xlabel="learning rate", xscale="log", ylim=(0, 0.75))
    right.set_xticks(rates, [f"{rate:g}" for rate in rates], rotation=45, ha="right")
    right.minorticks_off()
    right.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    right.legend(frameon=False, loc="upper left")
    low, high = wilson_interval(run["right"], n)
    facts = {
        "learning rate": f"{rate:g}, {run['steps'][-1]} steps",
        "training loss": f"{run['loss'][0]:.2f} in the first steps, {run['loss'][-1]:.2f} in the last",
        "right on held-out questions": f"{run['right']} of {n}, {run['right'] / n:.0%} (95%: {low:.0%} to {high:.0%})",
    }
    facts |= {f'asked "{asked}"': answer or "(nothing)" for asked, answer in zip(record["questions"], run["answers"])}
    words = "; ".join(f"{name}: {text}" for name, text in facts.items())
    words = f"Recorded runs alike but for the learning rate, with one marked: {words}"
    return View(words, page(picture(figure, words), _facts(facts)))
