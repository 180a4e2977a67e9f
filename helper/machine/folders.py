"""The project's folder, the folder for results, folders replaced whole, and what a full disk looks like."""

import ctypes
import errno
import itertools
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PureWindowsPath

from helper.machine.terminal import say

SHIPPED = "shipped"  # in helper/, the data and models of an installed wheel (setup.py puts them there)
UNFINISHED, ASIDE = "unfinished", "replaced"  # endings of a folder's name while it is written, and while it is exchanged


def project_folder() -> Path:
    """The folder that holds `data/`: the repository's root, or `helper/shipped` where helper is installed without it."""
    package = Path(__file__).resolve().parents[1]
    return package / SHIPPED if (package / SHIPPED).is_dir() else package.parent


def output_folder(lesson: str = "") -> Path:
    """The folder for a lesson's results, made if need be: outputs/<lesson>, or under COURSE_OUTPUTS.

    outputs/ stands in the repository, or where you work when helper is installed without it. Raises ValueError for a name
    that leaves it ("../x", "/elsewhere").
    """
    parts = PureWindowsPath(lesson)  # it takes both kinds of slash for one
    if parts.anchor or ".." in parts.parts:
        raise ValueError(f'"{lesson}" is no lesson\'s name: results stay in outputs/, under a name such as "02_sft".')
    project = project_folder()
    place = Path.cwd() if project.name == SHIPPED else project
    folder = Path(os.environ.get("COURSE_OUTPUTS") or place / "outputs") / lesson
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def replaced_folder(folder: str | Path) -> Iterator[Path]:
    """A new folder to write into; when the block ends without an error, it takes the place of `folder`, whole.

    After an error or a kill at any moment `folder` is the old one or the new one, never a part of one and never neither:
    the two names change places in one step. Where the system cannot do that (Windows), the old one is moved aside first;
    a kill between these two steps leaves it there, and the next call puts it back. A link is replaced, what it leads to
    is not touched. One process at a time.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _put_back(folder)
    for left in folder.parent.glob(f"{folder.name}.{UNFINISHED}*"):  # by a process that was killed
        remove(left)
    unfinished = old = free_name(folder.with_name(f"{folder.name}.{UNFINISHED}"))
    unfinished.mkdir()
    try:
        yield unfinished
        if os.path.lexists(folder):
            old = _exchange(unfinished, folder)
        else:
            os.rename(unfinished, folder)
    finally:
        for left in {unfinished, old}:  # what was written in vain, or what was there before
            if not remove(left):
                say(f"{left} could not be removed; it is not needed any more.")


def remove(path: str | Path) -> bool:
    """Remove a file, a link or a folder with all that is in it; whether nothing is left of it. Raises nothing."""
    path = Path(path)
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return not os.path.lexists(path)


def free_name(path: Path) -> Path:
    """`path`, or with "-2", "-3", ... behind it, whatever does not exist."""
    names = itertools.chain([path], (path.with_name(f"{path.name}-{number}") for number in itertools.count(2)))
    return next(name for name in names if not os.path.lexists(name))


def _exchange(new: Path, folder: Path) -> Path:
    """Put `new` in the place of `folder`; where the old one is now. After an error both are as they were."""
    if _names_exchanged(new, folder):
        return new
    aside = free_name(folder.with_name(f"{folder.name}.{ASIDE}"))
    try:
        os.rename(folder, aside)
        os.rename(new, folder)
    except BaseException:
        _put_back(folder)
        raise
    return aside


def _names_exchanged(one: Path, other: Path) -> bool:
    """Whether the system could exchange two names in one step: Linux and macOS can, on most file systems."""
    names, swap = (os.fsencode(one), os.fsencode(other)), 2  # RENAME_EXCHANGE, RENAME_SWAP
    with suppress(AttributeError, OSError):  # no such function
        if sys.platform == "linux":
            here = -100  # AT_FDCWD: names are meant from the working directory
            return ctypes.CDLL(None).renameat2(here, names[0], here, names[1], swap) == 0
        if sys.platform == "darwin":
            return ctypes.CDLL(None).renamex_np(*names, swap) == 0
    return False


def _put_back(folder: Path) -> None:
    """Undo what an error or a kill has left of `_exchange`, if anything."""
    asides = sorted(folder.parent.glob(f"{folder.name}.{ASIDE}*"), key=lambda path: (len(path.name), path.name))
    if asides and not os.path.lexists(folder):
        os.rename(asides.pop(), folder)
    for aside in asides:
        remove(aside)


def disk_is_full(error: Exception) -> bool:
    """The libraries wrap the system's error in several kinds of their own, torch's says "unexpected pos"."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(words in str(error).lower() for words in ("no space left", "os error 28", "unexpected pos"))
