"""The tiny model of `tools/tiny.py` as fixtures, and two worker processes where a second core would be idle."""

import pytest
import torch
from tiny import make_model, make_tokenizer

pytest.register_assert_rewrite("exercise_tests")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="session")
def model(tokenizer):
    return make_model(tokenizer)


@pytest.fixture
def tiny_folder(model, tokenizer, tmp_path):
    """A folder with the tiny model and its tokenizer, as `save_pretrained` writes them."""
    model.save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"
