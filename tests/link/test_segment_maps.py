"""The receiving side: what is refused, that nothing writes, and when a segment goes back."""

from __future__ import annotations

import array
import ctypes
import gc
import hashlib
import io
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import pytest

from portkit.errors import InvalidPortError, ProtocolError, TransportError
from portkit.link import shared_memory
from portkit.link.segment import Block
from portkit.link.segment_maps import SegmentMaps
from portkit.link.segments import SegmentPool
from tests.ports.helpers import in_child
from tests.support import PATIENCE, open_descriptors, run_on_thread

KIB = 1024
MIB = 1024 * KIB
linux = pytest.mark.skipif(not shared_memory.HAS_SEALS, reason="no seals here")


class Pair:
    """Both sides of a link in one process, without the link."""

    def __init__(self, byte_limit: int = 4 * MIB) -> None:
        self.pool = SegmentPool(byte_limit)
        self.returns: deque[int] = deque()
        self.maps = SegmentMaps(byte_limit, self.returns.append)

    def deliver(self, block: Block | None) -> memoryview:
        """What the receiver gets to see of a block."""
        assert block is not None
        while self.pool.retired:
            self.maps.forget(self.pool.retired.popleft())
        segment = block.segment
        if not segment.announced:
            self.maps.add(segment.id, os.dup(segment.fd), segment.size)
            segment.announced = True
        return self.maps.view(segment.id, block.offset, block.length)

    def settle(self) -> None:
        """Pass on what came back."""
        while self.returns:
            self.pool.returned(self.returns.popleft())

    def close(self) -> None:
        self.pool.close()
        self.maps.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    with closing(Pair()) as pair:
        yield pair


# --- reading --------------------------------------------------------------------------------------


def test_what_is_put_is_read_without_a_copy(pair: Pair) -> None:
    view = pair.deliver(pair.pool.put(b"hello"))
    assert bytes(view) == b"hello"
    assert (view.readonly, view.format, view.nbytes) == (True, "B", 5)
    assert pair.maps.in_use == 1


def test_a_slice_of_a_buffer_is_read_where_it_is(pair: Pair) -> None:
    buffer = pair.pool.allocate(MIB)
    buffer[5000:5010] = b"0123456789"
    view = pair.deliver(pair.pool.take(buffer[5003:5010]))
    assert bytes(view) == b"3456789"
    buffer[5003] = 0x58  # shared indeed; a sender should not
    assert bytes(view) == b"X456789"


def test_consumers_of_buffers_can_use_it(pair: Pair) -> None:
    numbers = array.array("d", [1.5, 2.5, 3.5])
    view = pair.deliver(pair.pool.put(memoryview(numbers)))
    raw = numbers.tobytes()
    assert bytes(view) == raw
    assert bytearray(view) == raw
    assert b"".join([view, view]) == raw * 2
    assert struct.unpack_from("d", view, 8) == (2.5,)
    assert view.cast("d").tolist() == [1.5, 2.5, 3.5]
    assert array.array("d", view.cast("d")) == numbers
    assert list((ctypes.c_double * 3).from_buffer_copy(view)) == [1.5, 2.5, 3.5]
    assert hashlib.sha256(view).digest() == hashlib.sha256(raw).digest()
    assert memoryview(view)[8:16] == raw[8:16]
    assert io.BytesIO(view).read() == raw
    with tempfile.TemporaryFile() as file:
        file.write(view)
        file.seek(0)
        assert file.read() == raw
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendmsg([view])
        assert theirs.recv(99) == raw


@pytest.mark.parametrize(
    "write",
    [
        lambda view: view.__setitem__(0, 1),
        lambda view: view.__setitem__(slice(0, 1), b"x"),
        lambda view: view[1:].__setitem__(0, 1),
        lambda view: view.cast("H").__setitem__(0, 1),
        lambda view: memoryview(view).__setitem__(0, 1),
        lambda view: view.obj.__setitem__(0, 1),
        lambda view: memoryview(view.obj).__setitem__(0, 1),
        lambda view: view.obj.obj.__setitem__(0, 1),
        lambda view: view.obj.obj.write(b"x"),
        lambda view: view.obj.obj.write_byte(1),
        lambda view: view.obj.obj.move(0, 1, 1),
        lambda view: view.obj.obj.resize(mmap.PAGESIZE),
        lambda view: view.obj.obj.close(),
        lambda view: view.obj.release(),
        lambda view: memoryview(view.obj.obj).__setitem__(0, 1),
        lambda view: struct.pack_into("B", view, 0, 1),
        lambda view: io.BytesIO(b"x").readinto(view),
        ctypes.c_char.from_buffer,
        lambda view: ctypes.c_char.from_buffer(view.obj),
        lambda view: ctypes.c_char.from_buffer(view.obj.obj),
        lambda view: os.readv(0, [view]),
    ],
)
def test_nothing_writes(pair: Pair, write: Callable[[memoryview], object]) -> None:
    view = pair.deliver(pair.pool.put(b"data"))
    with pytest.raises((TypeError, BufferError)):
        write(view)
    assert bytes(view) == b"data"


# --- going back -----------------------------------------------------------------------------------


def test_it_goes_back_with_the_last_slice(pair: Pair) -> None:
    view = pair.deliver(pair.pool.put(b"0123456789"))
    last = view[2:8].cast("H")[1:]
    view.release()
    del view
    gc.collect()
    assert not pair.returns
    assert last.tobytes() == b"4567"
    del last
    assert list(pair.returns) == [1]
    assert pair.maps.in_use == 0
    pair.settle()
    assert pair.pool.free == 1


def test_its_exporter_keeps_it_too(pair: Pair) -> None:
    view = pair.deliver(pair.pool.put(b"abc"))
    base = view.obj
    del view
    assert not pair.returns
    assert base == b"abc"
    del base
    assert pair.returns


def test_the_next_message_reuses_the_map(pair: Pair) -> None:
    for index in range(20):
        view = pair.deliver(pair.pool.put(bytes([index]) * 300_000))
        assert view[0] == view[-1] == index
        del view
        pair.settle()
    assert pair.pool.bytes == pair.maps.bytes
    assert pair.pool.free == 1


def test_messages_of_many_sizes_stay_within_both_limits(pair: Pair) -> None:
    for size in (4, 3, 1, 2, 4, 1, 3):
        view = pair.deliver(pair.pool.put(bytes([size]) * (size * MIB)))
        assert (view[0], view[-1], len(view)) == (size, size, size * MIB)
        del view
        pair.settle()
        assert pair.pool.bytes <= 4 * MIB
        assert pair.maps.bytes <= 4 * MIB


def test_dropped_on_another_thread(pair: Pair) -> None:
    held = [pair.deliver(pair.pool.put(b"x"))]
    run_on_thread(held.clear)
    assert list(pair.returns) == [1]


def test_a_finalizer_inside_takes_no_lock(pair: Pair) -> None:
    """As when a collection strikes while the lock is held, on the same thread."""
    held = [pair.deliver(pair.pool.put(b"x"))]

    def drop() -> None:
        with pair.maps._lock:
            held.clear()

    run_on_thread(drop)
    assert list(pair.returns) == [1]


def test_a_cycle_goes_back_once_its_finalizers_have_run(pair: Pair) -> None:
    """Before Python 3.12.7 the collector crashes on such cycles, if it finds the base in them."""
    seen: list[tuple[bytes, int]] = []

    class Holder:
        def __init__(self, view: memoryview) -> None:
            self.view = view
            self.slices = [view[1:], view.cast("H")]
            self.itself = self

        def __del__(self) -> None:
            seen.append((bytes(self.view), len(pair.returns)))

    for generation in (0, 1, 2, 2):
        Holder(pair.deliver(pair.pool.put(b"abcd")))
        assert not pair.returns
        gc.collect(generation)
        gc.collect()
        assert seen.pop() == (b"abcd", 0)
        assert len(pair.returns) == 1
        pair.settle()


def test_a_view_brought_back_by_a_finalizer_still_counts(pair: Pair) -> None:
    rescued: list[memoryview] = []

    class Holder:
        def __init__(self, view: memoryview) -> None:
            self.view = view
            self.itself = self

        def __del__(self) -> None:
            rescued.append(self.view)

    Holder(pair.deliver(pair.pool.put(b"abcd")))
    gc.collect()
    assert not pair.returns
    assert bytes(rescued.pop()) == b"abcd"
    gc.collect()
    assert list(pair.returns) == [1]


def test_threads_drop_while_others_arrive() -> None:
    with closing(Pair(8 * MIB)) as pair, ThreadPoolExecutor(4) as threads:
        checks: list[Future[None]] = []
        for index in range(300):
            pair.settle()
            block = pair.pool.put(struct.pack("I", index) * 70_000)
            if block is None:
                checks.pop(0).result(PATIENCE)
                continue
            view = pair.deliver(block)

            def check(view: memoryview = view, index: int = index) -> None:
                assert struct.unpack_from("I", view) == (index,)
                assert struct.unpack_from("I", view, len(view) - 4) == (index,)

            checks.append(threads.submit(check))
            del view, check
        for done in checks:
            done.result(PATIENCE)
        checks.clear()
        gc.collect()


# --- what is refused ------------------------------------------------------------------------------


def memory(size: int, seals: int = 0) -> int:
    """A descriptor of memory, sealed by hand."""
    import fcntl

    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, 1033, seals)
    return fd


def refused(maps: SegmentMaps, fd: int, size: int, segment_id: int = 1) -> str:
    with pytest.raises(ProtocolError) as caught:
        maps.add(segment_id, fd, size)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)  # it was closed all the same
    assert maps.bytes == 0
    return str(caught.value)


@linux
@pytest.mark.parametrize("missing", [0x01, 0x02, 0x04, 0x10, 0x17])
def test_memory_that_is_not_sealed(pair: Pair, missing: int) -> None:
    seals = 0x17 & ~missing
    said = refused(pair.maps, memory(MIB, seals), MIB)
    assert f"its seals are 0x{seals:02x}" in said


@linux
def test_sealed_memory_is_taken_whoever_made_it(pair: Pair) -> None:
    pair.maps.add(1, memory(MIB, 0x17), MIB)
    assert bytes(pair.maps.view(1, MIB - 2, 2)) == b"\0\0"


@linux
def test_a_size_that_lies(pair: Pair) -> None:
    assert "with 1048576 bytes but has 4096" in refused(pair.maps, memory(4096, 0x17), MIB)
    assert "with 4096 bytes but has 1048576" in refused(pair.maps, memory(MIB, 0x17), 4096)


@pytest.mark.parametrize("size", [0, -1])
def test_no_size(pair: Pair, size: int) -> None:
    with tempfile.TemporaryFile() as file:
        refused(pair.maps, os.dup(file.fileno()), size)


@linux
def test_what_is_no_memory(pair: Pair) -> None:
    with tempfile.TemporaryFile(dir="/tmp") as file:
        file.truncate(MIB)
        refused(pair.maps, os.dup(file.fileno()), MIB)
    read_fd, write_fd = os.pipe()
    os.close(write_fd)
    refused(pair.maps, read_fd, MIB)


def test_more_than_the_limit() -> None:
    with closing(SegmentPool(4 * MIB)) as pool, closing(SegmentMaps(MIB, print)) as maps:
        block = pool.put(bytes(2 * MIB))
        assert block is not None
        assert "over the limit of 1048576" in refused(
            maps, os.dup(block.segment.fd), block.segment.size
        )


def test_a_number_that_is_taken(pair: Pair) -> None:
    block = pair.pool.put(b"x")
    assert block is not None
    segment = block.segment
    pair.maps.add(segment.id, os.dup(segment.fd), segment.size)
    before = open_descriptors()
    with pytest.raises(ProtocolError, match="announced before"):
        pair.maps.add(segment.id, os.dup(segment.fd), segment.size)
    assert open_descriptors() == before


def test_a_system_without_room(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, size: int) -> mmap.mmap:
        raise OSError(12, "Cannot allocate memory")

    block = pair.pool.put(b"x")
    with monkeypatch.context() as patch:
        patch.setattr(shared_memory, "map_readable", fail)
        with pytest.raises(TransportError, match="cannot be mapped"):
            pair.deliver(block)
    assert bytes(pair.deliver(block)) == b"x"


@pytest.mark.parametrize(
    ("offset", "length"),
    [(-1, 1), (0, 256 * KIB + 1), (256 * KIB, 1), (256 * KIB + 1, 0), (0, -1), (2**63, 1)],
)
def test_ranges_outside(pair: Pair, offset: int, length: int) -> None:
    view = pair.deliver(pair.pool.put(b"x"))
    del view
    with pytest.raises(ProtocolError, match="not in segment 1, which has 262144 bytes"):
        pair.maps.view(1, offset, length)
    assert pair.maps.in_use == 0


def test_ranges_at_the_edge(pair: Pair) -> None:
    view = pair.deliver(pair.pool.put(b"x"))
    del view
    assert len(pair.maps.view(1, 0, 256 * KIB)) == 256 * KIB
    assert len(pair.maps.view(1, 256 * KIB, 0)) == 0


def test_a_segment_that_is_lent_or_unknown(pair: Pair) -> None:
    view = pair.deliver(pair.pool.put(b"x"))
    with pytest.raises(ProtocolError, match="sent again before"):
        pair.maps.view(1, 0, 1)
    with pytest.raises(ProtocolError, match="retired before it was returned"):
        pair.maps.forget(1)
    with pytest.raises(ProtocolError, match="was not announced"):
        pair.maps.view(2, 0, 1)
    with pytest.raises(ProtocolError, match="was not announced"):
        pair.maps.forget(2)
    assert bytes(view) == b"x"
    del view
    pair.maps.forget(1)
    assert pair.maps.bytes == 0
    with pytest.raises(ProtocolError, match="or is retired"):
        pair.maps.view(1, 0, 1)


# --- ends -----------------------------------------------------------------------------------------


def test_after_the_link_views_live_on_and_return_nothing() -> None:
    before = open_descriptors()
    pair = Pair()
    view = pair.deliver(pair.pool.put(b"still here"))
    gone = pair.deliver(pair.pool.put(b"x"))
    del gone
    pair.returns.clear()
    pair.close()
    pair.close()
    assert bytes(view) == b"still here"
    del view
    gc.collect()
    assert not pair.returns
    assert open_descriptors() == before
    for call in (lambda: pair.maps.view(1, 0, 1), lambda: pair.maps.forget(1)):
        with pytest.raises(InvalidPortError, match="link has ended"):
            call()
    read_fd, write_fd = os.pipe()
    os.close(write_fd)
    with pytest.raises(InvalidPortError, match="link has ended"):
        pair.maps.add(2, read_fd, 1)
    assert open_descriptors() == before


def test_maps_nobody_closed_leave_nothing() -> None:
    """What conftest looks for."""
    pair = Pair()
    view = pair.deliver(pair.pool.put(b"x"))
    assert bytes(view) == b"x"


@pytest.mark.parametrize(
    "call",
    [
        lambda maps: maps.view(1, 0, 1),
        lambda maps: maps.forget(1),
        lambda maps: maps.add(2, os.dup(0), 1),
        lambda maps: maps.close(),
    ],
)
def test_a_forked_child_gets_an_error_that_says_why(
    pair: Pair, call: Callable[[SegmentMaps], object]
) -> None:
    pair.deliver(pair.pool.put(b"x"))
    with pair.maps._lock:  # which nobody in the child will ever release
        said = in_child(lambda: call(pair.maps))
    assert said.startswith("InvalidPortError")
    assert "forked" in said


def test_a_forked_child_keeps_what_it_reads_and_returns_nothing(pair: Pair) -> None:
    def child() -> list[object]:
        read = bytes(held[0])
        held.clear()
        return [read, len(pair.returns), pair.maps.bytes]

    held = [pair.deliver(pair.pool.put(b"abc"))]
    assert in_child(child) == str([b"abc", 0, 0])
    assert pair.maps.in_use == 1
    assert bytes(held[0]) == b"abc"


# --- real peers -----------------------------------------------------------------------------------

SENDER = """
import os, socket, sys
from portkit.link.segments import SegmentPool
link = socket.socket(fileno=int(sys.argv[1]))
pool = SegmentPool(1 << 24)
kept = []
for text in (b"one", b"two"):
    block = pool.put(text * 100_000)
    socket.send_fds(link, [b"%d %d %d;" % (block.segment.id, block.segment.size, block.length)],
                    [block.segment.fd])
    kept.append(block)
link.recv(1)
"""

RECEIVER = """
import os, socket, sys
from portkit.link.segment_maps import SegmentMaps
link = socket.socket(fileno=int(sys.argv[1]))
maps = SegmentMaps(1 << 24, lambda number: link.send(b"%d;" % number))
views = []
while True:
    text, fds, _, _ = socket.recv_fds(link, 100, 1)
    number, size, length = map(int, text.rstrip(b";").split())
    maps.add(number, fds[0], size)
    view = maps.view(number, 0, length)
    link.send(b"read %d %d;" % (view[0], len(view)))
    views.append(view)
    del view
    if len(views) == 2:
        del views[0]
"""


def start(code: str, theirs: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(theirs.fileno())], pass_fds=[theirs.fileno()]
    )


def test_a_sender_that_is_killed_takes_nothing_with_it() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, closing(SegmentMaps(16 * MIB, lambda number: None)) as maps:
        with theirs:
            peer = start(SENDER, theirs)
        with peer:
            ours.settimeout(PATIENCE)
            views = []
            for _ in range(2):
                text, fds, _, _ = socket.recv_fds(ours, 100, 1)
                number, size, length = map(int, text.rstrip(b";").split())
                maps.add(number, fds[0], size)
                views.append(maps.view(number, 0, length))
            peer.send_signal(signal.SIGKILL)
            assert peer.wait(PATIENCE) == -signal.SIGKILL
        assert views == [b"one" * 100_000, b"two" * 100_000]
        maps.close()
        assert views == [b"one" * 100_000, b"two" * 100_000]


def test_a_receiver_that_is_killed_leaves_the_sender_all() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, closing(SegmentPool(16 * MIB)) as pool:
        with theirs:
            peer = start(RECEIVER, theirs)
        with peer:
            ours.settimeout(PATIENCE)
            for size in (MIB, 2 * MIB):
                block = pool.put(b"\x07" * size)
                assert block is not None
                segment = block.segment
                note = b"%d %d %d;" % (segment.id, segment.size, size)
                socket.send_fds(ours, [note], [segment.fd])
                segment.announced = True
                assert ours.recv(100) == b"read 7 %d;" % size
            pool.returned(int(ours.recv(100).rstrip(b";")))
            assert (pool.in_use, pool.free) == (1, 1)
            peer.send_signal(signal.SIGKILL)
            assert peer.wait(PATIENCE) == -signal.SIGKILL
        pool.close()
        assert (pool.bytes, pool.in_use) == (0, 0)
