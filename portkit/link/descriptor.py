"""An open descriptor as a component of a message."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Protocol, Self

from portkit.message import ComponentObject


class HasFileno(Protocol):
    """A file, socket or other object with a descriptor."""

    def fileno(self) -> int:
        """The descriptor."""
        ...


class Descriptor(ComponentObject):
    """An open file, socket or other descriptor that can be sent to a process on the same host.

    It owns a duplicate, close-on-exec: what it was made from stays the caller's. Sending does not
    use it up; the receiver gets a duplicate of its own. It closes at :meth:`close`, at the end of
    a ``with``, or with its last reference. A forked child has it open as any inherited descriptor.

    Args:
        source: a descriptor, or an object with ``fileno()``.

    Raises:
        TypeError: ``source`` is neither.
        ValueError: ``source`` is not open.
        OSError: the process has too many descriptors open.
    """

    __slots__ = ("_fd",)

    _is_descriptor = True

    def __init__(self, source: int | HasFileno) -> None:
        self._fd = -1
        self._fd = _duplicate(_number(source))

    @classmethod
    def adopt(cls, fd: int) -> Descriptor:
        """A Descriptor that owns ``fd`` itself: the caller must not use it any more."""
        descriptor = cls.__new__(cls)
        descriptor._fd = fd
        return descriptor

    @property
    def is_open(self) -> bool:
        """Whether it was neither closed nor detached."""
        return self._fd >= 0

    def fileno(self) -> int:
        """The descriptor, which stays this object's.

        Raises:
            ValueError: it was closed or detached.
        """
        fd = self._fd
        if fd < 0:
            raise ValueError("the Descriptor was closed or detached; make a new one")
        return fd

    def detach(self) -> int:
        """The descriptor, which is the caller's to close from now on.

        Raises:
            ValueError: it was closed or detached before.
        """
        fd, self._fd = self._fd, -1
        if fd < 0:
            raise ValueError("the Descriptor was closed or detached before; make a new one")
        return fd

    def close(self) -> None:
        """Close it. Nothing happens where it was closed or detached before."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Descriptor {self._fd if self.is_open else 'closed'}>"


def _number(source: object) -> int:
    fd = source
    if not isinstance(source, int):
        fileno = getattr(source, "fileno", None)
        if not callable(fileno):
            raise TypeError(
                f"a Descriptor is made from a descriptor or a file, not {type(source).__name__}"
            )
        fd = fileno()
    if not isinstance(fd, int) or isinstance(fd, bool):
        raise TypeError(f"a descriptor is an int, not {type(fd).__name__}")
    return fd


def _duplicate(fd: int) -> int:
    try:
        os.fstat(fd)
    except (OSError, OverflowError):
        raise ValueError(f"{fd} is not an open descriptor; open it before sending it") from None
    return os.dup(fd)
