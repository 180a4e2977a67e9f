"""Every exercise: the stub is "not started", the solution is right, and planted mistakes are rejected by their name.

Stubs, checks and solutions are the very cells of the notebooks. EXERCISE_CELLS names a JSON file of cells to take instead.
"""

import ast
import json
import math
import os
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helper import exercises
from helper.exercises.checking import Verdict, close, show

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
PART = re.compile(r"(\d\d-exercise-[a-z-]+?)(?:-(stub|check|solution))?")


def cells_of(path):
    """The cells of a notebook, or of a JSON list of cells."""
    cells = json.loads(Path(path).read_text(encoding="utf-8"))
    cells = cells["cells"] if isinstance(cells, dict) else cells
    return {cell["id"]: (cell, "".join(cell["source"])) for cell in cells}


def find_exercises():
    """{exercise: {"text", "imports", "stub", "check", "solution": source}, and "cell": the solution's cell}."""
    given = os.environ.get("EXERCISE_CELLS")
    found = defaultdict(dict)
    for path in [given] if given else sorted(NOTEBOOKS.glob("*.ipynb")):
        cells = cells_of(path)
        for name, (cell, source) in cells.items():
            imports = f"{name[:2]}-exercises-imports"
            match = PART.fullmatch(name)
            if match and imports in cells:
                found[match[1]][match[2] or "text"] = source
                found[match[1]]["imports"] = cells[imports][1]
                if match[2] == "solution":
                    found[match[1]]["cell"] = cell
    return dict(found)


EXERCISES = find_exercises()
NONE_YET = pytest.mark.skipif(not EXERCISES, reason="the notebooks hold no exercises yet")


def value_of(source, names):
    """Run a cell in a namespace; the value of its last line, where that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None


@NONE_YET
@pytest.mark.parametrize("name", EXERCISES or ["none"])
def test_stub_and_solution(name, capsys):
    parts, names = EXERCISES[name], {}
    value_of(parts["imports"], names)
    value_of(parts["stub"], names)
    untouched = value_of(parts["check"], names)
    assert isinstance(untouched, Verdict) and untouched.right is None
    assert "not started" in repr(untouched).lower()
    solved = value_of(parts["solution"], names)
    assert isinstance(solved, Verdict) and solved.right is True, repr(solved)


@NONE_YET
@pytest.mark.parametrize("name", EXERCISES or ["none"])
def test_form(name):
    parts = EXERCISES[name]
    assert re.search(r"^### \d+\. ", parts["text"], re.MULTILINE)
    assert re.search(r"\*(Easy|Medium|Hard|Open)\. About \d+ minutes", parts["text"])
    assert "<details><summary>Hint</summary>" in parts["text"] and "</details>" in parts["text"]
    assert parts["cell"]["metadata"]["jupyter"] == {"source_hidden": True}
    assert "solution" in parts["cell"].get("tags", parts["cell"]["metadata"].get("tags", []))


@NONE_YET
def test_every_lesson_has_enough():
    for lesson in sorted({name[:2] for name in EXERCISES}):
        texts = [parts["text"] for name, parts in EXERCISES.items() if name.startswith(lesson)]
        levels = [re.search(r"\*(Easy|Medium|Hard|Open)\.", text)[1] for text in texts]
        assert len(levels) >= 4 and "Easy" in levels and levels.count("Open") == 1
        numbers = sorted(int(re.search(r"^### (\d+)\. ", text, re.MULTILINE)[1]) for text in texts)
        assert numbers == list(range(1, len(texts) + 1))


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


# {check: [(words of the message, what a student might give to it), ...]}
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
        ("7 numbers came back; 8 were wanted", lambda p, a, e, pad, n: row(p, a, e, pad, n - 1)),
        ("two lists were wanted", lambda p, a, e, pad, n: p + a),
    ],
    "check_masked_loss": [
        ("not shifted by one", lambda logits, labels: ce(logits, labels)),
        ("wrong way", lambda logits, labels: ce(logits[:, 1:], labels[:, :-1])),
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
    "check_chat_template": [
        ("end token is missing", chat("<|im_start|>{role}\n{content}\n")),
        ("also after the last", chat("<|im_start|>{role}\n{content}<|im_end|>")),
        ("generation prompt is missing", chat(opening="")),
        ("always there", chat(always=True)),
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
        ("too strict", lambda rows: drop(unique(rows), lambda r: len(r["answer"]) > 60)),
        ("came back more often", lambda rows: rows + rows[:1]),
        ("A list of rows was wanted", len),
    ],
}  # fmt: skip


def places(labels):
    """Rows and places whose next token is trained."""
    return [(i, t) for i, line in enumerate(labels.tolist()) for t in range(len(line) - 1) if line[t + 1] != -100]


def shared_words(r):
    small = set(re.findall(r"\w+", "what is are a an the of to in one do does you can i me please tell give"))
    words = [{w.rstrip("s") for w in re.findall(r"\w+", r[side].lower())} - small for side in ("question", "answer")]
    return words[0] & words[1]


RIGHT = {  # other right ways
    "check_probability_of_loss": [lambda loss: torch.exp(torch.tensor(-loss)), lambda loss: np.float32(math.e**-loss)],
    "check_row_labels": [lambda *a: [torch.tensor(part) for part in row(*a)], lambda *a: map_pair(np.array, row(*a))],
    "check_masked_loss": [
        lambda logits, labels: ce(logits[:, :-1], labels[:, 1:]),
        lambda logits, labels, scale=1.0: ce(logits.double()[:, :-1], labels[:, 1:]) * scale,
        lambda logits, labels: -log_p(logits, labels).sum() / (labels[:, 1:] != -100).sum(),
    ],
    "check_chat_template": [chat()],
    "check_lora_weights": [lambda shapes, rank: float(sum(rank * (a + b) for a, b in shapes))],
    "check_learning_rates": [],
    "check_filter": [lambda rows: drop(unique(rows), lambda r: r["answer"].endswith(".") and shared_words(r))],
}


def map_pair(change, pair):
    return change(pair[0]), change(pair[1])


CASES = [(check, words, given) for check, planted in PLANTED.items() for words, *given in planted]


@pytest.mark.parametrize(("check", "words", "given"), CASES, ids=[f"{c}: {w}" for c, w, _ in CASES])
def test_a_planted_mistake_is_named(check, words, given):
    verdict = getattr(exercises, check)(*given)
    assert verdict.right is False and words in verdict.message, verdict
    assert "Traceback" not in verdict.message and verdict.message.count("\n") <= 1 and len(verdict.message) < 600


@pytest.mark.parametrize("check", PLANTED)
def test_other_right_ways_pass(check):
    for function in RIGHT[check]:
        verdict = getattr(exercises, check)(function)
        assert verdict.right is True, verdict


def test_every_check_has_planted_mistakes():
    checks = {name for name in exercises.__all__ if name.startswith("check_")}
    assert checks == set(PLANTED) == set(RIGHT)
    assert all(len(planted) >= 3 for planted in PLANTED.values())


@pytest.mark.parametrize("check", [name for name in PLANTED if name not in ("check_learning_rates", "check_choices")])
@pytest.mark.parametrize("stub", [None, ..., lambda *a, **k: None, lambda *a, **k: ...])
def test_nothing_written_is_neither_right_nor_wrong(check, stub):
    verdict = getattr(exercises, check)(stub)
    assert verdict.right is None and "Not started" in repr(verdict)


def test_a_value_missing_in_one_case_only():
    def half(loss):
        if loss > 1:
            return math.exp(-loss)

    verdict = exercises.check_probability_of_loss(half)
    assert verdict.right is False and "needs a `return`" in verdict.message


def test_the_failing_line_is_shown(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "student.py").write_text("def work(loss):\n    number = 1\n    return number.exp()\n")
    from student import work

    verdict = exercises.check_probability_of_loss(work)
    assert "AttributeError" in verdict.message and "`return number.exp()`" in verdict.message


def test_the_arguments_are_copies():
    def in_place(logits, labels):
        logits, labels = logits[:, :-1], labels[:, 1:]
        labels[labels == -100] = -1
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-1)

    assert exercises.check_masked_loss(in_place).right is True


def test_close_and_show():
    assert close(math.nan, math.nan) and not close(math.nan, 1.0) and not close([1.0], 1.0)
    assert close([1.0, [2.0]], [1.00001, [2.0]]) and not close([1.0], [1.0, 2.0]) and close("a", "a")
    assert show([1.0, math.inf]) == "[1.0000, inf]" and len(show("x" * 500)) == 160
