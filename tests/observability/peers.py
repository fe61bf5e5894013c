"""The other process in tests: run as a program, ``python peers.py ROLE NAME``."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from portkit import MessagePort, Port, PortMessage, RunLoop

_kept: list[Port | PortMessage] = []


@contextmanager
def peer(role: str) -> Iterator[str]:
    """Have a process in that role; the name of its port. It ends with the ``with``."""
    name = f"{role}-{uuid.uuid4().hex[:8]}"
    process = subprocess.Popen(
        [sys.executable, __file__, role, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield name
    finally:
        process.stdin.close()
        try:
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.stdout.close()


def answering(message: PortMessage) -> bytes | None:
    """Answer, but for some."""
    if message.msgid == 2:
        message.defer()
        _kept.append(message)
        return None
    if message.msgid == 3:
        port = message.ports[0]
        threading.Thread(target=lambda: port.request(b"a question of the peer's")).start()
        return None
    if message.msgid == 4:
        _kept.extend(message.ports)
        message.ports[0].send(b"kept")
    return b"y" * 100


ROLES: dict[str, Callable[[PortMessage], bytes | None]] = {"answering": answering}


def main(role: str, name: str) -> None:
    """Serve a port in that role until stdin ends."""
    loop = RunLoop.current()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        loop.perform(loop.stop)

    with MessagePort(name, ROLES[role]) as port:
        loop.add_port(port)
        threading.Thread(target=wait_for_the_end, daemon=True).start()
        print("ready", flush=True)
        loop.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
