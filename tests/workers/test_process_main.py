"""A worker's process by itself: what it reads, what it obeys, and when it ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest

from portkit import MessagePort, PortMessage
from portkit.workers.check_in import ACCEPTED, REFUSED
from portkit.workers.lifeline import GRACE, ORPHANED
from portkit.workers.orders import Orders
from tests.support import PATIENCE, LoopThread, eventually

pytestmark = pytest.mark.usefixtures("folder")

DOOR = "process-main-door"


def orders(**changes: Any) -> str:
    given = Orders(
        target="tests.workers.targets:obey",
        main=f"message:{DOOR}",
        index=0,
        name="w",
        token="t",
        check_in_timeout=PATIENCE,
        path=sys.path,
        python_path=None,
    )
    return given.model_copy(update=changes).model_dump_json() + "\n"


@contextmanager
def process() -> Iterator[subprocess.Popen[str]]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "portkit.workers.process_main"],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield worker
    finally:
        worker.kill()
        worker.communicate(timeout=PATIENCE)


def tell(worker: subprocess.Popen[str], line: str) -> None:
    assert worker.stdin is not None
    worker.stdin.write(line)
    worker.stdin.flush()


@pytest.mark.parametrize("line", ["", '{"target": "os:abort"'], ids=["nothing", "half a line"])
def test_without_whole_orders_it_ends_quietly(line: str) -> None:
    """The group's process has ended, or given up, before it wrote them."""
    with process() as worker:
        assert worker.communicate(line, timeout=PATIENCE) == ("", "")
        assert worker.returncode == 0


def test_wrong_orders_are_an_error() -> None:
    with process() as worker:
        _, told = worker.communicate('{"target": 1}\n', timeout=PATIENCE)
        assert worker.returncode == 1
        assert "ValidationError" in told


def test_a_refusal_is_one_line() -> None:
    def refuse(message: PortMessage) -> None:
        message.reply(b"too late", msgid=REFUSED)

    with LoopThread() as thread, MessagePort(DOOR, refuse) as door:
        thread.loop.add_port(door)
        with process() as worker:
            tell(worker, orders())
            assert worker.wait(PATIENCE) == 1
            _, told = worker.communicate(timeout=PATIENCE)
    assert told == "w: the check-in was refused: too late\n"


def test_an_error_of_check_ins_that_the_target_raises_is_shown_whole() -> None:
    """As of a group that it runs itself."""
    with LoopThread() as thread, MessagePort() as main, MessagePort(DOOR) as door:
        door.delegate = lambda message: message.reply(main, msgid=ACCEPTED)
        thread.loop.add_port(door)
        with process() as worker:
            tell(worker, orders(target="tests.workers.targets:check_in_twice"))
            assert worker.wait(PATIENCE) == 1
            _, told = worker.communicate(timeout=PATIENCE)
    assert told.startswith("Traceback")
    assert "CheckInError: w has checked in already" in told


@pytest.mark.parametrize("moment", ["before its check-in is answered", "in its function"])
def test_the_end_of_the_pipe_is_its_end(moment: str) -> None:
    """The main side is still there: nothing else tells the worker."""
    check_ins: list[PortMessage] = []

    def admit(message: PortMessage) -> None:
        check_ins.append(message)
        if moment == "in its function":
            message.reply(main, msgid=ACCEPTED)
        else:
            message.defer()

    with LoopThread() as thread, MessagePort() as main, MessagePort(DOOR, admit) as door:
        thread.loop.add_port(door)
        with process() as worker:
            tell(worker, orders())
            assert eventually(lambda: check_ins)
            port = check_ins[0].ports[0]
            if moment == "in its function":
                port.request(b"echo x", reply_timeout=PATIENCE)
            began = monotonic()
            assert worker.stdin is not None
            worker.stdin.close()
            worker.stdin = None
            status = worker.wait(PATIENCE)
            assert status == (0 if moment == "in its function" else ORPHANED)
            assert monotonic() - began < GRACE + 10
        check_ins.clear()
        del port
