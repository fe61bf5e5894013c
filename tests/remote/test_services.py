"""Who may call, how many, what they get; conversations of two services (D7)."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol, cast, get_type_hints

import pytest

from portkit import (
    AuthenticationError,
    InvalidPayloadError,
    MachPort,
    PortError,
    ReceiveTimeoutError,
    RemoteError,
    RunLoop,
)
from portkit.message import Sender
from portkit.remote import Connection, Options, Service, with_timeout
from portkit.remote.options import OptionArguments
from tests.ports.helpers import Background
from tests.remote import roles
from tests.remote.desk import Desk, DeskServer
from tests.remote.sides import InProcess, There, connected
from tests.support import PATIENCE, LoopThread, Reports, eventually
from tests.transports.processes.roles import Here

pytestmark = pytest.mark.own_thread

LIMITS = [name for name in Options._fields if name.startswith("max_")]


class TestAuthentication:
    def test_refused_before_any_call(self, there: There) -> None:
        there.call(roles.serve_guarded, "guarded", "secret")
        for credentials in (b"", b"wrong", b"x" * 1_000_000):
            with Connection.to(
                Here.way.remote("guarded"), credentials=credentials, timeout=PATIENCE
            ) as connection:
                with pytest.raises(AuthenticationError, match="does not know these credentials"):
                    connection.root(Desk)
                assert connection.is_valid
        assert there.call(roles.refused, "guarded") == 3
        assert there.call(roles.connections, "guarded") == 0
        with connected("guarded", credentials=b"secret") as (_, desk):
            assert desk.add(1) == 2

    def test_large_and_odd_credentials(self, there: There) -> None:
        secret = bytes(range(256)) * 1000
        there.call(roles.serve_guarded, "guarded", secret)
        with connected("guarded", credentials=secret) as (_, desk):
            assert desk.add(1) == 2

    def test_the_senders_process_is_seen(self, there: There) -> None:
        there.call(roles.serve_guarded, "guarded", "secret")
        with connected("guarded", credentials=b"secret"):
            (sender,) = there.call(roles.senders)
            if isinstance(there, InProcess):
                assert sender is not None
                assert sender.pid == os.getpid() or sender.host
            else:
                assert sender is None

    def test_one_that_raises_lets_nobody_in(self, reports: Reports) -> None:
        def authenticate(sender: Sender | None, credentials: bytes) -> bool:
            raise OSError("no list")

        with (
            MachPort() as port,
            Connection.serve(port, DeskServer(), Desk, authenticate=authenticate),
            Connection.to(port) as connection,
            pytest.raises(AuthenticationError),
        ):
            connection.root(Desk)
        assert [str(error) for error in reports.take()] == ["no list"]

    def test_only_true_lets_in(self) -> None:
        with (
            MachPort() as port,
            Connection.serve(port, DeskServer(), Desk, authenticate=lambda *_: 1),  # type: ignore[arg-type]
            Connection.to(port) as connection,
            pytest.raises(AuthenticationError),
        ):
            connection.root(Desk)

    def test_credentials_are_bytes(self) -> None:
        with MachPort() as port, pytest.raises(TypeError):
            Connection.to(port, credentials="text")  # type: ignore[arg-type]


class TestHowMany:
    def test_callers(self, there: There) -> None:
        there.call(roles.serve, "small", {"max_connections": 2})
        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(connected("small"))
            with pytest.raises(PortError, match="come again later"), connected("small"):
                pass
        assert eventually(lambda: there.call(roles.connections, "small") == 0)
        with connected("small") as (_, desk):
            assert desk.add(1) == 2

    def test_greetings_that_nobody_uses_leave_nothing(self, there: There) -> None:
        for _ in range(100):
            with Connection.to(Here.way.remote("desk"), timeout=PATIENCE) as connection:
                connection.root(Desk)
        assert eventually(lambda: there.call(roles.connections, "desk") == 0)

    def test_type_checkers_know_every_option(self) -> None:
        annotations = get_type_hints(OptionArguments)
        assert annotations == get_type_hints(Options)
        assert annotations.keys() == set(Options._fields)

    @pytest.mark.parametrize("name", LIMITS)
    def test_limits_are_numbers(self, name: str) -> None:
        with MachPort() as port:
            with pytest.raises(ValueError, match=f"{name} must be at least 1"):
                Connection.to(port, **cast("Any", {name: 0}))
            with pytest.raises(TypeError, match=f"{name} must be an int"):
                Connection.to(port, **cast("Any", {name: 1.5}))

    @pytest.mark.parametrize("name", [*LIMITS, "max_connections"])
    def test_a_service_says_so_before_anybody_connects(self, name: str) -> None:
        with MachPort() as port:
            with pytest.raises(ValueError, match=f"{name} must be at least 1"):
                Connection.serve(port, DeskServer(), Desk, **cast("Any", {name: 0}))
            with pytest.raises(TypeError, match=f"{name} must be an int"):
                Connection.serve(port, DeskServer(), Desk, **cast("Any", {name: "1"}))
            with pytest.raises(TypeError, match="a time-out is seconds or None"):
                Connection.serve(port, DeskServer(), Desk, timeout=cast("Any", "5"))
            assert port.delegate is None


class TestRoots:
    def test_a_new_one_for_those_who_come(self, there: There) -> None:
        """D4."""
        with connected() as (_, desk):
            desk.note(1)
            assert desk.notes() == [1]
            there.call(roles.replace_root, "desk")
            with connected() as (_, other):
                assert other.notes() == []
                assert desk.notes() == [1]

    def test_one_that_fits(self) -> None:
        with MachPort() as port, Connection.serve(port, DeskServer(), Desk) as service:
            with pytest.raises(TypeError, match="is no Desk: it has no add, no echo"):
                service.root = None
            assert isinstance(service.root, DeskServer)
        with MachPort() as port, pytest.raises(TypeError, match="is no Desk"):
            Connection.serve(port, object(), Desk)

    def test_a_port_that_serves_nothing(self) -> None:
        with LoopThread() as thread, MachPort(lambda message: b"hello") as port:
            thread.loop.add_port(port)
            with (
                Connection.to(port) as connection,
                pytest.raises(InvalidPayloadError, match="serves no object"),
            ):
                connection.root(Desk)
        with pytest.raises(TypeError, match="connect to a port"):
            Connection.to("desk")  # type: ignore[arg-type]

    def test_a_service_ends_all_of_it(self, there: There) -> None:
        with connected() as (connection, _):
            there.call(roles.invalidate, "desk")
            loop = RunLoop.current()
            assert eventually(lambda: loop.run_in_mode("default", 0) and not connection.is_valid)

    def test_its_name(self) -> None:
        with MachPort() as port, Connection.serve(port, DeskServer(), Desk) as service:
            assert "Service of Desk" in repr(service)
            assert service.port is port


class Peer(Protocol):
    """One of two services that call each other."""

    def meet(self) -> int: ...
    def answer(self) -> int: ...


class PeerServer:
    """Calls the other in each call."""

    def __init__(self, barrier: threading.Barrier) -> None:
        self.other: Peer | None = None
        self._barrier = barrier

    def meet(self) -> int:
        self._barrier.wait(PATIENCE)  # both threads are in a call now
        assert self.other is not None
        return self.other.answer()

    def answer(self) -> int:
        return 42


class TestConversations:
    """Two services, on two threads, that call each other at the same moment."""

    def meet(self, *, independent: bool, timeout: float) -> list[Background]:
        barrier = threading.Barrier(2)
        with LoopThread() as first, LoopThread() as second, MachPort() as one, MachPort() as two:
            servers = [PeerServer(barrier), PeerServer(barrier)]
            services: list[Service] = []
            options: dict[str, Any] = {"independent": independent, "timeout": timeout}
            for thread, port, server in zip((first, second), (one, two), servers, strict=True):
                serve = partial(Connection.serve, port, server, Peer, **options)
                services.append(thread.call(serve))
            for thread, port, server in zip((first, second), (two, one), servers, strict=True):
                connection = thread.call(partial(Connection.to, port, **options))
                server.other = connection.root(Peer)
            callers = []
            for port in (one, two):
                connection = Connection.to(port, timeout=PATIENCE)
                callers.append(Background(connection.root(Peer).meet))
            for caller in callers:
                caller.join(PATIENCE)
            for server in servers:
                server.other = None
            for service in services:
                service.invalidate()
        return callers

    def test_serve_each_other(self) -> None:
        for caller in self.meet(independent=False, timeout=PATIENCE):
            assert caller.result() == 42

    def test_independent_ones_time_out(self) -> None:
        """Which they do, as neither serves the other."""
        results = []
        for caller in self.meet(independent=True, timeout=0.5):
            try:
                results.append(caller.result())
            except RemoteError as error:
                results.append(error.type)
        assert "portkit.errors.ReceiveTimeoutError" in results

    def test_independent_ones_serve_nothing_meanwhile(self, there: There) -> None:
        class Heard:
            def heard(self, number: int) -> int:
                return number

        with connected(independent=True) as (_, desk), pytest.raises(ReceiveTimeoutError):
            with_timeout(desk, 0.3).call_back(Heard(), 1)

    def test_unrelated_calls_are_served_while_one_waits(self, there: There) -> None:
        """D7: the default. The service waits for its caller, and serves another."""
        waiting, going_on = threading.Event(), threading.Event()

        class Slow:
            def heard(self, number: int) -> int:
                waiting.set()
                assert going_on.wait(PATIENCE)
                return number

        with LoopThread() as thread, connected(loop=thread.loop) as (_, desk):
            call = Background(partial(desk.call_back, Slow(), 1))
            assert waiting.wait(PATIENCE)
            with connected() as (_, other):
                assert other.add(1) == 2
            going_on.set()
            assert call.result() == [0]


def test_other_messages_are_refused(there: There) -> None:
    port = Here.way.remote("desk")
    with pytest.raises(InvalidPayloadError, match=r"Connection\.to"):
        port.request(b"hello")
    for msgid in (1, 2, 3, 77):
        for data in (b"", b"[]", b"{", b'{"version": 99}', b'{"credentials": "\xff"}'):
            with pytest.raises(InvalidPayloadError):
                port.request(data or b"null", msgid=msgid)
        port.send(b"{}", msgid=msgid)
    with pytest.raises(InvalidPayloadError, match="same release"):
        port.request(b'{"version": 99}', msgid=1)
    with connected() as (_, desk):
        assert desk.add(1) == 2
    assert there.call(roles.refused, "desk") >= 20
