"""An open descriptor as a component: who owns what, and what closes when."""

from __future__ import annotations

import gc
import os
import socket
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from portkit import MachPort
from portkit.link.descriptor import Descriptor
from portkit.message import ComponentObject
from tests.support import PATIENCE


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_fd, write_fd = os.pipe()
    yield read_fd, write_fd
    os.close(read_fd)
    os.close(write_fd)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_owns_a_duplicate(pipe: tuple[int, int]) -> None:
    read_fd, write_fd = pipe
    with Descriptor(read_fd) as descriptor:
        assert descriptor.is_open
        assert descriptor.fileno() != read_fd
        assert not os.get_inheritable(descriptor.fileno())
        os.write(write_fd, b"x")
        assert os.read(descriptor.fileno(), 9) == b"x"
        assert repr(descriptor) == f"<Descriptor {descriptor.fileno()}>"
        assert isinstance(descriptor, ComponentObject)
        fd = descriptor.fileno()
    assert is_open(read_fd)
    assert not is_open(fd)
    assert repr(descriptor) == "<Descriptor closed>"


def test_from_files_and_sockets() -> None:
    with tempfile.TemporaryFile() as file, Descriptor(file) as descriptor:
        assert os.path.sameopenfile(file.fileno(), descriptor.fileno())
    with socket.socket() as sock, Descriptor(sock) as descriptor:
        assert os.path.sameopenfile(sock.fileno(), descriptor.fileno())
    with pytest.raises(ValueError, match="not an open"):
        Descriptor(sock)


def test_from_another_descriptor(pipe: tuple[int, int]) -> None:
    with Descriptor(pipe[0]) as first, Descriptor(first) as second:
        assert first.fileno() != second.fileno()


@pytest.mark.parametrize("wrong", ["x", None, 1.5, True, object(), b"", Path("/")])
def test_what_is_no_descriptor(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"made from a descriptor|is an int"):
        Descriptor(wrong)


def test_a_fileno_that_is_no_int() -> None:
    class Odd:
        def fileno(self) -> str:
            return "3"

    with pytest.raises(TypeError, match="is an int, not str"):
        Descriptor(Odd())  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [-1, -(2**70), 2**70, 2**31 - 1])
def test_what_is_not_open(wrong: int) -> None:
    with pytest.raises(ValueError, match="not an open descriptor"):
        Descriptor(wrong)


def test_detach_hands_over(pipe: tuple[int, int]) -> None:
    descriptor = Descriptor(pipe[0])
    fd = descriptor.detach()
    assert not descriptor.is_open
    descriptor.close()
    del descriptor
    assert is_open(fd)
    os.close(fd)


def test_after_the_end_everything_but_close_raises(pipe: tuple[int, int]) -> None:
    descriptor = Descriptor(pipe[0])
    descriptor.close()
    descriptor.close()
    assert not descriptor.is_open
    with pytest.raises(ValueError, match="closed or detached"):
        descriptor.fileno()
    with pytest.raises(ValueError, match="closed or detached"):
        descriptor.detach()
    with pytest.raises(ValueError, match="closed or detached"):
        Descriptor(descriptor)


def test_closes_with_the_last_reference(pipe: tuple[int, int]) -> None:
    descriptor = Descriptor(pipe[0])
    fd = descriptor.fileno()
    del descriptor
    gc.collect()
    assert not is_open(fd)


def test_adopts_without_a_duplicate(pipe: tuple[int, int]) -> None:
    fd = os.dup(pipe[0])
    with Descriptor.adopt(fd) as descriptor:
        assert descriptor.fileno() == fd
    assert not is_open(fd)


def test_one_of_many_detaches(pipe: tuple[int, int]) -> None:
    def detach(descriptor: Descriptor) -> int | None:
        try:
            return descriptor.detach()
        except ValueError:
            return None

    with ThreadPoolExecutor(4) as threads:
        for _ in range(50):
            got = list(threads.map(detach, [Descriptor(pipe[0])] * 4, timeout=PATIENCE))
            (fd,) = [fd for fd in got if fd is not None]
            os.close(fd)


def test_too_many_open(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "dup", full)
    with pytest.raises(OSError, match="Too many"):
        Descriptor(pipe[0])


def test_a_forked_child_can_use_it(pipe: tuple[int, int]) -> None:
    with Descriptor(pipe[1]) as descriptor:
        pid = os.fork()
        if pid == 0:
            try:
                os.write(descriptor.fileno(), b"child")
                descriptor.close()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(pipe[0], 9) == b"child"
        assert descriptor.is_open


@pytest.mark.own_thread
def test_travels_as_a_component(pipe: tuple[int, int]) -> None:
    with MachPort() as port, Descriptor(pipe[0]) as descriptor:
        port.send([b"here", descriptor], timeout=0)
        message = port.receive(timeout=0)
        assert message.components[1] is descriptor
        assert message.ports == ()
        assert "Descriptor" in repr(message)


def test_a_socket_built_on_a_detached_one() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with closing(socket.socket(fileno=Descriptor(theirs).detach())) as copy:
            copy.sendall(b"x")
        assert ours.recv(9) == b"x"


def test_a_message_names_its_descriptors(pipe: tuple[int, int]) -> None:
    with MachPort() as port, Descriptor(pipe[0]) as first, Descriptor(pipe[1]) as second:
        port.send([b"data", first, port, second])
        message = port.receive(0)
        assert message.descriptors == (first, second)
        assert message.ports == (port,)
