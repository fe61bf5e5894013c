"""Sources that a file descriptor fires: CoreFoundation's version 1, all a transport needs."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag
from typing import TYPE_CHECKING, Protocol

from portkit._context import bound
from portkit.runloop.item import Item

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop
    from portkit.runloop.mode import Mode


class Ready(IntFlag):
    """What a descriptor is ready for. Errors and hang-ups count as whatever was asked for."""

    READ = 1
    WRITE = 2


class HasFileno(Protocol):
    """A socket, a file, anything that has a descriptor."""

    def fileno(self) -> int:
        """The descriptor."""
        ...


class DescriptorSource(Item):
    """Calls back while a descriptor is readable or writable (level-triggered).

    The descriptor stays the caller's: invalidate the source first, then close it. A mode watches
    a descriptor through one source.

    Args:
        fd: an open descriptor, or an object with ``fileno()``.
        callback: called as ``callback(source, ready)`` on the loop's thread.
        read: whether to watch for reading.
        write: whether to watch for writing.
        order: descriptors ready together are served in ascending order when a pass serves all.

    Raises:
        TypeError: ``callback`` is not callable, or ``fd`` no descriptor.
        ValueError: the descriptor is negative.
    """

    __slots__ = ("_callback", "_interest", "_modes", "fd", "order")

    kind = "descriptor source"

    def __init__(
        self,
        fd: int | HasFileno,
        callback: Callable[[DescriptorSource, Ready], object],
        *,
        read: bool = True,
        write: bool = False,
        order: int = 0,
    ) -> None:
        super().__init__()
        if not callable(callback):
            raise TypeError(f"callback must be callable, not {type(callback).__name__}")
        number: object = getattr(fd, "fileno", lambda: fd)()
        if not isinstance(number, int):
            raise TypeError(f"fd must be a descriptor, or have one, not {type(fd).__name__}")
        if number < 0:
            raise ValueError(f"{number} is not an open descriptor")
        self.fd: int = number
        self.order: int = order
        self._callback = bound(callback)
        self._interest = _interest(read=read, write=write)
        self._modes: tuple[Mode, ...] = ()

    @property
    def interest(self) -> Ready:
        """What the descriptor is watched for."""
        return Ready(self._interest)

    def watch(self, *, read: bool, write: bool) -> None:
        """Change what the descriptor is watched for; takes effect in a sleeping loop too."""
        for loop in self._loops:
            loop._check_fork()
        self._interest = _interest(read=read, write=write)
        for loop in self._loops:
            with loop._lock:
                for mode in self._modes:
                    if mode.poller is not None:
                        mode.poller.modify(self.fd, self._interest)

    def _fire(self, events: int) -> bool:
        """Call back for those events that are still wanted; whether there were any."""
        wanted = events & self._interest
        if not self._valid or not wanted:
            return False
        self._callback(self, Ready(wanted))
        return True

    def _enter(self, loop: RunLoop, mode: Mode) -> None:
        other = mode.descriptors.get(self.fd)
        if other is not None:
            raise ValueError(
                f"descriptor {self.fd} is watched in mode {mode.name!r} by {other!r} already: "
                "invalidate that source first, or change it with watch()"
            )
        poller = loop._poller(mode)
        poller.register(self.fd, self._interest)
        mode.descriptors[self.fd] = self
        self._modes += (mode,)

    def _leave(self, loop: RunLoop, mode: Mode) -> None:
        del mode.descriptors[self.fd]
        self._modes = tuple([other for other in self._modes if other is not mode])
        if mode.poller is not None:
            mode.poller.unregister(self.fd)

    def __repr__(self) -> str:
        state = "" if self._valid else " invalid"
        return f"<DescriptorSource fd={self.fd} {self.interest!r}{state} {self._callback!r}>"


def _interest(*, read: bool, write: bool) -> int:
    return (int(Ready.READ) if read else 0) | (int(Ready.WRITE) if write else 0)
