"""The exercises of lesson 02: what a student might hand in, and what the check says to it."""

import json
import math
import re

import numpy as np
import torch
import torch.nn.functional as F
from exercise_tests import ExerciseTests

from helper.exercises import lesson_02 as lesson

CHAT = "<|im_start|>{role}\n{content}<|im_end|>\n"
OPEN = "<|im_start|>assistant\n"


def chat(form=CHAT, opening=OPEN, always=False, roles=("system", "user", "assistant"), edit=lambda text: text):
    def write(messages, add_generation_prompt=False):
        text = "".join(form.format(**m) for m in messages if m["role"] in roles)
        return edit(text + (opening if always or add_generation_prompt else ""))

    return write


def row(prompt, answer, end, pad, length, *, end_label=True, prompt_label=False, padding=-100, with_end=True):
    answer = answer + [end] * with_end
    filling = length - len(prompt) - len(answer)
    labels = (prompt if prompt_label else [-100] * len(prompt)) + answer + [padding] * filling
    if not end_label:
        labels[len(prompt) + len(answer) - 1] = -100
    return prompt + answer + [pad] * filling, labels


def row_by_id(*arguments):
    ids, labels = row(*arguments)
    return ids, [-100 if token == arguments[3] else label for token, label in zip(ids, labels)]


def row_left(prompt, answer, end, pad, length):
    ids = prompt + answer + [end]
    filling = length - len(ids)
    return [pad] * filling + ids, [-100] * (filling + len(prompt)) + answer + [end]


def row_shifted(*arguments):
    ids, labels = row(*arguments)
    return ids, labels[1:] + [-100]


def row_in_place(prompt, answer, end, pad, length):
    ids = prompt
    ids += [*answer, end, *[pad] * (length - len(prompt) - len(answer) - 1)]
    return ids, row(prompt, answer, end, pad, length)[1]


def ce(logits, labels, **options):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), **options)


def log_p(logits, labels):
    """Of every place and its next token, with 0 where the label is -100."""
    picked = logits[:, :-1].log_softmax(-1).gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0]
    return picked * (labels[:, 1:] != -100)


def drop(rows, *rules):
    return [r for r in rows if all(rule(r) for rule in rules)]


def unique(rows):
    return [json.loads(text) for text in dict.fromkeys(json.dumps(r) for r in rows)]


def places(labels):
    """Rows and places whose next token is trained."""
    return [(i, t) for i, line in enumerate(labels.tolist()) for t in range(len(line) - 1) if line[t + 1] != -100]


def shared_words(r):
    small = set(re.findall(r"\w+", "what is are a an the of to in one do does you can i me please tell give"))
    words = [{w.rstrip("s") for w in re.findall(r"\w+", r[side].lower())} - small for side in ("question", "answer")]
    return words[0] & words[1]


def map_pair(change, pair):
    return change(pair[0]), change(pair[1])


PLANTED = {
    "check_probability_of_loss": [
        ("perplexity", math.exp),
        ("10 as the base", lambda loss: 10**-loss),
        ("2 as the base", lambda loss: np.exp2(-loss)),
        ("straight line", lambda loss: 1 - loss),
        ("came back, a str", lambda loss: f"{math.exp(-loss):.0%}"),
        ("raised TypeError", lambda: 1.0),
        ("raised ZeroDivisionError", lambda loss: 1 / loss),
        ("wanted 1.0000, got 0.5000", lambda loss: 1 / (2 + loss)),
        ("without brackets", math.exp(-1)),
    ],
    "check_row_labels": [
        ("would never learn to stop", row_by_id),
        ("would never learn to stop", lambda *a: row(*a, end_label=False)),
        ("end token does not follow", lambda *a: row(*a, with_end=False)),
        ("prompt is trained", lambda *a: row(*a, prompt_label=True)),
        ("padding is trained", lambda p, a, e, pad, n: row(p, a, e, pad, n, padding=pad)),
        ("on the left", row_left),
        ("shifted by one", row_shifted),
        ("changes a list that it was given", row_in_place),
        ("padding needs -100 too", lambda *a: (row(*a)[0], row(*a)[1][: len(a[0] + a[1]) + 1])),
        ("7 numbers came back; 8 were wanted", lambda p, a, e, pad, n: row(p, a, e, pad, n - 1)),
        ("two lists were wanted", lambda p, a, e, pad, n: p + a),
    ],
    "check_masked_loss": [
        ("not shifted by one", lambda logits, labels: ce(logits, labels)),
        ("wrong way", lambda logits, labels: ce(logits[:, 1:], labels[:, :-1])),
        ("flatten rows and places first", lambda lo, la: F.cross_entropy(lo[:, :-1], la[:, 1:])),
        ("also counts the prompt", lambda logits, labels: ce(logits[:, :-1], labels[:, 1:].clamp(min=0))),
        ("leave those places out", lambda lo, la: -lo[:, :-1].log_softmax(-1).gather(-1, la[:, 1:, None]).mean()),
        ("divided by all tokens", lambda logits, labels: -log_p(logits, labels).mean()),
        ("all places of the batch", lambda logits, labels: -log_p(logits, labels).sum() / labels.numel()),
        ("is the sum", lambda logits, labels: -log_p(logits, labels).sum()),
        ("number of rows", lambda logits, labels: -log_p(logits, labels).sum(-1).mean()),
        ("within each row", lambda lo, la: -(log_p(lo, la).sum(-1) / (la[:, 1:] != -100).sum(-1)).mean()),
        ("sign is wrong", lambda lo, la: log_p(lo, la).sum() / (la[:, 1:] != -100).sum()),
        ("raw scores", lambda lo, la: -torch.stack([lo[i, t, la[i, t + 1]] for i, t in places(la)]).mean()),
        ("averaged probabilities", lambda lo, la: torch.stack(
            [lo[i, t].softmax(-1)[la[i, t + 1]] for i, t in places(la)]).mean()),
        ("applied twice", lambda logits, labels: ce(logits[:, :-1].softmax(-1), labels[:, 1:])),
        ("over the places", lambda lo, la: F.nll_loss(
            lo[:, :-1].softmax(1).log().flatten(0, 1), la[:, 1:].flatten())),
        ("must stay a tensor", lambda logits, labels: ce(logits[:, :-1], labels[:, 1:]).item()),
        ("no gradient", lambda logits, labels: ce(logits[:, :-1].detach(), labels[:, 1:])),
        ("single number", lambda logits, labels: -log_p(logits, labels)),
        ("nan", lambda lo, la: -torch.stack(
            [(lo[i, t].exp() / lo[i, t].exp().sum())[la[i, t + 1]].log() for i, t in places(la)]).mean()),
    ],
    "check_template": [
        ("end token is missing", chat("<|im_start|>{role}\n{content}\n")),
        ("also after the last", chat("<|im_start|>{role}\n{content}<|im_end|>")),
        ("generation prompt is missing", chat(opening="")),
        ("always there", chat(always=True)),
        ("stands after every message", lambda messages, add_generation_prompt=False: "".join(
            chat()([m], add_generation_prompt) for m in messages)),
        ("before the content", chat("<|im_start|>{role}{content}<|im_end|>\n")),
        ("before each content", chat("<|im_start|>{role}{content}<|im_end|>\n", "<|im_start|>assistant")),
        ("yours is a space", chat(opening="<|im_start|>assistant ")),
        ("lacks its line end", chat(opening="<|im_start|>assistant")),
        ("over before it began", chat(opening=OPEN + "<|im_end|>\n")),
        ("role user", chat("<|im_start|>user\n{content}<|im_end|>\n")),
        ("roles are missing", chat("<|im_start|>{content}<|im_end|>\n")),
        ("Between the role", chat("<|im_start|>{role} {content}<|im_end|>\n")),
        ("system message is dropped", chat(roles=("user", "assistant"))),
        ("last <|im_end|> is missing", chat(edit=str.rstrip)),
        ("default is False", lambda messages, add_generation_prompt=True: chat()(messages, add_generation_prompt)),
        ("a text was wanted", lambda messages, add_generation_prompt=False: messages),
    ],
    "check_lora_weights": [
        ("more than W itself", lambda shapes, rank: sum(rank * a * b for a, b in shapes)),
        ("W itself as well", lambda shapes, rank: sum(a * b + rank * (a + b) for a, b in shapes)),
        ("A or B alone", lambda shapes, rank: sum(rank * b for a, b in shapes)),
        ("first matrix only", lambda shapes, rank: rank * (shapes[0][0] + shapes[0][1])),
    ],
    "check_learning_rates": [
        ("swapped", 1e-1, 1e-3),
        ("still None", 3e-3, None),
        ("Go higher", 3e-3, 1e-2),
        ("a quarter of it does", 3e-3, 1.0),
        ("good: at 1e-06", 1e-6, 4e-2),
        ("up to 10", -1.0, 4e-2),
    ],
    "check_filter": [
        ("slips through: ", lambda rows: rows),
        ("another's", lambda rows: drop(unique(rows), lambda r: r["answer"].endswith("."))),
        ("cut short", lambda rows: drop(unique(rows), lambda r: r["answer"].strip() and shared_words(r))),
        ("repeated", lambda rows: drop(rows, lambda r: r["answer"].endswith(".") and shared_words(r))),
        ("Some answers are empty", lambda rows: [row for row in rows if row["answer"][-1] == "."]),
        ("too strict", lambda rows: drop(unique(rows), lambda r: len(r["answer"]) > 60)),
        ("came back more often", lambda rows: rows + rows[:1]),
        ("A list of rows was wanted", len),
    ],
}  # fmt: skip

RIGHT = {
    "check_probability_of_loss": [lambda loss: torch.exp(torch.tensor(-loss)), lambda loss: np.float32(math.e**-loss)],
    "check_row_labels": [lambda *a: [torch.tensor(part) for part in row(*a)], lambda *a: map_pair(np.array, row(*a))],
    "check_masked_loss": [
        lambda logits, labels: ce(logits[:, :-1], labels[:, 1:]),
        lambda logits, labels, scale=1.0: ce(logits.double()[:, :-1], labels[:, 1:]) * scale,
        lambda logits, labels: -log_p(logits, labels).sum() / (labels[:, 1:] != -100).sum(),
    ],
    "check_template": [chat()],
    "check_lora_weights": [lambda shapes, rank: float(sum(rank * (a + b) for a, b in shapes))],
    "check_learning_rates": [],
    "check_filter": [lambda rows: drop(unique(rows), lambda r: r["answer"].endswith(".") and shared_words(r))],
}


class TestExercises(ExerciseTests):
    lesson, planted, right = lesson, PLANTED, RIGHT
    not_functions = ("check_learning_rates",)


def test_a_value_missing_in_one_case_only():
    def half(loss):
        if loss > 1:
            return math.exp(-loss)

    verdict = lesson.check_probability_of_loss(half)
    assert verdict.right is False and "needs a `return`" in verdict.message


def test_the_failing_line_is_shown(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "student.py").write_text("def work(loss):\n    number = 1\n    return number.exp()\n")
    from student import work

    verdict = lesson.check_probability_of_loss(work)
    assert "AttributeError" in verdict.message and "`return number.exp()`" in verdict.message


def test_the_arguments_are_copies():
    def in_place(logits, labels):
        logits, labels = logits[:, :-1], labels[:, 1:]
        labels[labels == -100] = -1
        logits -= 1.0
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-1)

    assert lesson.check_masked_loss(in_place).right is True


def test_a_loss_that_cannot_be_differentiated():
    def spoiled(logits, labels):
        logits -= logits.amax(-1, keepdim=True)
        return ce(logits[:, :-1], labels[:, 1:])

    verdict = lesson.check_masked_loss(spoiled)
    assert verdict.right is False and "its gradient: your code raised RuntimeError" in verdict.message
