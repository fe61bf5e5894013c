"""Owners of names in other processes: killed, stopped, busy, reincarnated, racing, contained."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from portkit import NameInUseError
from portkit_transports.message.directory import Directory
from portkit_transports.message.process import process_start_time
from portkit_transports.message.record import Record, file_name
from tests.support import PATIENCE, eventually
from tests.transports.message.directory_helpers import (
    Owner,
    dead_record,
    ended_pid,
    entries,
    listening,
    make_record,
)

LONG_AGO = time.time() - 3600


def contained() -> tuple[str, ...]:
    """The command that runs another in a pid namespace of its own; empty if that is forbidden."""
    command = ("unshare", "--pid", "--fork", "--kill-child")
    if shutil.which("unshare") is None:
        return ()
    tried = subprocess.run([*command, "true"], check=False, capture_output=True, timeout=PATIENCE)
    return command if tried.returncode == 0 else ()


CONTAINED = contained()


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "names")


@pytest.fixture
def record(directory: Directory) -> Iterator[Record]:
    """A record of this process's, not claimed, whose socket listens."""
    with listening(directory) as record:
        yield record


def bound(directory: Directory, name: str) -> Path:
    """A socket that is bound but does not listen, as between the two calls."""
    path = directory.path / name
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unheard:
        unheard.bind(str(path))
    return path


# Who lives.


def test_a_killed_owner_loses_its_name(directory: Directory, record: Record) -> None:
    with Owner(directory.path) as owner:
        theirs = owner.claim()
        assert directory.find("name") == theirs
        assert directory.names() == ["name"]
        with pytest.raises(NameInUseError, match=rf"process {owner.process.pid}, which lives"):
            directory.claim(record)
        owner.kill()
        assert not directory.is_live(theirs)
        assert directory.names() == []
        directory.claim(record)
    assert directory.find("name") == record


def test_a_zombie_is_dead(directory: Directory, record: Record) -> None:
    with Owner(directory.path) as owner:
        theirs = owner.claim()
        owner.process.kill()  # and not waited for
        assert eventually(lambda: not directory.is_live(theirs))
        assert process_start_time(theirs.pid) == theirs.start_time
        directory.claim(record)


def test_a_living_owners_name_is_not_taken_back_by_another(directory: Directory) -> None:
    with Owner(directory.path) as owner:
        theirs = owner.claim()
        assert not directory.remove(theirs)
        assert directory.find("name") == theirs
        owner.begin("remove", "name")
        assert owner.result() == "True"
        assert directory.names() == []


def test_a_stopped_owner_lives(directory: Directory, record: Record) -> None:
    with Owner(directory.path) as owner:
        theirs = owner.claim()
        os.kill(owner.process.pid, signal.SIGSTOP)
        assert directory.is_live(theirs)
        with pytest.raises(NameInUseError):
            directory.claim(record)
        directory.sweep()
        assert directory.wait_for("name", 0) == theirs


def test_a_stopped_owner_with_a_full_backlog_lives(directory: Directory, record: Record) -> None:
    with Owner(directory.path, backlog=0) as owner, ExitStack() as stack:
        theirs = owner.claim()
        os.kill(owner.process.pid, signal.SIGSTOP)

        def full() -> bool:
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.setblocking(False)
            return client.connect_ex(str(directory.path / theirs.socket)) != 0

        assert eventually(full)
        assert directory.is_live(theirs)
        with pytest.raises(NameInUseError):
            directory.claim(record)


def test_a_pid_used_again_is_not_the_owner(directory: Directory, record: Record) -> None:
    earlier = record._replace(incarnation=bytes(16), start_time=record.start_time - 1)
    directory.claim(earlier)
    assert not directory.is_live(earlier)
    assert directory.names() == []
    directory.claim(record)
    assert directory.find("name") == record


def test_a_pid_used_again_by_who_does_not_listen(directory: Directory, record: Record) -> None:
    with Owner(directory.path) as owner:
        theirs = owner.claim()
        owner.kill()
    directory.path.joinpath(file_name("name")).unlink()
    directory.claim(theirs._replace(pid=os.getpid()))
    directory.claim(record)
    assert directory.find("name") == record


def test_a_listener_whose_start_nobody_knows_lives(directory: Directory, record: Record) -> None:
    assert directory.is_live(record._replace(start_time=0))


def test_who_listens_lives_whatever_its_pid_is_here(directory: Directory, record: Record) -> None:
    """In another container its pid is another number, or another process's."""
    for pid in (ended_pid(), os.getppid()):
        theirs = record._replace(pid=pid, start_time=1)
        assert directory.is_live(theirs)


@pytest.mark.skipif(not CONTAINED, reason="pid namespaces cannot be made here")
def test_an_owner_in_a_container_keeps_its_name(directory: Directory, record: Record) -> None:
    with Owner(directory.path, command=CONTAINED) as owner:
        theirs = owner.claim()
        assert theirs.pid != owner.process.pid
        assert theirs.pid < 10, "pids begin anew there"
        directory.sweep()
        with pytest.raises(NameInUseError):
            directory.claim(record)
        assert directory.names() == ["name"]
        owner.kill()
        assert eventually(lambda: not directory.is_live(theirs))
        directory.claim(record)


@pytest.mark.skipif(not CONTAINED, reason="pid namespaces cannot be made here")
def test_who_is_in_a_container_sees_owners_outside(directory: Directory, record: Record) -> None:
    directory.claim(record)
    with Owner(directory.path, command=CONTAINED) as owner:
        owner.begin("claim", "name")
        assert owner.result() == "NameInUseError"
        owner.begin("remove", "name")
        assert owner.result() == "False"
    assert directory.find("name") == record


# Races.


def test_of_two_processes_that_race_for_a_dead_owners_name_one_wins(directory: Directory) -> None:
    with Owner(directory.path) as first, Owner(directory.path) as second:
        for index in range(20):
            name = f"round-{index}"
            directory.claim(dead_record(directory, name))
            start = time.monotonic() + 0.003
            first.begin("claim", name, start)
            second.begin("claim", name, start)
            results = {first.result(): first, second.result(): second}
            assert sorted(results) == ["NameInUseError", "None"]
            assert directory.find(name) == results["None"].record._replace(name=name)


# Sweeping.


def test_a_killed_owner_is_swept_away_by_the_next_claim_of_a_process(directory: Directory) -> None:
    with Owner(directory.path) as owner:
        theirs = [owner.claim(name) for name in ("a", "b")]
        owner.kill()
    assert {theirs[0].socket, "name.a", "name.b"} < entries(directory)
    with listening(directory) as record:
        directory.claim(record)
        assert entries(directory) == {"lock", "name.name", record.socket}


def test_what_lives_is_not_swept(directory: Directory, record: Record) -> None:
    directory.claim(record)
    with Owner(directory.path) as owner:
        theirs = owner.claim("theirs")
        os.kill(owner.process.pid, signal.SIGSTOP)
        for socket_name in (record.socket, theirs.socket):
            os.utime(directory.path / socket_name, (time.time(), time.time()))
        before = entries(directory)
        directory.sweep()
        assert entries(directory) == before
        assert directory.names() == ["name", "theirs"]


def test_who_is_seen_to_live_is_not_disturbed(directory: Directory) -> None:
    directory.prepare()
    path = directory.new_socket_path()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.setblocking(False)
        directory.claim(make_record("name", path.name))
        directory.sweep()
        with pytest.raises(BlockingIOError):
            listener.accept()
        assert directory.names() == ["name"]
        listener.accept()[0].close()  # of names(), which has to know


def test_a_living_process_keeps_the_name_of_a_listener_it_closed(directory: Directory) -> None:
    with listening(directory) as record:
        directory.claim(record)
    directory.sweep()
    assert directory.find("name") == record
    assert directory.names() == []


def test_a_living_process_keeps_a_socket_that_does_not_listen_yet(directory: Directory) -> None:
    directory.prepare()
    path = bound(directory, directory.new_socket_path().name)
    stopped = time.time() - 1.05  # meanwhile, but after the process began
    os.utime(path, (stopped, stopped))
    directory.sweep()
    assert path.is_socket()


def test_a_socket_may_come_from_a_process_that_cannot_be_seen(directory: Directory) -> None:
    """Just bound in a container, it does not listen yet; later it would."""
    directory.prepare()
    path = bound(directory, f"{ended_pid()}-0123456789abcdef.sock")
    directory.sweep()
    assert path.is_socket()
    os.utime(path, (LONG_AGO, LONG_AGO))
    directory.sweep()
    assert not path.exists()


def test_a_socket_older_than_its_process_is_swept(directory: Directory) -> None:
    directory.prepare()
    path = bound(directory, directory.new_socket_path().name)
    os.utime(path, (1000, 1000))
    directory.sweep()
    assert not path.exists()


def test_a_listening_socket_is_not_swept_however_old(directory: Directory) -> None:
    with listening(directory) as record:
        path = directory.path / record.socket
        theirs = path.with_name(f"{ended_pid()}-0123456789abcdef.sock")
        path.rename(theirs)
        os.utime(theirs, (1000, 1000))
        directory.sweep()
        assert theirs.is_socket()


def test_files_half_written_are_swept(directory: Directory) -> None:
    directory.prepare()
    (directory.path / "tmp.1-0123456789abcdef").write_bytes(b"{")
    directory.sweep()
    assert entries(directory) == {"lock"}


def test_what_is_none_of_ours_is_not_swept(directory: Directory) -> None:
    directory.prepare()
    (directory.path / "notes").touch()
    (directory.path / "tmp.d").mkdir()
    (directory.path / "1-0123456789abcdef.sock").touch()
    bound(directory, "other.sock")
    for path in directory.path.iterdir():
        os.utime(path, (1000, 1000))
    directory.sweep()
    assert entries(directory) == {"lock", "notes", "tmp.d", "1-0123456789abcdef.sock", "other.sock"}


def test_a_dead_owners_missing_socket_disturbs_nobody(directory: Directory) -> None:
    missing = make_record("name", f"{ended_pid()}-0123456789abcdef.sock")
    directory.claim(missing._replace(pid=ended_pid(), start_time=1))
    directory.sweep()
    assert entries(directory) == {"lock"}
