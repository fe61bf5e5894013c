"""An open file is handed to another process, which could not have opened it.

The file has no name any more: the only way to it is a descriptor. ``Descriptor`` makes one a
component of a message; the receiver gets a duplicate of its own, and closes it when it likes. The
same goes for sockets, pipes and devices: what one process may open, another may use.
"""

from __future__ import annotations

import os
import tempfile

from portkit import Descriptor, PortMessage, Session, WorkerGroup


def writer(session: Session) -> None:
    """The other process: writes into what it is given."""

    def handle(message: PortMessage) -> bytes:
        (descriptor,) = message.descriptors
        # The file object takes the descriptor over, and closes it.
        with os.fdopen(descriptor.detach(), "w", encoding="utf-8") as file:
            links = os.fstat(file.fileno()).st_nlink
            file.write(f"{session.name} writes into a file with {links} names\n")
        return b"done"

    session.port.delegate = handle
    session.run()


def main() -> None:
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as file,
        WorkerGroup(
            "descriptor_handed_over:writer", count=1, over="message", check_in_timeout=20.0
        ) as group,
    ):
        print("main: the file is empty:", not file.read())
        with Descriptor(file) as descriptor:
            reply = group.workers[0].port.request([b"for you", descriptor])
        print("main: the worker is", (reply.data or b"").decode())
        file.seek(0)
        print("main: the file says:", file.read().strip())


if __name__ == "__main__":
    main()
