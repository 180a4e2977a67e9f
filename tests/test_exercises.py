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

from helper import (
    answers,
    answers_match,
    exercises,
    extract_boxed,
    graded_reward,
    hackable_reward,
    load_course_dataset,
    load_suite,
    pass_at_k,
    wilson_interval,
)
from helper.algorithms import (
    bradley_terry_loss,
    clipped_surrogate,
    generalised_advantages,
    kl_estimate,
    ranking_loss,
    token_rewards,
    value_loss,
)
from helper.exercises.checking import Verdict, close, show
from helper.rewards import TAGS, tag_format_reward, tagged_answer, tagged_reward

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


def wilson_n(fits, step=2):
    """The smallest n from 2 on whose interval around one half fits."""
    n = 2
    while not fits(*wilson_interval(n // 2, n)):
        n += step
    return n


def needed(points):
    return wilson_n(lambda low, high: 50 * (high - low) <= points)


def soft(logits, temperature):
    return torch.softmax(torch.tensor(logits) / temperature, -1)


def few(pairs, question, form="Q: {}\nA: {}\n", last="Q: {}\nA:"):
    return "".join(form.format(*pair) for pair in pairs) + last.format(question)


def counts(before, after):
    return sum(b and not a for a, b in zip(before, after)), sum(a and not b for a, b in zip(before, after))


def tail(m, n):
    return sum(math.comb(n, i) for i in range(m + 1)) / 2**n


def p_value(gained, lost, **how):
    p = how.get("sides", 2) * tail(min(gained, lost) - how.get("less", 0), how.get("n", gained + lost))
    return p if how.get("uncapped") else min(1.0, p)


def dpo(c, r, ref_c, ref_r, beta=0.2):
    return -F.logsigmoid(beta * ((c - ref_c) - (r - ref_r))).mean()


def as_row(question, chosen, rejected, role="assistant"):
    sides = {"chosen": [{"role": role, "content": chosen}], "rejected": [{"role": role, "content": rejected}]}
    return {"prompt": [{"role": "user", "content": question}], **sides}


def paired(q, a, f, keep=lambda chosen, rejected: chosen != rejected, make=as_row):
    return [make(x, f(y), y) for x, y in zip(q, a) if keep(f(y), y)]


def dpop(c, r, ref_c, ref_r, penalty, beta=0.2):
    return -F.logsigmoid(beta * ((c - ref_c) - (r - ref_r) - penalty(c, r, ref_c, ref_r)))


def texts_of(completions):
    return [completion[-1]["content"] for completion in completions]


def rewarder(pay):
    return lambda completions, ground_truth, **kwargs: [pay(t, g) for t, g in zip(texts_of(completions), ground_truth)]


def right_box(text, truth):
    return float(answers_match(extract_boxed(text), truth))


def number_box(text):
    box = extract_boxed(text)
    return bool(box) and answers.as_number(box) is not None


def groups(rewards, size):
    return torch.tensor(rewards).view(-1, size)


def advantages(rewards, size, scale, mean=lambda g: g.mean(1, keepdim=True), std=lambda g: g.std(1, keepdim=True) + 1e-4):
    table = groups(rewards, size)
    centred = table - mean(table)
    return (centred / std(table) if scale else centred).flatten()


def loss_left(a, n, longest, below=lambda a, n, longest: len(a) * longest, sign=-1):
    return sign * sum(x * y for x, y in zip(a, n)) / below(a, n, longest)


def steps(judge, share=lambda found: sum(found) / len(found) if found else 0.0):
    form = r"(\d+) ([-+*/]) (\d+) = (\d+)"
    return lambda completions, **kwargs: [share([judge(*f) for f in re.findall(form, t)]) for t in texts_of(completions)]


def holds(a, sign, b, c):
    a, b, c = int(a), int(b), int(c)
    return {"+": a + b == c, "-": a - b == c, "*": a * b == c, "/": b != 0 and b * c == a}[sign]


def floors(a, sign, b, c):
    return holds(a, sign, b, c) if sign != "/" else int(b) != 0 and int(a) // int(b) == int(c)


def spend(solved, budget, size=2):
    """`size` samples for the problems nearest to one half, as far as they go."""
    sizes = [0] * len(solved)
    for i in sorted(range(len(solved)), key=lambda i: abs(solved[i] - 0.5))[: budget // size]:
        sizes[i] = size
    return sizes


def until_end(ids, end, more=0, find=lambda row, end: row.index(end) if end in row else len(row)):
    """1 up to the end token and `more` places further."""
    return [[float(t <= find(row, end) + more) for t in range(len(row))] for row in ids.tolist()]


def last_end(row, end):
    return len(row) - 1 - row[::-1].index(end) if end in row else len(row)


def argmax_end(row, end):
    return (torch.tensor(row) == end).int().argmax().item()


def clipped(new, old, a, low, high, take=torch.min):
    ratio = (new - old).exp()
    return take(ratio * a, ratio.clamp(1 - low, 1 + high) * a)


def k3(new, ref):
    return (ref - new).exp() - (ref - new) - 1


def kl_pair(first=lambda p, lp, ref: p * (lp - ref), second=lambda p, lp, ref: p.detach() * k3(lp, ref), sign=1):
    def gradients(logits, ref):
        x = logits.double().requires_grad_()
        lp = torch.log_softmax(x, -1)
        return [sign * torch.autograd.grad(f(lp.exp(), lp, ref).sum(), x, retain_graph=True)[0] for f in (first, second)]

    return gradients


def weights_of(grpo=1 / 80, dapo=1 / 50, dr_grpo=1 / 200, whole=40):
    return {name: {"a": w, "b": w * whole} for name, w in zip(("grpo", "dapo", "dr_grpo"), (grpo, dapo, dr_grpo))}


def tagged(right=lambda t, g: tagged_reward([t], [g])[0], form=lambda t: tag_format_reward([t])[0]):
    return rewarder(lambda t, g: right(t, g) + form(t))


def inner(text):
    """Between the answer tags, with its white space."""
    return text.rpartition("<answer>")[2].partition("</answer>")[0] if tagged_answer(text) is not None else ""


def first_answer(text):
    found = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    return found[0] if found else ""


def slope(n, most, cache, start=None, over=None):
    start = most - cache if start is None else start
    return -min(max((n - start) / (over or most - start), 0.0), 1.0)


def sampler(keep=exercises.lesson_05.has_spread, key=lambda problem: 0, stop=True, change=lambda rewards: rewards):
    def fill(draw, problems, wanted, memory):
        batch = {}
        for problem in sorted(problems, key=key):
            if (not stop or len(batch) < wanted) and keep(rewards := draw(problem)) and len(batch) < wanted:
                batch[problem] = change(rewards)
        return batch

    return fill


def remembering(draw, problems, wanted, memory):
    """Skips what had no spread twice and draws what had some first."""
    batch = {}
    for problem in sorted(problems, key=lambda p: -memory.get(p, 0)):
        if len(batch) < wanted:
            rewards = draw(problem)
            spread = exercises.lesson_05.has_spread(rewards)
            memory[problem] = memory.get(problem, 0) + (1 if spread else -1)
            if spread:
                batch[problem] = rewards
    return batch


def bt(gap):
    return -F.logsigmoid(gap).mean()


def pairs_loss(scores, use=lambda i, j: i < j, reduce=torch.mean, sign=1):
    gaps = [scores[i] - scores[j] for i in range(len(scores)) for j in range(len(scores)) if use(i, j)]
    return reduce(-F.logsigmoid(sign * torch.stack(gaps)))


def spread_rewards(score, new, ref, mask, beta, place=None, kl=lambda new, ref: new - ref, keep=None, add=True):
    rewards = -beta * kl(new, ref) * (mask if keep is None else keep)
    rows, last = torch.arange(len(score)), mask.sum(1).long() - 1
    at = last if place is None else place(last, mask)
    rewards[rows, at] = score + (rewards[rows, at] if add else 0)
    return rewards


def backward(r, v, mask, gamma, lam, inside=True, after=None, decay=None, step=None, outside=False, forwards=False):
    """GAE, with switches for mistakes."""
    out, later, following = torch.zeros_like(r), torch.zeros(len(r)), torch.zeros(len(r))
    for t in range(r.shape[1]) if forwards else reversed(range(r.shape[1])):
        following = following if not forwards else v[:, t + 1] * mask[:, t + 1] if t + 1 < r.shape[1] else 0 * v[:, t]
        delta = r[:, t] + (gamma if step is None else step) * (following if after is None else after * v[:, t]) - v[:, t]
        later = (delta + (gamma * lam if decay is None else decay) * later) * (mask[:, t] if inside else 1)
        following = v[:, t] * (mask[:, t] if inside else 1)
        out[:, t] = later
    return out * mask if outside else out


def critic(v, old, target, mask, clip, near=lambda v, old, clip: old + (v - old).clamp(-clip, clip), take=torch.max,
           mean=lambda error, mask: (error * mask).sum() / mask.sum() / 2):  # fmt: skip
    return mean(take((v - target) ** 2, (near(v, old, clip) - target) ** 2), mask)


def shares(
    pairs, feature, right=lambda p: p.chosen_score > p.rejected_score, below=lambda side, p: side.sum(), equal=(0, 0)
):
    gap = pairs[f"chosen_{feature}"] - pairs[f"rejected_{feature}"]
    sides = (gap > 0) | (equal[0] * (gap == 0)).astype(bool), (gap < 0) | (equal[1] * (gap == 0)).astype(bool)
    return [(right(pairs) & side).sum() / below(side, pairs) for side in sides]


def parabola(proxy, kl, probe, budget):
    at = [int(i) for i in np.linspace(4, len(kl) - 1, budget)]
    d = np.sqrt(kl)
    curve = np.linalg.lstsq(np.stack([d, d * np.log(d)], 1)[at], np.array([probe(i) for i in at]), rcond=None)[0]
    return np.int64(np.argmax(curve[0] * d + curve[1] * d * np.log(d)))


def pass_at_k_given_n(n, correct, k):
    return pass_at_k(correct, n, k)


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
    "check_questions_needed": [
        ("*whole* interval", lambda points: wilson_n(lambda low, high: 100 * (high - low) <= points)),
        ("textbook formula", lambda points: math.ceil((196 / points) ** 2 / 8) * 2),
        ("two questions fewer", lambda points: needed(points) + 2),
        ("*before* it fits", lambda points: needed(points) - 2),
        ("wanted", lambda points: 100),
        ("a str", lambda points: str(needed(points))),
    ],
    "check_choices": [
        ("Think again: d Hint: these facts", {"a": "DPO", "b": "SFT", "c": "RL", "d": "SFT", "e": "prompting"}),
        ("Think again: a Hint: one wrong habit", {"a": "RL", "b": None, "c": None, "d": None, "e": None}),
        ("none of prompting", {"a": "DPO", "b": "PPO", "c": "RL", "d": "retrieval", "e": "prompting"}),
        ("removed or added", {"a": "DPO", "b": "SFT"}),
    ],
    "check_temperature": [
        ("multiplied by the temperature", lambda logits, t: soft(logits, 1 / t)),
        ("does nothing", lambda logits, t: soft(logits, 1.0)),
        ("divided the probabilities", lambda logits, t: soft(logits, 1.0) / t),
        ("powers", lambda logits, t: soft(logits, 1.0) ** (1 / t)),
        ("Take exp first", lambda logits, t: [x / sum(logits) for x in logits]),
        ("log-probabilities", lambda logits, t: soft(logits, t).log()),
        ("likeliest token", lambda logits, t: [float(x == max(logits)) for x in logits]),
        ("subtract the largest", lambda logits, t: [math.exp(x / t) / sum(math.exp(y / t) for y in logits) for x in logits]),
        ("subtract the largest", lambda logits, t: np.exp(np.array(logits) / t) / np.exp(np.array(logits) / t).sum()),
        ("1 numbers came back; 3 were wanted", lambda logits, t: soft(logits, t)[:1]),
    ],
    "check_few_shot_prompt": [
        ("does not end in 'A:'", lambda p, q: few(p, q, last="Q: {}")),
        ("space behind the last", lambda p, q: few(p, q) + " "),
        ("line end behind the last", lambda p, q: few(p, q) + "\n"),
        ("zero-shot", lambda p, q: few([], q)),
        ("first example", lambda p, q: few(p[:1], q)),
        ("last example", lambda p, q: few(p[-1:], q)),
        ("answers are missing", lambda p, q: few(p, q, form="Q: {}\n")),
        ("question itself is missing", lambda p, q: few(p, q, last="")),
        ("run into each other", lambda p, q: few(p, q, form="Q: {}\nA: {}")),
        ("question comes before", lambda p, q: few([], q) + few(p, q, last="")),
        ("wanted 'Q: What is a whale?", lambda p, q: few(p, q, form="Question: {}\nAnswer: {}\n")),
    ],
    "check_paired_test": [
        ("swapped", lambda b, a: (*counts(a, b), p_value(*counts(b, a)))),
        ("count both ends", lambda b, a: (*counts(b, a), p_value(*counts(b, a), sides=1))),
        ("for every question", lambda b, a: (*counts(b, a), p_value(*counts(b, a), n=len(b)))),
        ("count itself is left out", lambda b, a: (*counts(b, a), p_value(*counts(b, a), less=1))),
        ("above 1", lambda b, a: (*counts(b, a), p_value(*counts(b, a), uncapped=True))),
        ("totals", lambda b, a: (sum(a), sum(b), p_value(sum(a), sum(b)))),
        ("2 numbers came back; 3 were wanted", lambda b, a: counts(b, a)),
    ],
    "check_begin_sentence": [
        ("questions themselves", lambda question: question),
        ("something around the question", lambda question: f"Q: {question}\nA:"),
        ("it goes on", lambda question: "We find"),
        ("a text was wanted", lambda question: [question]),
        ("whole answer already", lambda question: next(
            (r["answer"] for r in load_suite("instructions") if r["question"] == question), question)),
    ],
    "check_beta_for_weight": [
        ("sign is wrong", lambda w, m: math.log(w / (1 - w)) / m),
        ("Divide by the margin", lambda w, m: math.log(1 / w - 1)),
        ("multiplied by the margin", lambda w, m: math.log(1 / w - 1) * m),
        ("under the line", lambda w, m: m / math.log(1 / w - 1)),
        ("solved exp", lambda w, m: -math.log(w) / m),
        ("base 10", lambda w, m: np.log10(1 / w - 1) / m),
        ("logarithm is missing", lambda w, m: (1 / w - 1) / m),
    ],
    "check_dpo_loss": [
        ("beta is missing", lambda c, r, rc, rr, beta=0.2: dpo(c, r, rc, rr, 1.0)),
        ("swapped", lambda c, r, rc, rr, beta=0.2: dpo(r, c, rr, rc, beta)),
        ("swapped", lambda c, r, rc, rr, beta=0.2: dpo(rc, rr, c, r, beta)),
        ("sign of the loss", lambda *a: -dpo(*a)),
        ("reference is missing", lambda c, r, rc, rr, beta=0.2: dpo(c, r, 0 * rc, 0 * rr, beta)),
        ("compare probabilities", lambda c, r, rc, rr, beta=0.2: dpo(c.exp(), r.exp(), rc.exp(), rr.exp(), beta)),
        ("divided log-probabilities", lambda c, r, rc, rr, beta=0.2: -F.logsigmoid(beta * (c / rc - r / rr)).mean()),
        ("logarithm is missing", lambda c, r, rc, rr, beta=0.2: -torch.sigmoid(beta * (c - rc - r + rr)).mean()),
        ("sigmoid is missing", lambda c, r, rc, rr, beta=0.2: -beta * (c - rc - r + rr).mean()),
        ("in front of the loss", lambda c, r, rc, rr, beta=0.2: beta * dpo(c, r, rc, rr, 1.0)),
        ("hinge", lambda c, r, rc, rr, beta=0.2: torch.relu(1 - beta * (c - rc - r + rr)).mean()),
        ("added the two", lambda c, r, rc, rr, beta=0.2: dpo(c, -r, rc, -rr, beta)),
        ("is the sum", lambda c, *a: dpo(c, *a) * len(c)),
        ("use torch.nn.functional.logsigmoid", lambda c, r, rc, rr, beta=0.2: -torch.sigmoid(
            beta * (c - rc - r + rr)).log().mean()),
        ("must stay a tensor", lambda *a: dpo(*a).item()),
        ("no gradient", lambda c, r, *a: dpo(c.detach(), r.detach(), *a)),
        ("gradient is not", lambda c, r, *a: dpo(c, r.detach(), *a)),
        ("take the mean", lambda c, r, rc, rr, beta=0.2: -F.logsigmoid(beta * (c - rc - r + rr))),
    ],
    "check_build_pairs": [
        ("swapped", lambda q, a, f: paired(q, a, f, make=lambda x, c, r: as_row(x, r, c))),
        ("Unchanged answers are still there", lambda q, a, f: paired(q, a, f, keep=lambda c, r: True)),
        ("Only the unchanged", lambda q, a, f: paired(q, a, f, keep=lambda c, r: c == r)),
        ("is `correct` called", lambda q, a, f: [as_row(x, y, y) for x, y in zip(q, a)]),
        ("both the corrected", lambda q, a, f: [as_row(x, f(y), f(y)) for x, y in zip(q, a)]),
        ("do not belong together", lambda q, a, f: [
            as_row(x, f(y), y) for x, y in zip(q, [y for y in a if f(y) != y])]),
        ("instead of the answer", lambda q, a, f: [as_row(f(x), y, y) for x, y in zip(q, a)]),
        ("role in chosen", lambda q, a, f: paired(q, a, f, make=lambda *x: as_row(*x, role="user"))),
        ("list of messages was wanted", lambda q, a, f: paired(
            q, a, f, make=lambda x, c, r: {"prompt": x, "chosen": c, "rejected": r})),
        ("a row is a dict", lambda q, a, f: paired(q, a, f, make=lambda *x: x)),
    ],
    "check_dpop_loss": [
        ("plain DPO", lambda *a: dpop(*a, lambda c, r, rc, rr: 0)),
        ("has *risen*", lambda *a: dpop(*a, lambda c, r, rc, rr: 5 * (rc - c))),
        ("where the chosen answer has risen", lambda *a: dpop(*a, lambda c, r, rc, rr: 5 * torch.relu(c - rc))),
        ("falling is rewarded", lambda *a: dpop(*a, lambda c, r, rc, rr: -5 * torch.relu(rc - c))),
        ("`strength` is missing", lambda *a: dpop(*a, lambda c, r, rc, rr: torch.relu(rc - c))),
        ("fall of the rejected", lambda *a: dpop(*a, lambda c, r, rc, rr: 5 * torch.relu(rr - r))),
        ("outside beta", lambda *a: dpop(*a, lambda c, r, rc, rr: 25 * torch.relu(rc - c))),
        ("sign of the loss", lambda *a: -dpop(*a, lambda c, r, rc, rr: 5 * torch.relu(rc - c))),
    ],
    "check_own_loss": [
        ("pushing down", dpo),
        ("imitation alone", lambda c, r, rc, rr: -c),
        ("Nothing moved", lambda c, r, rc, rr: 0 * c),
        ("rejected answer has risen", lambda c, r, rc, rr: dpo(r, c, rr, rc)),
        ("hardly rose", lambda *a: dpop(*a, lambda c, r, rc, rr: 5 * torch.relu(rc - c))),
        ("has no gradient", lambda c, r, rc, rr: dpo(c.detach(), r.detach(), rc, rr)),
        ("must stay a tensor", lambda *a: float(dpo(*a))),
        ("broke down", lambda c, r, rc, rr: ((c - r) ** 2 - 900).sqrt()),
    ],
    "check_claims": [
        ("Think again: 'c'", {"a": True, "b": True, "c": True, "d": False, "e": False, "f": False}),
        ("Think again: 'a'", {"a": False, "b": True, "c": True, "d": False, "e": False, "f": False}),
        ("neither True nor False", {"a": "yes", "b": True, "c": False, "d": False, "e": False, "f": False}),
        ("removed or added", {"a": True}),
    ],
    "check_loss_at_start": [
        ("sign is wrong", lambda a, n, most: loss_left(a, n, most, sign=1)),
        ("lengths are missing", lambda a, n, most: -sum(a) / len(a)),
        ("as DAPO does", lambda a, n, most: loss_left(a, n, most, lambda a, n, most: sum(n))),
        ("division by `longest`", lambda a, n, most: loss_left(a, n, most, lambda a, n, most: len(a))),
        ("number of responses", lambda a, n, most: loss_left(a, n, most, lambda a, n, most: most)),
        ("an array of shape (3,)", lambda a, n, most: -torch.tensor(a) * torch.tensor(n) / most),
    ],
    "check_group_advantages": [
        ("do not sum to zero within", lambda *a: advantages(*a, mean=lambda g: g.mean())),
        ("whole batch. Each", lambda *a: advantages(*a, mean=lambda g: g.mean(), std=lambda g: g.std() + 1e-4)),
        ("the std that of", lambda *a: advantages(*a, std=lambda g: g.std() + 1e-4)),
        ("reshape(-1, size)", lambda r, n, s: advantages(
            groups(r, len(r) // n).T.flatten().tolist(), n, s).view(-1, n).T.flatten()),
        ("not subtracted", lambda *a: advantages(*a, mean=lambda g: 0.0)),
        ("sum of the group", lambda *a: advantages(*a, mean=lambda g: g.sum(1, keepdim=True))),
        ("best reward", lambda *a: advantages(*a, mean=lambda g: g.amax(1, keepdim=True))),
        ("sign is wrong", lambda *a: -advantages(*a)),
        ("sign is lost", lambda *a: advantages(*a).abs()),
        ("With scale=True", lambda r, n, s: advantages(r, n, False)),
        ("With scale=False", lambda r, n, s: advantages(r, n, True)),
        ("gave nan", lambda *a: advantages(*a, std=lambda g: g.std(1, keepdim=True))),
        ("divides by n.", lambda *a: advantages(*a, std=lambda g: g.std(1, keepdim=True, correction=0) + 1e-4)),
        ("by the variance", lambda *a: advantages(*a, std=lambda g: g.var(1, keepdim=True) + 1e-4)),
        ("shape (2, 3) came back", lambda r, n, s: advantages(r, n, s).view(-1, n)),
    ],
    "check_graded_reward": [
        ("plain correctness", rewarder(right_box)),
        ("a word as well", rewarder(lambda t, g: max(right_box(t, g), 0.1 * bool(extract_boxed(t))))),
        ("empty box", rewarder(lambda t, g: max(right_box(t, g), 0.1 * (extract_boxed(t) is not None)))),
        ("Everything gets at least", rewarder(lambda t, g: max(right_box(t, g), 0.1))),
        ("anywhere in the text", rewarder(lambda t, g: hackable_reward([t], [g])[0] or 0.1 * number_box(t))),
        ("Use answers_match", rewarder(lambda t, g: 1.0 if extract_boxed(t) == g else 0.1 * number_box(t))),
        ("gets 1.1", rewarder(lambda t, g: right_box(t, g) + 0.1 * number_box(t))),
        ("0.5 here", rewarder(lambda t, g: max(right_box(t, g), 0.5 * number_box(t)))),
        ("`**kwargs` takes it in", lambda completions, ground_truth: [0.0] * len(completions)),
        ("One number came back", lambda completions, ground_truth, **kwargs: 1.0),
        ("its text is completion[-1]", lambda completions, ground_truth, **kwargs: [
            float(extract_boxed(c) == "72") for c in completions]),
        ("each has its own answer", lambda completions, ground_truth, **kwargs: [
            right_box(t, ground_truth[0]) or 0.1 * number_box(t) for t in texts_of(completions)]),
        ("12 numbers came back; 13 were wanted", lambda completions, ground_truth, **kwargs: [0.0] * 12),
    ],
    "check_cheat": [
        ("no number in your text", lambda question: "Trust me."),
        ("One guess a problem", lambda question: "72"),
        ("Your numbers end at 20", lambda question: " ".join(map(str, range(21)))),
        ("each on its own", lambda question: "".join(map(str, range(5000)))),
        ("honest solutions", lambda question: next(
            r["answer"] + "\n\\boxed{" + answers.extract_gold(r["answer"]) + "}"
            for r in load_course_dataset("sprout-maths") if r["question"] == question)),
    ],
    "check_mended_reward": [
        ("It can still be hacked", rewarder(lambda t, g: bool(extract_boxed(t)) + max(0.0, 1 - len(t) / 100))),
        ("It can still be hacked", rewarder(lambda t, g: 0.3 * right_box(t, g) + 2 ** (-len(t) / 30))),
        ("wish for brevity is gone", rewarder(right_box)),
        ("more than a wrong one", rewarder(lambda t, g: right_box(t, g) * max(0.0, 1 - len(t) / 100))),
        ("Briefer should earn more", rewarder(lambda t, g: right_box(t, g) * (1 + len(t) / 1000))),
        ("Nothing is paid", rewarder(lambda t, g: 0.0)),
        ("should get 0", rewarder(lambda t, g: 0.1 + right_box(t, g) * (1 + 100 / (100 + len(t))))),
        ("another problem", lambda completions, ground_truth, **kwargs: [
            right_box(t, "72") * (1 + 100 / (100 + len(t))) for t in texts_of(completions)]),
        ("0 was asked for", rewarder(lambda t, g: right_box(t, g) * (2 + 1 / (1 + len(t))) - 1)),
    ],
    "check_steps_reward": [
        ("Divide by the number", steps(holds, share=lambda found: float(sum(found)))),
        ("All or nothing", steps(holds, share=lambda found: float(bool(found) and all(found)))),
        ("Only the last", steps(holds, share=lambda found: float(found[-1]) if found else 0.0)),
        ("silence would be paid", steps(holds, share=lambda found: sum(found) / len(found) if found else 1.0)),
        ("throws the rest away", steps(floors)),
        ("ZeroDivisionError", steps(lambda a, sign, b, c: int(a) / int(b) == int(c))),
        ("ZeroDivisionError", steps(holds, share=lambda found: sum(found) / len(found))),
    ],
    "check_pass_at_k": [
        ("more than once: too low", lambda n, c, k: 1 - (1 - c / n) ** k),
        ("k does nothing", lambda n, c, k: c / n),
        ("counts twice", lambda n, c, k: min(1.0, k * c / n)),
        ("*none* of the k", lambda n, c, k: math.comb(n - c, k) / math.comb(n, k)),
        ("any sample was right", lambda n, c, k: 1.0 if c else 0.0),
        ("*all* k are right", lambda n, c, k: math.comb(c, k) / math.comb(n, k)),
        ("(correct/n)^k", lambda n, c, k: (c / n) ** k),
        ("n=8, correct=8, k=8: wanted 1.0000, got", lambda n, c, k: 0.5 if c == k else pass_at_k(c, n, k)),
    ],
    "check_plan": [
        ("are left over", lambda solved, budget: spend(solved, budget // 2)),
        ("A group of one", lambda solved, budget: [1] * len(solved)),
        ("takes", lambda solved, budget: [budget] * len(solved)),
        ("whole numbers", lambda solved, budget: [budget / len(solved)] * len(solved)),
        ("always or never solved", lambda solved, budget: [budget // len(solved)] * len(solved)),
        ("next sample add most", lambda solved, budget: spend(solved, budget, size=4)),
        ("numbers were wanted", lambda solved, budget: budget),
    ],
    "check_completion_mask": [
        ("by the token's id", lambda ids, end: (ids != end).float()),
        ("end token itself is masked", lambda ids, end: until_end(ids, end, more=-1)),
        ("Every token counts", lambda ids, end: torch.ones(ids.shape)),
        ("*last* end token", lambda ids, end: until_end(ids, end, find=last_end)),
        ("argmax of no True", lambda ids, end: until_end(ids, end, find=argmax_end)),
        ("all count", lambda ids, end: until_end(ids, end, find=lambda r, e: r.index(e) if e in r else -1)),
        ("One token too many", lambda ids, end: until_end(ids, end, more=1)),
        ("swapped", lambda ids, end: 1 - torch.tensor(until_end(ids, end))),
        ("shape (5, 2) came back", lambda ids, end: torch.tensor(until_end(ids, end)).T),
        ("raised ValueError", lambda ids, end: [row.index(end) for row in ids.tolist()]),
    ],
    "check_surrogate": [
        ("minus the surrogate", lambda *a: -clipped(*a)),
        ("larger of the two", lambda *a: clipped(*a, take=torch.max)),
        ("For a negative advantage", lambda new, old, a, *c: torch.where(
            a > 0, clipped(new, old, a, *c), clipped(new, old, a, *c, take=torch.max))),
        ("minimum is missing", lambda *a: clipped(*a, take=lambda plain, kept: kept)),
        ("Nothing is clipped", lambda new, old, a, low, high: (new - old).exp() * a),
        ("upside down", lambda new, old, *a: clipped(old, new, *a)),
        ("exp is missing", lambda new, old, a, low, high: torch.min(
            (new - old) * a, (new - old).clamp(1 - low, 1 + high) * a)),
        ("`high` is not used", lambda new, old, a, low, high: clipped(new, old, a, low, low)),
        ("`low` is not used", lambda new, old, a, low, high: clipped(new, old, a, high, high)),
        ("are swapped", lambda new, old, a, low, high: clipped(new, old, a, high, low)),
        ("logarithm of the ratio", lambda new, old, a, low, high: torch.min(
            (new - old).exp() * a, (new - old).clamp(-low, high).exp() * a)),
        ("Clip the ratio, then multiply", lambda new, old, a, low, high: torch.min(
            (new - old).exp() * a, ((new - old).exp() * a).clamp(1 - low, 1 + high))),
        ("has no gradient", lambda new, *a: clipped(new.detach(), *a)),
        ("shape () came back", lambda *a: clipped(*a).mean()),
    ],
    "check_kl_tokens": [
        ("upside down", lambda new, ref: k3(ref, new)),
        ("This is k1", lambda new, ref: new - ref),
        ("minus k1", lambda new, ref: ref - new),
        ("half the square", lambda new, ref: (new - ref) ** 2 / 2),
        ("- 1 is missing", lambda new, ref: k3(new, ref) + 1),
        ("*minus* d", lambda new, ref: k3(new, ref) + 2 * (ref - new)),
        ("log-ratio is missing", lambda new, ref: (ref - new).exp() - 1),
        ("0 or more", lambda new, ref: -k3(new, ref)),
        ("Sampling has done that", lambda new, ref: new.exp() * (new - ref)),
        ("subtracted probabilities", lambda new, ref: (ref - new).exp() - (ref.exp() - new.exp()) - 1),
        ("has no gradient", lambda new, ref: k3(new, ref).detach()),
        ("its gradient is not", lambda new, ref: k3(new, ref).detach() + new - new.detach()),
    ],
    "check_kl_gradients": [
        ("gradient through the weights", kl_pair(second=lambda p, lp, ref: p * k3(lp, ref))),
        ("The first is 0", kl_pair(first=lambda p, lp, ref: p.detach() * (lp - ref))),
        ("KL(reference || policy). Weigh", kl_pair(first=lambda p, lp, ref: ref.exp() * (ref - lp))),
        ("wrong order", lambda *a: kl_pair()(*a)[::-1]),
        ("weights are the reference's", kl_pair(second=lambda p, lp, ref: ref.exp() * k3(lp, ref))),
        ("counts the same", kl_pair(second=lambda p, lp, ref: k3(lp, ref) / len(lp))),
        ("a plain sum", kl_pair(second=lambda p, lp, ref: k3(lp, ref))),
        ("gradient of k1", kl_pair(second=lambda p, lp, ref: p.detach() * (lp - ref))),
        ("signs of both", kl_pair(sign=-1)),
        ("1 rows came back; 2 were wanted", lambda *a: kl_pair()(*a)[:1]),
    ],
    "check_normalisers": [
        ("mean over the two responses", weights_of(grpo=1 / 40)),
        ("*short* response", weights_of(grpo=1 / 20)),
        ("only by that of tokens", weights_of(dapo=1 / 100)),
        ("longest *allowed*", weights_of(dr_grpo=1 / 50)),
        ("number of responses", weights_of(dr_grpo=1 / 100)),
        ("it has 40 tokens", weights_of(whole=10)),
        ("dapo, a token: not 0.5", weights_of(dapo=0.5)),
        ("removed or added", {"grpo": {"a": 1.0, "b": 2.0}}),
        ("a number was wanted", {**weights_of(), "grpo": {"a": "1/80", "b": None}}),
    ],
    "check_careless_cheat": [
        ("How often does it pay", "<reasoning>6 * 12 = 72</reasoning><answer>72</answer>"),
        ("How often does it pay", "<answer>" + " ".join(map(str, range(2000))) + "</answer>"),
        ("no tag in your text", "72 " * 100),
        ("a text was wanted", ["<answer>"] * 50),
    ],
    "check_structured_reward": [
        ("0.2 for each tag is missing", tagged(form=lambda t: 0.0)),
        ("Only the tags are paid", tagged(right=lambda t, g: 0.0)),
        ("each time it comes", tagged(form=lambda t: sum(t.count(tag) for tag in TAGS) / 5)),
        ("up to 0.8", tagged(form=lambda t: min(0.8, sum(t.count(tag) for tag in TAGS) / 5))),
        ("comes twenty times", tagged(form=lambda t: sum(tag in t for tag in TAGS) / 5)),
        ("All or nothing", tagged(form=lambda t: 0.8 * all(t.count(tag) == 1 for tag in TAGS))),
        ("all four 0.8", tagged(form=lambda t: 0.8 * sum(t.count(tag) == 1 for tag in TAGS))),
        ("equal, but not the same text", tagged(right=lambda t, g: 2.0 * answers_match(tagged_answer(t), g))),
        ("so it is 1.5", tagged(right=lambda t, g: 2.0 * (tagged_answer(t) == g))),
        ("2.0 and 1.5 added", tagged(
            right=lambda t, g: 2.0 * (tagged_answer(t) == g) + 1.5 * answers_match(tagged_answer(t), g))),
        ("anywhere in the text", tagged(right=lambda t, g: 2.0 if g in t else tagged_reward([t], [g])[0])),
        ("list of guesses", tagged(right=lambda t, g: 2.0 if g in inner(t) else tagged_reward([t], [g])[0])),
        ("The last one counts", tagged(right=lambda t, g: tagged_reward([first_answer(t)], [g])[0])),
        ("White space", tagged(right=lambda t, g: 2.0 if inner(t) == g else 1.5 * answers_match(tagged_answer(t), g))),
        ("each completion has its own", lambda completions, ground_truth, **kwargs: [
            tagged_reward([t], ground_truth[:1])[0] + tag_format_reward([t])[0] for t in texts_of(completions)]),
        ("`**kwargs` takes it in", lambda completions, ground_truth: [0.0] * len(completions)),
    ],
    "check_overlong_penalty": [
        ("a penalty is 0 or less", lambda *a: -slope(*a)),
        ("begins at a length of `cache`", lambda n, most, cache: slope(n, most, cache, start=cache)),
        ("You divided by `longest`", lambda n, most, cache: slope(n, most, cache, over=most) if n <= most else -1.0),
        ("The point is the slope", lambda n, most, cache: -float(n > most)),
        ("cost -1 at once", lambda n, most, cache: -float(n > most - cache)),
        ("runs backwards", lambda n, most, cache: -1.0 if n > most else -min(1, (most - n) / cache) * (n > most - cache)),
        ("goes on falling", lambda n, most, cache: min(0.0, (most - cache - n) / cache)),
        ("nothing is taken off", lambda n, most, cache: slope(n, most, cache) if n <= most else 0.0),
    ],
    "check_fill_batch": [
        ("The filter is right", sampler()),
        ("has no spread", sampler(keep=lambda rewards: True)),
        ("draw more than you need", sampler(stop=False)),
        ("is no group that was drawn", sampler(change=lambda rewards: [1.0, 0.0, 1.0, 0.0, 0.0])),
        ("8 were wanted", lambda draw, problems, wanted, memory: {}),
        ("a dict was wanted", lambda draw, problems, wanted, memory: [draw(p) for p in problems]),
        ("600 groups were drawn", lambda draw, problems, wanted, memory: [draw(0) for _ in iter(int, 1)]),
    ],
    "check_pair_loss": [
        ("prefer the worse", lambda c, r: bt(r - c)),
        ("sign of the loss", lambda c, r: -bt(c - r)),
        ("logarithm is missing", lambda c, r: -torch.sigmoid(c - r).mean()),
        ("chance of a wrong choice", lambda c, r: torch.sigmoid(r - c).mean()),
        ("applied twice", lambda c, r: bt(torch.sigmoid(c - r))),
        ("before the difference", lambda c, r: bt(torch.sigmoid(c) - torch.sigmoid(r))),
        ("sigmoid is missing", lambda c, r: (r - c).mean()),
        ("score each answer by itself", lambda c, r: bt(c) + bt(-r)),
        ("divided the scores", lambda c, r: bt(c / r)),
        ("squared error", lambda c, r: ((1 - c + r) ** 2).mean()),
        ("hinge", lambda c, r: torch.relu(1 - c + r).mean()),
        ("is the sum", lambda c, r: -F.logsigmoid(c - r).sum()),
        ("use torch.nn.functional.logsigmoid", lambda c, r: -torch.sigmoid(c - r).log().mean()),
        ("must stay a tensor", lambda c, r: bt(c - r).item()),
        ("gradient is not", lambda c, r: bt(c - r.detach())),
    ],
    "check_ranking_loss": [
        ("is the sum", lambda s: pairs_loss(s, reduce=torch.sum)),
        ("number of answers", lambda s: pairs_loss(s, reduce=torch.sum) / len(s)),
        ("neighbours only", lambda s: pairs_loss(s, lambda i, j: j == i + 1)),
        ("best with the others only", lambda s: pairs_loss(s, lambda i, j: i == 0 < j)),
        ("first with the last only", lambda s: bt(s[0] - s[-1])),
        ("earlier minus the later", lambda s: pairs_loss(s, sign=-1)),
        ("sign of the loss", lambda s: -pairs_loss(s)),
        ("Each pair is there twice", lambda s: pairs_loss(s, lambda i, j: i != j)),
        ("every answer with every one", lambda s: pairs_loss(s, lambda i, j: True)),
        ("compared with themselves", lambda s: pairs_loss(s, lambda i, j: i <= j)),
        ("Plackett-Luce", lambda s: torch.stack([s[i:].logsumexp(0) - s[i] for i in range(len(s) - 1)]).mean()),
        ("has no gradient", lambda s: pairs_loss(s).detach()),
    ],
    "check_token_rewards": [
        ("*costs* reward", lambda s, new, ref, mask, beta: spread_rewards(s, new, ref, mask, -beta)),
        ("last column", lambda *a: spread_rewards(*a, place=lambda last, mask: mask.shape[1] - 1)),
        ("one place behind", lambda *a: spread_rewards(
            *a, place=lambda last, mask: (last + 1).clamp(max=mask.shape[1] - 1))),
        ("first token", lambda *a: spread_rewards(*a, place=lambda last, mask: 0)),
        ("Every token gets the score", lambda s, new, ref, mask, beta: (s[:, None] - beta * (new - ref)) * mask),
        ("spread the score", lambda s, new, ref, mask, beta: (
            (s / mask.sum(1))[:, None] - beta * (new - ref)) * mask),
        ("replaced", lambda *a: spread_rewards(*a, add=False)),
        ("KL term is missing", lambda s, new, ref, mask, beta: spread_rewards(s, new, ref, mask, 0.0)),
        ("score is missing", lambda s, *a: spread_rewards(0 * s, *a)),
        ("beta is missing", lambda s, new, ref, mask, beta: spread_rewards(s, new, ref, mask, 1.0)),
        ("padding carries", lambda *a: spread_rewards(*a, keep=1)),
        ("used k3", lambda *a: spread_rewards(*a, kl=k3)),
        ("sum of its response", lambda *a: spread_rewards(*a).sum(1, keepdim=True).expand(a[1].shape)),
    ],
    "check_gae": [
        ("value on the padding leaks", lambda r, v, m, g, lam: backward(
            r + g * torch.cat([v[:, 1:] * (1 - m[:, 1:]) * m[:, :-1], 0 * v[:, :1]], 1), v, m, g, lam)),
        ("Mask in the loop", lambda *a: backward(*a, inside=False, outside=True)),
        ("treated as tokens", lambda *a: backward(*a, inside=False)),
        ("runs forwards", lambda *a: backward(*a, forwards=True)),
        ("one-step error", lambda *a: backward(*a, decay=0.0)),
        ("lambda is missing", lambda r, v, m, g, lam: backward(r, v, m, g, 1.0)),
        ("gamma is missing in front", lambda r, v, m, g, lam: backward(r, v, m, g, lam, decay=lam)),
        ("gamma * lambda is missing", lambda *a: backward(*a, decay=1.0)),
        ("gamma is missing in delta", lambda *a: backward(*a, step=1.0)),
        ("next value is missing", lambda *a: backward(*a, after=0.0)),
        ("V_t twice", lambda *a: backward(*a, after=1.0)),
        ("values are missing", lambda r, v, *a: backward(r, 0 * v, *a)),
        ("returns, A + V", lambda r, v, m, *a: backward(r, v, m, *a) + v * m),
        ("sign of delta", lambda *a: -backward(*a)),
    ],
    "check_critic_claims": [
        ("Think again: 0", dict(enumerate([True] * 8))),
        ("Think again: 1", dict(enumerate([False] * 8))),
        ("Think again: 7", dict(enumerate([False, True, False, False, True, False, False, True]))),
        ("neither True nor False", dict(enumerate([0] * 8))),
        ("removed or added", {"a": True}),
    ],
    "check_value_loss": [
        ("smaller error", lambda *a: critic(*a, take=torch.min)),
        ("Only the clipped error", lambda *a: critic(*a, take=lambda plain, kept: kept)),
        ("Nothing is clipped", lambda *a: critic(*a, take=lambda plain, kept: plain)),
        ("one half is missing", lambda *a: 2 * critic(*a)),
        ("The padding counts", lambda *a: critic(*a, mean=lambda error, mask: error.mean() / 2)),
        ("divided by all places", lambda *a: critic(*a, mean=lambda error, mask: (error * mask).mean() / 2)),
        ("This is the sum", lambda *a: critic(*a, mean=lambda error, mask: (error * mask).sum() / 2)),
        ("of the *old* one", lambda v, old, target, m, clip: critic(
            v, old, target, m, clip, near=lambda v, old, clip: target + (v - target).clamp(-clip, clip))),
        ("clipped the value itself", lambda *a: critic(*a, near=lambda v, old, clip: v.clamp(-clip, clip))),
        ("share of the old value", lambda *a: critic(*a, near=lambda v, old, clip: torch.min(
            torch.max(v, old - clip * old.abs()), old + clip * old.abs()))),
        ("not squared", lambda v, old, target, m, clip: (torch.max(
            (v - target).abs(), (old + (v - old).clamp(-clip, clip) - target).abs()) * m).sum() / m.sum() / 2),
        ("must stay a tensor", lambda *a: critic(*a).item()),
        ("has no gradient", lambda v, *a: critic(v.detach(), *a)),
    ],
    "check_audit": [
        ("tied scores", lambda *a: shares(*a, right=lambda p: p.chosen_score >= p.rejected_score)),
        ("shares of errors", lambda *a: shares(*a, right=lambda p: p.chosen_score <= p.rejected_score)),
        ("two are swapped", lambda *a: shares(*a)[::-1]),
        ("in the first group", lambda *a: shares(*a, equal=(1, 0))),
        ("in the second group", lambda *a: shares(*a, equal=(0, 1))),
        ("among the right pairs", lambda *a: shares(
            *a, below=lambda side, p: (p.chosen_score > p.rejected_score).sum())),
        ("on all pairs, twice", lambda p, feature: [(p.chosen_score > p.rejected_score).mean()] * 2),
        ("divided by all pairs", lambda *a: shares(*a, below=lambda side, p: len(p))),
        ("These are counts", lambda *a: shares(*a, below=lambda side, p: 1)),
        ("none of words", shares, "length"),
        ("Where do the two lie", shares, "digits"),
    ],
    "check_choose_step": [
        ("goes on rising", lambda proxy, kl, probe, budget: len(kl) - 1),
        ("goes on rising", lambda proxy, kl, probe, budget: int(np.argmax(proxy))),
        ("single probe is noisy", lambda proxy, kl, probe, budget: max(range(5, 60, 10), key=probe)),
        ("budget of 6 probes is spent", lambda proxy, kl, probe, budget: max(range(60), key=probe)),
        ("no checkpoint", lambda proxy, kl, probe, budget: kl[-1]),
        ("there is no checkpoint -1", lambda proxy, kl, probe, budget: probe(-1)),
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
    "check_template": [chat()],
    "check_lora_weights": [lambda shapes, rank: float(sum(rank * (a + b) for a, b in shapes))],
    "check_learning_rates": [],
    "check_filter": [lambda rows: drop(unique(rows), lambda r: r["answer"].endswith(".") and shared_words(r))],
    "check_questions_needed": [lambda points: float(needed(points)), lambda points: np.int64(needed(points))],
    "check_choices": [{"a": "dpo", "b": "sft", "c": "online RL", "d": "RAG", "e": "Prompting"}],
    "check_temperature": [
        soft,
        lambda logits, t: soft(logits, t).tolist(),
        lambda logits, t: soft(logits, t).double().numpy(),
    ],
    "check_few_shot_prompt": [few],
    "check_paired_test": [lambda b, a: np.array([*counts(b, a), p_value(*counts(b, a))])],
    "check_begin_sentence": [],
    "check_beta_for_weight": [lambda w, m: torch.logit(torch.tensor(1 - w)) / m],
    "check_dpo_loss": [
        dpo,
        lambda c, r, rc, rr, beta, **more: F.softplus(-beta * (c.double() - rc - r + rr)).mean(),
        lambda c, r, rc, rr, beta=0.2: dpo(c, r, rc, rr, beta)[None],
    ],
    "check_build_pairs": [paired, lambda q, a, f: tuple({**pair, "id": 1} for pair in paired(q, a, f))],
    "check_dpop_loss": [lambda *a: float(dpop(*a, lambda c, r, rc, rr: 5 * (rc - c).clamp(min=0)))],
    "check_own_loss": [lambda c, r, rc, rr: dpo(c, r, rc, rr) - c],
    "check_claims": [{"a": True, "b": True, "c": False, "d": False, "e": False, "f": False}],
    "check_loss_at_start": [lambda a, n, most: -(torch.tensor(a) * torch.tensor(n)).sum() / len(a) / most],
    "check_group_advantages": [
        advantages,
        lambda *a: advantages(*a).double().numpy(),
        lambda *a: advantages(*a, std=lambda g: g.std(1, keepdim=True) + 1e-8).tolist(),
        lambda *a: advantages(*a, std=lambda g: g.std(1, keepdim=True).clamp(min=1e-6)).tolist(),
    ],
    "check_graded_reward": [graded_reward, rewarder(lambda t, g: torch.tensor(right_box(t, g) or 0.1 * number_box(t)))],
    "check_cheat": [lambda question: ", ".join(map(str, range(10_000)))],
    "check_mended_reward": [
        rewarder(lambda t, g: right_box(t, g) / (1 + len(t))),
        rewarder(lambda t, g: bool(right_box(t, g)) * (1 + max(0.0, 1 - len(t) / 200))),
    ],
    "check_steps_reward": [steps(holds)],
    "check_pass_at_k": [
        lambda n, c, k: 1.0 if n - c < k else 1 - np.prod(1 - k / np.arange(n - c + 1, n + 1)),
        pass_at_k_given_n,
    ],
    "check_plan": [],
    "check_completion_mask": [
        until_end,
        lambda ids, end: ((ids == end).cumsum(1) - (ids == end).int()) == 0,
        lambda ids, end: np.array(until_end(ids, end), dtype=int),
    ],
    "check_surrogate": [
        clipped,
        lambda *a: clipped(*(x.double() if isinstance(x, torch.Tensor) else x for x in a)),
        lambda new, old, a, low, high: torch.where(
            a > 0, (new - old).exp().clamp(max=1 + high) * a, (new - old).exp().clamp(min=1 - low) * a
        ),
    ],
    "check_kl_tokens": [k3, lambda new, ref: (ref.double() - new).expm1() + new - ref],
    "check_kl_gradients": [
        kl_pair(),
        lambda logits, ref: (kl_pair()(logits, ref)[0].numpy(), (logits.softmax(-1) - ref.exp()).tolist()),
        lambda logits, ref: torch.stack(kl_pair(second=lambda p, lp, ref: -ref.exp() * lp)(logits, ref)).float(),
    ],
    "check_normalisers": [weights_of()],
    "check_careless_cheat": ["<answer></answer>" * 30, "<answer>72</answer>" * 30],
    "check_structured_reward": [
        tagged(),
        rewarder(lambda t, g: torch.tensor(tagged_reward([t], [g])[0] + tag_format_reward([t])[0])),
    ],
    "check_overlong_penalty": [slope, lambda n, most, cache: np.clip((most - cache - n) / cache, -1, 0)],
    "check_fill_batch": [remembering],
    "check_pair_loss": [
        lambda c, r: bt(c - r),
        lambda c, r: F.softplus(r.double() - c).mean()[None],
        lambda c, r: F.binary_cross_entropy_with_logits(c - r, torch.ones_like(c)),
    ],
    "check_ranking_loss": [pairs_loss, lambda s: pairs_loss(s.double())],
    "check_token_rewards": [
        spread_rewards,
        lambda *a: spread_rewards(*(x.double() if torch.is_tensor(x) else x for x in a)).tolist(),
    ],
    "check_gae": [backward, lambda *a: backward(*(x.double() if torch.is_tensor(x) else x for x in a)).numpy()],
    "check_critic_claims": [dict(enumerate([False, True, False, False, True, False, False, False]))],
    "check_value_loss": [critic, lambda v, *a: critic(v.double(), *a)],
    "check_audit": [],
    "check_choose_step": [parabola],
}


def map_pair(change, pair):
    return change(pair[0]), change(pair[1])


NOT_FUNCTIONS = (
    "check_learning_rates",
    "check_choices",
    "check_claims",
    "check_normalisers",
    "check_careless_cheat",
    "check_critic_claims",
)
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


@pytest.mark.parametrize("check", [name for name in PLANTED if name not in NOT_FUNCTIONS])
@pytest.mark.parametrize("stub", [None, ..., lambda *a, **k: None, lambda *a, **k: ...])
def test_nothing_written_is_neither_right_nor_wrong(check, stub):
    verdict = getattr(exercises, check)(stub)
    assert verdict.right is None and "Not started" in repr(verdict)


def test_the_audit_waits_for_the_name_of_the_shortcut():
    unnamed = exercises.check_audit(shares)
    assert unnamed.right is None and "shortcut is not started" in unnamed.message
    assert exercises.check_audit(shares, "words").right is True
    as_tensor = exercises.check_audit(lambda *a: torch.tensor(shares(*a), dtype=torch.float32), "words")
    assert as_tensor.right is True, as_tensor


def test_predictions_one_by_one():
    for claims in (dict(enumerate([None] * 8)), dict(enumerate([False] + [None] * 7))):
        assert exercises.check_critic_claims(claims).right is None
    half = {**weights_of(), "dapo": {"a": None, "b": None}}
    verdict = exercises.check_normalisers(half)
    assert verdict.right is None and "2 not started" in verdict.message
    nothing = {name: {"a": None, "b": None} for name in half}
    assert exercises.check_normalisers(nothing).message == "Not started."


def test_the_references_agree_with_the_library():
    draw = torch.Generator().manual_seed(1)
    logps, ref, a, values = (torch.randn(3, 5, generator=draw) for _ in range(4))
    mask = torch.tensor([[1.0, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    five, six = exercises.lesson_05, exercises.lesson_06
    assert close(five._surrogate(logps[0], ref[0], a[0], 0.2, 0.3), clipped_surrogate(logps, ref, a, 0.2, 0.3)[0].tolist())
    assert close(five._k3(logps[0], ref[0]), kl_estimate(logps, ref)[0].tolist())
    assert close(six._pair_loss(a[0], a[1]), bradley_terry_loss(a[0], a[1]).item())
    assert close(six._ranking_loss(a[0]), ranking_loss(a[:1]).item())
    score = a[:, 0]
    assert close(six._token_rewards(score, logps, ref, mask, 0.1), token_rewards(score, logps, ref, mask, 0.1).tolist())
    rewards = a * mask
    assert close(
        six._gae(rewards, values, mask, 0.9, 0.8), generalised_advantages(rewards, values, mask, 0.9, 0.8)[0].tolist()
    )
    assert close(six._value_loss(values, ref, a, mask, 0.2), value_loss(values, ref, a, mask, 0.2).item())


GARBAGE = [
    math.nan, math.inf, -1, 10**30, "x", "", [], {}, (1, 2), [None], [[1.0]], object(), True, 1j, {"a": 1}, [{}],
    torch.zeros(0), torch.zeros(2, 2), torch.tensor(1), torch.tensor(True), np.array(["a"]), np.zeros(3), range(3),
]  # fmt: skip


@pytest.mark.parametrize("check", [name for name in PLANTED if name not in NOT_FUNCTIONS])
def test_any_value_at_all_gets_a_clear_word(check):
    for value in GARBAGE:
        verdict = getattr(exercises, check)(lambda *a, value=value, **k: value)
        assert verdict.right is False, (value, verdict)
        assert "cannot be checked" not in verdict.message and len(verdict.message) < 700, (value, verdict)


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
        logits -= 1.0
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-1)

    assert exercises.check_masked_loss(in_place).right is True


def test_a_loss_that_cannot_be_differentiated():
    def spoiled(logits, labels):
        logits -= logits.amax(-1, keepdim=True)
        return ce(logits[:, :-1], labels[:, 1:])

    verdict = exercises.check_masked_loss(spoiled)
    assert verdict.right is False and "its gradient: your code raised RuntimeError" in verdict.message


def test_close_and_show():
    assert close(math.nan, math.nan) and not close(math.nan, 1.0) and not close([1.0], 1.0)
    assert close([1.0, [2.0]], [1.00001, [2.0]]) and not close([1.0], [1.0, 2.0]) and close("a", "a")
    assert show([1.0, math.inf]) == "[1.0000, inf]" and len(show("x" * 500)) == 160
