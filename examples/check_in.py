"""Two threads meet: a worker checks in at the main thread's port, then both sides talk.

After listings 3-12 to 3-15 of Apple's Threading Programming Guide, with bare ports. The check-in
is a message without components (P11). Its reply port is the worker's own port, so the main thread
finds it as ``send_port`` (P8) and keeps it: threads of one process use the same port object.
Time-out 0 means one try, which succeeds because the queue has room (P6).
"""

from __future__ import annotations

from threading import Thread

from portkit import DEFAULT_MODE, MachPort, Port, PortMessage, RunLoop

CHECK_IN = 100  # kCheckinMessage
WORD = 101
LENGTH = 102
QUIT = 103


class MainSide:
    """The main thread's delegate: meets the worker, gives it work, sends it home."""

    def __init__(self) -> None:
        self.worker: Port | None = None
        self.words = ["port", "message", "run loop"]

    def handle_port_message(self, message: PortMessage) -> None:
        if message.msgid == CHECK_IN:
            assert message.send_port is not None, "a check-in brings the worker's port"
            self.worker = message.send_port
            self.worker.add_invalidation_handler(self.worker_gone)
            print(f"main: a worker checks in, with {len(message.components)} components")
            self.give_work()
        elif message.msgid == LENGTH:
            print(f"main: the answer is {(message.data or b'').decode()}")
            self.give_work()

    def give_work(self) -> None:
        assert self.worker is not None, "the worker has checked in"
        if self.words:
            self.worker.send(self.words.pop(0).encode(), msgid=WORD)
        else:
            print("main: no more words")
            self.worker.send(msgid=QUIT)

    def worker_gone(self, port: Port) -> None:
        """Performed on the main thread's loop: that is where the handler was added."""
        print("main: the worker's port is gone")
        RunLoop.current().stop()


class WorkerSide:
    """The worker: a thread with a port, a run loop, and a flag that ends it."""

    def __init__(self, main_port: Port) -> None:
        self.main_port = main_port
        self.should_exit = False

    def run(self) -> None:
        loop = RunLoop.current()
        with MachPort(self) as port:
            loop.add_port(port)
            print("worker: checking in")
            PortMessage(send_port=self.main_port, receive_port=port, msgid=CHECK_IN).send(timeout=0)
            while not self.should_exit:
                loop.run_mode(DEFAULT_MODE, None)
            print("worker: leaving")

    def handle_port_message(self, message: PortMessage) -> None:
        if message.msgid == WORD:
            word = (message.data or b"").decode()
            print(f"worker: measuring {word!r}")
            self.main_port.send(str(len(word)).encode(), msgid=LENGTH)
        elif message.msgid == QUIT:
            self.should_exit = True


def main() -> None:
    loop = RunLoop.current()
    with MachPort(MainSide()) as port:
        loop.add_port(port)
        thread = Thread(target=WorkerSide(port).run, name="worker", daemon=True)
        thread.start()
        result = loop.run(timeout=5.0)
        thread.join()
        print(f"main: the run loop was {result.name}")


if __name__ == "__main__":
    main()
