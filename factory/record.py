"""Recorded runs that are too long for a lesson: `python -m factory.record` (or `make record`) makes all of them again.

    python -m factory.record --help                        which there are
    python -m factory.record --only NAME                   one of them
    python -m factory.record --only NAME --seeds 0 1 2     with these seeds
    python -m factory.record --real                        those on a real model (`factory/recordings/real_model.py`)

They are found in `factory/recordings/lesson_*.py`; each writes its file in `data/recorded/` after each run, so that a
stopped recording keeps what it has.
"""

from __future__ import annotations  # noqa: I001

from helper.machine import quiet  # noqa: F401  (first: it keeps what the libraries say at import out of the output)

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from factory import recordings
from factory.recordings import real_model
from factory.recordings.shared import RECORDED


def lesson_modules() -> dict[str, ModuleType]:
    """The number of a lesson ("05") -> what is recorded for it, `factory/recordings/lesson_05.py`."""
    paths = sorted(Path(recordings.__file__).parent.glob("lesson_*.py"))
    return {path.stem[-2:]: importlib.import_module(f"{recordings.__name__}.{path.stem}") for path in paths}


def find_recordings(which: str = "RECORDINGS") -> dict[str, tuple[Callable, str]]:
    """Name -> the function that records and its file. ValueError for a name that two lessons have.

    `which`: "LONG" for those of many hours, which are recorded by name only and whose files may be missing.
    """
    found = {}
    for number, module in lesson_modules().items():
        for name, recording in getattr(module, which, {}).items():
            if name in found:
                raise ValueError(f"factory/recordings/lesson_{number}.py: another lesson has a recording {name!r} already")
            found[name] = recording
    return found


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    real = "--real" in (sys.argv[1:] if arguments is None else arguments)
    found = real_model.RECORDINGS if real else find_recordings()
    long = {} if real else find_recordings("LONG")
    both = {**found, **long}
    lines = [f"  {name:<20} {function.__doc__.splitlines()[0]} {file}" for name, (function, file) in both.items()]
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="recordings, each with its file in data/recorded:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--real", action="store_true", help="on SmolLM2-135M-Instruct (`make real-model`)")
    parser.add_argument("--only", choices=both)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="some take the first one only")
    options = parser.parse_args(arguments)
    for name, (function, file) in both.items():
        if options.only == name or (options.only is None and name in found):
            function(options.seeds, RECORDED / file)


if __name__ == "__main__":
    main()
