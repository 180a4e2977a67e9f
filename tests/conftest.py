"""The tiny model of `tools/tiny.py` as fixtures, and two worker processes where a second core would be idle."""

import gc
import os
from pathlib import Path

import pytest

pytest.register_assert_rewrite("exercise_tests")
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a test's few numbers are not worth a second thread


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Two processes (pytest-xdist) where there are two cores; `-n 0`, or another number, goes before.

    One for a single file, which is through before two have begun; for notebooks, whose trainings slow one another
    manyfold; and where somebody looks on: `--pdb`, `-s`, `--collect-only`.
    """
    options = config.option
    chosen = hasattr(config, "workerinput") or config.getoption("numprocesses", 0) is not None  # 0: without the plugin
    looked_at = options.usepdb or options.capture == "no" or options.collectonly
    one_file = len(config.args) == 1 and Path(config.args[0].split("::")[0]).is_file()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores > 1 and not (chosen or looked_at or one_file or config.getoption("nbmake", False)):
        options.numprocesses, options.dist = 2, "worksteal"


def pytest_collection_finish():
    """Trainers collect garbage before and after each run: 0.2 s, where all that was imported is looked through."""
    gc.collect()
    gc.freeze()


# Imported late: the process that hands out the tests needs no torch.


@pytest.fixture(scope="session")
def tokenizer():
    from tiny import make_tokenizer

    return make_tokenizer()


@pytest.fixture(scope="session")
def model(tokenizer):
    from tiny import make_model

    return make_model(tokenizer)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The folder of a tiny model for trainers, which only read it."""
    from tiny_trainers import save_tiny_model

    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def tiny_folder(model, tokenizer, tmp_path):
    """A folder of its own with the tiny model and its tokenizer, to be changed."""
    model.save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"
