"""The exercises of lesson 08: what a student might hand in, and what the check says to it."""

import math
from itertools import combinations, count, product

import numpy as np
import torch
from exercise_tests import ExerciseTests

from helper.algorithms.distillation import distillation_loss
from helper.algorithms.rejection import expected_best, keep_verified, smallest_bound
from helper.exercises import lesson_08 as lesson
from helper.exercises.checking import close
from helper.overlap import earlier_likeness, near_copies

NEVER_SEEN = count()
CLAIMS = [False, True, False, True, False, True, False, False]


def bound(p, q, use=max, ratio=lambda p, q: p / q):
    return use([ratio(a, b) for a, b in zip(p, q) if a > 0])


def over_subsets(scores, k, pick=max):
    groups = list(combinations(scores, k))
    return sum(map(pick, groups)) / len(groups)


def keep(questions, groups, scores, most, least=1.0, key=lambda text: " ".join(text.split()), all_over=False, first=None):
    rows, seen = [], set()
    for question, texts, paid in zip(questions, groups, scores):
        kept, seen = [], seen if all_over else set()
        for text, score in list(zip(texts, paid))[:first]:
            if score >= least and key(text) not in seen:
                seen.add(key(text))
                kept.append((question, text))
        rows += kept[:most]
    return rows


def keep_tidy(*given):
    return [(question, " ".join(text.split())) for question, text in keep(*given)]


def keep_last(questions, groups, scores, most):
    backwards = [[list(each)[::-1] for each in part] for part in (groups, scores)]
    return [row for q, g, s in zip(questions, *backwards) for row in keep([q], [g], [s], None)[::-1][:most]]


def kl(student, teacher, mask, weights="q", places=None, sign=1, over=torch.sum):
    q, p = student.log_softmax(-1), teacher.log_softmax(-1)
    w, gap = {"q": (q, q - p), "p": (p, p - q), "mixed": (p, q - p)}[weights]
    each = sign * over(w.exp() * gap, -1)
    counts = mask if places is None else torch.ones_like(mask)
    below = {"all": mask.numel(), "answers": len(mask), "sum": 1}.get(places, counts.sum())
    return (each * (mask if places != "padding" else counts)).sum() / below


def runs(text, size=3):
    words = text.lower().replace(".", "").split()
    return {tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))}


def stay(texts, threshold, size=3, like=lambda a, b: len(a & b) / len(a | b), near=None, against="kept"):
    kept, near = [], near or (lambda value: value >= threshold)
    for i, text in enumerate(texts):
        before = {"kept": kept, "all": range(i), "last": range(i)[-1:]}[against]
        if not any(near(like(runs(texts[j], size), runs(text, size))) for j in before):
            kept.append(i)
    return kept


def evaluates(line):
    left, sign, right = line.partition("=")
    try:
        return bool(sign) and eval(left, {}) == int(right)
    except (SyntaxError, NameError, ValueError):
        return False


def clean(rows, lines=2, threshold=0.6):
    sound = []
    for i, row in enumerate(rows):
        said = row["answer"].split("\n")
        english = len({"how", "the", "many", "has", "a"} & set(row["question"].lower().split())) >= 2
        if english and len(said) == lines and all(map(evaluates, said)):
            sound.append(i)
    near = near_copies(earlier_likeness([rows[i]["question"] + rows[i]["answer"] for i in sound]), threshold)
    return [i for i, copy in zip(sound, near) if copy < 0]


PLANTED = {
    "check_cost": [
        ("smallest ratio", lambda p, q: [bound(p, q, min), 1 / bound(p, q, min)]),
        ("divided q by p", lambda p, q: [bound(p, q, max, lambda a, b: b / a), 1 / bound(p, q, max, lambda a, b: b / a)]),
        ("mean of the ratios", lambda p, q: [m := bound(p, q, lambda x: sum(x) / len(x)), 1 / m]),
        ("largest p", lambda p, q: [max(p), 1 / max(p)]),
        ("M again", lambda p, q: [bound(p, q)] * 2),
        ("thrown away", lambda p, q: [bound(p, q), 1 - 1 / bound(p, q)]),
        ("overlap of p and q", lambda p, q: [bound(p, q), sum(map(min, p, q))]),
        ("two are swapped", lambda p, q: [1 / bound(p, q), bound(p, q)]),
    ],
    "check_best_of_k": [
        ("drawn twice", lambda s, k: sum(max(group) for group in product(s, repeat=k)) / len(s) ** k),
        ("best of all n", lambda s, k: max(s)),
        ("first k", lambda s, k: max(s[:k])),
        ("lowest score", lambda s, k: over_subsets(s, k, min)),
        ("k highest scores", lambda s, k: sum(sorted(s)[-k:]) / k),
        ("blind pick", lambda s, k: sum(s) / len(s)),
        ("into blocks", lambda s, k: np.mean([max(s[i : i + k]) for i in range(0, len(s) - k + 1, k)])),
        ("added up the subsets", lambda s, k: sum(map(max, combinations(s, k)))),
    ],
    "check_keep": [
        ("Wrong answers are kept", lambda *a: keep(*a, least=-math.inf)),
        ("only had the form", lambda *a: keep(*a, least=0.05)),
        ("several times", lambda *a: keep(*a, key=lambda text: next(NEVER_SEEN))),
        ("differ only in spaces", lambda *a: keep(*a, key=lambda text: text)),
        ("Keep the first", keep_last),
        ("as it was sampled", keep_tidy),
        ("*another question*", lambda *a: keep(*a, all_over=True)),
        ("more than `per_question`", lambda q, g, s, most: keep(q, g, s, None)),
        ("before looking at the scores", lambda q, g, s, most: keep(q, g, s, most, first=most)),
        ("no pair", lambda *a: [row[1] for row in keep(*a)]),
    ],
    "check_distil_loss": [
        ("forward KL", lambda *a: kl(*a, weights="p")),
        ("The weights are the teacher's", lambda *a: kl(*a, weights="mixed")),
        ("never below 0", lambda *a: kl(*a, sign=-1)),
        ("cross-entropy", lambda s, t, m: (-(s.softmax(-1) * t.log_softmax(-1)).sum(-1) * m).sum() / m.sum()),
        ("subtracted logits", lambda s, t, m: ((s.softmax(-1) * (s - t)).sum(-1) * m).sum() / m.sum()),
        ("mean over the vocabulary", lambda *a: kl(*a, over=torch.mean)),
        ("padding counts", lambda *a: kl(*a, places="padding")),
        ("divided by all places", lambda *a: kl(*a, places="all")),
        ("sum over the tokens", lambda *a: kl(*a, places="sum")),
        ("number of answers", lambda *a: kl(*a, places="answers")),
        ("has no gradient", lambda s, *a: kl(s.detach(), *a)),
        ("must stay a tensor", lambda *a: kl(*a).item()),
    ],
    "check_near_copies": [
        ("texts that *stay*", lambda t, x: [i for i in range(len(t)) if i not in stay(t, x)]),
        ("dropped already", lambda t, x: stay(t, x, against="all")),
        ("one before it only", lambda t, x: stay(t, x, against="last")),
        ("equal to the threshold", lambda t, x: stay(t, x, near=lambda value: value > x)),
        ("single words", lambda t, x: stay(t, x, size=1)),
        ("pairs of words", lambda t, x: stay(t, x, size=2)),
        ("smaller set", lambda t, x: stay(t, x, like=lambda a, b: len(a & b) / min(len(a), len(b)))),
        ("Dice", lambda t, x: stay(t, x, like=lambda a, b: 2 * len(a & b) / (len(a) + len(b)))),
    ],
    "check_data_claims": [
        ("Think again: 0", dict(enumerate([True] * 8))),
        ("Think again: 1", dict(enumerate([False] * 8))),
        ("Think again: 7", dict(enumerate([*CLAIMS[:7], True]))),
        ("neither True nor False", dict(enumerate([0] * 8))),
        ("removed or added", {"a": True}),
    ],
    "check_clean": [
        ("should go", lambda rows: range(len(rows))),
        ("clean rows should stay", lambda rows: [0]),
        ("stays most often: copy", lambda rows: clean(rows, threshold=1.1)),
        ("clean rows should stay", lambda rows: clean(rows, threshold=0.1)),
        ("is no place", lambda rows: [len(rows)]),
        ("list of places was wanted", lambda rows: rows[0]),
    ],
}  # fmt: skip

RIGHT = {
    "check_cost": [lambda p, q: (smallest_bound(torch.tensor(p), torch.tensor(q)), 1 / bound(p, q))],
    "check_best_of_k": [over_subsets, lambda scores, k: torch.tensor(expected_best(scores, k))],
    "check_keep": [keep, lambda *a: [list(row) for row in keep(*a)]],
    "check_distil_loss": [
        kl,
        lambda s, t, m: distillation_loss(s, t, m, beta=1.0),
        lambda s, t, m: kl(s.double(), t.double(), m.double())[None],
    ],
    "check_near_copies": [stay, lambda t, x: np.array(stay(t, x)), lambda t, x: torch.tensor(stay(t, x))],
    "check_data_claims": [dict(enumerate(CLAIMS))],
    "check_clean": [clean, lambda rows: np.array(clean(rows)), lambda rows: set(clean(rows))],
}


class TestExercises(ExerciseTests):
    lesson, planted, right = lesson, PLANTED, RIGHT
    not_functions = ("check_data_claims",)


def test_claims_one_by_one():
    for claims in (dict(enumerate([None] * 8)), dict(enumerate([False] + [None] * 7))):
        assert lesson.check_data_claims(claims).right is None


def test_the_references_agree_with_the_library():
    draw = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(3, 4, 6, generator=draw) for _ in range(2))
    mask = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]])
    assert close(lesson._distil_loss(student, teacher, mask), distillation_loss(student, teacher, mask).item())
    scores = [0.5, -1.0, 2.0, 2.0, 0.0, 3.5]
    for k in range(1, 7):
        assert close(lesson._expected_best(scores, k), expected_best(scores, k))
    p, q = [0.2, 0.5, 0.3], [0.5, 0.2, 0.3]
    assert close(lesson._cost(p, q)[0], smallest_bound(torch.tensor(p), torch.tensor(q)))
    groups, paid = [["1", "1 ", "2", "3"], ["4", "5", "5", "6"]], [[1.0, 1.0, 0.0, 1.0], [0.0, 0.1, 0.0, 1.0]]
    rows = [{"prompt": name} for name in "ab"]
    kept = [(row["prompt"], row["completion"][0]["content"]) for row in keep_verified(rows, groups, paid).kept]
    assert lesson._keep(list("ab"), groups, paid, 9) == kept


def test_the_dirty_rows_hold_all_kinds_and_hide_them():
    rows = lesson._labelled_rows(3)
    assert {row["kind"] for row in rows} == {"clean", *lesson.DIRT}
    assert all(set(row) == {"question", "answer"} for row in lesson.dirty_rows(3))
    everything = set(range(len(rows)))
    stays, goes, _ = lesson._graded(everything, rows)
    assert (stays, goes) == (1.0, 0.0)
    good = {i for i, row in enumerate(rows) if row["kind"] == "clean"}
    assert lesson._graded(good, rows)[0] > 0.9 and lesson._graded(good, rows)[1] == 1.0
