"""Memory that two processes share, made and checked: descriptors, seals, and plain addresses.

The sender maps a segment for writing and then seals it: its size stays as it is, and nobody can
map it for writing any more. The receiver maps it only once it has seen these seals: a peer that
could shrink the memory could kill every process that reads it (SIGBUS). Systems without memfd
and seals use an unlinked file; there the receiver has to trust the peer with that.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import sys
import tempfile
from ctypes import c_char_p, c_int, c_ssize_t, c_void_p, py_object
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from typing_extensions import Buffer

HAS_SEALS: bool = sys.platform == "linux"
"""Whether memory comes sealed here; a peer on the same host then refuses what is not."""

_F_ADD_SEALS = 1033
_F_GET_SEALS = 1034
_F_SEAL_SEAL = 0x01
_F_SEAL_SHRINK = 0x02
_F_SEAL_GROW = 0x04
_F_SEAL_FUTURE_WRITE = 0x10  # named in fcntl since Python 3.13; Linux 5.1
_SEALS = _F_SEAL_SEAL | _F_SEAL_SHRINK | _F_SEAL_GROW | _F_SEAL_FUTURE_WRITE

_PyBUF_SIMPLE = 0


def create(size: int) -> int:
    """A new descriptor of ``size`` bytes of memory, close-on-exec and without a name.

    Raises:
        OSError: the system has no memory, descriptor or room to give.
    """
    if sys.platform == "linux":
        fd = os.memfd_create("portkit", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        fd = _unlinked_file()
    try:
        if HAS_SEALS:
            os.ftruncate(fd, size)
        else:
            _fill(fd, size)
    except BaseException:
        os.close(fd)
        raise
    return fd


def map_writable(fd: int, size: int) -> mmap.mmap:
    """The memory, mapped for writing, and sealed right after.

    Raises:
        OSError: the system refuses, or knows no such seals.
    """
    memory = _map(fd, size, mmap.ACCESS_WRITE)
    if HAS_SEALS:
        try:
            fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
        except BaseException:
            memory.close()
            raise
    return memory


def map_readable(fd: int, size: int) -> mmap.mmap:
    """The memory, mapped so that nothing in this process can write it.

    Raises:
        OSError: the system refuses.
    """
    return _map(fd, size, mmap.ACCESS_READ)


def _map(fd: int, size: int, access: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):
        return mmap.mmap(fd, size, access=access, trackfd=False)  # older ones keep a duplicate
    return mmap.mmap(fd, size, access=access)


def unmap(memory: mmap.mmap) -> None:
    """Unmap the memory, or leave that to the last of the views of it that are alive."""
    try:
        memory.close()
    except BufferError:
        pass


def fault(fd: int, size: int) -> str | None:
    """Why the memory behind ``fd`` must not be mapped, or None: it is sealed and of that size.

    Without seals on this system only the size is looked at.
    """
    try:
        real = os.fstat(fd).st_size
    except OSError as error:
        return f"it cannot be looked at: {error}"
    if real != size:
        return f"it was announced with {size} bytes but has {real}"
    if HAS_SEALS:
        try:
            seals = fcntl.fcntl(fd, _F_GET_SEALS)
        except OSError:
            return "it is no sealed memory"
        if seals & _SEALS != _SEALS:
            return f"its seals are 0x{seals:02x}, not all of 0x{_SEALS:02x}"
    return None


class Pinned:
    """A buffer that stays where it is while the ``with`` lasts.

    Args:
        buffer: contiguous; may be read-only.

    Raises:
        BufferError: the buffer is not contiguous.

    Attributes:
        address: of its first byte.
        length: in bytes.
    """

    __slots__ = ("_view", "address", "length")

    def __init__(self, buffer: Buffer) -> None:
        self._view = _PyBuffer()
        _get_buffer(buffer, ctypes.byref(self._view), _PyBUF_SIMPLE)
        self.address: int = self._view.buf or 0
        self.length: int = self._view.len

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _release_buffer(ctypes.byref(self._view))


def copy(data: Buffer, memory: mmap.mmap) -> None:
    """Copy ``data``, contiguous and not longer than ``memory``, to the start of ``memory``.

    Other threads run meanwhile. The memory cannot be unmapped before the end.
    """
    with Pinned(data) as source, Pinned(memory) as target:
        ctypes.memmove(target.address, source.address, source.length)


class _PyBuffer(ctypes.Structure):
    """Python's Py_buffer."""

    _fields_ = (
        ("buf", c_void_p),
        ("obj", c_void_p),
        ("len", c_ssize_t),
        ("itemsize", c_ssize_t),
        ("readonly", c_int),
        ("ndim", c_int),
        ("format", c_char_p),
        ("shape", c_void_p),
        ("strides", c_void_p),
        ("suboffsets", c_void_p),
        ("internal", c_void_p),
    )


# Prototypes of our own: argument types set on ctypes.pythonapi's functions are everybody's.
_get_buffer = ctypes.PYFUNCTYPE(c_int, py_object, c_void_p, c_int)(
    ("PyObject_GetBuffer", ctypes.pythonapi)
)
_release_buffer = ctypes.PYFUNCTYPE(None, c_void_p)(("PyBuffer_Release", ctypes.pythonapi))


def _unlinked_file() -> int:
    memory = Path("/dev/shm")  # noqa: S108 - the name is random, and gone at once
    fd, name = tempfile.mkstemp(prefix="portkit-", dir=memory if memory.is_dir() else None)
    Path(name).unlink()
    return fd


def _fill(fd: int, size: int) -> None:
    """Write zeros: a hole that a full file system cannot fill is a SIGBUS when touched."""
    zeros = bytes(min(size, 1 << 20))
    offset = 0
    while offset < size:
        offset += os.pwrite(fd, zeros[: size - offset], offset)
