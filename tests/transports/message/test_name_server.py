"""The name server of one host, between real processes."""

from __future__ import annotations

import pytest

from portkit import (
    AuthenticationError,
    InvalidPortError,
    MachPort,
    MessagePort,
    NameInUseError,
    NameNotFoundError,
    ReceiveTimeoutError,
    TransportError,
)
from portkit.names import NameServer
from portkit_transports.message.name_server import MessagePortNameServer
from tests.ports.helpers import Background, Recorder
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.message import named
from tests.transports.processes import roles
from tests.transports.processes.child import Child
from tests.transports.processes.roles import Do

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def server() -> NameServer:
    """The name server, as others use it."""
    return MessagePortNameServer()


class TestRegister:
    def test_several_names_for_one_port(self, child: Child, server: NameServer) -> None:
        with LoopThread() as thread, MessagePort("us", Recorder(b"here")) as port:
            thread.loop.add_port(port)
            server.register("also", port)
            server.register("too", port)
            assert server.names() == ["also", "them", "too", "us"]
            for name in ("us", "also", "too"):
                assert child.call(roles.ask, name) == b"here"
        assert server.names() == ["them"]

    def test_a_port_without_a_name_of_its_own(self, child: Child, server: NameServer) -> None:
        with LoopThread() as thread, MessagePort(delegate=Recorder(b"here")) as port:
            thread.loop.add_port(port)
            server.register("us", port)
            assert child.call(roles.ask, "us") == b"here"

    def test_again(self, server: NameServer) -> None:
        with MessagePort("us") as port:
            server.register("us", port)
            server.register("also", port)
            server.register("also", port)
            assert server.names() == ["also", "us"]

    def test_a_name_in_use(self, child: Child, server: NameServer) -> None:
        with MessagePort("us") as port, MessagePort() as other:
            for name in ("us", "them"):
                with pytest.raises(NameInUseError):
                    server.register(name, other)
            with pytest.raises(NameInUseError):
                server.register("them", port)

    def test_a_dead_owners_name(self, child: Child, server: NameServer) -> None:
        child.kill()
        with MessagePort() as port:
            server.register("them", port)
            assert server.names() == ["them"]

    def test_what_cannot_be_offered(self, child: Child, server: NameServer) -> None:
        with MachPort() as port, pytest.raises(TransportError, match="make a MessagePort"):
            server.register("us", port)
        with pytest.raises(TransportError, match="make a MessagePort"):
            server.register("us", MessagePort.remote("them"))

    def test_an_invalid_port(self, server: NameServer) -> None:
        port = MessagePort()
        port.invalidate()
        with pytest.raises(InvalidPortError):
            server.register("us", port)

    @pytest.mark.parametrize("call", ["lookup", "unregister"])
    def test_what_can_be_no_name(self, server: NameServer, call: str) -> None:
        with pytest.raises(ValueError, match="name"):
            getattr(server, call)("")
        with pytest.raises(ValueError, match="name"):
            server.wait_for("", 0)
        with MessagePort() as port, pytest.raises(ValueError, match="name"):
            server.register("", port)

    def test_dropped_without_an_end(self, child: Child, server: NameServer) -> None:
        with pytest.warns(ResourceWarning, match="also"):
            server.register("also", MessagePort())
        assert eventually(lambda: server.names() == ["them"])


class TestLookup:
    def test_finds_the_port(self, child: Child, server: NameServer) -> None:
        found = server.lookup("them")
        assert found.request(msgid=Do.WHO).data == b"%d" % child.pid
        assert found == server.lookup("them")

    def test_does_not_wait(self, server: NameServer) -> None:
        with pytest.raises(NameNotFoundError):
            server.lookup("nobody")

    def test_of_a_dead_owner(self, child: Child, server: NameServer) -> None:
        child.kill()
        with pytest.raises(NameNotFoundError):
            server.lookup("them")

    def test_in_the_owners_process(self, server: NameServer) -> None:
        with MessagePort("us") as port:
            server.lookup("us").send(b"hello")
            assert port.receive(PATIENCE).data == b"hello"


class TestUnregister:
    def test_the_port_lives_on(self, child: Child, server: NameServer) -> None:
        with LoopThread() as thread, MessagePort("us", Recorder(b"here")) as port:
            thread.loop.add_port(port)
            server.register("also", port)
            server.unregister("also")
            assert server.names() == ["them", "us"]
            assert child.call(roles.ask, "us") == b"here"
            with pytest.raises(NameNotFoundError):
                server.unregister("also")

    def test_handles_got_by_that_name_end(self, child: Child, server: NameServer) -> None:
        child.call(named.register, "also", "them")
        also, them = server.lookup("also"), server.lookup("them")
        assert also.request(b"1", msgid=Do.ECHO).data == b"1"
        assert them.request(b"2", msgid=Do.ECHO).data == b"2"
        child.call(named.unregister, "also")
        assert eventually(lambda: not also.is_valid)
        assert them.request(b"3", msgid=Do.ECHO).data == b"3"

    def test_handles_in_the_owners_process_end(self, server: NameServer) -> None:
        with LoopThread() as thread, MessagePort("us") as port:
            server.register("also", port)
            also, us = server.lookup("also"), server.lookup("us")
            ended = Recorder()
            thread.call(also.add_invalidation_handler, ended)
            server.unregister("also")
            assert ended.wait(1)
            assert not also.is_valid
            with pytest.raises(InvalidPortError, match="also"):
                also.send(b"")
            us.send(b"hello")
            assert port.receive(PATIENCE).data == b"hello"

    def test_the_ports_own_name(self, server: NameServer) -> None:
        with MessagePort("us") as port:
            server.register("also", port)
            server.unregister("us")
            assert port.name is None
            assert server.names() == ["also"]

    def test_only_the_owner_may(self, child: Child, server: NameServer) -> None:
        """N2."""
        with pytest.raises(AuthenticationError, match=str(child.pid)):
            server.unregister("them")
        assert server.names() == ["them"]
        child.kill()
        with pytest.raises(NameNotFoundError):
            server.unregister("them")

    def test_an_unknown_name(self, server: NameServer) -> None:
        with pytest.raises(NameNotFoundError):
            server.unregister("nobody")


class TestWaitFor:
    def test_a_name_that_is_there(self, child: Child, server: NameServer) -> None:
        found = server.wait_for("them", 0)
        assert found.request(msgid=Do.WHO).data == b"%d" % child.pid

    def test_a_name_to_come(self, child: Child, server: NameServer) -> None:
        waiting = Background(lambda: server.wait_for("later", PATIENCE))
        child.call(roles.open_port, "later")
        assert waiting.result().request(msgid=Do.WHO).data == b"%d" % child.pid

    @pytest.mark.parametrize("timeout", [-1, 0, 0.05])
    def test_in_vain(self, server: NameServer, timeout: float) -> None:
        with pytest.raises(ReceiveTimeoutError, match="nobody"):
            server.wait_for("nobody", timeout)
