"""A Qt window whose thread is also a run loop: ports and timers beside buttons and dialogues.

Qt runs the run loop: ``QtHost`` watches one descriptor for all of it, and sets one timer. A worker
thread counts words and reports to a port of the window's thread, whose delegate may touch widgets
as any slot does. A request of the worker waits until a slot has answered it.

    pip install 'portkit[qt]'
    QT_QPA_PLATFORM=offscreen python qt_window.py    # where there is no display
"""

from __future__ import annotations

from threading import Thread

from PySide6.QtWidgets import QApplication, QLabel, QProgressBar, QVBoxLayout, QWidget

from portkit import MachPort, Port, PortMessage, RunLoop
from portkit.loops import QtHost

TEXTS = ["a rose is a rose is a rose", "to be or not to be", "the rest is silence"]
PROGRESS, MAY_I_STOP = 1, 2


class Window:
    """Shows how far the worker is."""

    def __init__(self) -> None:
        self.widget = QWidget()
        self.widget.setWindowTitle("Words")
        self.label = QLabel("nothing yet")
        self.bar = QProgressBar()
        self.bar.setRange(0, len(TEXTS))
        self.bar.setValue(0)
        layout = QVBoxLayout(self.widget)
        layout.addWidget(self.label)
        layout.addWidget(self.bar)

    def handle_port_message(self, message: PortMessage) -> bytes | None:
        if message.msgid == PROGRESS:
            self.label.setText((message.data or b"").decode())
            self.bar.setValue(self.bar.value() + 1)
            print(f"window: {self.label.text()} ({self.bar.value()} of {self.bar.maximum()})")
            return None
        # In a moment, when the answer is on its way.
        RunLoop.current().call_later(0.01, QApplication.quit)
        return b"yes"


def count_words(window: Port) -> None:
    for text in TEXTS:
        window.send(f"{len(text.split())} words".encode(), msgid=PROGRESS)
    answer = window.request(msgid=MAY_I_STOP)
    assert answer.data == b"yes"


if __name__ == "__main__":
    app = QApplication([])
    window = Window()
    window.widget.show()
    with MachPort(window) as port, QtHost():
        RunLoop.current().add_port(port)
        worker = Thread(target=count_words, args=(port,), daemon=True)  # Ctrl-C ends it too
        worker.start()
        app.exec()
    worker.join()
    print("window: closed")
