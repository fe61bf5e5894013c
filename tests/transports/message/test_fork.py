"""A process with links is forked: the parent's go on, and the child makes its own."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable

import pytest

from portkit import InvalidPortError, MachPort, MessagePort, NameInUseError, Port, RunLoop
from tests.ports.helpers import Recorder, in_child
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.message import roles
from tests.transports.message.processes import Child
from tests.transports.message.roles import Do

pytestmark = [
    pytest.mark.usefixtures("folder"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def test_the_parents_links_are_unharmed(child: Child) -> None:
    remote = MessagePort.remote("them")
    with LoopThread() as thread, MessagePort("us", Recorder(b"here")) as port:
        thread.loop.add_port(port)
        remote.request([port], msgid=Do.PORT)

        def use_and_drop() -> str:
            nonlocal remote
            remote.invalidate()
            del remote
            port.invalidate()
            gc.collect()
            return "done"

        assert in_child(use_and_drop) == "done"
        assert remote.request(b"on", msgid=Do.ECHO).data == b"on"
        assert port.is_valid
        assert child.call(roles.ask, "us") == b"here"
        with pytest.raises(NameInUseError):
            child.call(roles.open_port, "us")


USES: dict[str, Callable[[Port], object]] = {
    "send": lambda port: port.send(b"", msgid=Do.KEEP),
    "send_many": lambda port: port.send_many([b""]),
    "request": lambda port: port.request(b"", msgid=Do.ECHO),
    "send large data": lambda port: port.send(bytes(1 << 20), msgid=Do.KEEP),
    "send a port": lambda port: port.send([MachPort()], msgid=Do.KEEP),
    "allocate": lambda port: port.allocate(1 << 20),
}


@pytest.mark.parametrize("use", USES.values(), ids=list(USES))
def test_the_childs_use_of_them_is_refused(child: Child, use: Callable[[Port], object]) -> None:
    remote = MessagePort.remote("them")
    remote.request(msgid=Do.WHO)
    assert in_child(lambda: use(remote)).startswith(InvalidPortError.__name__)
    assert in_child(lambda: remote.is_valid) == "False"
    assert remote.request(b"", msgid=Do.KEEP, reply_timeout=PATIENCE).data == b"1"


def test_a_port_of_the_parents_is_refused(child: Child) -> None:
    with MessagePort("us") as port:
        assert in_child(lambda: port.set_name("we")).startswith("InvalidPortError")
        assert in_child(lambda: port.receive(0)).startswith("InvalidPortError")
        assert in_child(lambda: MessagePort("us")).startswith("NameInUseError")


def test_the_child_makes_its_own(child: Child) -> None:
    remote = MessagePort.remote("them")
    remote.request(msgid=Do.WHO)

    def use() -> str:
        again = MessagePort.remote("them")
        with MessagePort("forked", Recorder(b"forked")) as port:
            RunLoop.current().add_port(port)
            answer = again.request(
                [b"?", port], msgid=Do.ASK, reply_mode="default", reply_timeout=PATIENCE
            )
            return f"{answer.data!r} {again == remote}"

    assert in_child(use) == "b'forked' False"
    assert remote.request(b"on", msgid=Do.ECHO).data == b"on"


def test_a_forked_child_is_found_as_another_process(child: Child) -> None:
    """Parent and child talk to each other by name."""
    with LoopThread() as thread, MessagePort("parent", Recorder(b"parent")) as port:
        thread.loop.add_port(port)
        text = in_child(lambda: MessagePort.remote("parent").request(b"?").data)
        assert text == "b'parent'"


def test_the_peer_sees_the_parent_die_although_its_child_lives(child: Child) -> None:
    """The child's copies of the connections are closed."""
    with Child() as parent:
        parent.call(roles.open_port, "parent")
        parent.call(roles.ask, "them")
        with LoopThread() as thread:
            remote = MessagePort.remote("parent")
            ended = Recorder()
            thread.call(remote.add_invalidation_handler, ended)
            forked = parent.call(roles.fork_and_sleep)
            try:
                parent.kill()
                assert ended.wait(1)
                os.kill(forked, 0)
                with MessagePort("parent"):
                    pass
            finally:
                os.kill(forked, 9)


def test_at_rest_the_child_has_none_of_the_parents_descriptors(child: Child) -> None:
    remote = MessagePort.remote("them")
    with MessagePort("us") as port:
        remote.request([port, bytes(1 << 20)], msgid=Do.PORT)
        text = in_child(lambda: sorted(set(roles.descriptors().values())))
    assert "socket" not in text
    assert "memfd" not in text
    assert eventually(lambda: remote.is_valid)
