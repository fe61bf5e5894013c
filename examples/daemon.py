"""A daemon that answers whoever asks, and a front end that talks to it.

After the CFMessagePort server and client that many have written: the daemon's callback returns
``i have receive: …``, and that is the answer to the front end's request. The daemon knows nothing
of its front ends; they know its name. Two requests go wrong, each at once and not by a time-out:
the daemon's callback raises, and the daemon has ended.

Started without arguments this is the daemon, which starts one front end:
``daemon.py NAME MESSAGE`` would be another.
"""

from __future__ import annotations

import os
import subprocess
import sys

from portkit import (
    ErrorContext,
    InvalidPortError,
    MessagePort,
    PortMessage,
    ReplyDroppedError,
    RunLoop,
)

SAY = 1
QUIT = 2


def daemon() -> None:
    """Serve until somebody asks to quit."""
    loop = RunLoop.current()

    def answer(message: PortMessage) -> bytes | None:
        if message.msgid == QUIT:
            loop.stop()
            return None  # an answer without data
        text = (message.data or b"").decode()
        return f"i have receive: {text}".encode()

    def note(_: RunLoop, context: ErrorContext) -> None:
        errors.append(type(context["exception"]).__name__)

    errors: list[str] = []
    loop.exception_handler = note  # by default the log gets it
    with MessagePort(f"example-daemon-{os.getpid()}", answer) as port:
        loop.add_port(port)
        command = [sys.executable, __file__, str(port.name), "hello", "is anybody there"]
        process = subprocess.Popen(command)
        loop.run(timeout=20.0)
        print("daemon: asked to quit; errors in between:", *errors, flush=True)
    process.wait(timeout=20.0)


def front_end(name: str, words: list[str]) -> None:
    """Ask the daemon of that name."""
    port = MessagePort.remote(name)
    for word in words:
        reply = port.request(word.encode(), msgid=SAY)
        print(f"front end: {(reply.data or b'').decode()}", flush=True)

    try:
        port.request(b"\xff is no text", msgid=SAY)
    except ReplyDroppedError:
        print("front end: the daemon had the request, and gave no answer", flush=True)

    port.request(msgid=QUIT)
    try:
        port.request(b"still there?", msgid=SAY)
    except InvalidPortError:
        print("front end: the daemon is gone")


if __name__ == "__main__":
    if sys.argv[1:]:
        front_end(sys.argv[1], sys.argv[2:])
    else:
        daemon()
