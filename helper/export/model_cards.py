"""A model card written from what was measured: where the model comes from, its rows, its scores with intervals, its limits.

The fields follow Mitchell et al. 2019 (Model Cards for Model Reporting, arXiv 1810.03993), in short.
Left out on purpose: anything that no run has measured. What a person has to say (licence, use) is asked for by name.
"""

import hashlib
import re
from pathlib import Path

import pandas as pd

from helper.scoreboards import scoreboard_table

TO_FILL_IN = "*(to be filled in by you)*"


def file_digest(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal figures."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            digest.update(part)
    return digest.hexdigest()


def model_card(
    name: str, start: str, method: str, data: dict, settings: dict, board: pd.DataFrame, findings: list[str],
    samples: list[tuple[str, str]] = (), files: dict[str, str] | None = None,
) -> str:  # fmt: skip
    """The card as Markdown.

    `data`, `settings`: name -> value, as they stood in the run. `board`: of `scoreboard`. `findings`: sentences that the run
    printed, those about damage too. `samples`: questions and answers, shown as they came. `files`: name -> what it is, with
    its digest. Texts of rows and answers cannot end their places in the card: they are put into fences and cells.
    """
    parts = [
        f"# {one_line(name)}",
        f"{one_line(start)} after {method.upper()} on rows of its owner. Written by the run itself; what no run can know is "
        f"left for its owner.",
        "## What it is for",
        f"- Use: {TO_FILL_IN}\n- Not for: {TO_FILL_IN}\n- Licence of the model and of the rows: {TO_FILL_IN}",
        "## Training", _table({"start": start, "method": method, **data, **settings}),
        "## Measured", "Before and after on the same held-out questions, with 95% intervals; changes are paired.",
        markdown_table(scoreboard_table(board).reset_index()), "\n".join(f"- {one_line(line)}" for line in findings),
    ]  # fmt: skip
    if samples:
        parts += ["## Answers as they came", *(_sample(question, answer) for question, answer in samples)]
    if files:
        parts += ["## Files", _table(files)]
    return "\n\n".join(parts) + "\n"


def one_line(text: str) -> str:
    """A text on one line, without what Markdown or HTML would take for its own."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(str(text).split()))


def markdown_table(table: pd.DataFrame) -> str:
    """A table in Markdown."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.itertuples(index=False)]
    return "\n".join("| " + " | ".join("---" if cell == "---" else one_line(cell) for cell in row) + " |" for row in rows)


def _table(values: dict) -> str:
    return markdown_table(pd.DataFrame(list(values.items()), columns=["what", "value"]))


def _sample(question: str, answer: str) -> str:
    """A question and its answer in a fence that is longer than any in them."""
    text = f"Question: {question}\nAnswer: {answer}"
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"
