"""Questions of Sprout's suites in the base model's own form: as the plain text of pre-training would have put them.

`ask_in_own_form` asks a whole suite so and grades the answers with the suite's own graders; `own_form` shows one prompt.
The wordings are those of the text (`tests/test_own_form.py` holds the two together); no wording is an evaluation's.
Left out on purpose: refusals and questions about the assistant itself. The text holds none, so they have no own form.
"""

from __future__ import annotations

import random
import re
from zlib import crc32

import pandas as pd

from helper.generation import complete_text
from helper.graders import grade
from helper.intervals import paired_difference, wilson_interval

TASKS = {  # as in an exercise book (`factory/plain_text.py` writes them so); the answer follows on the next line
    "reverse": ["Task: {w} from its last letter to its first.", "Word to turn round: {w}", "What is {w} from its end?"],
    "uppercase": ["Task: {w} in large letters.", "Word for capitals: {w}", "Large letters for {w}, if you please."],
    "first_letter": ["Task: the initial of {w}.", "Initial of {w}?"],
    "sort": ["Task: bring {l} into the order of a dictionary.", "Words for the dictionary: {l}", "Which comes first, {l}?"],
    "count": ["Task: the length of the list {l}.", "How long is the list {l}?"],
    "list": ["Task: {k} examples from the {c}.", "{k} {c}, if you please.", "Who knows {k} {c}?"],
    "calculate": ["Task: {e}.", "Sum to do: {e}", "Which number is {e}?", "Sum: {e}", "Now {e}."],
}
SENTENCES = {  # as an article puts it; the model completes the sentence
    "define": ["In short, {p} is", "In simple words, {p} is", "To put it simply, {p} is", "The books say that {p} is"],
    "fact": ["It is known that {p}", "In fact, {p}", "As we learn in school, {p}", "Remember that {p}"],
    "relation": ["As we know, {s}", "It is true that {s}", "Note that {s}"],
    "compare": ["{A} and {b} are two different things.", "Do not mix up {a} and {b}.", "Compare {a} with {b}.",
                "{A} is not the same as {b}."],
}  # fmt: skip
FAQ = ["Can you say what {p} is", "How would you describe {p}", "So what exactly is {p}", "Who knows what {p} is"]
RELATIONS = [  # how a relation's sentence begins
    r"(?P<p>.+?) is used to", r"(?P<p>.+?) is made of", r"(?P<p>.+?) is part of", r"(?P<p>.+?) is found in",
    r".+? stands for", r"The capital of .+? is", r"The main language of .+? is", r"The symbol of .+? is",
    r"A young .+? is called an?\b", r"(?P<p>.+?) lives in", r"(?P<p>.+?) eats", r".+? is in",
]  # fmt: skip
FIELDS = {  # what the right answer tells of the task
    "reverse": r"Backwards: (?P<w>\w+) is", "uppercase": r"In capital letters: (?P<w>\w+) is",
    "first_letter": r"The first letter of (?P<w>\w+) is", "list": r"(?P<k>\w+) (?P<c>.+?) are ",
    "calculate": r"(?:.*So we|We) find (?P<e>.+?) = ",
}  # fmt: skip
LONGEST = {"word_problem": 112}  # tokens; other answers take less
SHORT = 64


def own_form(row: dict) -> str | None:
    """The question of a suite's row as plain text to go on from; None where pre-training holds nothing of its kind.

    ValueError for a row of a known skill whose answer is not in the skill's form.
    """
    skill = row["skill"]
    if skill == "word_problem":
        return f"Question: {row['question']}\nAnswer:\n"
    if skill in TASKS:
        return chosen(TASKS[skill], row).format(**fields_of(row)) + "\n"
    if skill in SENTENCES or skill == "fine":
        return chosen(SENTENCES["define" if skill == "fine" else skill], row).format(**subject_of(row))
    return None


def chosen(forms: list[str], row: dict) -> str:
    """One of the wordings, always the same one for the same question."""
    return forms[crc32(row["question"].encode()) % len(forms)]


def fields_of(row: dict) -> dict[str, str]:
    """What a task is about: word, list, number and category, or expression."""
    if row["skill"] in ("sort", "count"):
        found = re.search(r"[a-z]+(?:, [a-z]+)+", row["question"])
        return {"l": found.group()} if found else not_understood(row)
    found = re.match(FIELDS[row["skill"]], row["answer"])
    return {key: value.lower() if key == "k" else value for key, value in found.groupdict().items()} if found else (
        not_understood(row)
    )  # fmt: skip


def subject_of(row: dict) -> dict[str, str]:
    """The concept as a sentence names it inside (p) and how its relation begins (s), or two concepts (a, A, b)."""
    answer = row["answer"]
    if row["skill"] == "compare":
        parts = re.match(r"(.+?) (?:is|are) .+, while (.+?) (?:is|are) ", answer) or not_understood(row)
        first, second = row.get("subjects", (None, None))
        return {"a": inside(named(answer, first) or parts[1], row), "A": named(answer, first) or parts[1],
                "b": named(answer.split(", while ")[-1], second) or parts[2]}  # fmt: skip
    if row["skill"] == "relation":
        begun = next((found for form in RELATIONS if (found := re.match(form, answer))), None) or not_understood(row)
        subject = begun.groupdict().get("p")
        start = inside(subject, row) + begun.group()[len(subject) :] if subject else begun.group()
        return {"s": start if subject or not start.startswith(("The ", "A ")) else start[0].lower() + start[1:]}
    found = named(answer, row.get("subject")) or (re.match(r"(.+?) is ", answer) or not_understood(row))[1]
    return {"p": inside(found, row)}


def named(answer: str, subject: str | None) -> str | None:
    """The subject as the answer begins with it, article and all; None where it does not, or where it is unknown."""
    found = subject and re.match(rf"(?:(?:an?|the) )?{re.escape(subject)}\b", answer, re.IGNORECASE)
    return found.group() if found else None


def inside(subject: str, row: dict) -> str:
    """A subject from a sentence's start as it stands inside one: "An LLM" as "an LLM", "Neon" as "neon", not "paris"."""
    known = [row[key] for key in ("subject",) if key in row] + list(row.get("subjects", []))
    article = re.match(r"(?:An?|The) ", subject)
    if article:
        return subject[0].lower() + subject[1:]
    for name in known:
        if name.lower() == subject.lower():
            return name
    return subject if subject in row["question"] else subject[0].lower() + subject[1:]


def not_understood(row: dict):
    """Raise for a row that has no form known here."""
    raise ValueError(f"{row['skill']}: the answer {row['answer']!r:.80} is in no form that own_form knows.")


def tidy(row: dict, text: str) -> str:
    """What the model wrote after `own_form(row)`, cut at the answer's end and made whole, ready for `grade`."""
    skill = row["skill"]
    if skill == "word_problem":  # its last word is the result: "#### 47", "Answer: 47."
        return box_last_word(text.split("\n\n")[0])
    text = text.strip().split("\n")[0]
    if skill in TASKS:
        return text
    sentence = re.split(r"(?<=\.)\s", text)[0].rstrip(".")
    if skill == "compare":
        return sentence + "."
    sentence = re.split(r", (?:but|while|whereas) ", sentence)[0]
    subject = subject_of(row)
    start = subject.get("s") or subject["p"] + (" is" if skill in ("define", "fine") else "")
    return f"{start[0].upper()}{start[1:]} {sentence}."


def box_last_word(text: str) -> str:
    """The last word of a text in a box, ready for `grade`: a problem's final number, box or not.

    >>> box_last_word("So 40 + 7 = 47.\\n#### 47"), box_last_word("")
    ('\\\\boxed{47}', '\\\\boxed{}')
    """
    word = (text.split() or [""])[-1].strip(".")
    return word if "\\boxed" in word else f"\\boxed{{{word}}}"


def ask_in_own_form(model, tokenizer, rows: list[dict]) -> pd.DataFrame:
    """The rows that have an own form, asked in it and graded: id, skill, question, prompt, answer, right.

    Greedy, in batches. A word problem counts by its final number, without a box.
    """
    asked = [row for row in rows if own_form(row) is not None]
    found = {}
    for long in (True, False):
        part = [row for row in asked if (row["skill"] in LONGEST) == long]
        room, stop = (LONGEST["word_problem"], "\n\n") if long else (SHORT, "\n")
        texts = complete_text(model, tokenizer, [own_form(row) for row in part], room, stop=stop)
        found |= {id(row): text for row, text in zip(part, texts, strict=True)}
    table = pd.DataFrame([{key: row.get(key) for key in ("id", "skill", "question")} for row in asked])
    table["prompt"] = [own_form(row) for row in asked]
    table["answer"] = [tidy(row, found[id(row)]) for row in asked]
    table["right"] = [grade(row, answer) for row, answer in zip(asked, table["answer"], strict=True)]
    return table


def skill_names(table: pd.DataFrame) -> pd.Series:
    """The skill of each row; that of a concept in no SFT row is named apart: "define, held out"."""
    return table["skill"] + table["id"].astype(str).str.startswith("held_out").map({True: ", held out", False: ""})


def ledger(columns: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A row a skill, a column a way of asking: the share of right answers with its 95% interval (Wilson), and n.

    `columns`: name -> a table of `evaluate` or `ask_in_own_form`; what one of them lacks is "not in its text".
    """
    first = next(iter(columns.values()))
    cells = {skill: {"n": len(part)} for skill, part in first.groupby(skill_names(first), sort=False)}
    for name, table in columns.items():
        parts = dict(list(table.groupby(skill_names(table))["right"]))
        for skill, row in cells.items():
            row[name] = share(parts[skill]) if skill in parts else "not in its text"
    return pd.DataFrame.from_dict(cells, orient="index").rename_axis("skill")


def share(right: pd.Series) -> str:
    """A share with its interval, such as "97% (89 to 99)"."""
    low, high = wilson_interval(int(right.sum()), len(right))
    return f"{right.mean():.0%} ({100 * low:.0f} to {100 * high:.0f})"


def what_sft_did(own: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Skill by skill: the base model in its own form, the trained one in chat, the paired difference, and a verdict.

    A verdict needs the difference's interval to leave out 0: "brought out" above it, "paid for" below it, else "moved
    into the chat". Skills without an own form are "not in its text". One interval in twenty misleads by chance.
    """
    pairs = after.merge(own[["id", "right"]], on="id", how="left", suffixes=("_after", "_own"))
    rows = {}
    for skill, part in pairs.groupby(skill_names(pairs), sort=False):
        reached = part["right_after"].mean()
        if part["right_own"].isna().all():
            rows[skill] = {"n": len(part), "after, chat": reached, "verdict": "not in its text"}
            continue
        before, then = part["right_own"].astype(bool).tolist(), part["right_after"].astype(bool).tolist()
        difference, low, high = paired_difference(before, then)
        verdict = "brought out" if low > 0 else "paid for" if high < 0 else "moved into the chat"
        rows[skill] = {"n": len(part), "own form": sum(before) / len(part), "after, chat": reached}
        rows[skill] |= {"difference": difference, "low": low, "high": high, "verdict": verdict}
    order = ["n", "own form", "after, chat", "difference", "low", "high", "verdict"]
    return pd.DataFrame.from_dict(rows, orient="index").reindex(columns=order).rename_axis("skill")


def ask_with_examples(
    model, tokenizer, rows: list[dict], examples: list[dict], draw: random.Random, longest: int = 112
) -> pd.DataFrame:
    """The rows asked as they stand, behind solved examples (`few_shot_prompt`): id, skill, question, prompt, answer, right.

    Greedy, at most `longest` tokens. A word problem counts by its final number, without a box.
    """
    found, prompts = {}, {row["id"]: few_shot_prompt(row, examples, draw) for row in rows}
    brief = {*TASKS, *SENTENCES, "fine", "refuse", "identity"}  # one line is an answer
    for one_line in (True, False):
        part = [row for row in rows if (row["skill"] in brief) == one_line]
        room, stop = (min(longest, SHORT), "\n") if one_line else (longest, ["\nQuestion:", "\n\n"])
        texts = complete_text(model, tokenizer, [prompts[row["id"]] for row in part], room, stop=stop)
        found |= {row["id"]: text.strip() for row, text in zip(part, texts, strict=True)}
    table = pd.DataFrame([{key: row[key] for key in ("id", "skill", "question")} for row in rows])
    table["prompt"], table["answer"] = table["id"].map(prompts), table["id"].map(found)
    graded = [tidy(row, found[row["id"]]) if row["skill"] == "word_problem" else found[row["id"]] for row in rows]
    table["right"] = [grade(row, answer) for row, answer in zip(rows, graded, strict=True)]
    return table


def few_shot_prompt(row: dict, examples: list[dict], draw: random.Random) -> str:
    """Solved examples as the plain text has them, then the question as it was put, for the base model to go on from.

    `examples`: {"skill", "question", "answer"}; of the question's skill, where there are such. A skill that the text
    lacks gets its examples as "Question: ... Answer: ...".
    """
    same = [other for other in examples if other["skill"] == row["skill"] and other["question"] != row["question"]]
    pool = same or [other for other in examples if other["skill"] == "define"] or examples
    if not pool:
        raise ValueError("No examples to put before the question.")
    shots = 2 if row["skill"] == "word_problem" else 3  # long ones must leave room in the model's window
    shown, text = draw.sample(pool, min(shots, len(pool))), ""
    as_tasks = bool(same) and row["skill"] in TASKS
    for other in shown:
        if as_tasks:
            text += own_form(other) + other["answer"] + "\n"
        else:
            text += f"Question: {faq(other)}\nAnswer:{between(row)}{ending(other)}\n"
    return text + (row["question"] + "\n" if as_tasks else f"Question: {row['question']}\nAnswer:{between(row).rstrip(' ')}")


def faq(row: dict) -> str:
    """A definition asked as the text's FAQs ask it; other questions as they are."""
    return chosen(FAQ, row).format(**subject_of(row)) + "?" if row["skill"] == "define" else row["question"]


def between(row: dict) -> str:
    """What stands between "Answer:" and the answer."""
    return "\n" if row["skill"] == "word_problem" else " "


def ending(row: dict) -> str:
    """The answer; a word problem's with "#### 47" in the place of its box, as in the text."""
    return re.sub(r"\\boxed\{(.*)\}$", r"#### \1", row["answer"])
