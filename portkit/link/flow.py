"""Credit: how much a sender may send before the receiver has taken some of it.

Credit belongs to a right. It is counted in messages, the port's ``queue_limit`` of them, and in
bytes, :data:`WINDOW` of them, and is given back as messages are taken, half a window at a time.
"""

from __future__ import annotations

from portkit.message import Packed, unpacked

WINDOW = 1 << 20
"""Bytes that one right may have unread at the receiver."""
HALF_WINDOW = WINDOW // 2
FIRST_WINDOW = 1 << 16
"""Bytes of the one message that a freshly dialled right may send before the peer has answered."""
LARGEST_COST = 1 << 19
"""What a message costs at most, so that one of any size fits into a window."""
LARGEST_COMPONENT = 1 << 16
"""What a component costs at most; a smaller one costs its size."""


def cost(packed: Packed) -> int:
    """The bytes that a message takes of a window; both sides reckon the same."""
    total = 0
    for component in unpacked(packed):
        if type(component) is bytes:
            size = len(component)
        elif type(component) is memoryview:
            size = component.nbytes
        else:
            continue
        total += size if size < LARGEST_COMPONENT else LARGEST_COMPONENT
    return total if total < LARGEST_COST else LARGEST_COST
