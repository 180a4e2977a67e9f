"""The marks in the READMEs between which a program writes, and how it does so."""

MARKS = ("<!-- results: written by `python -m factory.results` -->", "<!-- end of results -->")
REAL_MARKS = ("<!-- real runs: written by `python -m factory.results` -->", "<!-- end of real runs -->")
SIZE_MARKS = ("<!-- real sizes: written by `python -m factory.results` -->", "<!-- end of real sizes -->")
LINK_MARKS = ("<!-- links: written by `python -m factory.badges` -->", "<!-- end of links -->")


def put_into(text: str, part: str, marks: tuple[str, str] = MARKS) -> str:
    """`text` with `part` between the marks; ValueError when they are not there, once each."""
    first, last = marks
    if any(text.count(mark) != 1 for mark in marks):
        raise ValueError(f"The text must hold each of these lines once: {first} and {last}")
    before, rest = text.split(first)
    return f"{before}{first}\n{part}\n{last}{rest.split(last)[1]}"
