"""Locks: one holder, named to those who come second, and none of a process that is dead."""

import errno
import os

import pytest
from race_locks import rounds

from helper.machine import locks
from helper.machine.locks import LockHeld, lock


def test_the_holder_is_named_and_the_file_goes(tmp_path):
    with lock(tmp_path / "deep" / "x.lock"):
        with pytest.raises(LockHeld, match=rf"Process {os.getpid()} \(this one, in another thread\) holds") as held:
            lock(tmp_path / "deep" / "x.lock", wait=0).__enter__()
        assert held.value.holder.startswith(f"Process {os.getpid()}")
    assert not os.listdir(tmp_path / "deep")


def test_an_error_within_frees_it(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), lock(tmp_path / "x.lock"):
            1 / 0  # noqa: B018
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the children are forked")
def test_of_starters_at_one_moment_one_holds_it(tmp_path):
    assert rounds(3, starters=4, work=tmp_path) == []


@pytest.mark.parametrize("text", [b"", b" ", b"[]", b"\xff\xfe", b" {}", b' {"pid": null}', b' {"pid": []}'])
def test_a_file_that_names_nobody(text, tmp_path):
    (tmp_path / "x.lock").write_bytes(text)
    assert locks._holder(tmp_path / "x.lock") == locks._holder(tmp_path / "none") == "Another process"


def test_a_disk_that_is_full_keeps_no_lock_from_being_held(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with lock(tmp_path / "x.lock"), pytest.raises(LockHeld, match="Another process"):
        lock(tmp_path / "x.lock", wait=0).__enter__()


def refusing(number):
    def acquire(*_, **options):
        raise OSError(number, "refused")

    return acquire


def test_a_file_system_without_locks_is_named_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locks.FileLock, "acquire", refusing(errno.ENOLCK))
    with lock(tmp_path / "x.lock"):
        pass
    assert "file system without locks" in capsys.readouterr().out
    monkeypatch.setattr(locks.FileLock, "acquire", refusing(errno.EACCES))
    with pytest.raises(OSError, match="refused"), lock(tmp_path / "x.lock"):
        pass
