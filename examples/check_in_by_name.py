"""Two processes meet: a worker finds the main side by its name and checks in.

check_in.py over another transport. A process cannot be handed a port as an argument, so the main
side's port has a name, and the worker reaches it with ``MessagePort.remote``. The check-in brings
the worker's own port, which needs no name: it travels in the message. From then on all is as it
was between threads. The handler of the port's end is called too if the worker dies.
"""

from __future__ import annotations

import os
import subprocess
import sys

from portkit import MessagePort, Port, PortMessage, RunLoop

CHECK_IN = 100
WORD = 101
LENGTH = 102
QUIT = 103


class MainSide:
    """Meets the worker, gives it work, sends it home."""

    def __init__(self) -> None:
        self.worker: Port | None = None
        self.words = ["port", "message", "run loop"]

    def handle_port_message(self, message: PortMessage) -> None:
        if message.msgid == CHECK_IN:
            assert message.send_port is not None, "a check-in brings the worker's port"
            self.worker = message.send_port
            self.worker.add_invalidation_handler(self.worker_gone)
            another = message.sender is not None and message.sender.pid != os.getpid()
            print(f"main: a worker checks in; it is another process: {another}", flush=True)
        elif message.msgid == LENGTH:
            print(f"main: the answer is {(message.data or b'').decode()}", flush=True)
        self.give_work()

    def give_work(self) -> None:
        assert self.worker is not None, "the worker has checked in"
        if self.words:
            self.worker.send(self.words.pop(0).encode(), msgid=WORD)
        else:
            print("main: no more words", flush=True)
            self.worker.send(msgid=QUIT)

    def worker_gone(self, port: Port) -> None:
        """Performed on the main thread's loop: that is where the handler was added."""
        print("main: the worker's port is gone")
        RunLoop.current().stop()


def worker(main_name: str) -> None:
    """The other process."""
    main_port = MessagePort.remote(main_name)

    def handle(message: PortMessage) -> None:
        if message.msgid == WORD:
            word = (message.data or b"").decode()
            print(f"worker: measuring {word!r}", flush=True)
            main_port.send(str(len(word)).encode(), msgid=LENGTH)
        elif message.msgid == QUIT:
            print("worker: leaving", flush=True)
            RunLoop.current().stop()

    with MessagePort(delegate=handle) as port:
        RunLoop.current().add_port(port)
        print("worker: checking in", flush=True)
        main_port.send(msgid=CHECK_IN, reply_port=port)
        RunLoop.current().run(timeout=20.0)


def main() -> None:
    with MessagePort(f"example-main-{os.getpid()}", MainSide()) as port:
        RunLoop.current().add_port(port)
        process = subprocess.Popen([sys.executable, __file__, str(port.name)])
        result = RunLoop.current().run(timeout=20.0)
        process.wait(timeout=20.0)
    print(f"main: the run loop was {result.name}")


if __name__ == "__main__":
    if sys.argv[1:]:
        worker(sys.argv[1])
    else:
        main()
