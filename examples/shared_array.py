"""An array of 256 MiB goes to another process, and not a byte of it is copied.

``allocate`` gives a buffer in memory that the two processes share. It is filled in place; sending
it hands over the right to it, in a message of a few bytes. The receiver reads it through
``message.view``. ``RssAnon`` is what Linux says a process has of memory of its own: a copy, on
either side, would have to be there.
"""

from __future__ import annotations

from array import array
from pathlib import Path

from portkit import PortMessage, Session, WorkerGroup

MIB = 1 << 20
SIZE = 256 * MIB
ROW = MIB // 8  # of numbers with 8 bytes
ROWS = SIZE // MIB
PAGE = 4096 // 8


def own_memory() -> int:
    """Bytes of memory that this process shares with nobody."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise OSError("this system does not tell memory of one's own from shared memory")


def no_copy(before: int) -> bool:
    return own_memory() - before < 16 * MIB


def reader(session: Session) -> None:
    """The other process: adds up the first number of each page."""

    def handle(message: PortMessage) -> bytes:
        before = own_memory()
        assert message.view is not None, "the array is sent as one component"
        with message.view.cast("q") as numbers:
            total = sum(numbers[::PAGE].tolist())
            print(f"reader: {numbers.nbytes // MIB} MiB, read-only: {numbers.readonly}", flush=True)
            print(f"reader: no copy: {no_copy(before)}", flush=True)
            return str(total).encode()

    session.port.delegate = handle
    session.run()


def main() -> None:
    with WorkerGroup(
        "shared_array:reader", count=1, over="message", check_in_timeout=20.0
    ) as group:
        port = group.workers[0].port
        before = own_memory()
        shared = port.allocate(SIZE)
        with shared.cast("q") as numbers:
            for row in range(ROWS):
                numbers[row * ROW : (row + 1) * ROW] = array("q", [row]) * ROW
        reply = port.request(shared, reply_timeout=30.0)
        print(f"writer: no copy: {no_copy(before)}")
        expected = sum(range(ROWS)) * ROW // PAGE
        print(f"writer: it arrived whole: {int(reply.data or b'') == expected}")


if __name__ == "__main__":
    main()
