"""Names on one host: claimed, found, waited for and taken back, by the threads of one process."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from portkit import NameInUseError, NameNotFoundError, ReceiveTimeoutError, TransportError
from portkit_transports.message.directory import Directory
from portkit_transports.message.record import Record, file_name
from tests.ports.helpers import Background
from tests.support import PATIENCE, eventually
from tests.transports.message.directory_helpers import dead_record, listening, make_record


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "names")


@pytest.fixture
def record(directory: Directory) -> Iterator[Record]:
    """A record, not claimed, whose socket listens."""
    with listening(directory) as record:
        yield record


@pytest.fixture
def no_umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0)
    yield os.umask
    os.umask(before)


# Claiming and finding.


def test_what_is_claimed_is_found(directory: Directory, record: Record) -> None:
    directory.claim(record)
    assert directory.find("name") == record
    assert Directory(directory.path).find("name") == record
    assert directory.names() == ["name"]


def test_making_a_directory_and_looking_into_it_touches_nothing(directory: Directory) -> None:
    with pytest.raises(NameNotFoundError):
        directory.find("name")
    assert directory.names() == []
    assert not directory.remove(make_record("name", "1-0123456789abcdef.sock"))
    directory.sweep()
    assert not directory.path.exists()


def test_a_name_not_found_says_where_and_what_to_do(directory: Directory) -> None:
    with pytest.raises(NameNotFoundError) as raised:
        directory.find("nme")
    text = str(raised.value)
    assert "'nme'" in text
    assert str(directory.path) in text
    assert "PORTKIT_RUNTIME_DIR" in text


def test_a_port_may_have_many_names(directory: Directory, record: Record) -> None:
    names = ["b", "a", "C", "ä", "a/b", ".."]
    for name in names:
        directory.claim(record._replace(name=name))
    assert directory.names() == sorted(names)
    for name in names:
        assert directory.find(name) == record._replace(name=name)


def test_claiming_again_changes_nothing(directory: Directory, record: Record) -> None:
    directory.claim(record)
    before = (directory.path / file_name("name")).stat()
    directory.claim(record)
    after = (directory.path / file_name("name")).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_another_port_of_the_process_does_not_get_the_name(
    directory: Directory, record: Record
) -> None:
    directory.claim(record)
    with pytest.raises(NameInUseError, match=r"another port of this process.*pick another name"):
        directory.claim(record._replace(port_id=bytes(16)))
    assert directory.find("name") == record


def test_nobody_else_gets_the_name_while_its_owner_lives(
    directory: Directory, record: Record
) -> None:
    directory.claim(record)
    with (
        listening(directory) as other,
        pytest.raises(NameInUseError, match=rf"process {os.getpid()}, which lives"),
    ):
        directory.claim(other)
    assert directory.find("name") == record


def test_a_dead_owners_name_is_taken_over(directory: Directory, record: Record) -> None:
    dead = dead_record(directory)
    directory.claim(dead)
    assert directory.find("name") == dead
    directory.claim(record)
    assert directory.find("name") == record


def test_of_many_threads_one_gets_the_name(directory: Directory, record: Record) -> None:
    rivals = [record._replace(port_id=bytes([index]) * 16) for index in range(8)]

    def claim(rival: Record) -> bool:
        try:
            directory.claim(rival)
        except NameInUseError:
            return False
        return True

    threads = [Background(partial(claim, rival)) for rival in rivals]
    won = [rival for rival, thread in zip(rivals, threads, strict=True) if thread.result()]
    assert won == [directory.find("name")]


def test_threads_claim_different_names_side_by_side(directory: Directory, record: Record) -> None:
    def claim(names: list[str]) -> None:
        for name in names:
            directory.claim(record._replace(name=name))

    batches = [[f"{thread}-{index}" for index in range(20)] for thread in range(4)]
    for thread in [Background(partial(claim, batch)) for batch in batches]:
        thread.result()
    assert directory.names() == sorted(name for batch in batches for name in batch)


@pytest.mark.parametrize("umask", [0, 0o777])
def test_nobody_else_may_read_or_write(tmp_path: Path, no_umask: Any, umask: int) -> None:
    no_umask(umask)
    directory = Directory(tmp_path / "names")
    with listening(directory) as record:
        directory.claim(record)
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    for file in (file_name("name"), "lock"):
        assert stat.S_IMODE((directory.path / file).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a" * 1025},
        {"socket": "../1-0123456789abcdef.sock"},
        {"socket": "1-0123456789abcdef.sock\n"},
        {"port_id": b"short"},
        {"incarnation": bytes(17)},
        {"pid": 0},
        {"start_time": -1},
    ],
)
def test_what_is_no_record_is_not_claimed(directory: Directory, wrong: dict[str, Any]) -> None:
    record = make_record("name", "1-0123456789abcdef.sock")
    with pytest.raises(ValueError):
        directory.claim(record._replace(**wrong))
    assert not directory.path.exists()


# Taking back.


def test_a_name_taken_back_is_gone(directory: Directory, record: Record) -> None:
    directory.claim(record)
    assert directory.remove(record)
    assert not directory.remove(record)
    assert directory.names() == []
    with pytest.raises(NameNotFoundError):
        directory.find("name")


def test_only_the_very_record_is_taken_back(directory: Directory, record: Record) -> None:
    directory.claim(record)
    for other in (
        record._replace(port_id=bytes(16)),
        record._replace(incarnation=bytes(16)),
        record._replace(start_time=1),
        record._replace(name="other"),
    ):
        assert not directory.remove(other)
    assert directory.find("name") == record


def test_a_name_that_was_taken_over_is_not_taken_back(directory: Directory, record: Record) -> None:
    dead = dead_record(directory)
    directory.claim(dead)
    directory.claim(record)
    assert not directory.remove(dead)
    assert directory.find("name") == record


def test_anybody_may_take_back_a_dead_owners_name(directory: Directory) -> None:
    dead = dead_record(directory)
    directory.claim(dead)
    assert directory.remove(dead)


# Waiting.


def test_waiting_ends_when_the_name_is_claimed(directory: Directory, record: Record) -> None:
    waiter = Background(lambda: directory.wait_for("name", PATIENCE))
    assert eventually(waiter.is_alive)
    directory.claim(record)
    assert waiter.result() == record


def test_waiting_passes_over_a_dead_owner(directory: Directory, record: Record) -> None:
    dead = dead_record(directory)
    directory.claim(dead)
    with pytest.raises(ReceiveTimeoutError):
        directory.wait_for("name", 0)
    waiter = Background(lambda: directory.wait_for("name", None))
    directory.claim(record)
    assert waiter.result() == record


@pytest.mark.parametrize("timeout", [-1, 0, 0.03])
def test_waiting_ends_in_time(directory: Directory, timeout: float) -> None:
    begun = time.monotonic()
    with pytest.raises(ReceiveTimeoutError, match=r"'name'.*PORTKIT_RUNTIME_DIR"):
        directory.wait_for("name", timeout)
    assert timeout <= time.monotonic() - begun < PATIENCE


def test_one_look_is_enough_for_what_is_there(directory: Directory, record: Record) -> None:
    directory.claim(record)
    assert directory.wait_for("name", 0) == record


def test_waiting_wants_a_number_of_seconds(directory: Directory) -> None:
    with pytest.raises(ValueError, match="NaN"):
        directory.wait_for("name", float("nan"))


# Sockets.


def test_socket_paths_are_new_each_time(directory: Directory) -> None:
    paths = {directory.new_socket_path() for _ in range(100)}
    assert len(paths) == 100
    assert {path.parent for path in paths} == {directory.path}


def test_a_path_that_just_fits_can_be_bound(tmp_path: Path) -> None:
    used = len(os.fsencode(Directory(tmp_path / "x").new_socket_path()))
    fitting = tmp_path / ("x" * (1 + 107 - used))
    directory = Directory(fitting)
    with listening(directory) as record:
        directory.claim(record)
        assert directory.names() == ["name"]
    with pytest.raises(TransportError, match=r"108 bytes.* 107.*PORTKIT_RUNTIME_DIR"):
        Directory(tmp_path / f"{fitting.name}x").new_socket_path()


def test_in_a_path_too_long_nobody_is_declared_dead(tmp_path: Path) -> None:
    directory = Directory(tmp_path / ("x" * 100))
    directory.prepare()
    record = make_record("name", "1-0123456789abcdef.sock")
    with pytest.raises(TransportError, match=r"too long.*PORTKIT_RUNTIME_DIR"):
        directory.is_live(record)
