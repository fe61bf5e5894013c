"""Payloads between programs: of different ages, with what only other processes can show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from portkit import BecameInvalidError, Descriptor, InvalidPayloadError, Port
from tests.support import PATIENCE
from tests.transports.processes.child import Child, Start
from tests.transports.processes.ways import ByName, Way
from tests.typed import newer, roles
from tests.typed.models import Anything, Frame, Handover, Job, Login, OpenFile, Picture, Result

MEGABYTE = 1 << 20


@pytest.fixture
def child(start: Start) -> Iterator[Child]:
    """Another program."""
    with start() as child:
        child.call(roles.serve, "typed")
        yield child


@pytest.fixture
def port(child: Child, way: Way) -> Port:
    """That of its router."""
    return way.remote("typed")


def test_programs_of_different_ages(port: Port) -> None:
    """What one does not know is ignored; what the other left out has its default."""
    assert port.request(Job(path="/a"), reply=Result, reply_timeout=PATIENCE) == Result(
        path="/a", size=1
    )
    job = newer.Job(path="/a", notes=("x", "y"), priority=2)
    answer = port.request(job, reply=newer.Result, reply_timeout=PATIENCE)
    assert answer == newer.Result(path="/a", size=2, seconds=2)


def test_bad_ones(port: Port) -> None:
    with pytest.raises(InvalidPayloadError) as caught:
        port.request(b'{"notes": ["xyzzy", {"xyzzy": 1}]}', msgid=7, reply_timeout=PATIENCE)
    assert str(caught.value) == (
        "Job: path: Field required; notes.1: Input should be a valid string"
    )
    with pytest.raises(InvalidPayloadError, match="no handler takes message 9"):
        port.request(Picture(name="a"), reply_timeout=PATIENCE)
    with pytest.raises(InvalidPayloadError, match="message 8 is no Login, which is 14"):
        port.request(Job(path="/a"), reply=Login, reply_timeout=PATIENCE)
    assert port.request(Job(path="/a"), reply=Result, reply_timeout=PATIENCE).size == 1


def test_secrets(port: Port) -> None:
    login = Login.model_validate({"user": "me", "password": "hush", "others": ["psst"]})
    assert port.request(login, reply=Login, reply_timeout=PATIENCE) == login


def test_ports(port: Port, child: Child, way: Way) -> None:
    with way.anonymous() as home:
        answer = port.request(Handover(port=home), reply=Handover, reply_timeout=PATIENCE)
        assert answer.port == home
        assert answer.either == child.pid
        assert newer.Job.from_message(home.receive(PATIENCE)).notes == ("a",)


def test_descriptors(port: Port, way: Way, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"what stands in it")
    with (tmp_path / "file").open() as file, Descriptor(file) as descriptor:
        open_file = OpenFile(file=descriptor)
        if not isinstance(way, ByName):
            with pytest.raises(TypeError, match="a Descriptor cannot travel there"):
                port.request(open_file, reply_timeout=PATIENCE)
            return
        assert port.request(open_file, reply_timeout=PATIENCE).data == b"what stands in it"
        assert descriptor.is_open, "the receiver has its own"
        descriptor.close()
        with pytest.raises(ValueError, match="closed or detached"):
            port.request(open_file, reply_timeout=PATIENCE)


def test_large_data_without_a_copy(port: Port, child: Child, way: Way) -> None:
    """What is written here after it was sent shows there: it is the same memory, on both sides."""
    view = port.allocate(5 * MEGABYTE)
    view[:4] = b"1234"
    port.request(Frame(pixels=view), reply_timeout=PATIENCE)
    assert child.call(roles.kept, 0) == b"1234"
    if isinstance(way, ByName):
        view[:4] = b"5678"
        assert child.call(roles.kept, 0) == b"5678"


def test_the_other_program_ends(port: Port, child: Child) -> None:
    with pytest.raises(BecameInvalidError):
        port.request(Anything(), reply_timeout=PATIENCE)


def test_one_that_cannot_be_encoded_leaves_the_link_alone(port: Port) -> None:
    with pytest.raises(InvalidPayloadError, match="Anything cannot be encoded"):
        port.request(Anything(value=os.getpid), reply_timeout=PATIENCE)
    assert port.request(Job(path="/a"), reply=Result, reply_timeout=PATIENCE).size == 1
