"""`pytest --nbmake notebooks/`: lessons side by side, and failures that say where and why.

A second thread makes these small models little faster: two lessons at once, each on a core of its
own, end sooner than one after the other. nbmake itself reports a dead kernel as an internal error,
and no failure's cell.
Left out on purpose: everything else.
"""

import os
from pathlib import Path

import psutil
import pytest
from _pytest._code.code import ReprEntryNative, ReprExceptionInfo, ReprFileLocation, ReprTraceback
from nbmake.nb_result import NotebookResult

from factory.processes import cores, left_alone, run_in
from factory.run_lessons import failure

MEMORY = 3e9  # bytes that a lesson may need: the peaks in the README, and room


def lessons_at_once() -> int:
    """How many lessons may run side by side: from 1 to 4, as many as have a core and memory."""
    return max(1, min(4, cores(), int(psutil.virtual_memory().available / MEMORY)))


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """So many processes, a thread in each; `-n` and COURSE_THREADS go before."""
    chosen = left_alone(config) or "COURSE_THREADS" in os.environ
    if config.getoption("nbmake", False) and not chosen and (at_once := lessons_at_once()) > 1:
        run_in(config, at_once)
        os.environ |= {"COURSE_THREADS": "1", "OMP_NUM_THREADS": "1"}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.excinfo is None or not getattr(item, "nbmake", False):
        return report
    error = call.excinfo.value
    result = error.args[0] if error.args and isinstance(error.args[0], NotebookResult) else None
    if result:
        notebook, reason, rest = result.nb, result.error.summary, f"\n\n{report.longreprtext}"
    else:  # nbmake lets the error through, and the notebook stands in the frame that ran it
        places = [entry.frame.f_locals for entry in call.excinfo.traceback]
        notebook = next((p["nb"] for p in places if "nb" in p), None)
        reason, rest = f"{type(error).__name__}: {error}", ""
    if notebook:
        started = [i for i, cell in enumerate(notebook.cells) if "execution" in cell.metadata]
        text = failure(Path(item.filename).name, notebook, max(started, default=0), reason)
        shown = ReprTraceback([ReprEntryNative([text + rest + "\n"])], None, "native")
        crash = ReprFileLocation("", 0, text.splitlines()[0])
        report.longrepr = ReprExceptionInfo(reprtraceback=shown, reprcrash=crash)  # xdist sends it
    return report
