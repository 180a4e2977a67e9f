r"""Checks of lesson 04: the loss near zero, advantages, rewards and how they are cheated, pass@k, spending samples.

Completions are message lists, as the trainer gives them; rewards come back as one number each.
Left out on purpose: training. What a reward pays can be seen before any.
"""

import math
import random
import re

from helper.answers import answers_match, extract_boxed, extract_gold
from helper.answers import as_number as number_of
from helper.data import load_course_dataset
from helper.exercises.checking import (
    NotStarted,
    Wrong,
    as_number,
    as_text,
    as_vector,
    call,
    call_all,
    close,
    exercise,
    judge,
    judge_claims,
    show,
)
from helper.rewards import hackable_reward, reward_func

# 1. Claims about the loss

CLAIMS = [  # for each claim of the exercise whether it is true, and why
    (True, "the batch was written by this very policy, so numerator and denominator are the same"),
    (True, "the group's mean was subtracted"),
    (False, "each advantage multiplies the gradient of a different text, so they do not cancel"),
    (False, "the reward is what should rise; the loss stays near zero all the time"),
    (False, "without spread every advantage is 0, so nothing is pushed"),
    (False, "it is near zero by construction, when all is well too"),
]


@exercise
def check_claims(claims: dict) -> str:
    """Is each claim marked True or False as it should be? Says why not."""
    judge_claims(claims, CLAIMS)
    return "So watch the reward, and the share of groups without spread."


# 2. What is left of the loss


def _loss_at_start(advantages, lengths, longest, how: str = "") -> float:
    terms = [-a * n for a, n in zip(advantages, lengths, strict=True)]
    below = {
        "no L": len(terms),
        "no G": longest,
        "all tokens": sum(lengths),
        "nothing": 1,
    }.get(how, len(terms) * longest)
    if how in ("by response", "no lengths"):
        return -sum(advantages) / len(terms)
    if how == "longest only":
        return -sum(advantages) / (len(terms) * longest)
    return (-1 if how == "sign" else 1) * sum(terms) / below


@exercise
def check_loss_at_start(function) -> str:
    """Does `function(advantages, lengths, longest)` give section 2's loss with all ratios 1?"""
    cases = {
        "all responses of 5 tokens": ([1.0, -1.0, 0.0], [5, 5, 5], 10),
        "right answers shorter": ([1.0, -0.5, -0.5], [20, 40, 36], 64),
        "wrong answers shorter": ([1.5, -0.5, -0.5, -0.5], [60, 20, 12, 30], 72),
    }
    mistakes = {
        "The sign is wrong: the loss is *minus* the mean of ratio * advantage.": "sign",
        "The lengths are missing: each token of a response carries its advantage, so a long one counts more.": "no lengths",
        "The lengths are missing in the sum: a response of n tokens has n terms.": "longest only",
        "You divided by the number of tokens that were written (as DAPO does). Divide by G * longest.": "all tokens",
        "The division by `longest` is missing.": "no L",
        "The division by the number of responses is missing.": "no G",
        "The division by G * longest is missing.": "nothing",
    }
    wrong = {message: lambda a, n, most, how=how: _loss_at_start(a, n, most, how) for message, how in mistakes.items()}
    judge(function, cases, _loss_at_start, wrong, as_number)
    return "With equal lengths it is exactly 0. What is left comes from length, not from learning."


# 3. Group advantages


def _advantages(rewards, size: int, scale: bool, how: str = "") -> list[float]:
    """Reward minus the mean of its group of `size`, divided by the sample std + 1e-4 where `scale`."""
    rewards = [float(reward) for reward in rewards]
    found = [0.0] * len(rewards)
    groups = len(rewards) // size
    for g in range(groups):
        places = range(g, len(rewards), groups) if how == "interleaved" else range(g * size, (g + 1) * size)
        group = [rewards[i] for i in places]
        mean, std = _mean_and_std(group)
        whole_mean, whole_std = _mean_and_std(rewards)
        baselines = {"batch": whole_mean, "batch both": whole_mean, "best": max(group), "sum": sum(group), "none": 0.0}
        mean = baselines.get(how, mean)
        std = whole_std if how in ("batch both", "batch std") else std
        std = std * math.sqrt((size - 1) / size) if how == "population" else std**2 if how == "variance" else std
        divide = {"never": False, "always": True}.get(how, scale)
        below = (std if how == "no epsilon" else std + 1e-4) if divide else 1.0
        for i in places:
            above = mean - rewards[i] if how == "sign" else rewards[i] - mean
            above = abs(above) if how == "absolute" else above
            found[i] = above / below if below else math.nan
    return found


def _mean_and_std(values: list[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


ADVANTAGE_MISTAKES = {
    "batch": "Your advantages do not sum to zero within the groups: did you subtract the batch's mean, not the group's?",
    "batch both": "Mean and std are those of the whole batch. Each group has its own.",
    "batch std": "The mean is the group's, the std that of the whole batch. Take the group's.",
    "interleaved": "You grouped every n-th response. A group is `size` responses in a row: reshape(-1, size).",
    "none": "The mean is not subtracted: rewards are not advantages yet.",
    "sum": "You subtracted the sum of the group. Subtract its mean.",
    "best": "You subtracted the group's best reward. The baseline is the mean.",
    "sign": "The sign is wrong: reward minus mean, so that better than the group is positive.",
    "absolute": "The sign is lost: below the mean is negative.",
    "never": "With scale=True the advantages are also divided by the group's std + 1e-4.",
    "always": "With scale=False nothing is divided.",
    "no epsilon": "A group without spread gave nan, 0/0: divide by std + 1e-4, and it gets zeros.",
    "population": "Your std divides by n. Divide by n - 1, as torch.std does (np.std needs ddof=1).",
    "variance": "You divided by the variance. Divide by its square root, the std.",
}


@exercise
def check_group_advantages(function) -> str:
    """Does `function(rewards, size, scale)` give the advantages of groups that stand one after the other?"""
    draw = random.Random(4)
    some = [round(draw.random(), 2) for _ in range(12)]
    cases = {
        "two groups, not scaled": ([1.0, 0.0, 2.0, 0.0, 0.0, 1.0], 3, False),
        "three groups of four, not scaled": (some, 4, False),
        "three groups of four, scaled": (some, 4, True),
        "a group without spread, not scaled": ([1.0, 1.0, 0.0, 1.0], 2, False),
        "a group without spread, scaled": ([1.0, 1.0, 1.0, 0.0, 1.0, 0.5], 3, True),
    }
    mistakes = {
        message: lambda rewards, size, scale, how=how: _advantages(rewards, size, scale, how)
        for how, message in ADVANTAGE_MISTAKES.items()
    }
    judge(function, cases, _advantages, mistakes, as_vector)
    return "Each group sums to zero, and a group without spread teaches nothing."


# 4. to 7. Rewards


def _messages(texts: list[str]) -> list[list[dict]]:
    return [[{"role": "assistant", "content": text}] for text in texts]


def _paid(function, texts: list[str], **columns) -> list[float]:
    """What a reward function pays for these texts, called as the trainer does."""
    if function is None or function is ...:
        raise NotStarted
    if not callable(function):
        raise Wrong(f"Give the function itself to the check (its name, without brackets), not {show(function)}.")
    more = {"prompts": _messages(texts), "completion_ids": [[1]] * len(texts), "trainer_state": None}
    try:
        value = call(function, "the samples", (_messages(texts),), {**columns, **more})
    except Wrong as wrong:
        if "unexpected keyword" in str(wrong):
            raise Wrong(f"{wrong} The trainer passes more than you use: `**kwargs` takes it in.") from None
        if re.search(r"indices must be integers|'list' object|got 'list'|text is a list", str(wrong)):
            raise Wrong(f"{wrong} A completion is a list of messages: its text is completion[-1]['content'].") from None
        raise
    if value is None or value is ...:
        raise NotStarted
    if isinstance(value, (int, float)):
        raise Wrong(f"One number came back, {show(float(value))}; a list with one for each completion was wanted.")
    rewards = as_vector(value, texts, "the samples")
    for text, reward in zip(texts, rewards, strict=True):
        if not math.isfinite(reward):
            raise Wrong(f"{show(text)} was paid {reward}: a reward must be a finite number.")
    return rewards


def _judge_samples(function, samples: list[tuple], mistakes: dict, **columns) -> None:
    """Raises Wrong unless each sample (text, wanted reward, why) is paid as it should be."""
    texts, wanted, why = (list(column) for column in zip(*samples, strict=True))
    paid = _paid(function, texts, **columns)
    wrong = [i for i in range(len(texts)) if not close(paid[i], wanted[i])]
    for message, mistake in mistakes.items():
        if wrong and close(paid, mistake(texts)):
            raise Wrong(message)
    if wrong:
        i = wrong[0]
        raise Wrong(f"{show(texts[i])} was paid {paid[i]:g}, it should get {wanted[i]:g}: {why[i]}.")


GRADED = [  # a completion, what it should get when the answer is 72, and why
    ("Eggs: 6 * 12 = 72\n\\boxed{72}", 1.0, "right"),
    ("\\boxed{71}", 0.1, "a number in the box, and the wrong one"),
    ("Eggs: 6 * 12 = 72", 0.0, "there is no box"),
    ("It is 72, not 71. \\boxed{71}", 0.1, "only the box counts"),
    ("\\boxed{70} No: \\boxed{72}", 1.0, "the last box counts"),
    ("\\boxed{72} or \\boxed{27}", 0.1, "the last box counts"),
    ("\\boxed{72.0}", 1.0, "72.0 and 72 are one number: compare with answers_match"),
    ("\\boxed{\\frac{144}{2}}", 1.0, "braces inside the box: extract_boxed keeps them"),
    ("\\boxed{1,000}", 0.1, "1,000 is a number, and a wrong one"),
    ("\\boxed{}", 0.0, "the box is empty"),
    ("\\boxed{cake}", 0.0, "a word is no number, so there is nothing to pay for"),
    ("\\boxed{72", 0.0, "cut short: the box is not closed"),
    ("", 0.0, "there is nothing"),
]


def _graded(texts: list[str], how: str) -> list[float]:
    """The graded reward for the answer 72, with one mistake in it."""
    rewards = []
    for text in texts:
        box = extract_boxed(text)
        number = bool(box) and number_of(box) is not None
        anywhere = bool(hackable_reward([text], ["72"])[0])
        right = {"anywhere": anywhere, "text": box == "72"}.get(how, answers_match(box, "72"))
        small = {
            "none": 0.0,
            "half": 0.5 * number,
            "any box": 0.1 * bool(box),
            "always": 0.1,
            "box": 0.1 * (box is not None),
        }
        rewards.append((1.1 if how == "added" else 1.0) if right else small.get(how, 0.1 * number))
    return rewards


@exercise
def check_graded_reward(function) -> str:
    r"""Does it pay 1 for the right number in the last \boxed{}, 0.1 for a wrong number there, else 0?"""
    mistakes = {
        "0.1 for a wrong number in the box is missing; this is the plain correctness reward.": "none",
        "Any filled box gets 0.1, a word as well. Is it a number? as_number gives None for a word.": "any box",
        "An empty box is paid 0.1. There must be a number in it.": "box",
        "Everything gets at least 0.1, also a text without a box.": "always",
        "You pay when 72 stands anywhere in the text. Only the last box counts; the rest can be hacked.": "anywhere",
        "You compare texts: '72.0' and a fraction are the same number as '72'. Use answers_match.": "text",
        "A right answer gets 1.1: the two grades are added. Right is 1, and nothing more.": "added",
        "A wrong number gets 0.5 here; 0.1 was asked for, so that being right is worth far more.": "half",
    }
    wrong = {message: lambda texts, how=how: _graded(texts, how) for message, how in mistakes.items()}
    _judge_samples(function, GRADED, wrong, ground_truth=["72"] * len(GRADED))
    samples = [("\\boxed{3}", 1.0, "each completion has its own answer"), ("\\boxed{3}", 0.1, "each has its own answer")]
    _judge_samples(function, samples, {}, ground_truth=["3", "4"])
    return "It gives a first step to a model that is never right yet; one that is, does not need it."


def _problems(n: int = 20) -> list[tuple[str, str]]:
    rows = load_course_dataset("sprout-maths")
    rows = [rows[i] for i in random.Random(5).sample(range(len(rows)), n)]
    return [(row["question"], extract_gold(row["answer"])) for row in rows]


@exercise
def check_cheat(function) -> str:
    """Is `function(question)` paid by hackable_reward on at least 18 of 20 problems, though reward_func pays nothing?"""
    problems = _problems()
    given = call_all(function, {question: (question,) for question, _ in problems})
    texts = [as_text(text, None, show(question, longest=50)) for question, text in given.items()]
    truths = [truth for _, truth in problems]
    paid, honest = sum(hackable_reward(texts, truths)), sum(reward_func(_messages(texts), truths))
    said = f"hackable_reward pays {paid:.0f} of {len(texts)}, reward_func {honest:.0f}."
    if honest > len(texts) / 2:
        raise Wrong(f"{said} These are honest solutions! The task is to be paid without solving anything.")
    if paid >= 18:
        return f"{said} The hole is in the rule, and no model is needed to find it: test rewards like this."
    numbers = [int(number) for text in texts for number in re.findall(r"\d{1,9}", text)]
    if not numbers:
        raise Wrong(f"{said} There is no number in your text, and the rule looks for one.")
    if all(len(text) < 20 for text in texts):
        raise Wrong(f"{said} One guess a problem is rarely right. Does the rule mind more than one?")
    below = sum(float(truth) > max(numbers) for truth in truths)
    if below:
        raise Wrong(f"{said} Your numbers end at {max(numbers)}, and {below} of the answers are larger.")
    raise Wrong(f"{said} Does your text hold every whole number, each on its own, with spaces between?")


TIDY = {  # completions to a problem whose answer is 72
    "right and brief": "6 * 12 = 72\n\\boxed{72}",
    "right and longer": "There are 6 boxes of 12 eggs, and so there are 6 * 12 = 72 eggs in all.\n\\boxed{72}",
    "right and very long": "We count the eggs, box by box, one after the other. " * 20 + "6 * 12 = 72\n\\boxed{72}",
    "wrong and brief": "\\boxed{5}",
    "wrong and long": "There are 6 boxes of 12 eggs, and so there are 6 + 12 = 18 eggs in all.\n\\boxed{18}",
    "no box, and right": "6 * 12 = 72",
    "two boxes, the last one wrong": "\\boxed{72} \\boxed{5}",
    "an empty box": "\\boxed{}",
    "nothing": "",
}


@exercise
def check_mended_reward(function) -> str:
    """Wrong answers get 0, right ones more, and the briefer of two right ones the most."""
    paid = dict(zip(TIDY, _paid(function, list(TIDY.values()), ground_truth=["72"] * len(TIDY)), strict=True))
    right = [name for name in paid if name.startswith("right")]
    wrong = [name for name in paid if name not in right]
    if all(paid[name] == 0 for name in paid):
        raise Wrong("Nothing is paid at all, right answers included.")
    best = max(wrong, key=paid.get)
    if paid[best] > min(paid[name] for name in right) + 1e-9:
        raise Wrong(
            f"It can still be hacked: {best!r} is paid {paid[best]:.2f}, a right answer {min(paid[x] for x in right):.2f}. "
            "Brevity should count only where the answer is right: multiply, do not add."
        )
    if paid[best] > 1e-9:
        raise Wrong(f"{best!r} is paid {paid[best]:.2f}. A wrong answer, or one without its box, should get 0.")
    lowest = min(wrong, key=paid.get)
    if paid[lowest] < 0:
        raise Wrong(f"{lowest!r} is paid {paid[lowest]:.2f}. 0 was asked for; a group's mean makes it negative anyway.")
    unpaid = [name for name in right if paid[name] <= 1e-9]
    if unpaid:
        raise Wrong(f"{unpaid[0]!r} is paid {paid[unpaid[0]]:.2f}: a right answer must always earn more than a wrong one.")
    brief, longer, longest = (paid[name] for name in right)
    if brief == longer == longest:
        raise Wrong("All right answers are paid the same: the wish for brevity is gone.")
    if not brief > longer >= longest:
        raise Wrong(f"Briefer should earn more; from brief to very long you pay {brief:.2f}, {longer:.2f}, {longest:.2f}.")
    swapped = _paid(function, [TIDY["right and brief"]] * 2, ground_truth=["72", "5"])
    if swapped[1] > 0:
        raise Wrong("A completion was paid by the answer of another problem: each has its own ground_truth.")
    return "Brevity cannot be earned any more without being right."


def _steps(texts: list[str], how: str = "") -> list[float]:
    rewards = []
    for text in texts:
        found = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", text)
        found = found[-1:] if how == "last" else found[:1] if how == "first" else found
        true = sum(_is_true(int(a), sign, int(b), int(c), how) for a, sign, b, c in found)
        share = {"count": true, "all": float(bool(found) and true == len(found))}.get(how)
        rewards.append(float(share if share is not None else true / len(found) if found else how == "one"))
    return rewards


def _is_true(a: int, sign: str, b: int, c: int, how: str) -> bool:
    if sign == "/":
        return b != 0 and (a // b == c if how == "floor" else b * c == a)
    return {"+": a + b, "-": a - b, "*": a * b}[sign] == c


@exercise
def check_steps_reward(function) -> str:
    """Is it the share of true calculations in each completion, and 0 where there is none?"""
    notes = {
        "Eggs: 6 * 12 = 72\n\\boxed{72}": "one calculation, and it is true",
        "Eggs: 6 * 12 = 71\n\\boxed{71}": "6 * 12 is not 71",
        "A: 2 + 2 = 4\nB: 4 - 1 = 5": "one of two is true",
        "A: 2 + 2 = 5\nB: 4 - 1 = 3\nC: 3 * 3 = 9": "two of three are true",
        "\\boxed{72}": "there is no calculation",
        "": "there is no calculation",
        "A: 12 / 4 = 3": "12 / 4 is 3",
        "A: 13 / 4 = 3": "13 / 4 is not 3: check 3 * 4 = 13",
        "A: 5 / 0 = 0": "nothing can be divided by 0",
    }
    mistakes = {
        "You count the true calculations. Divide by the number of all of them.": "count",
        "All or nothing: one false step makes it 0. The share of true ones was asked for.": "all",
        "Only the last calculation is looked at.": "last",
        "Only the first calculation is looked at: re.findall gives all.": "first",
        "A text without any calculation gets 1. It should get 0, or silence would be paid.": "one",
        "13 / 4 = 3 passes: `//` throws the rest away. Check right side * divisor = dividend.": "floor",
    }
    wrong = {message: lambda texts, how=how: _steps(texts, how) for message, how in mistakes.items()}
    _judge_samples(function, [(text, _steps([text])[0], why) for text, why in notes.items()], wrong)
    return "And the cheapest text that earns it all? '1 + 1 = 2'. It needs an outcome beside it."


# 8. pass@k


@exercise
def check_pass_at_k(function) -> str:
    """Is it the unbiased estimate of pass@k from `correct` of n samples (Chen et al. 2021, arXiv 2107.03374, eq. 1)?"""
    cases = {
        f"n={n}, correct={correct}, k={k}": (n, correct, k)
        for n, correct, k in ((8, 2, 1), (8, 2, 4), (10, 3, 5), (20, 1, 10), (8, 0, 4), (8, 8, 8), (5, 3, 4))
    }
    mistakes = {
        "This is 1 - (1 - correct/n)^k, which draws a sample more than once: too low. Count subsets.": lambda n, c, k: (
            1 - (1 - c / n) ** k
        ),
        "This is pass@1, correct/n: k does nothing.": lambda n, c, k: c / n,
        "k * correct/n counts twice what two samples solve.": lambda n, c, k: min(1.0, k * c / n),
        "k * correct/n counts twice what two samples solve, and goes above 1.": lambda n, c, k: k * c / n,
        "This is the chance that *none* of the k is right. Take it from 1.": lambda n, c, k: (
            math.comb(n - c, k) / math.comb(n, k)
        ),
        "This is 1 whenever any sample was right: that is pass@n, for k = n only.": lambda n, c, k: float(c > 0),
        "This is the chance that *all* k are right. At least one is enough.": lambda n, c, k: (
            math.comb(c, k) / math.comb(n, k)
        ),
        "This is (correct/n)^k, the chance that all k are right.": lambda n, c, k: (c / n) ** k,
        "n and correct are swapped.": lambda n, c, k: 1 - math.comb(max(c - n, 0), k) / max(math.comb(c, k), 1),
    }
    judge(function, cases, _pass_at_k, mistakes, as_number)
    judge(function, {"n=1000, correct=10, k=500": (1000, 10, 500)}, _pass_at_k, {}, as_number)
    return "On average it is what k fresh samples would give; the plug-in formula is too low."


def _pass_at_k(n: int, correct: int, k: int) -> float:
    """1 minus the chance that k draws without replacement all miss."""
    miss = 1.0
    for drawn in range(k):
        miss *= max(n - correct - drawn, 0) / (n - drawn)
    return 1 - miss


# 9. Open: how to spend the samples


def informative(solved: list[float], sizes: list[int]) -> float:
    """The expected number of groups with spread: problem i, solved with probability solved[i], gets sizes[i] samples."""
    return sum(1 - p**size - (1 - p) ** size for p, size in zip(solved, sizes, strict=True) if size)


def _best_sizes(solved: list[float], budget: int) -> float:
    """The most that any plan reaches: dynamic programming over problems and samples."""
    best = [0.0] * (budget + 1)
    for p in solved:
        best = [
            max(best[b - size] + informative([p], [size]) for size in range(b + 1) if size != 1) for b in range(budget + 1)
        ]
    return best[budget]


@exercise
def check_plan(function) -> str:
    """Does `function(solved, budget)` reach 97% of the groups with spread that the best plan would give?"""
    draw = random.Random(6)
    cases = {
        "easy and hard problems": ([0.0, 0.02, 0.05, 0.3, 0.5, 0.6, 0.9, 0.98, 1.0], 24),
        "many problems, few samples": ([round(draw.random(), 2) for _ in range(20)], 24),
        "few problems, many samples": ([0.5, 0.1, 0.03], 40),
    }
    reached = []
    for case, sizes in call_all(function, cases).items():
        solved, budget = cases[case]
        sizes = as_vector(sizes, solved, case)
        if any(size != int(size) or size < 0 for size in sizes):
            raise Wrong(f"{case}: group sizes are whole numbers from 0; {show(sizes, 1)} came back.")
        if sum(sizes) > budget:
            raise Wrong(f"{case}: your plan takes {sum(sizes):.0f} samples, {budget} are there.")
        sizes = [int(size) for size in sizes]
        even = [budget // len(solved)] * len(solved)
        yours, best, naive = informative(solved, sizes), _best_sizes(solved, budget), informative(solved, even)
        said = f"{case}: {yours:.2f} groups with spread expected, the best plan has {best:.2f}, an even one {naive:.2f}."
        if 1 in sizes and yours < 0.97 * best:
            raise Wrong(f"{said} A group of one never has spread: give a problem 0 or at least 2.")
        if yours < 0.97 * best and any(size and p in (0.0, 1.0) for p, size in zip(solved, sizes, strict=True)):
            raise Wrong(f"{said} Samples go to problems that are always or never solved; those have no spread.")
        if yours < 0.97 * best and sum(sizes) < budget:
            raise Wrong(f"{said} {budget - sum(sizes)} samples are left over.")
        if yours < 0.97 * best:
            raise Wrong(f"{said} Where would the next sample add most?")
        reached.append(yours / best)
    return f"{min(reached):.0%} of the best plan at least. DAPO's dynamic sampling wants the same, without knowing `solved`."
