"""The rows of a data set as a table."""

import html

import datasets
import pandas as pd
from datasets import Dataset
from IPython.display import HTML, display

TEXT_CELL = "text-align: left; vertical-align: top; white-space: pre-wrap"  # in the cells: JupyterLab drops a <style>
WHOLE_LINE = 40  # characters: a column of a table whose lines are no longer than that is given their width


def display_dataset(dataset, rows: int = 3) -> None:
    """Show the first `rows` rows as a table, one column a role. Text and column names are escaped, never rendered.

    `dataset`: a `datasets.Dataset`, a list of dicts or a DataFrame; TypeError for anything else.
    """
    table = pd.DataFrame([_flat_row(row) for row in _first_shown(dataset, rows)]).fillna("")
    head, body = "", [""] * len(table)
    for name, column in table.items():
        texts = [str(text) for text in column]
        longest = max((len(line) for text in texts for line in text.splitlines()), default=0)
        style = f"{TEXT_CELL}; width: {longest * 0.55:.1f}em" if longest <= WHOLE_LINE else TEXT_CELL
        head += f'<th scope="col" style="{TEXT_CELL}">{html.escape(str(name))}</th>'
        body = [f'{row}<td style="{style}">{html.escape(text)}</td>' for row, text in zip(body, texts, strict=True)]
    lines = "".join(f"<tr>{row}</tr>" for row in body)
    table_html = f'<table class="tex2jax_ignore mathjax_ignore"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>'
    display(HTML(table_html))


def _first_shown(dataset, rows: int) -> list[dict]:
    """The first rows of what can be shown, as dicts."""
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise ValueError(f"rows={rows!r:.40}: give the number of rows to show, 1 or more.")
    if isinstance(dataset, pd.DataFrame):
        return dataset.head(rows).to_dict("records")
    if isinstance(dataset, datasets.DatasetDict | datasets.IterableDatasetDict):
        raise TypeError(f'This is a dictionary of splits ({", ".join(dataset)}): show one, dataset["train"].')
    if isinstance(dataset, datasets.IterableDataset):
        raise TypeError("This data set is streamed: show some of its rows, list(dataset.take(3)).")
    hint = " Load it first: load_course_dataset(name)." if isinstance(dataset, str) else ""
    if not isinstance(dataset, list | tuple | Dataset):
        kind = type(dataset).__name__
        raise TypeError(f"A {kind} is no data set: give a Dataset, a list of dicts or a DataFrame.{hint}")
    shown = [dataset[i] for i in range(min(rows, len(dataset)))]
    for number, row in enumerate(shown):
        if not isinstance(row, dict):
            raise TypeError(f"Row {number} is a {type(row).__name__}, not a dict of columns.")
    return shown


def _flat_row(row: dict) -> dict[str, str]:
    """One column a role for `messages`; prompt, chosen and rejected for pairs; other columns as they are."""
    flat = {}
    for column, value in row.items():
        messages = isinstance(value, list) and value and all(isinstance(m, dict) and "role" in m for m in value)
        if messages and column == "messages":
            for message in value:
                role, text = str(message["role"]), _content(message)
                flat[role] = text if role not in flat else f"{flat[role]}\n\n{text}"
        elif messages and column in ("chosen", "rejected", "prompt", "completion"):
            if len(value) > 1 or column == "prompt":
                flat.setdefault("prompt", _content(value[0 if column == "prompt" else -2]))
            if column != "prompt":
                flat[column] = _content(value[-1])
        else:
            flat[str(column)] = str(value)
    return flat


def _content(message: dict) -> str:
    return "(no content)" if message.get("content") is None else str(message["content"])
