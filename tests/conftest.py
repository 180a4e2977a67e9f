"""The tiny model of `tools/tiny.py` as fixtures, and two worker processes where a second core would be idle."""

import gc
import os

import pytest

from factory.processes import cores, left_alone, run_in

pytest.register_assert_rewrite("exercise_tests")
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a test's few numbers are not worth a second thread


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Two processes where there are two cores; `-n 0`, or another number, goes before. Notebooks have a conftest.py too."""
    if cores() > 1 and not (left_alone(config) or config.getoption("nbmake", False)):
        run_in(config, 2)


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
