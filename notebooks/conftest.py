"""`pytest --nbmake notebooks/`: a notebook that fails says in which cell, why, and what to do.

nbmake itself reports a dead kernel as an internal error, and no failure's cell.
Left out on purpose: everything else.
"""

from pathlib import Path

import pytest
from nbmake.nb_result import NotebookResult
from nbmake.pytest_items import NbMakeFailureRepr

from factory.run_lessons import failure


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
        report.longrepr = NbMakeFailureRepr(text + rest, text.splitlines()[0])
    return report
