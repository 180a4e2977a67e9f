"""Lines for whoever watches: what is only shown never stops what is computed.

Left out on purpose: colours, and a log file.
"""

import sys
from contextlib import suppress


def say(line: str, end: str = "\n") -> None:
    """Print a line at once, and raise nothing: what a terminal cannot show becomes `?`, and one that is closed gets none."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    with suppress(OSError, ValueError, LookupError, RuntimeError):  # RuntimeError: it came within another print
        print(line.encode(encoding, "replace").decode(encoding, "replace"), end=end, flush=True)


def on_terminal() -> bool:
    """Whether lines go to a terminal, where a line can be written over; not to a file, a notebook or nowhere."""
    with suppress(AttributeError, OSError, ValueError):
        return sys.stdout.isatty()
    return False
