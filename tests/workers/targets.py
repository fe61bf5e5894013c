"""What workers in processes of their own run: they import it from here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from portkit import PortError, PortMessage, open_port
from portkit.workers import Session, WorkerGroup


def obey(session: Session) -> None:
    """Do what messages say, until told to end."""

    def handle(message: PortMessage) -> bytes | None:
        words = (message.data or b"").decode().split(" ", 1)
        return COMMANDS[words[0]](session, words[-1])

    session.port.delegate = handle
    session.run()


def _echo(session: Session, words: str) -> bytes:
    return words.encode()


def _write(session: Session, words: str) -> None:
    print(words.replace("|", "\n"), file=sys.stderr, flush=True)


def _raise(session: Session, words: str) -> None:
    session.main.send(b"last")
    session.loop.stop()
    raise SystemExit(f"told to: {words}")


def _die(session: Session, words: str) -> None:
    session.main.send(b"last")
    os.kill(os.getpid(), int(words))


def _flood(session: Session, words: str) -> None:
    for number in range(int(words)):
        session.main.send(str(number).encode())
    # Not now: what was sent is written at the end of this pass at the latest.
    session.loop.call_later(0, os.kill, os.getpid(), signal.SIGKILL)


def _hang(session: Session, words: str) -> None:
    if words == "stubbornly":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    session.main.send(b"hanging")
    time.sleep(1000)


def _know(session: Session, words: str) -> bytes:
    listed = [Path(f"/proc/self/{name}").read_bytes() for name in ("cmdline", "environ")]
    token = session._record.token.encode()
    return json.dumps(
        {
            "pid": os.getpid(),
            "name": session.name,
            "index": session.index,
            "path": sys.path,
            "python_path": os.environ.get("PYTHONPATH"),
            "token is seen": any(token in text for text in listed),
            "input": sys.stdin.read(),
            "interrupts": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
            "blocked": bool(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            "libraries": [name for name in ("rich", "typer") if name in sys.modules],
        }
    ).encode()


def _leave_child(session: Session, words: str) -> None:
    """A child that keeps standard error open, and the worker gone before it."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    session.main.send(str(child.pid).encode())
    session.loop.stop()


def _ask(session: Session, words: str) -> None:
    """Ask the main side, and tell what came of it."""
    try:
        outcome = session.main.request(words.encode(), reply_timeout=30.0).data or b""
    except PortError as error:
        outcome = type(error).__name__.encode()
    session.main.send(b"outcome: " + outcome)


def _leave(session: Session, words: str) -> None:
    session.loop.stop()


def _introduce(session: Session, words: str) -> None:
    """Send a port to the main side, and answer what comes back there."""
    port = open_port(f"{session.over}:", lambda message: message.data)
    session.loop.add_port(port)
    session.main.send(port)


COMMANDS = {
    "echo": _echo,
    "write": _write,
    "raise": _raise,
    "die": _die,
    "flood": _flood,
    "hang": _hang,
    "know": _know,
    "leave-child": _leave_child,
    "introduce": _introduce,
    "ask": _ask,
    "leave": _leave,
}


def raise_at_once(session: Session) -> None:
    """Fail before the check-in."""
    print("first line", file=sys.stderr)
    raise LookupError("no settings")


def return_at_once(session: Session) -> None:
    """End before the check-in."""


def exit_at_once(session: Session) -> None:
    """End before the check-in, with a status that says nothing."""
    os._exit(3)


def check_in_twice(session: Session) -> None:
    """Once too often."""
    session.check_in()
    session.check_in()


def bring_what_is_not_its_own(session: Session) -> None:
    """Check in with the group's own door as this worker's port."""
    door, record = session._door, session._record.model_dump_json().encode()
    answer = door.request((door, session._control, record), msgid=100, reply_timeout=30.0)
    print((answer.data or b"").decode(), file=sys.stderr)


def never_check_in(session: Session) -> None:
    """Start, and go no further."""
    time.sleep(1000)


def die_at_first(session: Session) -> None:
    """Note the time of each start in a file; die after the first ones, as the environment says."""
    marks = Path(os.environ["TEST_MARKS"])
    with marks.open("a") as file:
        file.write(f"{time.monotonic()}\n")
    if len(marks.read_text().split()) <= int(os.environ["TEST_DEATHS"]):
        if "TEST_EARLY" not in os.environ or session.index == 0:
            session.check_in()
        os._exit(9)
    obey(session)


def receive_all(session: Session) -> None:
    """Take messages one by one and send them back; then say so."""
    while (message := session.receive(30.0)) is not None:
        if message.is_request:
            message.reply(message.data or b"")
        else:
            session.main.send(message.components)
    session.main.send(b"told to stop")


def run_a_group(session: Session) -> None:
    """A worker with workers of its own, whose process ids it tells."""
    with WorkerGroup("tests.workers.targets:obey", count=1, over="message") as group:
        session.main.send(str(group.workers[0].pid).encode())
        session.run()
