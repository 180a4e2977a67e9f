"""Rows of your own, from a file as you have them: which kind they are, in one form for all methods, split for an honest test.

    python -m helper.own_rows FILE       what a file is, or what is wrong with it (--help)

| kind | what a row holds | columns that are known | method |
|---|---|---|---|
| answers | a question, and the answer that is wanted | `question`+`answer`, `prompt`+`completion`, `instruction`+`output`, `messages`, `conversations` | SFT |
| pairs | a question, a better answer, a worse one | `prompt`+`chosen`+`rejected`, `instruction`+`chosen`+`rejected`, `chosen`+`rejected` | DPO |
| checkable | a question, and a number by which any answer can be checked | `question`+`answer`, the last line of each answer ending in "#### number" | GRPO |

`read_own_rows` reads CSV, JSONL, a JSON list or parquet. Cells of CSV are texts; `messages` and its like stand in them as JSON.
Every row then has `prompt` (messages) and: `completion` (messages); or `chosen`, `rejected` (messages); or `ground_truth`.
Left out on purpose: repair. A bad row is an error that names it.
"""  # noqa: E501

import argparse
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from helper.answers import extract_gold
from helper.converters import from_alpaca, from_plain_pairs, from_sharegpt
from helper.row_files import Row, read_rows, run_command
from helper.validation import (
    check_rows,
    is_blank,
    message,
    shorten,
    text_faults,
    validate_completions,
    validate_messages,
    validate_preferences,
    validate_problems,
)

METHODS = {"answers": "sft", "pairs": "dpo", "checkable": "grpo"}
FEWEST = 8  # rows on either side of a split


class OwnRows(NamedTuple):
    """`kind`: answers, pairs or checkable. `rows`: in one form. `source`: the columns they came from. `twice`: left out."""

    kind: str
    rows: list[dict]
    source: tuple[str, ...]
    twice: int

    @property
    def method(self) -> str:
        """The method that fits the kind."""
        return METHODS[self.kind]


class WrongRows(ValueError):
    """The file can be read, and some of its rows are wrong."""


def read_own_rows(path: str | Path) -> OwnRows:
    """The rows of a file, checked and brought into one form; a row that stands there twice is kept once.

    Raises ValueError, with lines or row numbers and what to do: no such file, an empty one, rows that cannot be read,
    columns that are not known, rows without an answer, equal answers in a pair. The last two are WrongRows.
    """
    places, columns = _read(path), {}
    rows = [row.values for row in places]
    for row in rows:
        columns |= dict.fromkeys(row)
    for needed, convert in CONVERTERS:
        if set(needed) <= set(columns):
            try:
                kind, converted = convert(rows)
            except ValueError as error:
                raise WrongRows(f"{path}: {_placed(str(error), places)}") from None
            once = list({repr(row): row for row in converted}.values())
            return OwnRows(kind, once, needed, len(converted) - len(once))
    known = "; ".join(" and ".join(needed) for needed, _ in CONVERTERS)
    names = shorten(", ".join(map(repr, columns)), 200)
    small = {name.strip().lower() for name in columns}
    near = next((f"Did you mean {' and '.join(needed)}? " for needed, _ in CONVERTERS if set(needed) <= small), "")
    raise ValueError(f"{path}: the columns are {names}. {near}Rename them to one of these: {known}.")


def _read(path: str | Path) -> list[Row]:
    """All rows. WrongRows that lists those that cannot be read."""
    rows = list(read_rows(path))
    broken = [f"{row.where}: {row.fault}" for row in rows if row.values is None]
    if broken:
        more = f" ... and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise WrongRows(f"{path}: {len(broken)} of {len(rows)} rows cannot be read. {' '.join(broken[:5])}{more}")
    return rows


def _placed(report: str, rows: list[Row]) -> str:
    """A report of `check_rows` with the lines of the file for the numbers of the rows, where the file has lines."""
    if rows[0].unit == "row":
        return report

    def placed(line: str) -> str:
        number = r"(?<= like )row (\d+)" if line.startswith("  and ") else r"(?<=^  )row (\d+)"
        return re.sub(number, lambda found: rows[int(found[1])].where, line)

    return "\n".join(map(placed, report.replace(" (counted from 0)", "", 1).split("\n")))


def _from_messages(rows: list[dict]) -> tuple[str, list[dict]]:
    validate_messages(rows)
    return "answers", [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in rows]


def _from_conversations(rows: list[dict]) -> tuple[str, list[dict]]:
    return _from_messages(from_sharegpt(rows))


def _from_instructions(rows: list[dict]) -> tuple[str, list[dict]]:
    return _from_messages(from_alpaca(rows))


def _from_completions(rows: list[dict]) -> tuple[str, list[dict]]:
    """`prompt` and `completion`, texts or messages."""
    if all(isinstance(row.get("prompt"), str) for row in rows):
        return _from_texts(rows, "prompt", "completion")
    validate_completions(rows)
    return "answers", [{"prompt": row["prompt"], "completion": row["completion"]} for row in rows]


def _from_questions(rows: list[dict]) -> tuple[str, list[dict]]:
    """`question` and `answer`: checkable where every answer ends in "#### number", answers where none does."""
    texts = {n: row["answer"] for n, row in enumerate(rows) if isinstance(row.get("answer"), str)}
    others = [n for n, text in texts.items() if not is_blank(text) and not _ends_in_number(text)]
    marked = sum(map(_ends_in_number, texts.values()))
    if not marked:
        return _from_texts(rows, "question", "answer")
    if others:
        raise ValueError(
            f'the last line of {marked:,} of {len(rows):,} answers ends in "#### number", of {len(others):,} it does not. '
            f"All of them must (GRPO), or none (SFT). The first that does not:\n"
            f"  row {others[0]}: {shorten(texts[others[0]], 80)}"
        )
    validate_problems(rows)
    return "checkable", [
        {
            "prompt": [message("user", row["question"])],
            "ground_truth": extract_gold(row["answer"]),
            "completion": [message("assistant", boxed(row["answer"]))],
        }
        for row in rows
    ]


def _ends_in_number(answer: str) -> bool:
    """Whether the last line of an answer ends in "#### number"; a heading in its middle does not count."""
    try:
        return bool(extract_gold(answer.strip().rpartition("\n")[2]))
    except ValueError:
        return False


def boxed(answer: str) -> str:
    r"""A worked answer in the form that the reward reads: its "#### number" as \boxed{number}.

    >>> boxed("2 * 3 = 6\n#### 6")
    '2 * 3 = 6\n\\boxed{6}'
    """
    return answer.rpartition("####")[0].rstrip() + f"\n\\boxed{{{extract_gold(answer)}}}"


def _from_texts(rows: list[dict], asked: str, answered: str) -> tuple[str, list[dict]]:
    check_rows(rows, [asked, answered], lambda row: text_faults(row[asked], asked) + text_faults(row[answered], answered))
    return "answers", [
        {"prompt": [message("user", row[asked])], "completion": [message("assistant", row[answered])]} for row in rows
    ]


def _from_pairs(rows: list[dict]) -> tuple[str, list[dict]]:
    """`chosen` and `rejected`, perhaps `prompt`: texts (with a prompt), or messages."""
    if all(isinstance(row.get("prompt"), str) and isinstance(row.get("chosen"), str) for row in rows):
        return _from_plain_pairs([{**row, "instruction": row["prompt"]} for row in rows])
    validate_preferences(rows)
    whole = [row if "prompt" in row else {**row, "prompt": []} for row in rows]
    return "pairs", [
        {"prompt": [*row["prompt"], *row["chosen"][:-1]], **{side: row[side][-1:] for side in ("chosen", "rejected")}}
        for row in whole
    ]


def _from_plain_pairs(rows: list[dict]) -> tuple[str, list[dict]]:
    return "pairs", from_plain_pairs(rows)


def method_for(own: OwnRows, wanted: str | None = None) -> str:
    """The method that is `wanted`, or the one that fits the rows. ValueError where the rows do not hold what it needs.

    SFT works on all three kinds: on the better answers of pairs, and on worked answers.
    """
    if wanted is None:
        return own.method
    if wanted not in METHODS.values():
        raise ValueError(f'METHOD={wanted!r:.40}: give "sft", "dpo" or "grpo", or None for what fits the rows.')
    if wanted not in ("sft", own.method):
        needed = {method: kind for kind, method in METHODS.items()}[wanted]
        raise ValueError(
            f"{wanted.upper()} needs rows of the kind {needed!r}, and these are {own.kind!r}: see the table above."
        )
    return wanted


CONVERTERS: tuple[tuple[tuple[str, ...], Callable[[list[dict]], tuple[str, list[dict]]]], ...] = (
    (("instruction", "chosen", "rejected"), _from_plain_pairs),
    (("chosen", "rejected"), _from_pairs),
    (("messages",), _from_messages),
    (("conversations",), _from_conversations),
    (("instruction", "output"), _from_instructions),
    (("prompt", "completion"), _from_completions),
    (("question", "answer"), _from_questions),
)


def question_of(row: dict) -> str:
    """What the user asks last."""
    return row["prompt"][-1]["content"]


def answer_of(row: dict) -> str:
    """The answer that is wanted: what the row shows, or of a pair the chosen one."""
    return row["completion" if "completion" in row else "chosen"][-1]["content"]


def split_rows(rows: list[dict], share: float = 0.25, seed: int = 0) -> tuple[list[dict], list[dict]]:
    """(rows to train on, rows held out): a `share` of the *prompts* is held out, drawn with `seed`.

    Rows with the same prompt (case, punctuation and spaces do not count) stay on one side, so no question of the test was
    trained. Raises ValueError where fewer than FEWEST rows would stand on either side.
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share}: give a part of the rows, such as 0.25.")
    prompts: dict[tuple, list[dict]] = {}
    for row in rows:
        prompts.setdefault(tuple(plain_words(said["content"]) for said in row["prompt"]), []).append(row)
    keys = list(prompts)
    random.Random(seed).shuffle(keys)
    cut = round(share * len(keys))
    held_out, train = ([row for key in part for row in prompts[key]] for part in (keys[:cut], keys[cut:]))
    if min(len(held_out), len(train)) < FEWEST:
        raise ValueError(
            f"{len(rows)} rows with {len(keys)} different questions leave {len(train)} to train on and {len(held_out)} to "
            f"test on; {FEWEST} of each are the least, and with so few an interval is wide. Add rows."
        )
    return train, held_out


def right_and_wrong(rows: list[dict]) -> tuple[list[list[dict]], list[str], list[str]]:
    """(prompts, right answers, wrong answers), by which a judge is judged.

    Of a pair the worse answer is the wrong one; else it is the next row's answer, where that is another text. Rows without
    such a neighbour are left out.
    """
    found = []
    for place, row in enumerate(rows):
        if "rejected" in row:
            wrong = row["rejected"][-1]["content"]
        else:
            others = (answer_of(other) for other in rows[place + 1 :] + rows[:place])
            wrong = next((text for text in others if not same_words(text, answer_of(row))), None)
        if wrong is not None:
            found.append((row["prompt"], answer_of(row), wrong))
    prompts, right, wrong = zip(*found) if found else ((), (), ())
    return list(prompts), list(right), list(wrong)


def same_words(answer: str, wanted: str) -> bool:
    """The rule for answers: the same words in the same order; case and punctuation do not count.

    >>> same_words("The science desk", "the science desk."), same_words("Science, perhaps.", "Science.")
    (True, False)
    """
    return plain_words(answer) == plain_words(wanted)


def plain_words(text: str) -> str:
    """The words of a text in small letters, one space between them; of a text without words its signs."""
    return " ".join(re.findall(r"\w+", text.casefold())) or "".join(text.split())


# The command


def check_file(options: argparse.Namespace) -> int:
    """Say what a file is, or which rows are wrong; 0 where all rows are right, 1 where some are not."""
    try:
        own = read_own_rows(options.file)
    except WrongRows as error:
        print(error)
        return 1
    twice = f"; {own.twice:,} more stand there twice and are kept once" if own.twice else ""
    columns = ", ".join(own.source)
    print(f"{options.file}: {len(own.rows):,} rows ({columns}) of the kind {own.kind}, for {own.method.upper()}{twice}.")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command line; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m helper.own_rows",
        description="Say what the rows of a file are, as the capstone reads them: JSONL, a JSON list, CSV or parquet.",
        epilog="exit status: 0 all rows are right, 1 some are wrong, 2 the file is not one that can be used"
        "\n\nexample:\n  python -m helper.own_rows capstone/rows/answers.csv",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("file")
    return run_command(check_file, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
