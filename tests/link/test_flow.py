"""Credit: what a message costs, the same on both sides, and that no one waits for ever for room."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portkit import MachPort
from portkit.link.flow import FIRST_WINDOW, LARGEST_COST, WINDOW, cost
from portkit.message import Component

KIB = 1 << 10


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], 0),
        ([0], 0),
        ([1], 1),
        ([64 * KIB - 1], 64 * KIB - 1),
        ([64 * KIB], 64 * KIB),
        ([64 * KIB + 1], 64 * KIB),
        ([1 << 24], 64 * KIB),
        ([10, 20, 30], 60),
        ([1 << 20, 5], 64 * KIB + 5),
        ([64 * KIB] * 8, 512 * KIB),
        ([64 * KIB] * 8 + [1], 512 * KIB),
        ([1 << 17] * 100, 512 * KIB),
    ],
)
def test_data_costs_its_size_up_to_a_bound(sizes: list[int], expected: int) -> None:
    assert cost(tuple(bytes(size) for size in sizes)) == expected
    assert cost(tuple(memoryview(bytes(size)) for size in sizes)) == expected


def test_views_cost_their_bytes_whatever_their_items_are() -> None:
    assert cost((memoryview(bytes(80)).cast("I"),)) == 80
    assert cost((memoryview(bytes(64)).cast("B", (8, 8)),)) == 64


def test_ports_cost_nothing() -> None:
    with MachPort() as port:
        assert cost((port,)) == 0
        assert cost((port, b"abc", port)) == 3


def test_a_message_of_any_size_fits_into_a_window() -> None:
    assert cost((bytes(1 << 24),)) <= FIRST_WINDOW
    assert LARGEST_COST <= WINDOW // 2


sizes = st.lists(st.sampled_from([0, 1, 100, 5000, 65_536]), min_size=0, max_size=12)


@given(st.lists(sizes, max_size=60), st.integers(1, 8), st.randoms(use_true_random=False))
def test_nobody_waits_for_room_once_everything_was_taken(
    messages: list[list[int]], window: int, random: Random
) -> None:
    # The sender has a window; room is granted again when half of either measure was taken.
    room, room_size = window, WINDOW
    unread: deque[tuple[Component, ...]] = deque()
    taken = taken_size = 0
    for message in messages:
        components = tuple(bytes(size) for size in message)
        while unread and random.random() < 0.5:
            taken, taken_size = taken + 1, taken_size + cost(unread.popleft())
            if taken * 2 >= window or taken_size * 2 >= WINDOW:
                room, room_size = room + taken, room_size + taken_size
                taken = taken_size = 0
        if room < 1 or room_size < cost(components):
            assert unread, "it must be sent once nothing is unread"
            continue
        room, room_size = room - 1, room_size - cost(components)
        unread.append(components)
        assert len(unread) <= window
        assert sum(map(cost, unread)) <= WINDOW
