"""Folders replaced whole, also by a process that is killed at any line of it; names that leave outputs/."""

import os
import signal
import sys
from pathlib import Path

import pytest

from helper.machine import folders
from helper.machine.folders import free_name, output_folder, remove, replaced_folder


@pytest.fixture(params=["exchanged at once", "moved aside"])
def system(request, monkeypatch):
    """A system that can exchange two names in one step, and one that cannot."""
    if request.param == "moved aside":
        monkeypatch.setattr(folders, "_names_exchanged", lambda one, other: False)
    elif sys.platform not in ("linux", "darwin"):
        pytest.skip("it cannot")
    return request.param


def save(folder, version):
    """Two files that belong together."""
    with replaced_folder(folder) as new:
        (new / "weights").write_text(version)
        (new / "config").write_text(version)


def saved(folder):
    """The version that lies there, whole."""
    assert sorted(os.listdir(folder)) == ["config", "weights"]
    (version,) = {path.read_text() for path in Path(folder).iterdir()}
    return version


def test_a_folder_is_replaced_and_nothing_else_is_left(system, tmp_path):
    for version in ("1", "2", "3"):
        save(tmp_path / "deep" / "model", version)
        assert saved(tmp_path / "deep" / "model") == version and os.listdir(tmp_path / "deep") == ["model"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_while_it_is_written_leaves_the_old_one(error, system, tmp_path):
    save(tmp_path / "model", "1")
    with pytest.raises(error), replaced_folder(tmp_path / "model") as new:
        (new / "weights").write_text("2")
        raise error
    assert saved(tmp_path / "model") == "1" and os.listdir(tmp_path) == ["model"]


def test_an_error_while_they_change_places_puts_the_old_one_back(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "_names_exchanged", lambda one, other: False)
    save(tmp_path / "model", "1")
    rename = os.rename

    def held_open(old, new):
        if str(old).endswith("unfinished"):
            raise PermissionError("a program has it open")
        rename(old, new)

    with monkeypatch.context() as patched, pytest.raises(PermissionError):
        patched.setattr(os, "rename", held_open)
        save(tmp_path / "model", "2")
    assert saved(tmp_path / "model") == "1" and os.listdir(tmp_path) == ["model"]


def killed_at(line, what) -> bool:
    """Whether a child that does `what` was killed at the `line`-th line of folders.py that it ran."""
    pid = os.fork()
    if not pid:
        seen = []

        def trace(frame, event, _):
            if frame.f_code.co_filename == folders.__file__:
                seen.append(1) if event == "line" else None
                if len(seen) == line:
                    os.kill(os.getpid(), signal.SIGKILL)
                return trace

        sys.settrace(trace)
        try:
            what()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the children are forked")
@pytest.mark.parametrize("link", [False, True])
def test_a_kill_at_any_line_leaves_the_old_one_or_the_new_one(link, system, tmp_path):
    line, found = 0, set()
    while True:
        line += 1
        work = tmp_path / str(line)
        save(work / ("elsewhere" if link else "model"), "old")
        if link:
            (work / "model").symlink_to(work / "elsewhere")
        if not killed_at(line, lambda: save(work / "model", "new")):  # noqa: B023
            break
        if system == "moved aside" and not os.path.lexists(work / "model"):  # the next call puts it back
            with pytest.raises(ZeroDivisionError), replaced_folder(work / "model"):
                1 / 0  # noqa: B018
        found.add(saved(work / "model"))
        assert not link or saved(work / "elsewhere") == "old"
        save(work / "model", "next")
        assert saved(work / "model") == "next" and len(os.listdir(work)) == 1 + link
    assert line > 20 and found == {"old", "new"}


def test_a_link_is_replaced_and_what_it_leads_to_is_not_touched(system, tmp_path):
    save(tmp_path / "elsewhere", "theirs")
    for target in ("elsewhere", "nowhere"):
        remove(tmp_path / "model")
        (tmp_path / "model").symlink_to(tmp_path / target)
        save(tmp_path / "model", "ours")
        assert not (tmp_path / "model").is_symlink() and saved(tmp_path / "model") == "ours"
    assert saved(tmp_path / "elsewhere") == "theirs" and sorted(os.listdir(tmp_path)) == ["elsewhere", "model"]


def test_what_cannot_be_removed_stops_nothing_and_is_said(system, tmp_path, monkeypatch, capsys):
    save(tmp_path / "model", "1")
    with monkeypatch.context() as patched:  # an undeletable file; the tests may run as root, who can delete any
        patched.setattr(folders.shutil, "rmtree", lambda *args, **options: None)
        for version in ("2", "3", "4"):
            save(tmp_path / "model", version)
            assert saved(tmp_path / "model") == version
    assert capsys.readouterr().out.count("could not be removed") == 3
    save(tmp_path / "model", "5")
    assert saved(tmp_path / "model") == "5" and os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("name", ["../x", "/elsewhere/x", "a/../../x", "..", "..\\x", "C:\\x", "C:x", "\\\\host\\x"])
def test_a_name_that_leaves_outputs_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path / "outputs"))
    with pytest.raises(ValueError, match="results stay in outputs/"):
        output_folder(name)
    assert not list(tmp_path.iterdir())
    assert output_folder("a/b") == tmp_path / "outputs" / "a" / "b"


def test_free_names_and_removal(tmp_path):
    assert free_name(tmp_path / "x") == tmp_path / "x"
    (tmp_path / "x").mkdir()
    (tmp_path / "x-2").symlink_to("nowhere")
    assert free_name(tmp_path / "x") == tmp_path / "x-3"
    assert remove(tmp_path / "x") and remove(tmp_path / "x-2") and remove(tmp_path / "x-3") and not os.listdir(tmp_path)
