"""Notifications from any thread, handled on one: a list is the truth, a message only the signal.

After "Delivering Notifications To Particular Threads" in Apple's Notification Programming Topics.
Who posts on another thread appends to a list and sends an empty message to a port of the handling
thread. The port's queue holds one message: a send that finds it full may fail, since the message
that is there will do (K4). The delegate empties the list, however many messages there were.
"""

from __future__ import annotations

from collections import deque
from threading import Lock, Thread, current_thread

from portkit import COMMON_MODES, MachPort, PortMessage, RunLoop, SendTimeoutError


class Inbox:
    """Handles notifications on the thread that made it."""

    def __init__(self) -> None:
        self._thread = current_thread()
        self._lock = Lock()
        self._notifications: deque[str] = deque()
        self._port = MachPort(self, queue_limit=1)
        self.messages = 0
        self.full = 0
        RunLoop.current().add_port(self._port, COMMON_MODES)

    def post(self, notification: str) -> None:
        """From any thread; handled at once where that is the right one."""
        if current_thread() is self._thread:
            self._handle(notification)
            return
        with self._lock:
            self._notifications.append(notification)
            try:
                self._port.send(timeout=0)
            except SendTimeoutError:
                self.full += 1

    def handle_port_message(self, message: PortMessage) -> None:
        self.messages += 1
        while (notification := self._next()) is not None:
            self._handle(notification)

    def close(self) -> None:
        self._port.invalidate()

    def _next(self) -> str | None:
        with self._lock:
            return self._notifications.popleft() if self._notifications else None

    def _handle(self, notification: str) -> None:
        right = "the right" if current_thread() is self._thread else "the wrong"
        print(f"{notification!r} on {right} thread")
        if notification == "download 3 of 3":
            self.post("all downloads")
            RunLoop.current().stop()


def download(inbox: Inbox) -> None:
    for number in (1, 2, 3):
        inbox.post(f"download {number} of 3")


def main() -> None:
    inbox = Inbox()
    thread = Thread(target=download, args=(inbox,), name="downloads")
    thread.start()
    thread.join()  # so that all three wait here, as if this thread had been busy
    RunLoop.current().run(timeout=5.0)
    inbox.close()
    print(f"3 notifications posted, {inbox.messages} message, {inbox.full} sends found it waiting")


if __name__ == "__main__":
    main()
