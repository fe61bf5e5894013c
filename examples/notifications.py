"""One thread saves, another shows, another process counts words; none knows of the others.

The thread that saves posts a notification. The window observes it on the main thread, whichever
thread posts, and enqueues that it has to be drawn: when the run loop has nothing else to do, and
once, however often that was asked for. What is posted here is forwarded to the worker process
through its port, and what the worker posts there comes back the same way.
"""

from __future__ import annotations

from threading import Thread, current_thread, main_thread

from portkit import (
    Notification,
    NotificationCenter,
    NotificationQueue,
    PostingStyle,
    RunLoop,
    Session,
    WorkerGroup,
)
from portkit.notifications import NotificationReceiver, forward

SAVED = "DocumentSaved"
COUNTED = "WordsCounted"
NEEDS_DRAWING = "WindowNeedsDrawing"


def counter(session: Session) -> None:
    """The other process: counts the words of what is saved."""
    center = NotificationCenter.default()

    def count(notification: Notification) -> None:
        assert notification.user_info is not None
        words = len(notification.user_info["text"].split())
        center.post(COUNTED, user_info={"words": words})

    center.add_observer(count, SAVED)
    forward(session.main, COUNTED)
    session.port.delegate = NotificationReceiver()
    session.run()


class Window:
    """Lives on the main thread."""

    def __init__(self, center: NotificationCenter) -> None:
        loop = RunLoop.current()
        self.counts: list[int] = []
        self.drawings = 0
        center.add_observer(self.saved, SAVED, loop=loop)
        center.add_observer(self.draw, NEEDS_DRAWING, self)
        center.add_observer(self.counted, COUNTED, loop=loop)

    def saved(self, notification: Notification) -> None:
        where = "main" if current_thread() is main_thread() else "another"
        print(f"on the {where} thread: {notification.user_info}")
        NotificationQueue.default().enqueue(NEEDS_DRAWING, PostingStyle.WHEN_IDLE, sender=self)

    def draw(self, notification: Notification) -> None:
        self.drawings += 1
        self.stop_when_done()

    def counted(self, notification: Notification) -> None:
        assert notification.user_info is not None
        self.counts.append(notification.user_info["words"])
        self.stop_when_done()

    def stop_when_done(self) -> None:
        if len(self.counts) == 3 and self.drawings:
            RunLoop.current().stop()


def save(center: NotificationCenter) -> None:
    for text in ("one", "one two", "one two three"):
        center.post(SAVED, user_info={"text": text})


def main() -> None:
    center = NotificationCenter.default()
    window = Window(center)
    receiver = NotificationReceiver(names=COUNTED)
    with WorkerGroup(
        "notifications:counter",
        count=1,
        over="message",
        on_message=lambda _, message: receiver.handle_port_message(message),
        check_in_timeout=20.0,
    ) as group:
        forward(group.workers[0].port, SAVED)
        thread = Thread(target=save, args=(center,), name="saving")
        thread.start()
        thread.join()  # so that all three wait here, as if this thread had been busy
        RunLoop.current().run(timeout=20.0)
    print(f"saved 3 times, drawn {window.drawings} time; words: {window.counts}")


if __name__ == "__main__":
    main()
