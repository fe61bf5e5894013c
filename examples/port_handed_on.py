"""A port goes from one process through a second to a third, and is used there.

A port in a message is a right to send. The lender makes a port and sends it to the main side,
which sends it on to the borrower: two processes that never heard of each other, and no name. What
the borrower asks goes back the way the right came, through the main side, whose program sees
nothing of it. The right even comes home: its owner gets the port object itself.
"""

from __future__ import annotations

from portkit import MessagePort, Port, PortMessage, RunLoop, Session, Worker, WorkerGroup

OFFER = 1
LOAN = 2
RETURN = 3
DONE = 4


def lender(session: Session) -> None:
    """The first process: makes a port and gives it away."""

    def serve(message: PortMessage) -> bytes:
        return b"the lender answers: " + (message.data or b"").upper()

    def handle(message: PortMessage) -> None:
        home = message.ports[0] is lent  # the same object, not one like it
        lent.invalidate()
        session.main.send(f"lender: my own port came home: {home}".encode(), msgid=DONE)

    session.port.delegate = handle
    with MessagePort(delegate=serve) as lent:
        session.loop.add_port(lent)
        session.main.send(lent, msgid=OFFER)
        session.run()


def borrower(session: Session) -> None:
    """The third process: uses a port that it was given."""

    def handle(message: PortMessage) -> None:
        (lent,) = message.ports
        lent.add_invalidation_handler(gone)
        kept.append(lent)
        reply = lent.request(b"good morning")
        session.main.send([b"borrower: " + (reply.data or b""), lent], msgid=RETURN)

    def gone(_: Port) -> None:
        session.main.send(b"borrower: the port is gone, and I was told", msgid=DONE)

    kept: list[Port] = []
    session.port.delegate = handle
    session.run()


def run(session: Session) -> None:
    """What both workers start with."""
    (lender, borrower)[session.index](session)


def main() -> None:
    """The second process: hands on what it gets."""
    loop = RunLoop.current()
    last_words: list[str] = []

    def on_message(_: Worker, message: PortMessage) -> None:
        lending, borrowing = group.workers
        if message.msgid == OFFER:
            print("main: a port is offered; handing it on")
            borrowing.port.send(message.ports[0], msgid=LOAN)
        elif message.msgid == RETURN:
            print((message.data or b"").decode())
            print("main: the port is back; handing it home")
            lending.port.send(message.ports[0], msgid=RETURN)
        elif message.msgid == DONE:
            last_words.append((message.data or b"").decode())
            if len(last_words) == 2:
                loop.stop()

    group = WorkerGroup(
        "port_handed_on:run", count=2, over="message", check_in_timeout=20.0, on_message=on_message
    )
    with group:
        loop.run(timeout=20.0)
    print(*sorted(last_words), sep="\n")


if __name__ == "__main__":
    main()
