"""The lock of the runtime folder: one holder at a time, whoever dies or tidies up meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from portkit import TransportError
from portkit_transports.message import folder_lock
from portkit_transports.message.directory import Directory
from portkit_transports.message.folder_lock import FolderLock
from portkit_transports.message.record import Record
from portkit_transports.message.runtime_folder import opened
from tests.ports.helpers import Background, in_child
from tests.support import eventually, open_descriptors
from tests.transports.message.directory_helpers import entries, listening


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "names")


@pytest.fixture
def record(directory: Directory) -> Iterator[Record]:
    """A record, not claimed, whose socket listens. The folder is there."""
    with listening(directory) as record:
        yield record


@contextmanager
def locked(directory: Directory) -> Iterator[None]:
    with opened(directory.path) as folder, FolderLock(folder, directory.path):
        yield


def open_locks(directory: Directory) -> int:
    """How many descriptors of this process are its lock, held or waited for."""
    path = str(directory.path / "lock")
    return sum(what.startswith(path) for what in open_descriptors().values())


def test_a_change_does_not_wait_for_ever(
    directory: Directory, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_lock, "LOCK_TIMEOUT", 0.02)
    with locked(directory):
        with pytest.raises(TransportError, match="fuser") as raised:
            directory.claim(record)
        assert str(directory.path / "lock") in str(raised.value)
    directory.claim(record)


def test_readers_do_not_wait(directory: Directory, record: Record) -> None:
    directory.claim(record)
    with locked(directory):
        assert directory.find("name") == directory.wait_for("name", 0) == record
        assert directory.names() == ["name"]


def test_a_change_waits_for_its_turn(directory: Directory, record: Record) -> None:
    with locked(directory):
        waiter = Background(lambda: directory.claim(record))
        assert eventually(lambda: open_locks(directory) == 2)
        assert directory.names() == []
    waiter.result()
    assert directory.names() == ["name"]


def test_who_waited_for_a_file_that_was_removed_waits_for_the_new_one(
    directory: Directory, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.claim(record)
    monkeypatch.setattr(folder_lock, "LOCK_TIMEOUT", 0.5)
    with ExitStack() as new, ExitStack() as old:
        old.enter_context(locked(directory))
        waiter = Background(lambda: directory.remove(record))
        assert eventually(lambda: open_locks(directory) == 2)
        (directory.path / "lock").unlink()
        new.enter_context(locked(directory))
        old.close()
        with pytest.raises(TransportError, match="held the lock"):
            waiter.result()
    assert directory.remove(record)


def test_a_file_that_was_removed_is_made_again(directory: Directory, record: Record) -> None:
    directory.claim(record)
    with locked(directory):
        waiter = Background(lambda: directory.remove(record))
        assert eventually(lambda: open_locks(directory) == 2)
        (directory.path / "lock").unlink()
    assert waiter.result()
    assert (directory.path / "lock").exists()


def test_a_copy_of_the_descriptor_does_not_keep_it(directory: Directory, record: Record) -> None:
    """As in a child that is between its fork and closing what it inherited."""
    with locked(directory):
        path = str(directory.path / "lock")
        copy = os.dup(next(fd for fd, what in open_descriptors().items() if what == path))
    try:
        directory.claim(record)
    finally:
        os.close(copy)


def test_a_forked_child_does_not_keep_it(directory: Directory, record: Record) -> None:
    with locked(directory):
        assert open_locks(directory) == 1
        assert in_child(lambda: open_locks(directory)) == "0"
        child = os.fork()
        if child == 0:
            signal.pause()
    try:
        directory.claim(record)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_holder_that_is_killed_lets_go(
    directory: Directory, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at the worst moment: the record is written but has no name yet."""
    with monkeypatch.context() as patch:
        patch.setattr("os.rename", lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL))
        assert in_child(lambda: directory.claim(record)) == ""
    assert [entry for entry in entries(directory) if entry.startswith("tmp.")]
    assert directory.names() == []
    directory.claim(record)
    assert directory.names() == ["name"]
    assert entries(directory) == {"lock", "name.name", record.socket}


def test_an_interrupted_wait_leaves_nothing(
    directory: Directory, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    with locked(directory):
        with pytest.raises(KeyboardInterrupt):
            directory.claim(record)
        assert open_locks(directory) == 1


def test_a_fifo_in_its_place_hangs_nobody(directory: Directory, record: Record) -> None:
    os.mkfifo(directory.path / "lock")
    directory.claim(record)
    assert directory.names() == ["name"]


def test_a_link_in_its_place_is_not_followed(directory: Directory, record: Record) -> None:
    elsewhere = directory.path.parent / "elsewhere"
    (directory.path / "lock").symlink_to(elsewhere)
    with pytest.raises(TransportError, match="cannot change the runtime folder"):
        directory.claim(record)
    assert not elsewhere.exists()
