"""Checks of lesson 08: the cost of rejection, the best of k, what is kept, distillation, near copies, claims, cleaning.

Left out on purpose: models and sampling. Answers, scores and logits arrive as plain texts and numbers; the dirty rows of
exercise 7 are invented, with a label that only the check sees.
"""

import math
import random
from itertools import combinations

import numpy as np
import torch

from helper.exercises.checking import (
    NotStarted,
    Wrong,
    a_kind,
    as_loss,
    as_number,
    as_vector,
    call,
    exercise,
    judge,
    judge_claims,
    needs_gradient,
    show,
)
from helper.overlap import shingles

# 1. The cost of rejection


def _cost(target: list[float], proposal: list[float], how: str = "") -> list[float]:
    """The smallest M with p(x) <= M q(x), and the share of draws that is kept."""
    pairs = [(p, q) for p, q in zip(target, proposal, strict=True) if how == "all" or p > 0]
    ratios = [p / q for p, q in pairs]
    m = {
        "smallest": min(ratios),
        "upside down": max(q / p for p, q in pairs if p > 0),
        "mean": sum(ratios) / len(ratios),
        "largest p": max(target),
        "difference": max(p - q for p, q in pairs),
    }.get(how, max(ratios))
    kept = {"m again": m, "rejected": 1 - 1 / m, "overlap": sum(min(p, q) for p, q in pairs)}.get(how, 1 / m)
    return [kept, m] if how == "swapped" else [m, kept]


COST_MISTAKES = {
    "smallest": "You took the smallest ratio p/q. The bound has to hold for *every* x, so take the largest.",
    "upside down": "You divided q by p. p(x) <= M q(x) asks for p over q.",
    "mean": "You took the mean of the ratios. One x above the line is enough to spoil what is kept: take the largest.",
    "largest p": "You took the largest p. How often the proposal draws that x counts as well: p over q.",
    "difference": "You took the largest difference p - q. The proposal is *multiplied* by M.",
    "m again": "The second number is M again. The share that is kept is 1/M.",
    "rejected": "The second number is the share that is thrown away. The share that is kept was asked for.",
    "overlap": "The second number is the overlap of p and q. A draw is kept with p/(M q), which comes to 1/M.",
    "swapped": "The two are swapped: first M, then the share that is kept.",
}


@exercise
def check_cost(function) -> str:
    """Does `function(target, proposal)` give the smallest M and the share of draws that is kept?"""
    cases = {
        "a loaded die": ([0.05, 0.1, 0.1, 0.15, 0.2, 0.4], [1 / 6] * 6),
        "a target that is 0 somewhere": ([0.5, 0.5, 0.0], [0.2, 0.4, 0.4]),
        "four values": ([0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]),
        "target and proposal alike": ([0.3, 0.7], [0.3, 0.7]),
    }
    mistakes = {message: lambda *given, how=how: _cost(*given, how) for how, message in COST_MISTAKES.items()}
    judge(function, cases, _cost, mistakes, as_vector)
    return "For the loaded die 2.4 throws buy one. For an answer of 40 tokens nobody knows M."


# 2. The best of k


def _expected_best(scores: list[float], k: int, how: str = "") -> float:
    """The mean of the highest score over all subsets of k."""
    groups = list(combinations(scores, k))
    return {
        "all": max(scores),
        "mean": sum(scores) / len(scores),
        "first": max(scores[:k]),
        "worst": sum(map(min, groups)) / len(groups),
        "sum": sum(map(max, groups)),
        "top": sum(sorted(scores)[-k:]) / k,
        "again": _with_replacement(scores, k),
        "blocks": _of_blocks(scores, k),
        "mean of means": sum(sum(group) / k for group in groups) / len(groups),
    }.get(how, sum(map(max, groups)) / len(groups))


def _with_replacement(scores: list[float], k: int) -> float:
    """The mean of the best of k where one answer may be drawn several times."""
    ranked, n = sorted(scores), len(scores)
    return sum(s * (((i + 1) / n) ** k - (i / n) ** k) for i, s in enumerate(ranked))


def _of_blocks(scores: list[float], k: int) -> float:
    blocks = [scores[i : i + k] for i in range(0, len(scores) - k + 1, k)]
    return sum(map(max, blocks)) / len(blocks)


BEST_MISTAKES = {
    "again": "An answer may be drawn twice in your subsets. You have n answers and take k *different* ones.",
    "blocks": "You cut the answers into blocks of k. That is right in the mean, and wastes most subsets: take all of them.",
    "all": "This is the best of all n answers. With k of them one does not always meet it.",
    "first": "This is the best of the first k. The order of the answers means nothing: average over all subsets.",
    "worst": "You took the lowest score of each subset.",
    "top": "This is the mean of the k highest scores. Nobody picks those.",
    "mean": "This is the mean score: a blind pick, for which k does not matter.",
    "mean of means": "You took the mean of each subset. Take its highest score.",
    "sum": "You added up the subsets. Divide by how many there are.",
}


@exercise
def check_best_of_k(function) -> str:
    """Does `function(scores, k)` give the mean of the highest score over all subsets of k answers?"""
    cases = {
        "scores 0, 1, 5 and k = 2": ([0.0, 1.0, 5.0], 2),
        "right or wrong, k = 3": ([0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0], 3),
        "k = 1": ([2.0, -1.0, 0.5, 0.5], 1),
        "k = n": ([2.0, -1.0, 0.5], 3),
        "eight scores, k = 4": ([0.3, -1.2, 2.5, 0.9, 0.9, -0.4, 1.7, 0.0], 4),
    }
    mistakes = {message: lambda *given, how=how: _expected_best(*given, how) for how, message in BEST_MISTAKES.items()}
    judge(function, cases, _expected_best, mistakes, as_number)
    return "With scores of 0 and 1 it is pass@k."


# 3. What is kept


def _keep(questions, groups, scores, per_question, how: str = "") -> list[tuple[str, str]]:
    """(question, text) of the answers with a score of 1, each text once a question, at most `per_question` of them."""
    rows, seen_anywhere = [], set()
    for question, texts, paid in zip(questions, groups, scores, strict=True):
        good = [
            text for text, score in zip(texts, paid) if how == "any score" or (score > 0 if how == "above 0" else score >= 1)
        ]
        if how == "cap first":
            good = [text for text, score in zip(texts[:per_question], paid) if score >= 1]
        kept, seen = [], seen_anywhere if how == "everywhere" else set()
        for text in good:
            key = text if how == "blanks" else " ".join(text.split())
            if how == "repeats" or key not in seen:
                kept.append(text)
            seen.add(key)
        if how == "last":
            kept = list({" ".join(text.split()): text for text in good}.values())
        if how == "late":  # the cap counts repeats
            kept = [text for text in kept if text in good[:per_question]]
        kept = [" ".join(text.split()) if how == "evened" else text for text in kept]
        rows += [(question, text) for text in (kept if how == "no cap" else kept[:per_question])]
    return rows


KEEP_MISTAKES = {
    "any score": "Wrong answers are kept: only a score of 1 is right.",
    "above 0": "An answer with a score of 0.1 is kept. That one only had the form; right is 1.",
    "blanks": "Texts that differ only in spaces and line breaks are counted as different.",
    "last": "Of texts that differ only in blanks the last one is kept. Keep the first, as it was sampled.",
    "evened": "The texts come back with their blanks evened out. Do that to compare, and keep the text as it was sampled.",
    "repeats": "The same text stands there several times for one question. Keep it once.",
    "everywhere": "A text is dropped because *another question* has it too. Repeats are looked for within a question.",
    "no cap": "Some question gives more than `per_question` rows.",
    "cap first": "You cut to `per_question` before looking at the scores. First check, then cut.",
    "late": "You cut to `per_question` before removing repeats, so some different answers are lost.",
}


def _as_rows(value, wanted: list, case: str) -> list[list[str]]:
    """A list of pairs of texts."""
    if not isinstance(value, (list, tuple)):
        raise Wrong(f"{case}: {show(value)} came back, {a_kind(value)}; a list of (question, text) was wanted.")
    for row in value:
        if not isinstance(row, (list, tuple)) or len(row) != 2 or not all(isinstance(text, str) for text in row):
            raise Wrong(f"{case}: {show(row)} is no pair (question, text).")
    return [[question, text] for question, text in value]


@exercise
def check_keep(function) -> str:
    """Does `function(questions, groups, scores, per_question)` keep the right answers, each once, not too many?"""
    cases = {
        "two questions": (["a", "b"], [["1", "2", "1"], ["3", "4", "5"]], [[1.0, 0.0, 1.0], [0.1, 0.0, 1.0]], 4),
        "blanks": (["a"], [["x  = 1", "x = 1", "x = 1\n", "y = 1"]], [[1.0] * 4], 4),
        "the same text to two questions": (["a", "b"], [["7", "8"], ["7", "9"]], [[1.0, 0.0], [1.0, 1.0]], 4),
        "at most two": (["a"], [["w", "p", "p", "q", "r"]], [[0.0, 1.0, 1.0, 1.0, 1.0]], 2),
        "nothing right to one": (["a", "b"], [["1", "2"], ["3", "4"]], [[0.0, 0.1], [0.0, 1.0]], 1),
    }

    def reference(*given):
        return [list(row) for row in _keep(*given)]

    mistakes = {
        message: lambda *given, how=how: [list(row) for row in _keep(*given, how)] for how, message in KEEP_MISTAKES.items()
    }
    judge(function, cases, reference, mistakes, _as_rows)
    return "Easy questions would fill the file; the cap gives the hard ones a share."


# 4. On-policy distillation


def _distil_loss(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, how: str = "") -> float:
    """The mean over the tokens that count of KL(student || teacher), logits (B, R, V) twice, in plain Python."""
    total, count = 0.0, 0.0
    for rows, others, keeps in zip(student.tolist(), teacher.tolist(), mask.tolist()):
        for logits, wanted, keep in zip(rows, others, keeps):
            total += _token_kl(logits, wanted, how) * (1.0 if how == "padding" else keep)
            count += 1.0 if how in ("padding", "all places") else keep
    below = {"sum": 1.0, "answers": float(len(student))}.get(how, count)
    return total / below


def _token_kl(logits: list[float], wanted: list[float], how: str) -> float:
    q, p = _softmax(logits), _softmax(wanted)
    q, p = (p, q) if how == "forward" else (q, p)
    terms = {
        "sign": [a * (math.log(b) - math.log(a)) for a, b in zip(q, p)],
        "weights": [b * (math.log(a) - math.log(b)) for a, b in zip(q, p)],
        "cross-entropy": [-a * math.log(b) for a, b in zip(q, p)],
        "logits": [a * (x - y) for a, x, y in zip(q, logits, wanted)],
        "vocabulary": [a * (math.log(a) - math.log(b)) / len(q) for a, b in zip(q, p)],
        "squares": [(x - y) ** 2 / len(q) for x, y in zip(logits, wanted)],
    }
    return sum(terms.get(how, [a * (math.log(a) - math.log(b)) for a, b in zip(q, p)]))


def _softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    powers = [math.exp(x - top) for x in logits]
    return [x / sum(powers) for x in powers]


DISTIL_MISTAKES = {
    "forward": "This is the forward KL, with the teacher's probabilities as weights. Reverse: the student's.",
    "weights": "The weights are the teacher's. They are the student's, as in the first of the two logarithms.",
    "sign": "The sign is wrong: log of the student less log of the teacher. A KL is never below 0.",
    "cross-entropy": "The student's own log-probabilities are missing: this is a cross-entropy, which wants one sure token.",
    "logits": "You subtracted logits. Take log_softmax of both first.",
    "vocabulary": "You took the mean over the vocabulary. Sum over it.",
    "squares": "This is a squared error of logits. A distance of distributions was asked for.",
    "padding": "The padding counts. Only places where the mask is 1 do.",
    "all places": "You divided by all places. Divide by the number of tokens that count.",
    "sum": "This is the sum over the tokens. Take the mean.",
    "answers": "You divided by the number of answers. Divide by the number of tokens that count.",
}


@exercise
def check_distil_loss(function) -> str:
    """Is it the mean over the real tokens of KL(student || teacher), with a gradient for the student only?"""
    draw = torch.Generator().manual_seed(8)
    student, teacher = (1.5 * torch.randn(2, 3, 5, generator=draw) for _ in range(2))
    mask = torch.tensor([[1.0, 1, 1], [1, 0, 0]])
    one = torch.ones(1, 1)
    cases = {
        "one token of two words": (torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[1.0, -1.0]]]), one),
        "two answers, one of them short": (student, teacher, mask),
        "equal up to a constant": (student + 3.0, student, mask),
    }
    mistakes = {message: lambda *given, how=how: _distil_loss(*given, how) for how, message in DISTIL_MISTAKES.items()}
    judge(function, cases, _distil_loss, mistakes, as_loss)
    leaf = student.clone().requires_grad_()
    q, p = leaf.log_softmax(-1), teacher.log_softmax(-1)
    (gradient,) = torch.autograd.grad(((q.exp() * (q - p)).sum(-1) * mask).sum() / mask.sum(), leaf)
    needs_gradient(function, "two answers", (student, teacher, mask), [gradient])
    return "In a loop, wrap what the teacher says in torch.no_grad(): it must not move."


# 5. Near copies


def _near(texts: list[str], threshold: float, how: str = "") -> list[float]:
    """The places that are kept: a text goes when its likeness to an earlier kept one is `threshold` or more."""
    kept: list[int] = []
    for i, text in enumerate(texts):
        before = range(i) if how == "dropped too" else [i - 1] * bool(i) if how == "neighbours" else kept
        if not any(_is_near(texts[j], text, threshold, how) for j in before):
            kept.append(i)
    if how == "the others":
        return [float(i) for i in range(len(texts)) if i not in kept]
    return [float(i) for i in kept]


def _is_near(one: str, other: str, threshold: float, how: str) -> bool:
    size = {"one word": 1, "two words": 2}.get(how, 3)
    a, b = (shingles(text, size) for text in (one, other))
    if how == "letters":
        a, b = ({text.lower()[i : i + 3] for i in range(max(1, len(text) - 2))} for text in (one, other))
    like = len(a & b) / min(len(a), len(b)) if how == "smaller" else len(a & b) / len(a | b)
    like = 2 * len(a & b) / (len(a) + len(b)) if how == "dice" else like
    return like > threshold if how == "strictly" else like >= threshold


NEAR_MISTAKES = {
    "the others": "These are the places of the copies. The places of the texts that *stay* were asked for.",
    "dropped too": "You compare with texts that were dropped already. A chain of small changes would eat distant texts.",
    "neighbours": "You compare each text with the one before it only.",
    "strictly": "A likeness equal to the threshold counts as near.",
    "two words": "Your shingles are pairs of words. Take runs of three.",
    "one word": "Your shingles are single words, so the order of the words is gone. Take runs of three.",
    "dice": "This is Dice's coefficient, twice the shared by the sum. Jaccard: shared by all.",
    "smaller": "You divided by the smaller set. Jaccard divides by all shingles of the two together.",
    "letters": "Your shingles are runs of letters. Take runs of three *words*.",
}


def _as_list_of_places(value, wanted: list, case: str) -> list[float]:
    """Places, as many as there are."""
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        raise Wrong(f"{case}: {show(value)} came back, {a_kind(value)}; a list of places was wanted.")
    return [as_number(place, None, case) for place in value]


@exercise
def check_near_copies(function) -> str:
    """Does `function(texts, threshold)` give the places of the texts that stay?"""
    ten = "one two three four five six seven eight nine ten"
    chain = [ten, ten.replace("ten", "tax"), ten.replace("one", "won").replace("ten", "tax")]
    chain.append(chain[2].replace("two", "too"))
    cases = {
        "a copy and another text": ([ten, "red blue green black white grey", ten], 0.8),
        "a likeness equal to the threshold": ([ten, ten.replace("one", "won")], 7 / 9),
        "a chain of small changes": (chain, 0.6),
        "the same words in another order": ([ten, " ".join(reversed(ten.split())), "one three two"], 0.5),
        "a short part of a long text": ([ten, "one two three four", "one two"], 0.6),
        "one letter changed in each word": (["card bird word herd", "cart bird word herd", "cart bind wood held"], 0.34),
        "like pairs, not runs": (["a b c d e f", "a b x c d e f", "a b c x d e f"], 0.5),
        "likeness near the border": ([ten, ten.replace("five", "fine")], 0.5),
    }
    mistakes = {message: lambda *given, how=how: _near(*given, how) for how, message in NEAR_MISTAKES.items()}
    judge(function, cases, _near, mistakes, _as_list_of_places)
    return "MinHash estimates the same likeness from short signatures, for more texts than one can compare in pairs."


# 6. Claims

CLAIMS = [  # for each claim of the exercise whether it is true, and why
    (False, "a smaller M would be cheaper, and what is kept would no longer be distributed as the target"),
    (True, "draws are kept with p / (M q), and that sums to 1 / M"),
    (False, "DeepSeekMath's RFT is SFT on answers that were checked; ReFT is PPO with a reward"),
    (True, "what the blind arm gains too is not owed to the check"),
    (False, "what it keeps are problems that it can already solve, so the rows are easier than what was asked"),
    (True, "the loss compares probabilities of the same tokens"),
    (False, "no right answer is used; the teacher may be wrong, and the student follows it"),
    (False, "by the score of the practised problems nobody would know it; that of the other skills fell"),
]


@exercise
def check_data_claims(claims: dict) -> str:
    """Is each claim marked True or False as it should be? Says why not."""
    judge_claims(claims, CLAIMS)
    return "So ask of any recipe: what was kept, against which control, and what do the rows have in common?"


# 7. Open: a filter of your own

DIRT = ("copy", "changed copy", "cut short", "repeated", "refusal", "wrong sum", "another language")
ENOUGH_KEPT, ENOUGH_DROPPED = 0.95, 0.90
NOUNS = ("apples", "pens", "stones", "cards", "shells", "books", "coins", "cups", "keys", "maps")
NAMES = ("Ana", "Tom", "Leo", "Mia", "Zoe", "Ben", "Ivy", "Max", "Eva", "Sam")
OTHER_TONGUES = (
    ("Quantas maçãs tem {name} se compra {a} e come {b}?", "Tem {c} maçãs."),
    ("Wie viele Karten hat {name} nach {a} weniger {b}?", "Es sind {c} Karten."),
    ("Combien de livres reste-t-il à {name}, {a} moins {b} ?", "Il en reste {c}."),
)


def dirty_rows(seed: int = 0) -> list[dict]:
    """Some 160 invented rows with `question` and `answer`: sums in two steps, and dirt of seven kinds among them.

    A clean answer has two lines, each a sum that comes out. Which rows are dirt is not said.
    """
    return [{"question": row["question"], "answer": row["answer"]} for row in _labelled_rows(seed)]


def _labelled_rows(seed: int) -> list[dict]:
    draw = random.Random(f"rows {seed}")
    clean = [_clean_row(draw) for _ in range(100)]
    clean = list({row["question"]: row for row in clean}.values())
    rest = [_dirt(draw.choice(clean), kind, draw) for kind in DIRT for _ in range(8)]
    rest += clean[1:]
    draw.shuffle(rest)  # a copy may come first: then what it was copied from is the copy
    return [clean[0], *rest]


def _clean_row(draw: random.Random) -> dict:
    name, other, noun, things = *draw.sample(NAMES, 2), *draw.sample(NOUNS, 2)
    a, b, c = draw.randint(20, 99), draw.randint(3, 19), draw.randint(2, 9)
    question, first, second = draw.choice((
        (f"{name} has {a} {noun} and gives {b} to {other}. Then {c} more are found. How many does {name} have?",
         f"{a} - {b} = {a - b}", f"{a - b} + {c} = {a - b + c}"),
        (f"In a box are {a} {noun}. {other} puts {b} {things} on top, and {name} takes {c} things. How many stay?",
         f"{a} + {b} = {a + b}", f"{a + b} - {c} = {a + b - c}"),
        (f"{name} fills {c} bags with {b} {noun} each, {a} {things} lie beside them. How many things are there?",
         f"{c} * {b} = {c * b}", f"{c * b} + {a} = {c * b + a}"),
    ))  # fmt: skip
    return {"question": question, "answer": f"{first}\n{second}", "kind": "clean"}


def _dirt(row: dict, kind: str, draw: random.Random) -> dict:
    question, answer = row["question"], row["answer"]
    a, b = draw.randint(10, 20), draw.randint(2, 9)
    tongue = [text.format(name=draw.choice(NAMES), a=a, b=b, c=a - b) for text in draw.choice(OTHER_TONGUES)]
    question, answer = {
        "copy": (question, answer),
        "changed copy": (question.replace("How many", "Tell me how many"), answer),
        "cut short": (question, answer.split("\n")[0][: draw.randint(2, 6)]),
        "repeated": (question + " ", "\n".join([answer] * draw.randint(3, 6))),
        "refusal": (question, "As an AI language model, I can not do sums."),
        "wrong sum": (question, answer[:-1] + str((int(answer[-1]) + draw.randint(1, 9)) % 10)),
        "another language": tongue,
    }[kind]
    return {"question": question, "answer": answer, "kind": kind}


def _graded(kept: set[int], rows: list[dict]) -> tuple[float, float, str]:
    """Shares: clean stories that stay, dirt that goes; and the kind of dirt that stays most.

    Of a story and its copies one may stay, whichever; a second one is dirt.
    """
    stories, stays, second = {}, {}, 0
    for place, row in enumerate(rows):
        if row["kind"] in ("clean", "copy", "changed copy"):
            stories.setdefault(row["answer"] + row["question"].replace("Tell me how", "How"), []).append(place)
    for places in stories.values():
        second += max(0, sum(place in kept for place in places) - 1)
    left = {kind: sum(row["kind"] == kind and i in kept for i, row in enumerate(rows)) for kind in DIRT[2:]}
    stays = sum(any(place in kept for place in places) for places in stories.values()) / len(stories)
    dirt = len(rows) - len(stories)
    worst = max({**left, "copy": second}.items(), key=lambda item: item[1])[0]
    return stays, 1 - (second + sum(left.values())) / dirt, worst


@exercise
def check_clean(function) -> str:
    """Do the places that `function(rows)` keeps hold 95% of the clean rows, and is 90% of the dirt gone, in 20 files?"""
    if function is None or function is ...:
        raise NotStarted
    if not callable(function):
        raise Wrong(f"Give the function itself to the check (its name, without brackets), not {show(function)}.")
    found = []
    for seed in range(101, 121):
        rows = _labelled_rows(seed)
        given = [{"question": row["question"], "answer": row["answer"]} for row in rows]
        kept = call(function, f"file {seed}", (given,))
        if kept is None or kept is ...:
            raise NotStarted
        found.append(_graded(_places(kept, len(rows), f"file {seed}"), rows))
    stays, goes = (sum(each) / len(found) for each in list(zip(*found))[:2])
    kinds = [kind for *_, kind in found]
    worst = max(set(kinds), key=kinds.count)
    said = f"You keep {stays:.1%} of the clean rows and drop {goes:.1%} of the dirt, on average over 20 files."
    if stays < ENOUGH_KEPT:
        raise Wrong(f"{said} {ENOUGH_KEPT:.0%} of the clean rows should stay: look at clean rows that you drop.")
    if goes < ENOUGH_DROPPED:
        raise Wrong(f"{said} {ENOUGH_DROPPED:.0%} of the dirt should go. What stays most often: {worst}.")
    return f"{said} On real rows you would not know the first number: read some of what is dropped."


def _places(kept, number: int, case: str) -> set[int]:
    """The places that were kept, as a set; Wrong for what are none."""
    if isinstance(kept, (str, dict)) or not hasattr(kept, "__iter__"):
        raise Wrong(f"{case}: {show(kept)} came back, {a_kind(kept)}; a list of places was wanted.")
    try:
        values = list(kept)
    except TypeError:
        raise Wrong(f"{case}: {show(kept)} came back; a list of places was wanted.") from None
    places = [as_number(value, None, case) for value in values]
    wrong = [place for place in places if place not in range(number)]
    if wrong:
        raise Wrong(f"{case}: {show(wrong[0], 1)} is no place; they are 0 to {number - 1}.")
    if not places:
        raise Wrong(f"{case}: no row is kept at all.")
    return {int(place) for place in places}
