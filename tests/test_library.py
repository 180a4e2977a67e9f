"""The room for the libraries' private names: all are there, drift is said in one message, patches are undone."""

import re
from importlib.metadata import version

import pytest
from trl.trainer import utils

from helper import library
from helper.environment import pinned_versions
from helper.library import CHECKED, RELIES_ON, TRITON, LibraryChanged, Private, attention_of, check_library, replaced
from helper.trainers.log_probs import quick_log_probs, skip_masked_positions


def test_all_names_are_where_they_were_checked():
    check_library()
    assert CHECKED == {package: version(package) for package in CHECKED} == {p: pinned_versions()[p] for p in CHECKED}
    assert {private.package for private in RELIES_ON} == set(CHECKED)
    assert all(private.use and private.upstream for private in RELIES_ON)


@pytest.mark.parametrize("private", RELIES_ON, ids=lambda private: private.name)
def test_a_renamed_name_is_said_in_one_message(private):
    renamed = private._replace(name=f"{private.name}_of_old")
    with pytest.raises(LibraryChanged) as caught:
        check_library((*RELIES_ON, renamed))
    message = str(caught.value)
    assert message.count("\n") == 0 and message.startswith("helper/library.py: ")
    for part in (private.package, version(private.package), CHECKED[private.package], renamed.name, private.use):
        assert part in message
    assert "pip install -r requirements.txt" in message


def test_a_module_that_is_gone_is_said_so_too():
    with pytest.raises(LibraryChanged, match=r"has no trl\.no_such_module\._x"):
        check_library((Private("trl", "trl.no_such_module", "_x", "nothing", "nothing"),))


@pytest.mark.parametrize("patch", [skip_masked_positions, quick_log_probs])
def test_a_patch_ends_with_its_block(patch):
    before = utils._use_triton, utils._ChunkedLogProbFunction
    with patch():
        assert (utils._use_triton, utils._ChunkedLogProbFunction) != before
        with patch():  # one within another
            pass
        assert (utils._use_triton, utils._ChunkedLogProbFunction) != before
    assert (utils._use_triton, utils._ChunkedLogProbFunction) == before
    with pytest.raises(ZeroDivisionError), patch():
        1 / 0  # noqa: B018
    assert (utils._use_triton, utils._ChunkedLogProbFunction) == before


@pytest.mark.parametrize(
    ("patch", "name"), [(skip_masked_positions, "_use_triton"), (quick_log_probs, "_ChunkedLogProbFunction")]
)
def test_without_the_name_the_block_runs_plain_and_says_so(patch, name, monkeypatch, capsys):
    monkeypatch.delattr(utils, name)
    with patch():
        assert not hasattr(utils, name)
    said = capsys.readouterr().out
    assert re.fullmatch(rf"helper/library\.py: trl \S+ has no trl\.trainer\.utils\.{name} .*\n", said)


def test_what_is_not_wanted_changes_nothing():
    before = utils._ChunkedLogProbFunction
    with quick_log_probs(wanted=False):
        assert utils._ChunkedLogProbFunction is before


def test_a_replacement_of_what_is_not_there_is_refused(monkeypatch):
    monkeypatch.delattr(utils, TRITON.name)
    with pytest.raises(LibraryChanged), replaced(TRITON, None):
        pass
    assert not hasattr(utils, TRITON.name)


def test_attention_of_models_and_configs(model):
    assert attention_of(model) == attention_of(model.config) == "sdpa"
    assert attention_of(object()) == "sdpa"


def test_what_ours_cannot_do_goes_to_theirs():
    own, given = utils._ChunkedLogProbFunction.apply, []
    with library.chunked_log_probs(lambda theirs: given.append(theirs) or (lambda *args: ("replaced", *args))):
        assert utils._ChunkedLogProbFunction.apply(1, 2) == ("replaced", 1, 2)
    assert given == [own]
