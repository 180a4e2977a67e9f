"""The README and its Chinese twin say the same: section by section the same commands, links, tables and numbers.

Left out on purpose: whether a sentence is well translated. Whatever stands in the English README is what is compared.
"""

import re
from collections import Counter

import pytest

from factory import READMES, ROOT
from factory.marks import LINK_MARKS, MARKS, REAL_MARKS, SIZE_MARKS

ENGLISH, CHINESE = ((ROOT / name).read_text("utf-8") for name in READMES)
ALL_MARKS = (MARKS, REAL_MARKS, SIZE_MARKS, LINK_MARKS)
TREE = "notebooks/  "  # how the block begins that names the files: in it the words beside the names are translated


def generated(text: str) -> list[str]:
    """What programs have written between their marks."""
    return [text.split(first)[1].split(last)[0] for first, last in ALL_MARKS]


def written(text: str) -> str:
    """What people have written."""
    for first, last in ALL_MARKS:
        if first in text:  # not so in the students' copy
            text = text.split(first)[0] + text.split(last)[1]
    return text


def sections(text: str) -> list[str]:
    """The parts of a README, each with its heading."""
    return re.split(r"^(?=#{1,3} )", written(text), flags=re.MULTILINE)[1:]


def blocks(text: str) -> list[list[str]]:
    """The lines of every block of code, without their comments; of the tree of files the names."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(
        r"((?:^    .*\n)+)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return [lines_of(block) for block in fenced + indented]


def lines_of(block: str) -> list[str]:
    if block.startswith(TREE):
        return re.findall(r"\w+\.(?:py|txt)|[\w.]+/(?:\w+)?", block)
    lines = [re.sub(r"(^|\s)#\s.*", "", line).strip() for line in block.splitlines()]
    return [line for line in lines if line]


def prose(text: str) -> str:
    """The text without its blocks of code."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^    .*\n", "", text, flags=re.MULTILINE)


def commands(text: str) -> Counter:
    return Counter(re.findall(r"`([^`\n]+)`", prose(text)))


def targets(text: str) -> Counter:
    """Where links and pictures lead; the READMEs' links to one another left out."""
    return Counter(target for target in re.findall(r"\]\(([^)]+)\)", prose(text)) if target not in READMES)


def numbers(text: str) -> Counter:
    """The numbers in figures, outside of commands and links."""
    plain = re.sub(r"`[^`\n]+`|\]\([^)]+\)", "", prose(text))
    return Counter(re.findall(r"(?<![A-Za-z\d.-])\d+(?:[.,]\d+)*%?", plain))


def tables(text: str) -> list[tuple[int, int]]:
    """Rows and columns of each table, in order."""
    found = re.findall(r"(?:^\|.*\n?)+", prose(text), flags=re.MULTILINE)
    return [(table.count("\n"), len(re.findall(r"(?<!\\)\|", table.splitlines()[0]))) for table in found]


ASPECTS = (blocks, commands, targets, numbers, tables)


def differences(english: str, chinese: str) -> list[str]:
    """Section by section what is in one of them only; the English heading with it."""
    ours, theirs = sections(english), sections(chinese)
    if [part.split(" ")[0] for part in ours] != [part.split(" ")[0] for part in theirs]:
        return [f"{len(ours)} sections against {len(theirs)}, or of other levels"]
    found = []
    for one, other in zip(ours, theirs):
        for aspect in ASPECTS:
            here, there = aspect(one), aspect(other)
            only = [here, there] if isinstance(here, list) else [dict(here - there), dict(there - here)]
            found += [f"{one.splitlines()[0]}: {aspect.__name__}: {only[0]} / {only[1]}"] if here != there else []
    return found


def test_both_say_the_same():
    assert differences(ENGLISH, CHINESE) == []
    assert sum(len(blocks(part)) for part in sections(ENGLISH)) >= 9
    assert sum(sum(numbers(part).values()) for part in sections(ENGLISH)) >= 60


def test_both_hold_the_same_results():
    assert generated(ENGLISH) == generated(CHINESE) and all(map(str.strip, generated(ENGLISH)[:3]))


def test_each_leads_to_the_other():
    assert "](README.zh-CN.md)" in ENGLISH.split("\n## ")[0] and "](README.md)" in CHINESE.split("\n## ")[0]


def test_the_chinese_one_is_in_chinese():
    """Each paragraph that is not code has Chinese signs: none was left in English."""
    for part in sections(CHINESE):
        for paragraph in re.split(r"\n{2,}|\n(?=[-|])", prose(part)):
            words = re.sub(r"`[^`\n]+`|\[English\]\(README\.md\)|[\W\d_]", "", paragraph)
            assert not words or re.search(r"[\u4e00-\u9fff]", paragraph), paragraph


PLANTED = [
    ("make test ", "make tests "), ("notebooks/02_sft.ipynb", "notebooks/03_dpo.ipynb"),
    ("SEED = 0", "SEED = 1"), ("`USE_GPU = True`", "`USE_GPU = 1`"), ("则是 74%", "则是 47%"), ("arXiv 2509.12235", "arXiv"),
    ("## 课程\n", "## 课程\n\n## 另一节\n"), ("ppo_loop.py", "loop.py"), ("https://mybinder.org", "https://example.org"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), PLANTED)
def test_a_planted_difference_is_found(old, new):
    assert old in CHINESE and differences(ENGLISH, CHINESE.replace(old, new, 1)) != []


def test_a_row_that_is_missing_is_found():
    lesson = next(line for line in CHINESE.splitlines() if line.startswith("| [02 "))
    found = differences(ENGLISH, CHINESE.replace(f"{lesson}\n", ""))
    assert any("targets" in line for line in found) and any("tables" in line for line in found)
