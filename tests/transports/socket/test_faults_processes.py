"""Processes at the other end that stop, die or fork."""

from __future__ import annotations

import gc
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from portkit import (
    BecameInvalidError,
    InvalidPortError,
    Port,
    RunLoop,
    SendTimeoutError,
    SocketPort,
)
from portkit.link.node import Settings
from portkit_transports.socket.remote_socket_port import RemoteSocketPort
from portkit_transports.socket.tls import TLSConfig
from tests.hosts import roles
from tests.hosts.roles import KEY, Do
from tests.ports.helpers import Background, in_child
from tests.support import PATIENCE, LoopThread, eventually, open_descriptors
from tests.transports.processes.child import Child
from tests.transports.socket.connections import dialled, echoing, place_of, silent
from tests.transports.socket.pki import Pki

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

HOST = "127.0.0.1"
QUIET = Settings(heartbeat=PATIENCE)
LARGE = 200_000


@pytest.fixture(params=["key", "key and TLS"])
def tls(request: pytest.FixtureRequest, pki: Pki) -> TLSConfig | None:
    return None if request.param == "key" else pki.config()


@contextmanager
def reached(
    child: Child, tls: TLSConfig | None = None, settings: Settings = QUIET
) -> Iterator[RemoteSocketPort]:
    """A handle to a port of the child's."""
    number = child.call(partial(roles.listen, tls=tls, heartbeat=PATIENCE), HOST)
    remote = SocketPort.remote(HOST, number, tls=tls, key=KEY, settings=settings)
    remote.connect(PATIENCE)
    try:
        yield remote
    finally:
        remote.invalidate()


@pytest.fixture
def child(no_leftovers: None) -> Iterator[Child]:
    with Child() as made:
        yield made


# Stopped.


def test_a_process_that_stands_still_is_found_by_the_heartbeat(
    child: Child, tls: TLSConfig | None
) -> None:
    with LoopThread() as thread, reached(child, tls, Settings(heartbeat=0.3)) as remote:
        ended: list[Port] = []
        remote.add_invalidation_handler(ended.append, loop=thread.loop)
        child.stop()
        start = time.monotonic()
        assert eventually(lambda: ended)
        assert time.monotonic() - start < 5
        with pytest.raises(InvalidPortError, match=r"nothing came from the peer for 0\.3 s"):
            remote.send(b"in vain")
        child.signal(signal.SIGCONT)
        again = SocketPort.remote(HOST, number_of(remote), tls=tls, key=KEY)
        answer = again.request(b"again", msgid=Do.ECHO, send_timeout=PATIENCE)
        assert answer.data == b"again"
        thread.call(lambda: None)
        assert ended == [remote]
        again.invalidate()


def number_of(remote: RemoteSocketPort) -> int:
    return int(remote.address.target.rpartition(":")[2])


def test_one_that_stands_still_for_less_than_that_is_not_dead(
    child: Child, tls: TLSConfig | None
) -> None:
    with reached(child, tls) as remote:
        child.stop()
        asking = Background(lambda: remote.request(b"?", msgid=Do.ECHO, reply_timeout=PATIENCE))
        remote.send(b"kept", msgid=Do.KEEP)
        child.signal(signal.SIGCONT)
        assert asking.result().data == b"?"
        assert eventually(lambda: child.call(roles.kept) == [b"kept"])


def test_what_was_accepted_for_one_that_stood_still_arrives_in_order(
    child: Child, tls: TLSConfig | None
) -> None:
    with reached(child, tls) as remote:
        child.stop()
        accepted = 0
        while try_send(remote, accepted):
            accepted += 1
        assert accepted * LARGE < 64 << 20, "what waits is bounded"
        child.signal(signal.SIGCONT)
        remote.send(number(accepted), msgid=Do.KEEP, timeout=PATIENCE)
        expected = [number(index) for index in range(accepted + 1)]
        assert eventually(lambda: child.call(roles.kept)[-1:] == expected[-1:])
        assert child.call(roles.kept) == expected
        assert remote.is_valid


def number(index: int) -> bytes:
    return b"%06d" % index + bytes(LARGE)


def try_send(remote: RemoteSocketPort, index: int) -> bool:
    try:
        remote.send(number(index), msgid=Do.KEEP, timeout=0.2)
    except SendTimeoutError:
        return False
    return True


# Killed.


def test_a_process_that_is_killed_ends_what_was_reached_there(
    child: Child, tls: TLSConfig | None
) -> None:
    with LoopThread() as thread, reached(child, tls) as remote:
        ended: list[Port] = []
        remote.add_invalidation_handler(ended.append, loop=thread.loop)
        assert remote.request(b"?", msgid=Do.ECHO).data == b"?"
        child.stop()
        asking = Background(lambda: remote.request(b"?", msgid=Do.ECHO, reply_timeout=PATIENCE))
        child.kill()
        with pytest.raises(BecameInvalidError, match=r"peer|lost"):
            asking.result()
        assert eventually(lambda: ended)
        thread.call(lambda: None)
        assert ended == [remote]


# Forked.


def test_links_and_listeners_of_the_parent_go_on(tls: TLSConfig | None) -> None:
    options: dict[str, Any] = {"tls": tls, "key": KEY}
    with echoing(**options) as port, dialled(port, **options) as remote:

        def use_and_drop() -> str:
            nonlocal remote
            remote.invalidate()
            port.invalidate()
            del remote
            gc.collect()
            return "done"

        assert in_child(use_and_drop) == "done"
        assert remote.request(b"?").data == b"?"
        assert port.connections == 1
        with dialled(port, connect_timeout=PATIENCE, **options) as other:
            assert other.request(b"?").data == b"?"


def test_the_child_has_no_sockets_of_the_parent(tls: TLSConfig | None) -> None:
    options: dict[str, Any] = {"tls": tls, "key": KEY}
    with silent() as nowhere, LoopThread():
        of_this_test = sockets()
        with (
            echoing(**options) as port,
            dialled(port, **options) as remote,
            socket.create_connection(place_of(port)) as in_its_handshake,
        ):
            of_this_test |= {open_descriptors()[in_its_handshake.fileno()]}
            stuck = SocketPort.remote(*nowhere.address, key=KEY)
            before = sockets()
            stuck.send(b"kept until there is a connection", timeout=0)
            assert eventually(lambda: len(sockets()) > len(before))
            assert len(sockets() - of_this_test) >= 4
            assert in_child(lambda: sockets() - of_this_test) == "set()"
            assert remote.request(b"?").data == b"?"
            stuck.invalidate()


def sockets() -> set[str]:
    return {what for what in open_descriptors().values() if what.startswith("socket")}


def test_the_child_makes_its_own(tls: TLSConfig | None) -> None:
    options: dict[str, Any] = {"tls": tls, "key": KEY}
    with echoing(**options) as port, dialled(port, **options) as remote:
        place = place_of(port)

        def use() -> str:
            again = SocketPort.remote(*place, **options)
            assert again != remote
            first = again.request(b"parent", reply_timeout=PATIENCE).data
            with SocketPort(delegate=lambda message: message.components, **options) as own:
                RunLoop.current().add_port(own)
                to_own = SocketPort.remote(*place_of(own), **options)
                answer = to_own.request(b"child", reply_mode="default", reply_timeout=PATIENCE)
                to_own.invalidate()
            again.invalidate()
            return f"{first!r} {answer.data!r}"

        assert in_child(use) == "b'parent' b'child'"
        assert remote.request(b"?").data == b"?"
        assert eventually(lambda: port.connections == 1)


@pytest.mark.parametrize(
    "use",
    [
        lambda remote: remote.send(b""),
        lambda remote: remote.connect(),
        lambda remote: remote.request(b""),
        lambda remote: remote.send_many([b""]),
    ],
    ids=["send", "connect", "request", "send_many"],
)
def test_the_childs_use_of_the_parents_is_refused(
    use: Callable[[RemoteSocketPort], object],
) -> None:
    with echoing() as port, dialled(port) as remote:
        assert in_child(lambda: use(remote)).startswith("InvalidPortError: ")
        never_used = SocketPort.remote(*place_of(port), connect_timeout=PATIENCE)
        assert in_child(lambda: use(never_used)).startswith("InvalidPortError: ")
        assert remote.request(b"?").data == b"?"
