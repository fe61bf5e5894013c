"""``portkit worker``: what a worker that is started by hand does, and is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portkit import MessagePort, Port, PortMessage
from portkit.workers.check_in import ACCEPTED, REFUSED, STOP
from tests.cli.helpers import PORTKIT, environment, run
from tests.support import PATIENCE, LoopThread, eventually

OBEY = "tests.workers.targets:obey"


class Door:
    """A main side that is no group: it answers check-ins as a test wants it to."""

    def __init__(self, answer: Callable[[PortMessage], object]) -> None:
        self.check_ins: list[PortMessage] = []
        self.received: list[bytes | None] = []
        self.main = MessagePort(delegate=lambda message: self.received.append(message.data))
        self._answer = answer
        self.door = MessagePort(f"door-{os.getpid()}", self._admit)
        self.address = f"message:{self.door.name}"

    def _admit(self, message: PortMessage) -> None:
        self.check_ins.append(message)
        self._answer(message)

    @property
    def worker(self) -> tuple[Port, Port]:
        """The worker's port, and its control port."""
        port, control = self.check_ins[0].ports
        return port, control


@pytest.fixture
def doors() -> Any:
    """Make doors, which a loop serves."""
    made: list[Door] = []
    with LoopThread() as thread:

        def make(answer: Callable[[Door, PortMessage], object]) -> Door:
            door = Door(lambda message: answer(door, message))
            made.append(door)
            for port in (door.door, door.main):
                thread.loop.add_port(port)
            return door

        yield make
        for door in made:
            door.door.invalidate()
            door.main.invalidate()
            door.check_ins.clear()


def accept(door: Door, message: PortMessage) -> None:
    message.reply(door.main, msgid=ACCEPTED)


def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PORTKIT, "worker", *arguments],
        env=environment(**variables),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_it_checks_in_with_what_it_was_given(doors: Any) -> None:
    door = doors(accept)
    process = start(
        *(OBEY, "--main", door.address, "--index", "7", "--name", "seventh"),
        PORTKIT_WORKER_TOKEN="secret",
    )
    assert eventually(lambda: door.check_ins)
    record = json.loads(door.check_ins[0].data or b"")
    assert record == {"version": 1, "index": 7, "token": "secret", "target": ""}
    port, control = door.worker
    known = json.loads(port.request(b"know", reply_timeout=PATIENCE).data or b"")
    assert (known["name"], known["index"], known["pid"]) == ("seventh", 7, process.pid)
    control.send(msgid=STOP)
    assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == 0


def test_it_ends_when_the_main_side_is_gone(doors: Any) -> None:
    door = doors(accept)
    process = start(OBEY, "--main", door.address)
    assert eventually(lambda: door.check_ins)
    door.main.invalidate()
    assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == 0


def test_it_finds_modules_of_the_working_directory(doors: Any, tmp_path: Path) -> None:
    (tmp_path / "here.py").write_text("def target(session): session.main.send(b'found')\n")
    door = doors(accept)
    done = run(*PORTKIT, "worker", "here:target", "--main", door.address, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert eventually(lambda: door.received == [b"found"])


def test_what_its_function_raises_is_shown(doors: Any) -> None:
    door = doors(accept)
    done = run(*PORTKIT, "worker", "tests.workers.targets:raise_at_once", "--main", door.address)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "LookupError: no settings"
    assert "in raise_at_once" in done.stderr


def test_an_interrupt_ends_it_quietly(doors: Any) -> None:
    door = doors(accept)
    process = start(OBEY, "--main", door.address)
    assert eventually(lambda: door.check_ins)
    port, _ = door.worker
    port.request(b"echo x", reply_timeout=PATIENCE)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == 130
    assert eventually(lambda: not port.is_valid)


def test_a_refusal_is_told(doors: Any) -> None:
    door = doors(lambda door, message: message.reply(b"not you", msgid=REFUSED))
    process = start(OBEY, "--main", door.address)
    assert process.communicate(timeout=PATIENCE) == (
        "",
        "portkit worker: the check-in was refused: not you\n",
    )
    assert process.returncode == 1


def test_a_group_that_does_not_answer(doors: Any) -> None:
    door = doors(lambda door, message: message.defer())
    began = time.monotonic()
    done = run(*PORTKIT, "worker", OBEY, "--main", door.address, "--check-in-timeout", "0.1")
    assert done.returncode == 1
    assert "did not answer this worker's check-in within 0.1 s" in done.stderr
    assert time.monotonic() - began < 10


WRONG = {
    "no group": (OBEY, "message:nobody", 1, "nobody registered the name 'nobody'"),
    "no address": (OBEY, "nobody", 2, "'nobody' is not an address"),
    "no transport": (OBEY, "massage:x", 2, "did you mean 'message'?"),
    "no name": (OBEY, "message:", 2, "names no port of another process"),
    "threads": (OBEY, "mach:x", 2, "names no port of another process"),
    "no function": ("tests", "message:x", 2, "write 'module:function'"),
    "no module": ("nothing.here:x", "message:x", 2, "No module named 'nothing'"),
    "no such function": ("tests.support:x", "message:x", 2, "has no attribute 'x'"),
    "no callable": ("tests.support:PATIENCE", "message:x", 2, "is a float, not callable"),
}


@pytest.mark.parametrize(("target", "main", "status", "told"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(target: str, main: str, status: int, told: str) -> None:
    done = run(*PORTKIT, "worker", target, "--main", main)
    assert done.returncode == status
    assert told in done.stderr
    assert done.stderr.startswith("portkit worker: ")
    assert len(done.stderr.splitlines()) == 1
