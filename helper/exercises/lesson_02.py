"""Checks of lesson 02: probability of a loss, labels of a row, the masked loss, ChatML, LoRA, learning rates, filtering.

Left out on purpose: anything that needs the lesson's trained model. `six_steps` trains its own copy of sprout-base.
"""

import copy
import math
import random
from functools import cache

import torch

from helper.data import load_course_dataset
from helper.exercises.checking import (
    NotStarted,
    Wrong,
    as_loss,
    as_number,
    as_text,
    as_vector,
    call,
    call_all,
    exercise,
    judge,
    needs_gradient,
    show,
)
from helper.models import load_model_and_tokenizer

IGNORED = -100  # the label that PyTorch's cross-entropy leaves out


# 1. A loss as a probability


@exercise
def check_probability_of_loss(function) -> str:
    """Does it give exp(-loss), the (geometric) mean probability of a right token, for a mean loss in nats?"""
    cases = {f"a loss of {loss}": (loss,) for loss in (0.0, 0.105, 0.693, 2.303, 6.0)}
    mistakes = {
        "That is the perplexity, exp(loss), which is 1 or more. A probability is 1 divided by it.": math.exp,
        "You used 10 as the base. The losses here are in nats: the base is e.": lambda loss: 10**-loss,
        "You used 2 as the base, as for bits. The losses here are in nats: the base is e.": lambda loss: 2**-loss,
        "You took a straight line, 1 - loss; it is negative beyond a loss of 1. Undo the logarithm.": lambda loss: 1 - loss,
        "You took the logarithm once more. The loss already is a logarithm; undo it.": lambda loss: (
            -math.log(loss) if loss else math.inf
        ),
    }
    judge(function, cases, lambda loss: math.e**-loss, mistakes, as_number)
    return "A loss of 0.69 is a coin toss per token; at 0.1 the model gives nine tenths to the right one."


# 2. The labels of a row


def _row(prompt: list, answer: list, end: int, pad: int, length: int) -> tuple[list, list]:
    filling = length - len(prompt) - len(answer) - 1
    ids = [*prompt, *answer, end, *[pad] * filling]
    return ids, [IGNORED] * len(prompt) + [*answer, end] + [IGNORED] * filling


@exercise
def check_row_labels(function) -> str:
    """Does `function(prompt_ids, answer_ids, end_id, pad_id, length)` give (input ids, labels) as a trainer needs them?"""
    cases = {
        "pad and end differ": ([5, 6, 7], [8, 9], 2, 0, 8),
        "pad and end are one token": ([5, 6, 7], [8, 9], 2, 2, 9),
        "no padding needed": ([4], [9, 8, 7], 2, 0, 5),
        "the prompt holds an end token": ([5, 2, 6], [8], 2, 2, 7),
    }
    for case, value in call_all(function, cases).items():
        prompt, answer, end, _pad, _length = cases[case]
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise Wrong(f"{case}: two lists were wanted, (input_ids, labels); {show(value)} came back.")
        wanted_ids, wanted_labels = _row(*cases[case])
        _check_lengths(function, case, cases[case], value)
        ids = [int(i) for i in as_vector(value[0], wanted_ids, f"{case}, input_ids")]
        labels = [int(i) for i in as_vector(value[1], wanted_labels, f"{case}, labels")]
        if ids != wanted_ids:
            raise Wrong(f"{case}: {_fault_of_ids(ids, prompt, answer, end)} Wanted {wanted_ids}, got {ids}.")
        if labels != wanted_labels:
            fault = _fault_of_labels(labels, wanted_labels, ids, len(prompt), len(answer))
            raise Wrong(f"{case}: {fault} Wanted {wanted_labels}, got {labels}.")
    return "The end token is trained and the padding is not, even where they are the same token."


def _check_lengths(function, case: str, arguments: tuple, value: tuple | list) -> None:
    """Raises Wrong where a list of the wrong length comes from a list changed in place, or from labels without padding."""
    prompt, answer, _end, _pad, length = arguments
    if not all(hasattr(part, "__len__") and not isinstance(part, str) for part in value):
        return  # no lists: named elsewhere
    if all(len(part) == length for part in value):
        return
    own = copy.deepcopy(arguments)
    function(*own)
    if own != arguments:
        raise Wrong(
            f"{case}: your code changes a list that it was given. `ids = prompt_ids` is a second name for the same list, "
            "and `+=`, `append` and `extend` make that list itself longer. `prompt_ids + answer_ids` makes a new one."
        )
    if len(value[0]) == length and len(value[1]) == len(prompt) + len(answer) + 1:
        raise Wrong(f"{case}: the labels end with the text. The padding needs -100 too, one for each padding token.")


def _fault_of_ids(ids: list, prompt: list, answer: list, end: int) -> str:
    text = [*prompt, *answer]
    if ids[-len(text) - 1 :] == [*text, end] and ids[: len(text)] != text:
        return "The padding stands on the left; here it follows the text."
    if ids[: len(text)] == text and len(ids) > len(text) and ids[len(text)] != end:
        return "The end token does not follow the answer, so stopping cannot be learned."
    return "The input ids are the prompt, the answer, the end token, then padding."


def _fault_of_labels(labels: list, wanted: list, ids: list, prompt: int, answer: int) -> str:
    end, text = prompt + answer, slice(prompt, prompt + answer)
    if labels[:-1] == wanted[1:] or labels[1:] == wanted[:-1]:
        return "The labels are shifted by one. Leave them in line with the ids: the loss does the shift."
    if labels[:prompt] == ids[:prompt]:
        return "The prompt is trained as well: its labels should be -100."
    if labels[text] != ids[text]:
        return "The answer's labels should be the answer's own ids."
    if labels[end] == IGNORED:
        return "The end token is masked: the model would never learn to stop. Mask the padding by its place, not by its id."
    if labels[end + 1 :] != wanted[end + 1 :]:
        return "The padding is trained: its labels should be -100."
    return "A label is the token's own id where it is trained, else -100."


# 3. The masked loss


def _masked_loss(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean cross-entropy of the unmasked tokens, in plain Python: logits (rows, length, vocabulary)."""
    losses = []
    for row, row_labels in zip(logits.tolist(), labels.tolist(), strict=True):
        for scores, label in zip(row[:-1], row_labels[1:], strict=True):
            if label != IGNORED:
                highest = max(scores)
                losses.append(highest + math.log(sum(math.exp(s - highest) for s in scores)) - scores[label])
    return sum(losses) / len(losses)


def _wrong_masked_loss(how: str):
    """The masked loss with one mistake in it."""

    def loss(logits, labels):
        predicted, wanted = {
            "no shift": (logits, labels),
            "backwards": (logits[:, 1:], labels[:, :-1]),
        }.get(how, (logits[:, :-1], labels[:, 1:]))
        p = torch.softmax(predicted, 1 if how == "places" else -1)
        p = torch.softmax(p, -1) if how == "twice" else p
        token = wanted.clamp(min=0)[..., None]
        of_each = (predicted if how == "no softmax" else p.log()).gather(-1, token)[..., 0]
        of_each = p.gather(-1, token)[..., 0] if "probabilities" in how else of_each
        kept = torch.ones_like(wanted, dtype=torch.bool) if how == "no mask" else wanted != IGNORED
        of_each = of_each * (1 if how in ("sign", "probabilities") else -1)
        total = (of_each * kept).sum()
        if how == "by row":
            return ((of_each * kept).sum(-1) / kept.sum(-1)).mean().item()
        count = {"sum": 1, "all tokens": wanted.numel(), "all places": labels.numel(), "rows": len(labels)}
        return (total / count.get(how, kept.sum())).item()

    return loss


LOSS_MISTAKES = {
    "no shift": "The labels are not shifted by one: the scores at place t are about the token at place t + 1.",
    "backwards": "The shift goes the wrong way: the scores at place t are about the token at t + 1, not at t - 1.",
    "no mask": "Your loss also counts the prompt and the padding: are the places with the label -100 left out?",
    "all tokens": "You divided by all tokens, not by the trained ones: long prompts would make the loss small.",
    "all places": "You divided by all places of the batch, not by the trained tokens: padding would make the loss small.",
    "sum": "This is the sum of the tokens' losses. Divide it by the number of trained tokens.",
    "rows": "You divided by the number of rows. Divide by the number of trained tokens.",
    "by row": "You averaged within each row first, then over the rows: tokens of long answers count less. "
    "Take one mean over all trained tokens.",
    "sign": "The sign is wrong: this is the mean log-probability, and a loss is minus that.",
    "probabilities": "You averaged probabilities. The loss is minus the mean of their logarithms.",
    "minus probabilities": "You averaged minus the probabilities. It should be minus their logarithms.",
    "no softmax": "These are the raw scores. Turn them into log-probabilities first: log_softmax.",
    "places": "The softmax runs over the places. It must run over the vocabulary, the last dimension.",
    "twice": "The softmax is applied twice: cross_entropy wants raw scores, it makes log-probabilities itself.",
}


FLATTEN = (
    "cross_entropy takes the second dimension for the vocabulary: flatten rows and places first, "
    "to scores (tokens, vocabulary) and labels (tokens,), with .flatten(0, 1) and .flatten()."
)


@exercise
def check_masked_loss(function) -> str:
    """Is it the mean cross-entropy of the trained tokens, from logits (rows, length, vocabulary) and labels?"""
    draw = torch.Generator().manual_seed(2)
    labels = torch.tensor([[IGNORED, IGNORED, 3, 1, 4, IGNORED], [IGNORED, 2, 0, IGNORED, IGNORED, IGNORED]])
    one = (torch.randn(1, 5, 6, generator=draw), torch.tensor([[IGNORED, IGNORED, IGNORED, 2, 5]]))
    cases = {
        "one row": one,
        "two rows of different lengths": (2 * torch.randn(2, 6, 5, generator=draw), labels),
        "other scores": (3 * torch.randn(2, 6, 9, generator=draw), labels),
    }
    mistakes = {message: _wrong_masked_loss(how) for how, message in LOSS_MISTAKES.items()}
    try:
        judge(function, cases, _masked_loss, mistakes, as_loss)
    except Wrong as wrong:
        if "out of bounds" in str(wrong) or "out of range" in str(wrong):
            raise Wrong(f"{wrong} The label -100 is no token: leave those places out first.") from None
        if "Expected target size" in str(wrong):
            raise Wrong(f"{wrong} {FLATTEN}") from None
        raise
    large = {"scores of a thousand": (1000 * torch.randn(1, 5, 6, generator=draw), one[1])}
    judge(function, large, _masked_loss, {}, as_loss)
    logits = one[0].clone().requires_grad_()
    torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), one[1][:, 1:].flatten()).backward()
    needs_gradient(function, "one row", one, [logits.grad])
    return "This is the number every SFT trainer makes smaller."


# 4. A chat template


MESSAGE, OPENING = "<|im_start|>{role}\n{content}<|im_end|>\n", "<|im_start|>assistant\n"


def _chatml(messages: list[dict], prompt: bool = False, message: str = MESSAGE, opening: str = OPENING) -> str:
    return "".join(message.format(**m) for m in messages) + (opening if prompt else "")


def _template(message: str = MESSAGE, opening: str = OPENING):
    """A chat template with another form of a message, or of the generation prompt."""
    return lambda messages, prompt: _chatml(messages, prompt, message, opening)


CHATML_MISTAKES = {
    "The end token is missing: after each content comes <|im_end|>. Without it nothing ever ends.": _template(
        "<|im_start|>{role}\n{content}\n"
    ),
    "After <|im_end|> comes a line end, also after the last message.": _template("<|im_start|>{role}\n{content}<|im_end|>"),
    "The generation prompt is missing: with add_generation_prompt the text ends with <|im_start|>assistant and a "
    "line end.": _template(opening=""),
    "The generation prompt is always there. It belongs only where add_generation_prompt is true: "
    "in training the answer stands there.": lambda m, g: _chatml(m, True),
    "The generation prompt stands after every message: it belongs behind the loop, once.": lambda m, g: "".join(
        _chatml([x], g) for x in m
    ),
    "The generation prompt lacks its line end, so the model would have to write it.": _template(
        opening="<|im_start|>assistant"
    ),
    "The generation prompt is closed with <|im_end|>: the assistant's turn would be over before it began.": _template(
        opening=OPENING + "<|im_end|>\n"
    ),
    "The line end after the very last <|im_end|> is missing.": lambda m, g: _chatml(m, g).removesuffix("\n"),
    "Every message has the role user. The role is in message['role'].": _template("<|im_start|>user\n{content}<|im_end|>\n"),
    "The roles are missing: after <|im_start|> comes message['role'].": _template("<|im_start|>{content}<|im_end|>\n"),
    "Between the role and the content comes a line end.": _template("<|im_start|>{role} {content}<|im_end|>\n"),
    "The line end after the role is missing, before the content.": _template("<|im_start|>{role}{content}<|im_end|>\n"),
    "The line end after the role is missing, before each content and in the generation prompt.": _template(
        "<|im_start|>{role}{content}<|im_end|>\n", "<|im_start|>assistant"
    ),
    "After <|im_start|>assistant comes a line end; yours is a space.": _template(opening="<|im_start|>assistant "),
    "The system message is dropped.": lambda m, g: _chatml([x for x in m if x["role"] != "system"], g),
    "Only the last message is there; a conversation is all of them.": lambda m, g: _chatml(m[-1:], g),
    "The contents are stripped or changed: they must stay as they are.": lambda m, g: _chatml(
        [{**x, "content": x["content"].strip()} for x in m], g
    ),
}


@exercise
def check_template(function) -> str:
    """Does `function(messages, add_generation_prompt)` write ChatML, as Sprout's and Qwen's tokenizers do?"""
    user, answer = {"role": "user", "content": "What is 2 + 3?"}, {"role": "assistant", "content": "2 + 3 = 5"}
    system = {"role": "system", "content": "Answer briefly."}
    again = {"role": "user", "content": " And\ntwice that? "}
    cases = {
        "a question and its answer": ([user, answer], False),
        "a question, to be answered": ([user], True),
        "system, question, answer, question": ([system, user, answer, again], True),
        "the same, as a training row": ([system, user, answer, again, answer], False),
    }
    judge(function, cases, _chatml, CHATML_MISTAKES, as_text)
    plain = call(function, "called without add_generation_prompt", ([user],))
    if plain != _chatml([user]):
        raise Wrong("Called without add_generation_prompt there should be no generation prompt: its default is False.")
    return "The tokenizer's own template writes the same text."


# 5. What LoRA trains


@exercise
def check_lora_weights(function) -> str:
    """Does `function(shapes, rank)` count the weights of A (rank x columns) and B (rows x rank) of all matrices?"""
    cases = {
        "one matrix 8 x 8, rank 2": ([(8, 8)], 2),
        "one matrix 100 x 10, rank 1": ([(100, 10)], 1),
        "two matrices, rank 4": ([(256, 96), (64, 512)], 4),
    }
    mistakes = {
        "You counted A or B alone. The correction is the product of two matrices.": lambda s, r: sum(r * c for _, c in s),
        "You counted B alone. The correction is the product of two matrices.": lambda s, r: sum(r * a for a, _ in s),
        "You counted W itself as well. It is frozen: only A and B are trained.": lambda s, r: sum(
            a * c + r * (a + c) for a, c in s
        ),
        "You counted W, which is frozen. Count A and B.": lambda s, r: sum(a * c for a, c in s),
        "rank * rows * columns would be more than W itself. A has rank * columns, B rows * rank weights.": lambda s, r: sum(
            r * a * c for a, c in s
        ),
        "You counted the first matrix only. Add up all of them.": lambda s, r: r * sum(s[0]),
    }
    judge(function, cases, lambda s, r: sum(r * a + c * r for a, c in s), mistakes, as_number)
    return "It grows with rows + columns, the full matrix with rows x columns. Hence the saving in large models."


# 6. Learning rates, tried out


@cache
def _laboratory() -> tuple:
    """sprout-base, six small training batches and one held-out batch of short SFT rows."""
    model, tokenizer = load_model_and_tokenizer("sprout-base")
    rows = [row["messages"] for row in load_course_dataset("sprout-sft")]
    rows = [row for row in rows if sum(len(message["content"]) for message in row) < 70]
    random.Random(0).shuffle(rows)
    batches = [_batch(tokenizer, rows[start : start + 4]) for start in range(16, 40, 4)]
    return model, batches, _batch(tokenizer, rows[:16])


def _batch(tokenizer, rows: list) -> tuple[torch.Tensor, torch.Tensor]:
    """Input ids and labels of conversations, padded on the right."""
    pairs = []
    for row in rows:
        prompt = tokenizer.apply_chat_template(row[:-1], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(row, tokenize=False)
        ids, start = tokenizer(whole, add_special_tokens=False).input_ids, len(tokenizer(prompt).input_ids)
        pairs.append((ids, [IGNORED] * start + ids[start:]))
    longest = max(len(ids) for ids, _ in pairs)
    ids = [row + [tokenizer.pad_token_id] * (longest - len(row)) for row, _ in pairs]
    labels = [row + [IGNORED] * (longest - len(row)) for _, row in pairs]
    return torch.tensor(ids), torch.tensor(labels)


def _loss_of(model, batch: tuple) -> torch.Tensor:
    logits = model(batch[0]).logits[:, :-1].flatten(0, 1).float()
    return torch.nn.functional.cross_entropy(logits, batch[1][:, 1:].flatten())


@cache
def six_steps(learning_rate: float) -> float:
    """Train a fresh copy of sprout-base for six AdamW steps of four SFT rows: its loss on held-out rows, in nats.

    A learning rate of 0 gives the loss before training. The same rate gives the same loss, at once.
    """
    if not 0 <= learning_rate <= 10:
        raise ValueError(f"A learning rate between 0 and 10 is wanted, not {learning_rate}.")
    model, batches, held_out = _laboratory()
    model = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95))
    for batch in batches if learning_rate else []:
        _loss_of(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return _loss_of(model, held_out).item()


@exercise
def check_learning_rates(good: float | None, ruinous: float | None) -> str:
    """Does `good` learn nearly as much as any rate, and is `ruinous` the edge beyond which the model is spoiled?"""
    if good is None and ruinous is None:
        raise NotStarted("Not started.")
    if good is None or ruinous is None:
        raise Wrong("One of the two is still None.")
    rates = {"good": as_number(good, None, "good"), "ruinous": as_number(ruinous, None, "ruinous")}
    for name, rate in rates.items():
        if not 0 < rate <= 10:
            raise Wrong(f"{name}: a learning rate above 0 and up to 10 is wanted, not {rate:g}.")
    good, ruinous = rates.values()
    if good >= ruinous:
        raise Wrong("The good rate is not below the ruinous one: are they swapped?")
    before, learned, spoiled = six_steps(0.0), six_steps(good), six_steps(ruinous)
    if spoiled <= before:
        raise Wrong(f"ruinous: at {ruinous:g} the loss still falls, {before:.2f} -> {spoiled:.2f}. Go higher.")
    if six_steps(ruinous / 4) > before:
        raise Wrong(f"ruinous: {ruinous:g} spoils the model, but a quarter of it does, too. Go lower, to the edge.")
    best = min(six_steps(rate) for rate in (1e-3, 3e-3, 1e-2))
    if learned > before - 0.8 * (before - best):
        where = "higher" if six_steps(2 * good) < learned else "lower"
        raise Wrong(f"good: at {good:g} the loss ends at {learned:.2f}, others reach {best:.2f}. Go {where}.")
    return f"{before:.2f} -> {learned:.2f} at {good:g}, {spoiled:.2f} at {ruinous:g}: {ruinous / good:.0f} times as large."


# 7. Open: cleaning a data set


FILTER_SKILLS = ("define", "relation", "calculate", "list", "sort", "reverse", "first_letter", "uppercase")


def spoiled_rows(n: int = 300, seed: int = 1) -> tuple[list[dict], list[str]]:
    """SFT rows of Sprout's, 40% of them damaged: the rows {"question", "answer"}, and what is wrong with each or "".

    Damage: an answer that belongs to another question, one cut short, an empty one, a row that stands there already,
    and, for definitions, that of another thing.
    """
    draw = random.Random(seed)
    rows = [row for row in load_course_dataset("sprout-sft") if row["skill"] in FILTER_SKILLS]
    rows = list({row["messages"][0]["content"]: row for row in draw.sample(rows, 2 * n)}.values())[:n]
    definitions = [row["messages"][1]["content"] for row in rows if row["skill"] == "define"]
    damaged, faults = [], []
    for i, row in enumerate(rows):
        kinds = ["another's", "cut short", "empty", "repeated"] + ["untrue"] * (3 if row["skill"] == "define" else 0)
        fault = draw.choice(kinds) if i and draw.random() < 0.4 else ""
        question, answer = (message["content"] for message in row["messages"])
        wrong = {
            "another's": rows[i - 1]["messages"][1]["content"],
            "cut short": answer[: len(answer) // 2].rstrip(" ."),
            "empty": draw.choice(["", " ", "\n"]),
            "untrue": answer.split(" is ")[0]
            + " is "
            + draw.choice([d for d in definitions if d != answer]).split(" is ", 1)[-1],
        }
        new = {"question": question, "answer": wrong.get(fault, answer)}
        earlier = [old for old, bad in zip(damaged, faults, strict=True) if not bad]
        damaged.append(dict(draw.choice(earlier)) if fault == "repeated" else new)
        faults.append(fault)
    return damaged, faults


@exercise
def check_filter(function) -> str:
    """Does `function(rows)` drop at least 85% of the damaged rows, and keep at least 90% of the good ones?"""
    rows, faults = spoiled_rows(seed=2)  # not the rows that the student has seen
    try:
        kept = call_all(function, {"a list of rows": (rows,)})["a list of rows"]
    except Wrong as wrong:
        if "string index out of range" in str(wrong):
            raise Wrong(f"{wrong} Some answers are empty: they have no last character, so ask for that first.") from None
        raise
    if not isinstance(kept, (list, tuple)) or not all(isinstance(row, dict) for row in kept):
        raise Wrong(f"A list of rows was wanted, of those that are kept; {show(kept, longest=60)} came back.")
    kept, slipped, lost = list(kept), [], 0
    for row, fault in sorted(zip(rows, faults, strict=True), key=lambda pair: pair[1] != ""):  # good ones first
        if row in kept:
            kept.remove(row)
            slipped += [fault] if fault else []
        elif not fault:
            lost += 1
    if kept:
        raise Wrong(f"This row was not in the list, or came back more often than it went in: {show(kept[0])}.")
    bad = sum(bool(fault) for fault in faults)
    count = f"{bad - len(slipped)} of {bad} damaged rows dropped, {lost} of {len(rows) - bad} good ones lost."
    if len(slipped) > 0.15 * bad:
        worst = max(sorted(set(slipped)), key=slipped.count)
        raise Wrong(f"{count} Most of what slips through: {worst}, {slipped.count(worst)} of {faults.count(worst)}.")
    if lost > 0.1 * (len(rows) - bad):
        raise Wrong(f"{count} The filter is too strict: read some of the good rows it drops.")
    left = ", ".join(f"{kind} {slipped.count(kind)} of {faults.count(kind)}" for kind in sorted(set(slipped)))
    return f"{count} What slips through: {left or 'nothing'}."
