"""A folder that is built whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from factory.pages import RenderError


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A new, empty folder that takes the place of `folder` when the block ends well; else the old one stays."""
    new = None
    try:
        new = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
        new.chmod(0o755)
        yield new
        old = new.with_name(f"{new.name}-old")
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise RenderError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        if new:
            shutil.rmtree(new, ignore_errors=True)
