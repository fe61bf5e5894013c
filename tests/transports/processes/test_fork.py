"""A process with links is forked: the parent's go on, and the child makes its own."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable

import pytest

from portkit import InvalidPortError, MachPort, Port, PortError, RunLoop
from tests.ports.helpers import Recorder, in_child
from tests.support import PATIENCE, LoopThread, eventually, open_descriptors
from tests.transports.processes import roles
from tests.transports.processes.child import Child, Start
from tests.transports.processes.roles import Do
from tests.transports.processes.ways import Way

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def test_the_parents_links_are_unharmed(child: Child, way: Way) -> None:
    remote = way.remote("them")
    with LoopThread() as thread, way.open("us", Recorder(b"here")) as port:
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


USES: dict[str, Callable[[Port], object]] = {
    "send": lambda port: port.send(b"", msgid=Do.KEEP),
    "send_many": lambda port: port.send_many([b""]),
    "request": lambda port: port.request(b"", msgid=Do.ECHO),
    "send large data": lambda port: port.send(bytes(1 << 20), msgid=Do.KEEP),
    "send a port": lambda port: port.send([MachPort()], msgid=Do.KEEP),
    "allocate": lambda port: port.allocate(1 << 20),
}


@pytest.mark.parametrize("use", USES.values(), ids=list(USES))
def test_the_childs_use_of_them_is_refused(
    child: Child, use: Callable[[Port], object], way: Way
) -> None:
    remote = way.remote("them")
    remote.request(msgid=Do.WHO)
    assert in_child(lambda: use(remote)).startswith(InvalidPortError.__name__)
    assert in_child(lambda: remote.is_valid) == "False"
    assert remote.request(b"", msgid=Do.KEEP, reply_timeout=PATIENCE).data == b"1"


def test_a_port_of_the_parents_is_refused(child: Child, way: Way) -> None:
    with way.open("us") as port:
        assert in_child(lambda: port.receive(0)).startswith("InvalidPortError")


def test_the_child_makes_its_own(child: Child, way: Way) -> None:
    remote = way.remote("them")
    remote.request(msgid=Do.WHO)

    def use() -> str:
        again = way.remote("them")
        with way.open("forked", Recorder(b"forked")) as port:
            RunLoop.current().add_port(port)
            answer = again.request(
                [b"?", port], msgid=Do.ASK, reply_mode="default", reply_timeout=PATIENCE
            )
            return f"{answer.data!r} {again == remote}"

    assert in_child(use) == "b'forked' False"
    assert remote.request(b"on", msgid=Do.ECHO).data == b"on"


def test_a_forked_child_is_found_as_another_process(child: Child, way: Way) -> None:
    """Parent and child talk to each other by name."""
    with LoopThread() as thread, way.open("parent", Recorder(b"parent")) as port:
        thread.loop.add_port(port)
        text = in_child(lambda: way.remote("parent").request(b"?").data)
        assert text == "b'parent'"


def test_the_peer_sees_the_parent_die_although_its_child_lives(
    child: Child, way: Way, start: Start
) -> None:
    """The child's copies of the connections are closed."""
    with start() as parent:
        parent.call(roles.open_port, "parent")
        parent.call(roles.ask, "them")
        with LoopThread() as thread:
            remote = way.remote("parent")
            remote.request(msgid=Do.WHO)
            ended = Recorder()
            thread.call(remote.add_invalidation_handler, ended)
            forked = parent.call(roles.fork_and_sleep)
            try:
                parent.kill()
                assert ended.wait(1)
                os.kill(forked, 0)
                with pytest.raises(PortError):
                    way.remote("parent").request(msgid=Do.WHO)
                with way.open("parent"):
                    pass
            finally:
                os.kill(forked, 9)


def test_at_rest_the_child_has_none_of_the_parents_descriptors(child: Child, way: Way) -> None:
    remote = way.remote("them")
    before = set(open_descriptors().values())
    with way.open("us") as port:
        remote.request([port, bytes(1 << 20)], msgid=Do.PORT)
        text = in_child(lambda: sorted({*roles.descriptors().values()} - before))
    assert "socket" not in text
    assert "memfd" not in text
    assert eventually(lambda: remote.is_valid)
