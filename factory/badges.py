"""Links that open the course in a browser, for both READMEs, once the repository has a public address on GitHub.

    python -m factory.badges --repository OWNER/NAME [--branch main]
    python -m factory.badges --none                              take them out again

They stand between marks; the address is nowhere else. Text, no pictures: a page of the course asks nobody for anything.
Left out on purpose: a badge in the notebooks, which would have to be run anew for an address that a fork changes.
"""

import argparse
import re
import sys

from factory import READMES, ROOT
from factory.lessons import find_lessons
from factory.marks import LINK_MARKS, put_into


def links(repository: str, branch: str = "main") -> str:
    """A line for Codespaces and Binder, and one with each lesson in Colab. ValueError for what is no OWNER/NAME."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*/[\w.-]+", repository, re.ASCII):
        raise ValueError(f'"{repository}" is no OWNER/NAME of a repository on GitHub.')
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", branch, re.ASCII):
        raise ValueError(f'"{branch}" is no name of a branch.')
    colab = f"https://colab.research.google.com/github/{repository}/blob/{branch}/notebooks"
    lessons = [f"[{path.stem[:2]}]({colab}/{path.name})" for path in find_lessons()]
    whole = {
        "GitHub Codespaces": f"https://codespaces.new/{repository}",
        "Binder": f"https://mybinder.org/v2/gh/{repository}/{branch.replace('/', '%2F')}?urlpath=lab/tree/notebooks",
    }
    first = " · ".join(f"[{name}]({address})" for name, address in whole.items())
    return f"\n{first} · Colab: {' '.join(lessons)}\n"


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--repository", metavar="OWNER/NAME", help="the repository on GitHub")
    chosen.add_argument("--none", action="store_true", help="take the links out")
    parser.add_argument("--branch", default="main")
    options = parser.parse_args(arguments)
    try:
        part = "" if options.none else links(options.repository, options.branch)
    except ValueError as error:
        parser.error(str(error))
    for name in READMES:
        text = (ROOT / name).read_text(encoding="utf-8")
        (ROOT / name).write_text(put_into(text, part, LINK_MARKS), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
