"""How many processes pytest runs in, for the two `conftest.py`.

Left out on purpose: torch, which the process that hands out the tests does not need.
"""

import os
from pathlib import Path


def cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def left_alone(config) -> bool:
    """Whether to leave the number of processes as it is.

    So where it was chosen (`-n`), where somebody looks on (`--pdb`, `-s`, `--collect-only`), and for a single file, which
    is through before two processes have begun.
    """
    options = config.option
    chosen = hasattr(config, "workerinput") or config.getoption("numprocesses", 0) is not None  # 0: without the plugin
    looked_at = options.usepdb or options.capture == "no" or options.collectonly
    one_file = len(config.args) == 1 and Path(config.args[0].split("::")[0]).is_file()
    return chosen or looked_at or one_file


def run_in(config, processes: int) -> None:
    """Hand the tests out to so many processes (pytest-xdist)."""
    config.option.numprocesses, config.option.dist = processes, "worksteal"
