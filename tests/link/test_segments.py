"""The sending pool: what is reused when, what it is bounded by, and who owns a buffer."""

from __future__ import annotations

import array
import ctypes
import fcntl
import gc
import mmap
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Thread

import pytest

from portkit.errors import (
    InvalidPortError,
    MessageTooLargeError,
    PortError,
    ProtocolError,
    SendTimeoutError,
    TransportError,
)
from portkit.link import segments, shared_memory
from portkit.link.segment import Block, Segment, with_spare_room
from portkit.link.segments import SegmentPool
from tests.ports.helpers import in_child
from tests.support import PATIENCE, open_descriptors, run_on_thread

KIB = 1024
MIB = 1024 * KIB
linux = pytest.mark.skipif(not shared_memory.HAS_SEALS, reason="no seals here")


@pytest.fixture
def pool() -> Iterator[SegmentPool]:
    with closing(SegmentPool(4 * MIB)) as pool:
        yield pool


def content(block: Block) -> bytes:
    return block.segment.memory[block.offset : block.offset + block.length]


def sent(block: Block | None) -> Block:
    """What the link does with a block: the peer gets the descriptor."""
    assert block is not None
    block.segment.announced = True
    return block


# --- copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 256 * KIB, 256 * KIB + 1, 3 * MIB + 7])
def test_put_copies(pool: SegmentPool, size: int) -> None:
    data = os.urandom(size)
    block = pool.put(data)
    assert block is not None
    assert (block.offset, block.length) == (0, size)
    assert content(block) == data
    assert (pool.in_use, pool.free, pool.bytes) == (1, 0, block.segment.size)


def test_put_takes_any_memoryview(pool: SegmentPool) -> None:
    for view, expected in [
        (memoryview(bytearray(b"abcd"))[1:3], b"bc"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (memoryview(array.array("I", [1, 2])), struct.pack("2I", 1, 2)),
        (memoryview(bytes(range(6))).cast("B", (2, 3)), bytes(range(6))),
    ]:
        block = pool.put(view)
        assert block is not None
        assert content(block) == expected


def test_a_returned_segment_is_used_again(pool: SegmentPool) -> None:
    first = sent(pool.put(b"one")).segment
    pool.returned(first.id)
    assert (pool.in_use, pool.free) == (0, 1)
    second = pool.put(b"two")
    assert second is not None
    assert second.segment is first
    assert content(second) == b"two"


def test_a_lent_segment_is_not(pool: SegmentPool) -> None:
    first, second = sent(pool.put(b"one")), sent(pool.put(b"two"))
    assert first.segment is not second.segment
    assert (content(first), content(second)) == (b"one", b"two")


def test_the_best_fitting_is_used(pool: SegmentPool) -> None:
    blocks = [sent(pool.put(bytes(size))) for size in (MIB, 256 * KIB, 512 * KIB)]
    for block in blocks:
        pool.returned(block.segment.id)
    assert [sent(pool.put(bytes(s))).segment for s in (300 * KIB, 1, 600 * KIB)] == [
        blocks[2].segment,
        blocks[1].segment,
        blocks[0].segment,
    ]


def test_little_data_leaves_a_large_segment_while_there_is_room(pool: SegmentPool) -> None:
    large = sent(pool.put(bytes(2 * MIB))).segment
    pool.returned(large.id)
    assert sent(pool.put(b"x")).segment is not large
    sent(pool.put(bytes(1536 * KIB)))  # into the large one, while more was to be had
    assert pool.bytes == large.size + 256 * KIB
    pool.returned(large.id)
    sent(pool.put(bytes(1792 * KIB)))
    sent(pool.put(bytes(1792 * KIB)))
    assert pool.bytes <= 4 * MIB


def test_a_large_segment_takes_little_data_where_room_is_short() -> None:
    with closing(SegmentPool(2 * MIB)) as pool:
        large = sent(pool.put(bytes(2 * MIB))).segment
        pool.returned(large.id)
        assert sent(pool.put(b"x")).segment is large


def test_no_room_is_none(pool: SegmentPool) -> None:
    blocks = [sent(pool.put(bytes(2 * MIB))) for _ in range(2)]
    assert pool.put(b"x") is None
    assert pool.put(bytes(5 * MIB)) is None
    pool.returned(blocks[0].segment.id)
    assert pool.put(b"x") is not None


def test_the_oldest_free_segments_make_room_and_the_peer_is_told(pool: SegmentPool) -> None:
    blocks = [sent(pool.put(bytes(MIB))) for _ in range(4)]
    for index in (2, 0, 3):
        pool.returned(blocks[index].segment.id)
    assert pool.put(bytes(2 * MIB)) is not None
    assert list(pool.retired) == [blocks[2].segment.id, blocks[0].segment.id]
    assert pool.bytes == 4 * MIB
    assert pool.free == 1


def test_what_the_peer_never_saw_is_not_announced_as_gone(pool: SegmentPool) -> None:
    block = pool.put(bytes(3 * MIB))
    assert block is not None
    pool.untake(block)
    assert pool.put(bytes(4 * MIB)) is not None
    assert not pool.retired


def test_free_segments_stay_where_they_would_not_make_enough_room(pool: SegmentPool) -> None:
    kept = sent(pool.put(bytes(MIB)))
    sent(pool.put(bytes(2 * MIB)))
    pool.returned(kept.segment.id)
    assert pool.put(bytes(3 * MIB)) is None
    assert pool.free == 1
    assert not pool.retired


def test_a_whole_limit_can_be_one_segment() -> None:
    size = 3 * MIB - mmap.PAGESIZE  # its rounded size would be over the limit
    with closing(SegmentPool(size)) as pool:
        assert sent(pool.put(bytes(size))).segment.size == size
    with closing(SegmentPool(1)) as pool:
        assert pool.put(b"x") is None


def test_numbers_are_never_used_again(pool: SegmentPool) -> None:
    seen: set[int] = set()
    for size in (MIB, 2 * MIB, 3 * MIB, 4 * MIB):
        segment = sent(pool.put(bytes(size))).segment
        assert segment.id not in seen
        seen.add(segment.id)
        pool.returned(segment.id)


def test_numbers_end(pool: SegmentPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_MAX_ID", 1)
    assert pool.put(b"x") is not None
    assert pool.put(b"x") is None


def test_only_what_is_lent_can_be_returned(pool: SegmentPool) -> None:
    with pytest.raises(ProtocolError, match="which it has not"):
        pool.returned(1)
    segment = sent(pool.put(b"x")).segment
    pool.returned(segment.id)
    with pytest.raises(ProtocolError, match="which it has not"):
        pool.returned(segment.id)
    view = pool.allocate(1)
    with pytest.raises(ProtocolError, match="which it has not"):
        pool.returned(segment.id)
    assert view.obj is not None


def test_untake_of_a_copy_frees_it_once(pool: SegmentPool) -> None:
    block = pool.put(b"x")
    assert block is not None
    pool.untake(block)
    pool.untake(block)
    assert (pool.in_use, pool.free) == (0, 1)


def test_a_copy_that_fails_leaves_nothing_in_use(
    pool: SegmentPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(data: object, memory: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shared_memory, "copy", fail)
        with pytest.raises(KeyboardInterrupt):
            pool.put(b"x")
    assert (pool.in_use, pool.free) == (0, 1)


# --- buffers --------------------------------------------------------------------------------------


def test_a_buffer_is_sent_where_it_is(pool: SegmentPool) -> None:
    view = pool.allocate(10)
    assert (len(view), view.format, view.readonly) == (10, "B", False)
    view[:] = b"0123456789"
    block = pool.take(view)
    assert block is not None
    assert (block.offset, block.length) == (0, 10)
    assert content(block) == b"0123456789"


@pytest.mark.parametrize(
    ("cut", "offset", "length"),
    [
        (lambda v: v[3:], 3, 9997),
        (lambda v: v[5000:6000][10:20], 5010, 10),
        (lambda v: v[9999:], 9999, 1),
        (lambda v: v[7:].toreadonly(), 7, 9993),
        (lambda v: v.cast("I")[2:3], 8, 4),
        (lambda v: v.cast("B", (100, 100)), 0, 10000),
        (lambda v: v[3:3], None, 0),
    ],
)
def test_so_is_a_slice_or_cast(
    pool: SegmentPool, cut: Callable[[memoryview], memoryview], offset: int | None, length: int
) -> None:
    view = pool.allocate(10000)
    block = pool.take(cut(view))
    assert block is not None
    assert block.length == length
    assert offset is None or block.offset == offset
    assert 0 <= block.offset <= 10000


def test_other_views_are_not_ours(pool: SegmentPool) -> None:
    with closing(SegmentPool(MIB)) as other, mmap.mmap(-1, 100) as memory:
        view = pool.allocate(100)
        with memoryview(memory) as mapped:
            for foreign in (
                memoryview(b"x"),
                memoryview(bytearray(1)),
                memoryview(array.array("I", [1])),
                mapped,
                view[::2],
                view[::-1],
            ):
                assert pool.take(foreign) is None
        assert other.take(view) is None
        assert pool.take(view) is not None


def test_a_buffer_is_sent_once(pool: SegmentPool) -> None:
    view = pool.allocate(100)
    assert pool.take(view[:50]) is not None
    for again in (view, view[50:], view[:50]):
        with pytest.raises(PortError, match="sent already"):
            pool.take(again)


def test_after_a_time_out_the_buffer_is_still_the_users(pool: SegmentPool) -> None:
    view = pool.allocate(3)
    view[:] = b"abc"
    block = pool.take(view)
    assert block is not None
    pool.untake(block)
    assert view.tobytes() == b"abc"
    assert pool.in_use == 1
    assert pool.take(view) == block


def test_dropped_while_it_was_about_to_be_sent(pool: SegmentPool) -> None:
    view = pool.allocate(3)
    block = pool.take(view)
    assert block is not None
    del view
    assert pool.in_use == 1
    pool.untake(block)
    assert (pool.in_use, pool.free) == (0, 1)


def test_unsent_it_goes_back_with_the_last_slice(pool: SegmentPool) -> None:
    view = pool.allocate(100)
    part = view[10:20].cast("B")
    del view
    assert pool.in_use == 1
    part[0] = 1
    del part
    assert (pool.in_use, pool.free) == (0, 1)


def test_a_returned_segment_waits_for_the_user_who_still_holds_the_buffer(
    pool: SegmentPool,
) -> None:
    view = pool.allocate(100)
    block = sent(pool.take(view))
    pool.returned(block.segment.id)
    assert pool.in_use == 1  # else what is written to the view would land in another message
    with pytest.raises(PortError, match="sent already"):
        pool.take(view)
    del view
    assert (pool.in_use, pool.free) == (0, 1)


def test_released_is_dropped(pool: SegmentPool) -> None:
    with pool.allocate(100):
        assert pool.in_use == 1
    assert pool.in_use == 0


def test_dropped_by_a_collection_and_on_another_thread(pool: SegmentPool) -> None:
    cycle: list[object] = [pool.allocate(1)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert pool.in_use == 0
    held = [pool.allocate(1)]
    run_on_thread(held.clear)
    assert pool.in_use == 0


def test_a_finalizer_inside_the_pool_takes_no_lock(pool: SegmentPool) -> None:
    """As when a collection strikes while the pool's lock is held, on the same thread."""
    held = [pool.allocate(1)]

    def drop() -> None:
        with pool._lock:
            held.clear()

    run_on_thread(drop)
    assert pool.in_use == 0


@pytest.mark.parametrize("wrong", [0, -1])
def test_sizes_below_one(pool: SegmentPool, wrong: int) -> None:
    with pytest.raises(ValueError, match="1 byte or more"):
        pool.allocate(wrong)


def test_sizes_that_are_no_int(pool: SegmentPool) -> None:
    with pytest.raises(TypeError, match="must be an int, not float"):
        pool.allocate(1.5)  # type: ignore[arg-type]


def test_a_buffer_that_never_fits(pool: SegmentPool) -> None:
    with pytest.raises(MessageTooLargeError, match=f"limit of {4 * MIB} bytes.*pool_limit"):
        pool.allocate(4 * MIB + 1)


def test_a_buffer_that_does_not_fit_now(pool: SegmentPool) -> None:
    view = pool.allocate(4 * MIB)
    with pytest.raises(SendTimeoutError, match="Drop buffers"):
        pool.allocate(1)
    del view
    assert len(pool.allocate(1)) == 1


def test_constant_time_at_any_size() -> None:
    with closing(SegmentPool(64 * MIB)) as pool:
        times = []
        for _ in range(20):
            start = time.perf_counter()
            view = pool.allocate(64 * MIB)
            block = pool.take(view)
            times.append(time.perf_counter() - start)
            del view
            pool.returned(sent(block).segment.id)
        assert min(times[1:]) < 0.0005  # a copy of 64 MiB takes ten times as long


# --- descriptors and seals ------------------------------------------------------------------------


@linux
def test_memory_is_sealed(pool: SegmentPool) -> None:
    block = pool.put(b"abc")
    assert block is not None
    fd, size = block.segment.fd, block.segment.size
    assert not os.get_inheritable(fd)
    for change in (
        lambda: os.ftruncate(fd, 0),
        lambda: os.ftruncate(fd, 2 * size),
        lambda: os.pwrite(fd, b"x", 0),
        lambda: mmap.mmap(fd, size),
        lambda: fcntl.fcntl(fd, 1033, 0x8),
    ):
        with pytest.raises(PermissionError):
            change()
    assert shared_memory.fault(fd, size) is None
    assert content(block) == b"abc"


def test_an_announced_segment_needs_its_descriptor_no_more(pool: SegmentPool) -> None:
    block = pool.put(b"x")
    assert block is not None
    fd = block.segment.fd
    os.fstat(fd)
    sent(block)
    assert block.segment.announced
    assert block.segment.fd == -1
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_a_return_may_overtake_the_note_that_it_was_announced(pool: SegmentPool) -> None:
    block = pool.put(bytes(3 * MIB))
    assert block is not None
    pool.returned(block.segment.id)
    assert pool.put(bytes(4 * MIB)) is not None
    assert list(pool.retired) == [block.segment.id]


@pytest.mark.parametrize("failing", ["create", "map_writable"])
def test_a_system_without_room(
    pool: SegmentPool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failing: str,
) -> None:
    def fail(*arguments: int) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(shared_memory, failing, fail)
        assert pool.put(b"x") is None
        assert pool.put(b"x") is None
        with pytest.raises(TransportError, match="Too many open files"):
            pool.allocate(1)
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "inline" in caplog.text
    assert pool.bytes == 0
    assert pool.put(b"x") is not None


@linux
def test_no_seals_no_segment(pool: SegmentPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Linux before 5.1 refuses the seal it does not know."""
    monkeypatch.setattr(shared_memory, "_SEALS", 1 << 30)
    assert pool.put(b"x") is None


def test_without_memfd_an_unlinked_file_does(
    pool: SegmentPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "HAS_SEALS", False)
    monkeypatch.setattr(sys, "platform", "darwin")
    block = pool.put(b"abc")
    assert block is not None
    fd = block.segment.fd
    assert os.fstat(fd).st_nlink == 0
    assert os.fstat(fd).st_size == block.segment.size
    assert os.fstat(fd).st_blocks * 512 >= block.segment.size  # room for all of it is taken
    assert os.pread(fd, 3, 0) == b"abc"
    assert shared_memory.fault(fd, block.segment.size) is None
    assert "bytes but has" in (shared_memory.fault(fd, 1) or "")


def test_a_full_file_system_is_an_error_and_no_crash(
    pool: SegmentPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is written to once before it is mapped, where it is a file."""

    def full(fd: int, data: bytes, offset: int) -> int:
        if offset >= 256 * KIB:
            raise OSError(28, "No space left on device")
        return len(data) // 2

    before = open_descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(shared_memory, "HAS_SEALS", False)
        patch.setattr(sys, "platform", "darwin")
        patch.setattr(os, "pwrite", full)
        with pytest.raises(TransportError, match="No space left"):
            pool.allocate(MIB)
    assert open_descriptors() == before
    assert pool.bytes == 0


# --- ends -----------------------------------------------------------------------------------------


def test_close_ends_everything_but_what_users_hold() -> None:
    before = open_descriptors()
    pool = SegmentPool(4 * MIB)
    sent(pool.put(b"lent"))
    pool.put(b"lent, not announced")
    freed = sent(pool.put(b"free"))
    pool.returned(freed.segment.id)
    view = pool.allocate(MIB)
    view[:4] = b"mine"
    pool.close()
    pool.close()
    assert bytes(view[:4]) == b"mine"
    view[0] = 0
    assert (pool.bytes, pool.in_use, pool.free) == (0, 0, 0)
    with pytest.raises(InvalidPortError, match="link has ended"):
        pool.take(view)
    with pytest.raises(InvalidPortError, match="link has ended"):
        pool.put(b"x")
    with pytest.raises(InvalidPortError, match="link has ended"):
        pool.allocate(1)
    pool.returned(freed.segment.id)  # what was on its way
    pool.untake(Block(freed.segment, 0, 1))
    assert pool.take(memoryview(b"x")) is None
    del view
    gc.collect()
    assert open_descriptors() == before


def test_a_pool_nobody_closed_leaves_nothing() -> None:
    """What conftest looks for."""
    pool = SegmentPool(4 * MIB)
    pool.put(b"x")
    view = pool.allocate(1)
    assert len(view) == 1


def test_closed_while_a_thread_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory stays mapped under the copy."""
    copying, closed = threading.Event(), threading.Event()
    original = ctypes.memmove

    def slow(*arguments: int) -> None:
        copying.set()
        assert closed.wait(PATIENCE)
        original(*arguments)

    pool = SegmentPool(MIB)
    blocks: list[Block | None] = []
    with monkeypatch.context() as patch:
        patch.setattr(ctypes, "memmove", slow)
        thread = Thread(target=lambda: blocks.append(pool.put(b"abc")))
        thread.start()
        assert copying.wait(PATIENCE)
        pool.close()
        closed.set()
        thread.join(PATIENCE)
    assert blocks[0] is not None
    assert content(blocks[0]) == b"abc"


def test_threads_put_allocate_and_return() -> None:
    pool = SegmentPool(3 * MIB)
    lent: dict[int, bytes] = {}

    def work(seed: int) -> None:
        for i in range(150):
            mark = struct.pack("II", seed, i)
            if i % 2:
                block = pool.put(mark * 1000)
            else:
                try:
                    view = pool.allocate(len(mark) + i)
                except SendTimeoutError:
                    continue
                view[: len(mark)] = mark
                if i % 4 == 0:
                    continue
                block = pool.take(view)
                del view
            if block is None:
                continue
            assert block.segment.id not in lent
            lent[block.segment.id] = mark
            block.segment.announced = True
            assert pool.bytes <= 3 * MIB
            assert content(block)[: len(mark)] == mark
            del lent[block.segment.id]
            pool.returned(block.segment.id)

    with closing(pool), ThreadPoolExecutor(6) as threads:
        for done in [threads.submit(work, seed) for seed in range(6)]:
            done.result(PATIENCE)
        assert pool.in_use == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda pool, view: pool.put(b"x"),
        lambda pool, view: pool.allocate(1),
        lambda pool, view: pool.take(view),
        lambda pool, view: pool.returned(1),
        lambda pool, view: pool.untake(Block(Segment(99, mmap.PAGESIZE), 0, 1)),
        lambda pool, view: pool.close(),
        lambda pool, view: pool.bytes,
        lambda pool, view: pool.in_use,
        lambda pool, view: pool.free,
    ],
)
def test_a_forked_child_gets_an_error_that_says_why(
    pool: SegmentPool, call: Callable[[SegmentPool, memoryview], object]
) -> None:
    view = pool.allocate(1)
    sent(pool.put(b"x"))
    with pool._lock:  # which nobody in the child will ever release
        said = in_child(lambda: call(pool, view))
    assert said.startswith("InvalidPortError")
    assert "forked" in said


def test_a_forked_child_keeps_nothing_of_the_pool(pool: SegmentPool) -> None:
    def child() -> list[object]:
        left = [what for what in open_descriptors().values() if "memfd:portkit" in what]
        view[0] = 7  # what the child's user holds is still there, shared
        held.clear()  # its finalizer does nothing here
        return [len(left), len(pool._dropped)]

    view = pool.allocate(1)
    held = [pool.allocate(1)]
    block = pool.put(b"x")
    assert block is not None
    for index in range(3):
        pool.put(bytes([index]))
    # Before 3.13 a map keeps a descriptor of its own: of the two whose views the child has.
    kept = 2 if sys.version_info < (3, 13) and shared_memory.HAS_SEALS else 0
    assert in_child(child) == str([kept, 0])
    assert view[0] == 7
    assert content(block) == b"x"
    assert pool.in_use == 6


def test_nothing_is_said_when_python_ends_with_views_alive() -> None:
    code = (
        "from portkit.link.segments import SegmentPool\n"
        "pool = SegmentPool(1 << 20)\n"
        "view = pool.allocate(5)\n"
        "keep = [view[1:], pool.put(b'x')]\n"
        "keep.append(keep)\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code], capture_output=True, timeout=PATIENCE, check=True
    )
    assert done.stderr == b""


def test_descriptions(pool: SegmentPool) -> None:
    view = pool.allocate(1)
    block = pool.take(view)
    assert block is not None
    assert repr(block.segment) == "<Segment 1 of 262144 bytes lent leased>"
    assert repr(pool) == "<SegmentPool 262144 of 4194304 bytes, 1 segments, 0 free>"
    del view
    pool.returned(1)
    assert repr(block.segment) == "<Segment 1 of 262144 bytes free>"


@pytest.mark.parametrize("size", [1, 255 * KIB, 256 * KIB, 256 * KIB + 1, MIB, MIB + 1, 77 * MIB])
def test_little_is_wasted(size: int) -> None:
    rounded = with_spare_room(size)
    assert rounded >= size
    assert rounded % mmap.PAGESIZE == 0
    assert rounded <= max(256 * KIB, size * 9 / 8 + mmap.PAGESIZE)
