"""The rows of `recipes/grpo.yaml`: the first problems of `data/maths` as prompts, with the number that is expected.

    python -m factory.recipe_rows

The library's program renames no columns, so a recipe for GRPO needs a file that has them already.
Left out on purpose: choosing the problems. They are the first ones.
"""

import json
from pathlib import Path

from factory import ROOT
from helper import extract_gold

ROWS = 40
SOURCE, TARGET = ROOT / "data" / "maths" / "train.jsonl", ROOT / "recipes" / "grpo_rows.jsonl"


def rows() -> list[dict]:
    """`prompt` (messages) and `ground_truth` of the first ROWS problems."""
    given = [json.loads(line) for line in SOURCE.read_text("utf-8").splitlines()[:ROWS]]
    return [
        {"prompt": [{"role": "user", "content": row["question"]}], "ground_truth": extract_gold(row["answer"])}
        for row in given
    ]


def main(path: Path = TARGET) -> None:
    """Write the file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()), "utf-8")


if __name__ == "__main__":
    main()
