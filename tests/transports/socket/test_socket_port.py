"""Ports that listen: where, for whom, and what becomes of who is connected."""

from __future__ import annotations

import gc
import socket
import warnings
from typing import Any

import pytest

from portkit import (
    AuthenticationError,
    InvalidPortError,
    MachPort,
    NameInUseError,
    PortMessage,
    SocketPort,
    TransportError,
    connect_port,
    open_port,
)
from portkit_transports.socket.remote_socket_port import RemoteSocketPort
from portkit_transports.socket.security import InsecureWarning
from portkit_transports.socket.shared_key import PreSharedKey
from tests.ports.helpers import Background, in_child
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.socket.ends import ASK, Ends, Server, dialled, ends, place
from tests.transports.socket.pki import Pki

__all__ = ["ends"]

KEY = PreSharedKey.generate("test")


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback address."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")


def asks(ends: Ends, host: str, number: int, **options: object) -> bool:
    """Whether the port there answers."""
    with SocketPort.remote(host, number, **options) as handle:  # type: ignore[arg-type]
        return handle.request(b"x", msgid=ASK).data == b"x"


# Where it listens.


def test_the_system_picks_a_number(ends: Ends) -> None:
    one, two = ends.serve(Server()), ends.serve(Server())
    for port in (one, two):
        host, number = place(port)
        assert str(port.address) == f"socket://127.0.0.1:{number}"
        assert number > 0
        assert asks(ends, host, number)
    assert place(one) != place(two)
    assert not one.is_remote
    one.invalidate()
    assert one.address is None
    assert one.number == 0


def test_a_number_that_is_given_is_free_again_at_once(ends: Ends) -> None:
    at = place(ends.serve(Server()))
    with pytest.raises(NameInUseError, match=rf"127.0.0.1:{at[1]} is taken: .*such as 0 for any"):
        SocketPort(at)
    with SocketPort() as free:
        at = place(free)
        handle = ends.remote(free)
        handle.send(b"x")  # so that the connection is in TIME_WAIT after
    with SocketPort(at):
        pass


@needs_ipv6
def test_ipv6(ends: Ends) -> None:
    port = ends.serve(Server(), ("::1", 0))
    _, number = place(port)
    assert str(port.address) == f"socket://[::1]:{number}"
    assert asks(ends, "::1", number)
    with connect_port(f"socket://[::1]:{number}") as handle:
        assert handle.request(b"y", msgid=ASK).data == b"y"
        assert str(handle.address) == f"socket://[::1]:{number}"


def test_a_name(ends: Ends) -> None:
    port = ends.serve(Server(), ("localhost", 0))
    assert asks(ends, "localhost", place(port)[1])


@needs_ipv6
def test_both_families_at_once(ends: Ends) -> None:
    with pytest.warns(InsecureWarning, match=r"anybody who reaches :: can connect"):
        port = ends.serve(Server(), ("::", 0), insecure=True)
    number = place(port)[1]
    assert asks(ends, "127.0.0.1", number)
    assert asks(ends, "::1", number)
    senders: list[str] = []

    def note(message: PortMessage) -> None:
        assert message.sender is not None
        senders.append(message.sender.host)

    port.delegate = note
    with SocketPort.remote("127.0.0.1", number) as handle:
        handle.send(b"x")
        assert eventually(lambda: senders)
    assert senders == ["127.0.0.1"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_others_may_not_connect_unasked(host: str) -> None:
    if host == "::" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with pytest.raises(ValueError, match=r"tls=.*key=.*insecure=True"):
        SocketPort((host, 0))


def test_a_key_or_certificates_are_enough(ends: Ends, pki: Pki) -> None:
    tls = pki.config()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_key = ends.serve(Server(), ("0.0.0.0", 0), key=KEY)
        by_tls = ends.serve(Server(), ("0.0.0.0", 0), tls=tls)
    assert asks(ends, "127.0.0.1", place(by_key)[1], key=KEY)
    assert asks(ends, "localhost", place(by_tls)[1], tls=tls)
    with pytest.raises(AuthenticationError):
        asks(ends, "127.0.0.1", place(by_key)[1])


def test_a_warning_names_the_line_that_opened_the_port() -> None:
    with pytest.warns(InsecureWarning) as caught, SocketPort(("0.0.0.0", 0), insecure=True):
        pass
    assert caught[0].filename == __file__
    with pytest.warns(InsecureWarning), open_port("socket://0.0.0.0:0", insecure=True):
        pass


def test_no_such_address_here() -> None:
    with pytest.raises(TransportError, match=r"192.0.2.1:0 cannot be listened at: .*this host"):
        SocketPort(("192.0.2.1", 0), key=KEY)
    with pytest.raises(TransportError, match=r"'no.such.host.invalid' cannot be found"):
        SocketPort(("no.such.host.invalid", 0))
    with pytest.raises(TransportError, match=r"cannot be found"):
        SocketPort(("a..b", 0))


def test_wrong_arguments() -> None:
    for address in (
        "127.0.0.1:80",
        ("127.0.0.1",),
        80,
        ("127.0.0.1", "80"),
        (b"h", 1),
        ("h", True),
    ):
        with pytest.raises(TypeError, match=r"host|number"):
            SocketPort(address)  # type: ignore[arg-type]
    for number in (-1, 65536):
        with pytest.raises(ValueError, match=r"0 to 65535"):
            SocketPort(("127.0.0.1", number))
    given: tuple[dict[str, Any], ...] = (
        {"tls": 1},
        {"key": 1},
        {"key": [KEY, 1]},
        {"options": [1]},
        {"options": [(1, 2, "x")]},
        {"settings": {}},
    )
    for wrong in given:
        with pytest.raises(TypeError, match=next(iter(wrong))):
            SocketPort(**wrong)
    with pytest.raises(ValueError, match=r"the same id"):
        SocketPort(key=[KEY, PreSharedKey.generate("test")])
    with pytest.raises(TypeError, match=r"delegate"):
        SocketPort(delegate=1)
    with pytest.raises(ValueError, match=r"queue_limit"):
        SocketPort(queue_limit=0)


# A socket that somebody else made.


@pytest.mark.parametrize("listens", [False, True])
def test_a_socket_is_adopted(ends: Ends, listens: bool) -> None:
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    number = made.getsockname()[1]
    if listens:
        made.listen(1)
    port = ends.serve(Server(), socket=made)
    assert place(port) == ("127.0.0.1", number)
    assert asks(ends, "127.0.0.1", number)
    port.invalidate()
    assert made.fileno() < 0


def test_options_are_set_on_an_adopted_socket(ends: Ends) -> None:
    made = socket.create_server(("127.0.0.1", 0))
    ends.serve(Server(), socket=made, options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)])
    assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(TransportError, match=r"does not take option \(1, 99999, 1\)"),
    ):
        SocketPort(socket=other, options=[(socket.SOL_SOCKET, 99999, 1)])


def test_who_connected_before_is_served(ends: Ends) -> None:
    made = socket.create_server(("127.0.0.1", 0))
    server = Server()
    with SocketPort.remote("127.0.0.1", made.getsockname()[1]) as handle:
        handle.send(b"x", timeout=0)
        ends.serve(server, socket=made)
        assert server.wait(1)


def test_what_is_no_listening_socket_is_not(ends: Ends) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as wrong, pytest.raises(ValueError, match=r"a TCP"):
        SocketPort(socket=wrong)
    near, far = socket.socketpair()
    with near, far, pytest.raises(ValueError, match=r"must be a TCP socket"):
        SocketPort(socket=near)
    with socket.socket() as unbound, pytest.raises(ValueError, match=r"bind\(\) it first"):
        SocketPort(socket=unbound)
    port = ends.serve(Server())
    with (
        socket.create_connection(place(port)) as connected,
        pytest.raises(TransportError, match=r"cannot listen"),
    ):
        SocketPort(socket=connected)
    anywhere = socket.socket()
    anywhere.bind(("0.0.0.0", 0))
    with anywhere, pytest.raises(ValueError, match=r"insecure=True"):
        SocketPort(socket=anywhere)


def test_options_are_those_of_the_sockets(ends: Ends) -> None:
    option = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    port = ends.serve(Server(), options=[option])
    handle = ends.remote(port, options=[option])
    handle.connect()
    (link,) = dialled()
    for fd in (link.channel.fileno(), port._node.links[0].channel.fileno()):  # type: ignore[union-attr]
        found = socket.socket(fileno=fd)
        try:
            assert found.getsockopt(*option[:2]) == 1
        finally:
            found.detach()
    wrong = (socket.IPPROTO_TCP, 9999, 1)
    with pytest.raises(TransportError, match=r"cannot be listened at: Protocol not available"):
        SocketPort(options=[wrong])
    with pytest.raises(TransportError, match=r"Protocol not available"):
        ends.remote(port, options=[wrong]).send(b"x")


# One that does not listen.


def test_a_port_that_does_not_listen_is_reached_by_who_got_it(ends: Ends) -> None:
    server = Server()
    hidden = ends.serve(server, None)
    assert hidden.address is None
    assert hidden.connections == 0
    other = Server()
    ends.remote(ends.serve(other)).send(hidden)
    assert other.wait(1)
    other.ports[0].send(b"x")
    assert other.ports.pop().request(b"y", msgid=ASK).data == b"y"
    assert server.wait(1)


# Who is connected.


def test_many_clients_share_a_port(ends: Ends, pki: Pki) -> None:
    port = ends.serve(Server())
    number = place(port)[1]
    handles = [
        SocketPort.remote("127.0.0.1", number, connect_timeout=10.0 + index) for index in range(50)
    ]
    threads = [
        Background(lambda h=handle: h.request(b"x", msgid=ASK, reply_timeout=PATIENCE).data)  # type: ignore[misc]
        for handle in handles
    ]
    assert [thread.result() for thread in threads] == [b"x"] * 50
    assert port.connections == 50
    for handle in handles:
        handle.invalidate()
    assert eventually(lambda: not port.connections)


def test_answers_come_over_the_same_connection(ends: Ends) -> None:
    """To a port that the client sent along, and that listens nowhere."""
    got: list[bytes | None] = []

    def answer(message: PortMessage) -> None:
        if message.send_port is not None:
            message.send_port.send(b"answer to " + (message.data or b""))

    proxy = ends.proxy(ends.serve(answer))
    with LoopThread() as loop, MachPort(lambda message: got.append(message.data)) as own:
        loop.call(loop.loop.add_port, own)
        handle = ends.remote(proxy)
        handle.send(b"x", reply_port=own)
        assert eventually(lambda: got == [b"answer to x"])
    assert proxy.accepted == 1


def test_an_invalidated_port_tells_all_its_clients_at_once(ends: Ends) -> None:
    port = ends.serve(Server())
    number = place(port)[1]
    handles = [
        SocketPort.remote("127.0.0.1", number, connect_timeout=10.0 + index) for index in range(5)
    ]
    watches = [ends.watch(handle) for handle in handles]
    for handle in handles:
        handle.connect()
    port.invalidate()
    for handle, watch in zip(handles, watches, strict=True):
        assert eventually(lambda w=watch: w.ended)  # type: ignore[misc]
        with pytest.raises(InvalidPortError, match=r"its owner invalidated it"):
            handle.send(b"x")
    assert eventually(lambda: not port.connections)
    with pytest.raises(TransportError, match=r"refused"):
        asks(ends, "127.0.0.1", number)


def test_a_port_that_is_dropped_warns_and_lets_go(ends: Ends) -> None:
    ports = [SocketPort()]
    number = place(ports[0])[1]
    handle = SocketPort.remote("127.0.0.1", number)
    watch = ends.watch(handle)
    handle.send(b"x")
    with pytest.warns(ResourceWarning, match=rf"127.0.0.1:{number}.* was dropped.*invalidate\(\)"):
        ports.clear()
    assert eventually(lambda: watch.ended)
    with pytest.raises(TransportError, match=r"refused"):
        asks(ends, "127.0.0.1", number)


def test_one_that_does_not_listen_just_goes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        port = SocketPort(None)
        assert port.is_valid
        del port
        gc.collect()


def test_a_fork_has_no_part_in_it(ends: Ends) -> None:
    server = Server()
    port = ends.serve(server)
    number = place(port)[1]
    handle = ends.remote(port)
    handle.send(b"x")
    text = in_child(lambda: handle.send(b"y"))
    assert text.startswith("InvalidPortError: the port was got before this process was forked")
    assert in_child(lambda: asks(ends, "127.0.0.1", number)) == "True"
    handle.send(b"z")
    assert server.wait(2)
    assert server.kept == [b"x", b"z"]


# By address.


def test_by_address(ends: Ends) -> None:
    server = Server()
    with LoopThread() as loop, open_port("socket://127.0.0.1:0", server, queue_limit=5) as port:
        assert isinstance(port, SocketPort)
        assert port.queue_limit == 5
        loop.call(loop.loop.add_port, port)
        assert port.address is not None
        with connect_port(port.address, connect_timeout=3.0) as handle:
            assert isinstance(handle, RemoteSocketPort)
            assert handle.request(b"x", msgid=ASK).data == b"x"
            assert handle.address == port.address
    with open_port("socket:") as silent:
        assert silent.address is None


@pytest.mark.parametrize(
    "address",
    [
        "socket://host",
        "socket://host:",
        "socket://host:port",
        "socket:host:1",
        "socket://::1:7000",
        "socket://[::1]",
        "socket://host:1/path",
        "socket:///host:1",
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    for use in (open_port, connect_port):
        with pytest.raises(ValueError, match=r"socket://HOST:PORT.*\[::1\]:7000"):
            use(address)


def test_addresses_that_cannot_be_connected_to() -> None:
    for address in ("socket://host:0", "socket://host:65536", "socket://host:99999"):
        with pytest.raises(ValueError, match=r"1 to 65535"):
            connect_port(address)
    with pytest.raises(ValueError, match=r"name a host"):
        connect_port("socket://:7000")
    with pytest.raises(ValueError, match=r"HOST:PORT"):
        connect_port("socket:")
    with pytest.raises(TypeError, match=r"wrong"):
        connect_port("socket://host:7000", wrong=1)
