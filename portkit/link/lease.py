"""Views of standing memory, and being told when the last slice of one is gone.

A view from :func:`lend` exports from a second memoryview, the *base*, that nobody else refers to.
Slices and casts of the view, and whatever else reads through it, keep the base alive; the base
goes with the last of them, and its weak reference, the lease, tells. The memory itself is a
``mmap``, so that a base over read-only memory can be written in no way, whatever one reaches
through ``view.obj``. (A ctypes array as the exporter would be writable, a crash in such memory;
a class of Python's own can export a buffer only since 3.12.)
"""

from __future__ import annotations

import gc
import mmap
from collections.abc import Callable
from pickle import PickleBuffer
from weakref import getweakrefs, ref

from portkit import _fork


class Lease(ref[memoryview]):
    """A weak reference to a view's base.

    Attributes:
        key: the segment it is of.
        on_end: whom it tells.
        spent: whether the buffer was sent.
    """

    __slots__ = ("_anchor", "_generation", "key", "on_end", "spent")

    key: int
    on_end: Callable[[Lease], object]
    spent: bool
    _anchor: object
    _generation: int


_leases: dict[int, Lease] = {}
"""Those whose views are alive, by their own id.

A collector that finds a view in a cycle then does not find its base there too. It would tell of
the end too early, before the cycle's finalizers ran, and before Python 3.12.7 it would crash on a
memoryview that another one exports from (gh-77894).
"""


def lend(
    memory: mmap.mmap, offset: int, length: int, key: int, on_end: Callable[[Lease], object]
) -> tuple[memoryview, Lease]:
    """A view of a range of ``memory``, which has to be in it, and its lease.

    ``on_end`` is called with the lease once the view and all its slices are gone, by a finalizer:
    on any thread, at any moment, so it takes no lock. It is not called in a forked child.
    """
    base = memoryview(memory)[offset : offset + length]
    lease = Lease(base, _end)
    lease.key = key
    lease.on_end = on_end
    lease.spent = False
    lease._generation = _fork.generation
    view = memoryview(PickleBuffer(base))  # exports from the base itself, which memoryview() skips
    # What all slices share, and what holds the base until the last of them is gone.
    lease._anchor = gc.get_referents(view)
    _leases[id(lease)] = lease
    return view, lease


def leases_of(view: memoryview) -> list[Lease]:
    """The lease that ``view``, or a slice or cast of it, was lent by, if it was; cheap if not."""
    base = view.obj
    if type(base) is not memoryview:
        return []
    return [lease for lease in getweakrefs(base) if type(lease) is Lease]


def _end(lease: Lease) -> None:
    _leases.pop(id(lease), None)
    if lease._generation == _fork.generation:
        lease.on_end(lease)
