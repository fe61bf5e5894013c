"""A Tk window whose thread is also a run loop: ports and timers beside buttons and entries.

Tk runs the run loop: ``TkHost`` watches one descriptor for all of it, and sets one timer. A worker
thread asks the window for a name and waits for the answer, as long as the user takes to give it;
here a timer of the run loop presses the button.
"""

from __future__ import annotations

import tkinter as tk
from threading import Thread

from portkit import MachPort, Port, PortMessage, RunLoop
from portkit.loops import TkHost

ASK, DONE = 1, 2


class Window:
    """Asks the user what the worker wants to know."""

    def __init__(self, root: tk.Tk) -> None:
        self.root = root
        self.question = tk.Label(root, text="")
        self.entry = tk.Entry(root)
        self.button = tk.Button(root, text="Answer", command=self.answer)
        for widget in (self.question, self.entry, self.button):
            widget.pack()
        self.asked: PortMessage | None = None

    def handle_port_message(self, message: PortMessage) -> None:
        if message.msgid == DONE:
            self.root.quit()
            return
        message.defer()  # it is answered once the button is pressed
        self.asked = message
        self.question["text"] = (message.data or b"").decode()
        print(f"window: {self.question['text']}")
        RunLoop.current().call_later(0.05, self.type_and_press)

    def type_and_press(self) -> None:
        self.entry.insert(0, "Ada")
        self.button.invoke()

    def answer(self) -> None:
        assert self.asked is not None, "the button is pressed for a question"
        self.asked.reply(self.entry.get().encode())


def work(window: Port) -> None:
    name = window.request(b"Who are you?", msgid=ASK, reply_timeout=60)
    print(f"worker: hello, {(name.data or b'').decode()}")
    window.send(msgid=DONE)


if __name__ == "__main__":
    root = tk.Tk()
    with MachPort(Window(root)) as port, TkHost(root):
        RunLoop.current().add_port(port)
        worker = Thread(target=work, args=(port,), daemon=True)  # Ctrl-C ends it too
        worker.start()
        root.mainloop()
    worker.join()
    print("window: closed")
