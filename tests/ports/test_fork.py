"""After a fork: in the child old ports raise and say why, and the parent notices nothing."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from portkit import MachPort, PortMessage, ReplyPort, RunLoop, Timer
from portkit.runloop import item
from tests.ports.helpers import Background, Recorder, in_child, served
from tests.support import PATIENCE, eventually, open_descriptors

CALLS: dict[str, Callable[[MachPort], object]] = {
    "send": lambda port: port.send(b"x"),
    "send without waiting": lambda port: port.send(b"x", timeout=0),
    "send_many": lambda port: port.send_many([b"x"]),
    "request": lambda port: port.request(b"x"),
    "receive": lambda port: port.receive(0),
    "fileno": lambda port: port.fileno(),
    "add to a loop": lambda port: port.schedule(RunLoop.current(), "default"),
    "no-senders handler": lambda port: port.add_no_senders_handler(print),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("consumer", ["nobody", "this loop", "fileno"])
def test_child_gets_an_error_that_says_why(
    call: Callable[[MachPort], object], consumer: str
) -> None:
    with MachPort() as port:
        if consumer == "this loop":
            RunLoop.current().add_port(port)
        elif consumer == "fileno":
            port.fileno()
        said = in_child(lambda: call(port))
    assert said.startswith("InvalidPortError")
    assert "forked" in said


def test_child_may_end_what_it_inherited() -> None:
    def child() -> list[object]:
        called: list[object] = []
        port.add_invalidation_handler(called.append)  # invalid already: at once, M16
        valid = port.is_valid
        port.process()
        port.invalidate()
        return [valid, len(called)]

    with MachPort() as port:
        port.fileno()
        assert in_child(child) == "[False, 1]"
        port.send(b"x")
        assert port.pending == 1


def test_child_closes_its_copy_of_the_descriptor_quietly() -> None:
    def child() -> bool:
        return pipe in open_descriptors().values()

    with MachPort(Recorder()) as port:
        read_fd = port.fileno()
        pipe = open_descriptors()[read_fd]
        assert pipe in open_descriptors().values()
        assert in_child(child) == "False"
        port.send(b"x")
        assert port.process() == 1


def test_locks_that_others_hold_do_not_hang_the_child() -> None:
    """Another thread may be inside any lock in the moment of the fork."""
    held, release = threading.Event(), threading.Event()
    port = MachPort()

    def hold() -> None:
        with port._mailbox.lock, item._membership, RunLoop._creation_lock:
            held.set()
            assert release.wait(PATIENCE)

    def child() -> str:
        port.invalidate()
        seen = Recorder()
        with MachPort(seen) as own:
            RunLoop.current().add_port(own)
            RunLoop.current().add_timer(Timer(100, print))
            own.send(b"child")
            RunLoop.current().run(0)
        return f"{seen.data}"

    holder = Background(hold)
    assert held.wait(PATIENCE)
    try:
        assert in_child(child) == "[b'child']"
    finally:
        release.set()
        holder.result()
        port.invalidate()


def requester_sleeps(message: PortMessage) -> bool:
    right: Any = message.send_port
    return right._answer._waiter.armed is not None


def test_the_childs_end_does_not_answer_the_parents_requests() -> None:
    """A finalizer in the child must not settle, or write to, anything of the parent's."""
    with MachPort() as port:
        asker = Background(lambda: port.request(b"?", reply_timeout=PATIENCE).data)
        message = port.receive(PATIENCE)

        assert eventually(partial(requester_sleeps, message))  # so that a ring would be written

        def child() -> object:
            nonlocal message
            failed: list[object] = []
            sys.unraisablehook = failed.append
            del message
            return failed

        assert in_child(child) == "[]"
        message.reply(b"parent")
        assert asker.result() == b"parent"


def test_child_cannot_answer_for_the_parent() -> None:
    with MachPort() as port:
        asker = Background(lambda: port.request(b"?", reply_timeout=PATIENCE).data)
        message = port.receive(PATIENCE)
        assert in_child(lambda: message.reply(b"child")).startswith("InvalidPortError")
        message.reply(b"parent")
        assert asker.result() == b"parent"


def test_fork_inside_a_delegate() -> None:
    answers: list[str] = []

    def delegate(message: PortMessage) -> bytes:
        answers.append(in_child(lambda: message.reply(b"child")))
        return b"parent"

    with served(delegate) as port:
        assert port.request(b"?", reply_timeout=PATIENCE).data == b"parent"
    assert answers[0].startswith("InvalidPortError")


def test_parent_goes_on_while_a_child_lives() -> None:
    with served(Recorder(b"pong")) as port:
        read_fd, write_fd = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(write_fd)
            os.read(read_fd, 1)  # until the parent is done
            os._exit(0)
        os.close(read_fd)
        assert port.request(b"ping", reply_timeout=PATIENCE).data == b"pong"
        os.close(write_fd)
        os.waitpid(pid, 0)


def test_reply_port_is_invalid_in_the_child() -> None:
    with MachPort() as port:
        asker = Background(lambda: port.request(b"?", reply_timeout=PATIENCE).data)
        message = port.receive(PATIENCE)
        reply_port = message.send_port
        assert isinstance(reply_port, ReplyPort)
        said = in_child(lambda: reply_port.send(b"x"))
        assert said.startswith("InvalidPortError")
        assert "forked" in said
        assert reply_port.is_valid
        message.reply()
        assert asker.result() is None
        assert eventually(lambda: not reply_port.is_valid)
