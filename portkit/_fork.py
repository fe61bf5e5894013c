"""What a fork leaves behind: the process generation, and descriptors the child must close.

Objects remember the generation they were made in and compare it on entry, before any lock: in a
forked child a lock may be held for ever by a thread that does not exist there.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Protocol

generation: int = 0
"""How many forks lie between the first process and this one. Compare with ``!=``."""


class Inherited(Protocol):
    """Something that holds descriptors which a forked child gets copies of."""

    def close_in_child(self) -> None:
        """Close the child's copies without telling the kernel object, which is the parent's."""


_inherited: weakref.WeakSet[Inherited] = weakref.WeakSet()
_callbacks: list[Callable[[], None]] = []


def close_in_child(holder: Inherited) -> None:
    """Have ``holder`` close its descriptors in every child forked while it lives."""
    _inherited.add(holder)


def call_in_child(callback: Callable[[], None]) -> None:
    """Call ``callback`` in every forked child, after the generation changed."""
    _callbacks.append(callback)


def _after_in_child() -> None:
    global generation
    generation += 1
    for holder in list(_inherited):
        holder.close_in_child()
    for callback in _callbacks:
        callback()


os.register_at_fork(after_in_child=_after_in_child)
