"""The project's folder, the folder for results, and what a full disk looks like."""

import errno
import os
from pathlib import Path


def project_folder() -> Path:
    """The repository's root: the folder that holds `helper/` and `data/`."""
    return Path(__file__).resolve().parents[2]


def output_folder(lesson: str = "") -> Path:
    """The folder for a lesson's results, made if need be: outputs/<lesson>, or under COURSE_OUTPUTS."""
    folder = Path(os.environ.get("COURSE_OUTPUTS") or project_folder() / "outputs") / lesson
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def disk_is_full(error: Exception) -> bool:
    """The libraries wrap the system's error in several kinds of their own, torch's says "unexpected pos"."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(words in str(error).lower() for words in ("no space left", "os error 28", "unexpected pos"))
