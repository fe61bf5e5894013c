"""Pool and maps through random lives: nothing lent twice, no limit passed, no byte mixed up."""

from __future__ import annotations

import gc
import os
from collections import deque
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from portkit.errors import MessageTooLargeError, PortError, SendTimeoutError
from portkit.link.segment import Block
from portkit.link.segment_maps import SegmentMaps
from portkit.link.segments import SegmentPool

KIB = 1024
LIMIT = 2048 * KIB
SIZES = st.sampled_from([1, 100, 256 * KIB, 257 * KIB, 500 * KIB, 1024 * KIB, 1700 * KIB])


class Lent(NamedTuple):
    """A message's block, and what the sender wrote there."""

    block: Block
    mark: bytes


class Held:
    """A buffer of the user's, or a received view, and what has to be in it; one reference."""

    def __init__(self, view: memoryview, mark: bytes) -> None:
        self.view: memoryview | None = view
        self.mark = mark
        self.sent = False


class LinkModel(RuleBasedStateMachine):
    """The two sides of a link whose messages take their time; the peer may be slow to return."""

    buffers: Bundle[Held] = Bundle("buffers")
    blocks: Bundle[Lent] = Bundle("blocks")
    views: Bundle[Held] = Bundle("views")

    def __init__(self) -> None:
        super().__init__()
        self.pool = SegmentPool(LIMIT)
        self.returns: deque[int] = deque()
        self.maps = SegmentMaps(LIMIT, self.returns.append)
        self.count = 0
        self.lent: set[int] = set()
        self.held: list[Held] = []

    def mark(self, size: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(4, "little")[:size]

    def lend(self, block: Block, mark: bytes) -> Lent:
        assert block.segment.id not in self.lent, "lent twice"
        self.lent.add(block.segment.id)
        return Lent(block, mark)

    @rule(target=blocks, size=SIZES)
    def put(self, size: int) -> Lent | MultipleResults[Lent]:
        mark = self.mark(size)
        block = self.pool.put(mark + bytes(size - len(mark)))
        return multiple() if block is None else self.lend(block, mark)

    @rule(target=buffers, size=SIZES | st.just(LIMIT + 1))
    def allocate(self, size: int) -> Held | MultipleResults[Held]:
        try:
            view = self.pool.allocate(size)
        except MessageTooLargeError:
            assert size > LIMIT
            return multiple()
        except SendTimeoutError:
            return multiple()
        mark = self.mark(size)
        view[: len(mark)] = mark
        held = Held(view, mark)
        self.held.append(held)
        return held

    @rule(target=blocks, held=buffers)
    def take(self, held: Held) -> Lent | MultipleResults[Lent]:
        if held.view is None:
            return multiple()
        try:
            block = self.pool.take(held.view[: len(held.mark)])
        except PortError:
            assert held.sent
            return multiple()
        assert block is not None
        assert not held.sent
        held.sent = True
        return self.lend(block, held.mark)

    @rule(held=consumes(buffers))
    def drop_buffer(self, held: Held) -> None:
        held.view = None
        self.held.remove(held)

    @rule(lent=consumes(blocks))
    def time_out(self, lent: Lent) -> None:
        self.lent.discard(lent.block.segment.id)
        self.pool.untake(lent.block)
        for held in self.held:
            if held.mark == lent.mark:
                held.sent = False

    @rule(target=views, lent=consumes(blocks))
    def deliver(self, lent: Lent) -> Held:
        self.settle()
        while self.pool.retired:
            self.maps.forget(self.pool.retired.popleft())
        segment = lent.block.segment
        if not segment.announced:
            self.maps.add(segment.id, os.dup(segment.fd), segment.size)
            segment.announced = True
        held = Held(self.maps.view(segment.id, lent.block.offset, lent.block.length), lent.mark)
        self.held.append(held)
        return held

    @rule(held=views)
    def keep_a_slice_only(self, held: Held) -> None:
        assert held.view is not None
        held.view = held.view[: len(held.mark)].cast("B")

    @rule(held=consumes(views))
    def drop_view(self, held: Held) -> None:
        held.view = None
        self.held.remove(held)

    @rule(held=consumes(views))
    def drop_view_in_a_cycle(self, held: Held) -> None:
        cycle: list[object] = [held.view]
        cycle.append(cycle)
        self.drop_view(held)
        del cycle
        gc.collect(1)

    @rule()
    def settle(self) -> None:
        while self.returns:
            number = self.returns.popleft()
            self.lent.discard(number)
            self.pool.returned(number)

    @invariant()
    def limits_hold(self) -> None:
        assert self.pool.bytes <= LIMIT
        assert self.maps.bytes <= LIMIT
        assert self.pool.in_use >= len(self.lent)

    @invariant()
    def nothing_is_mixed_up(self) -> None:
        for held in self.held:
            assert held.view is not None
            assert bytes(held.view[: len(held.mark)]) == held.mark

    def teardown(self) -> None:
        for held in self.held:
            held.view = None
        gc.collect(1)
        self.pool.close()
        self.maps.close()


LinkModel.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, derandomize=True
)
TestLinkModel = LinkModel.TestCase
