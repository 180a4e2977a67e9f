"""The course as pages that need no network; `python -m factory.render` is the command.

`site`, `slides` and `student` build; `content` makes a page's content out of `notebooks`, `places`, `markdown`, `outputs`
and `layout`.

A page asks for nothing outside itself: styles and pictures stand in it, formulas are MathML, and its content policy
forbids the rest. Left out on purpose: search, live widgets (their picture is shown), scripts (but for the slides' keys).
"""


class RenderError(Exception):
    """What cannot be built, and what to do about it, in a line: what would break it, or steer a terminal, is escaped."""

    def __str__(self) -> str:
        return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in super().__str__())
