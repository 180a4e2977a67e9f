"""Explorer: the tokens of a conversation, which of them are trained, and where a turn ends."""

from html import escape

from ipywidgets import Textarea

from helper.explorers.explorer import Explorer, check_text, choice, look
from helper.figures.figure import RED, SKY
from helper.figures.page import View, fact_list, page
from helper.figures.tokens import show_token
from helper.models import end_of_turn_id

MASKS = {
    "answer": "the answer",
    "everything": "all tokens",
    "no end": "the answer without its end",
}
TOKEN = "display:inline-block;color:#1a1a1a;font-family:monospace;font-size:13px;padding:0 3px;margin:2px 1px"


def explore_tokens(tokenizer, messages: list[dict]) -> Explorer:
    """The tokens of a conversation that you can edit, with the loss mask and the end of each turn.

    `messages`: {"role", "content"} each; the last is the answer that is trained on.
    """
    roles = [message["role"] for message in messages]
    controls = {
        f"message {number}": Textarea(message["content"], rows=2, **look(message["role"], at_once=True))
        for number, message in enumerate(messages)
    }
    controls["mask"] = choice("the loss is on", {words: mask for mask, words in MASKS.items()})

    def show(mask: str, **texts: str) -> View:
        edited = [{"role": role, "content": text} for role, text in zip(roles, texts.values(), strict=True)]
        return tokens_view(tokenizer, edited, mask)

    return Explorer(controls, show)


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
    facts = fact_list({"the loss is on": MASKS[mask], "tokens": counts, "end of the answer's turn": learned})
    lines = [f'<div style="margin:6px 0">{" ".join(line)}</div>' for line in (legend, marks)]
    read = "".join(show_token(tokenizer.decode([token])) for token, trained in tokens if trained)
    return View(f"{counts}. End of the answer's turn: {learned}. Trained: {read}", page(lines[0], lines[1], facts))


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


def _token(text: str, trained: bool, end: bool) -> str:
    """Underlined on blue: trained. Plain on grey: read only. Bold in a frame: the end of a turn."""
    style = f"{TOKEN};background:{SKY if trained else '#e3e3e3'};text-decoration:{'underline' if trained else 'none'}"
    style += f";font-weight:bold;border:2px solid {RED}" if end else ""
    shown = escape(text or "∅")
    shown = f"<u>{shown}</u>" if trained else shown  # where a page takes the styles away, the tags stay
    return f'<span style="{style}">{f"<b>{shown}</b>" if end else shown}</span>'
