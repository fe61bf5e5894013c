"""The files of names: any name has one, of its own; what else lies there is no record."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from portkit import NameNotFoundError, ReceiveTimeoutError, TransportError
from portkit.names import MAX_NAME_BYTES
from portkit_transports.message.directory import Directory
from portkit_transports.message.process import (
    outlived,
    process_exists,
    process_start_time,
    same_process,
)
from portkit_transports.message.record import (
    MAX_RECORD_BYTES,
    Record,
    decode,
    encode,
    file_name,
    is_record_file,
)
from tests.ports.helpers import in_child
from tests.transports.message.directory_helpers import (
    ended_pid,
    entries,
    listening,
    make_record,
)

SOCKET = "1-0123456789abcdef.sock"

names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1
).filter(lambda name: len(name.encode()) <= MAX_NAME_BYTES)
similar = st.text("aA%/.4\u00c4\u00e4\u0130\n", min_size=1, max_size=6)
records = st.builds(
    Record,
    names | similar,
    st.just(SOCKET),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=16, max_size=16),
    st.integers(1, 2**31 - 1),
    st.integers(0, 2**64 - 1),
)


# Names and their files.


@given(names | similar)
@example("..")
@example("/etc/passwd")
@example("a" * 1024)
@example("\U0001f600" * 256)
@example("lock")
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    entry = file_name(name)
    assert re.fullmatch(r"(name|hash)\.[a-z0-9._%-]+", entry)
    assert len(entry.encode()) <= 255
    assert is_record_file(entry)


@given(similar, similar)
@example("a", "A")
@example("%61", "a")
@example("a" * 300, "A" * 300)
@example("a" * 1023, "a" * 1024)
@example("\u00e9", "e\u0301")
def test_no_two_names_have_one_file(first: str, second: str) -> None:
    files = file_name(first).casefold(), file_name(second).casefold()
    assert (files[0] == files[1]) == (first == second)


def test_a_plain_name_can_be_read_in_its_file_name() -> None:
    assert file_name("com.example.my-app_2") == "name.com.example.my-app_2"
    assert file_name("My app") == "name.%4dy%20app"


@settings(max_examples=40, deadline=None)
@given(st.lists(names | similar, min_size=1, max_size=8, unique=True))
def test_names_are_claimed_and_found(chosen: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="pk-") as folder:
        claim_and_find(Directory(Path(folder)), chosen)


def claim_and_find(directory: Directory, chosen: list[str]) -> None:
    with listening(directory) as record:
        for name in chosen:
            directory.claim(record._replace(name=name))
        assert directory.names() == sorted(chosen)
        for name in chosen:
            assert directory.find(name) == record._replace(name=name)
            assert directory.remove(record._replace(name=name))
        assert directory.names() == []
    assert entries(directory) == {"lock", record.socket}


@pytest.mark.parametrize("name", ["", "a\0b", "a" * 1025, "\ud800"])
def test_what_is_no_name_is_refused_everywhere(tmp_path: Path, name: str) -> None:
    directory = Directory(tmp_path)
    record = make_record(name, SOCKET)
    calls: list[Any] = [
        lambda: directory.find(name),
        lambda: directory.wait_for(name, 0),
        lambda: directory.claim(record),
        lambda: directory.remove(record),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="a name"):
            call()


# Records and their contents.


@given(records)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    data = encode(record)
    assert decode(data) == record
    assert len(data) <= MAX_RECORD_BYTES


def test_the_longest_record_fits() -> None:
    record = make_record("\x01" * MAX_NAME_BYTES, SOCKET)
    assert decode(encode(record)) == record
    assert len(encode(record)) <= MAX_RECORD_BYTES


@given(st.binary(max_size=200) | st.text(max_size=50).map(str.encode))
def test_noise_is_no_record(data: bytes) -> None:
    assert decode(data) is None


@given(records, st.data())
def test_a_part_of_a_record_is_no_record(record: Record, data: st.DataObject) -> None:
    whole = encode(record)
    assert decode(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None


GOOD = json.loads(encode(make_record("name", SOCKET)))
DAMAGED = {
    "empty": b"",
    "garbage": b"\xff\x00garbage",
    "truncated": encode(make_record("name", SOCKET))[:-1],
    "huge": b" " * MAX_RECORD_BYTES + encode(make_record("name", SOCKET)),
    "deep": b"[" * 10_000,
    "a list": b"[]",
    "another name's": encode(make_record("other", SOCKET)),
    "a socket elsewhere": json.dumps(GOOD | {"socket": "../1-0123456789abcdef.sock"}).encode(),
    "a port id too short": json.dumps(GOOD | {"port_id": "00"}).encode(),
    "a pid that is text": json.dumps(GOOD | {"pid": "1"}).encode(),
    "a pid of everybody": json.dumps(GOOD | {"pid": -1}).encode(),
    "a part too many": json.dumps(GOOD | {"more": 1}).encode(),
    "a part missing": json.dumps({key: GOOD[key] for key in GOOD if key != "pid"}).encode(),
}


def plant(kind: str, path: Path) -> None:
    """Put something that is no record where one should be."""
    if kind == "link":
        path.with_name("target").write_bytes(encode(make_record("name", SOCKET)))
        path.symlink_to(path.with_name("target"))
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    else:
        path.write_bytes(DAMAGED[kind])
        path.chmod(0o600)


@pytest.mark.parametrize("kind", [*DAMAGED, "link", "link to itself", "fifo"])
def test_a_damaged_file_is_no_name_until_somebody_claims_it(tmp_path: Path, kind: str) -> None:
    directory = Directory(tmp_path / "names")
    path = directory.path / file_name("name")
    with listening(directory) as record:
        plant(kind, path)
        with pytest.raises(NameNotFoundError, match=r"damaged.*register it again") as raised:
            directory.find("name")
        assert str(path) in str(raised.value)
        with pytest.raises(ReceiveTimeoutError):
            directory.wait_for("name", 0)
        assert directory.names() == []
        assert not directory.remove(record)
        directory.sweep()
        assert os.path.lexists(path), "nobody knows that its owner is dead"
        directory.claim(record)
        assert directory.find("name") == record
        assert not path.is_symlink()


def test_a_folder_where_a_record_should_be_is_told(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "names")
    with listening(directory) as record:
        (directory.path / file_name("name")).mkdir()
        with pytest.raises(NameNotFoundError, match="damaged"):
            directory.find("name")
        with pytest.raises(TransportError, match=r"name\.name"):
            directory.claim(record)
        assert not [entry for entry in entries(directory) if entry.startswith("tmp.")]


# Processes.


def test_a_process_has_one_start_time() -> None:
    pid = os.getpid()
    mine = process_start_time(pid)
    assert mine > 0
    assert process_start_time(pid) == mine
    assert int(in_child(lambda: process_start_time(os.getpid()))) >= mine


def test_a_processs_name_does_not_confuse() -> None:
    def renamed() -> bool:
        before = process_start_time(os.getpid())
        Path("/proc/self/comm").write_text(") R 1 (2")
        return process_start_time(os.getpid()) == before > 0

    assert in_child(renamed) == "True"


def test_who_is_gone_has_none() -> None:
    pid = ended_pid()
    assert process_start_time(pid) == 0
    assert not process_exists(pid)
    assert not process_exists(2**64)
    assert outlived(pid, 0)


def test_a_number_used_again_is_another_process() -> None:
    pid, begun = os.getpid(), process_start_time(os.getpid())
    assert same_process(pid, begun)
    assert same_process(pid, 0), "nobody knows better"
    assert not same_process(pid, begun + 1)
    assert not same_process(ended_pid(), begun)
    assert outlived(pid, 1000.0)
    assert not outlived(pid, 2.0**40)
