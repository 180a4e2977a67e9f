"""What a labeller prefers in the recorded runs of lesson 06, as in the lesson's own cells; the longest answer there is.

Left out on purpose: everything that trains.
"""

from __future__ import annotations

from helper import answers_match, extract_boxed

LONGEST = 72  # tokens an answer may have


def spoil(answer, way, rng):
    """The answer, made worse in one of four ways."""
    first, *rest = answer.strip().split("\n")
    return {
        "cut short": answer[: rng.randrange(3, max(4, len(answer) // 2))],
        "a refusal": "I can not know that, because I have no live information.",
        "no result": answer.split("\\boxed")[0].strip() or "It depends.",
        "repeats itself": "\n".join([first] * 3 + rest[-1:]),
    }[way]


WAYS = ("cut short", "a refusal", "no result", "repeats itself")


def is_right(row, text):
    """Whether the last box of the text holds the row's answer."""
    return answers_match(extract_boxed(text), row["ground_truth"])


def compared(rows, answers, rng):
    """Easy pairs, hard pairs and rankings: (prompt, answers from best to worst, kind)."""
    pool = [text for row, four in zip(rows, answers) for text in four if is_right(row, text)]
    easy, hard, rankings = [], [], []
    for row, four in zip(rows, answers):
        good = [text for text in four if is_right(row, text)]
        bad = [text for text in four if not is_right(row, text)]
        for text in good[:1]:  # none where no answer was right
            easy += [(row["prompt"], [text, spoil(text, way, rng)], way) for way in WAYS]
            other = rng.choice(pool)
            if other != text:  # two problems may have the same answer, word for word
                hard.append((row["prompt"], [text, other], "another problem's answer"))
        for best, worse in zip(good, bad):
            hard.append((row["prompt"], [best, worse], "a wrong answer"))
            worst = spoil(best, rng.choice(WAYS[:3]), rng)  # these reach no result
            rankings.append((row["prompt"], [best, worse, worst], "three"))
    return easy, hard, rankings


def as_conversations(comparisons: list[tuple]) -> list[list[list[dict]]]:
    """Comparisons of the lesson as conversations, the better one first."""
    return [
        [[*prompt, {"role": "assistant", "content": answer}] for answer in answers] for prompt, answers, _ in comparisons
    ]
