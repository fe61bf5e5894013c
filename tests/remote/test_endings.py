"""The end of a connection, of a side, of a process: told once, and nothing waits in vain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from portkit import (
    InvalidPortError,
    LoopEndedError,
    MachPort,
    Notification,
    NotificationCenter,
    PortError,
    RunLoop,
)
from portkit.remote import CONNECTION_DID_DIE, CONNECTION_DID_INITIALIZE, Connection
from tests.ports.helpers import Background, in_child
from tests.remote import roles
from tests.remote.desk import Desk, DeskServer, Thing
from tests.remote.sides import InProcess, There, connected
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.processes.roles import Here

pytestmark = pytest.mark.own_thread


def run_until(condition: object) -> bool:
    """Run this thread's loop until it holds."""
    return eventually(lambda: RunLoop.current().run_in_mode("default", 0) and condition())  # type: ignore[operator]


class TestDeath:
    def test_is_told_once(self, there: There) -> None:
        """D6."""
        told: list[Connection] = []
        with connected() as (connection, desk):
            connection.add_invalidation_handler(told.append)
            there.call(roles.invalidate, "desk")
            assert run_until(lambda: told)
            assert not connection.is_valid
            with pytest.raises(InvalidPortError):
                desk.add(1)
            connection.invalidate()
            connection.add_invalidation_handler(told.append)
            assert told == [connection, connection]  # the second handler, at once

    @pytest.mark.parametrize("how", ["invalidate", "kill"])
    def test_with_calls_pending(self, there: There, how: str) -> None:
        """They fail at once, and the notification comes once."""
        if not isinstance(there, InProcess) and how != "invalidate":
            return  # a thread cannot be killed
        told: list[Connection] = []
        with (
            LoopThread() as thread,
            connected(loop=thread.loop, timeout=None) as (
                connection,
                desk,
            ),
        ):
            connection.add_invalidation_handler(told.append, loop=thread.loop)
            seconds = 0.3 if how == "invalidate" else PATIENCE
            calls = [Background(partial(desk.wait, seconds)) for _ in range(3)]
            assert eventually(lambda: connection.statistics().made >= len(calls))
            if how == "kill":
                assert isinstance(there, InProcess)
                there.child.kill()
            else:
                there.call(roles.invalidate, "desk")
            for call in calls:
                if how == "invalidate":
                    try:
                        call.result()  # what was under way is still answered
                    except InvalidPortError:
                        pass
                else:
                    with pytest.raises(InvalidPortError):  # whether it was sent already or not
                        call.result()
            assert eventually(lambda: told == [connection])
            assert not connection.is_valid

    def test_of_the_caller_is_told_there(self, there: There, third: There) -> None:
        third.call(roles.hold, "desk")
        assert there.call(roles.connections, "desk") == 1
        if isinstance(third, InProcess):
            third.child.kill()
        else:
            third.call(roles.let_go)
        assert eventually(lambda: there.call(roles.connections, "desk") == 0)
        with connected() as (_, desk):
            assert desk.alive() == 0

    def test_proxies_of_a_dead_side_may_be_sent(self, there: There, third: There) -> None:
        with connected() as (_, desk), connected("third") as (_, other):
            item = desk.item("a")
            there.call(roles.invalidate, "desk")
            assert run_until(lambda: not item._port.is_valid)  # type: ignore[attr-defined]
            with pytest.raises(InvalidPortError):
                other.keep(item)
            assert other.add(1) == 2

    def test_ended_while_something_is_called(self, there: There) -> None:
        with connected() as (connection, desk):

            class Ending:
                def heard(self, number: int) -> int:
                    connection.invalidate()
                    return number

            try:
                assert desk.call_back(Ending(), 1) == [0]
            except PortError:
                pass  # what becomes of the call depends on who was faster
            with pytest.raises(InvalidPortError):
                desk.add(1)
        assert eventually(lambda: there.call(roles.connections, "desk") == 0)

    def test_makes_no_new_connection(self, there: There) -> None:
        connection = Connection.to(Here.way.remote("desk"), timeout=PATIENCE)
        connection.invalidate()
        connection.invalidate()
        assert not connection.is_valid
        with pytest.raises(InvalidPortError, match="make another one"):
            connection.root(Desk)


class TestNotifications:
    @pytest.fixture
    def posted(self) -> Iterator[list[Notification]]:
        found: list[Notification] = []
        center = NotificationCenter.default()
        observations = [
            center.add_observer(found.append, name)
            for name in (CONNECTION_DID_INITIALIZE, CONNECTION_DID_DIE)
        ]
        yield found
        for observation in observations:
            observation.remove()

    def test_of_a_connection(self, there: There, posted: list[Notification]) -> None:
        """D1, D6."""
        with connected() as (connection, _):
            ours = [
                notification.name for notification in posted if notification.sender is connection
            ]
            assert ours == [CONNECTION_DID_INITIALIZE]
        connection.invalidate()
        ours = [notification.name for notification in posted if notification.sender is connection]
        assert ours == [CONNECTION_DID_INITIALIZE, CONNECTION_DID_DIE]

    def test_of_both_sides(self, posted: list[Notification]) -> None:
        with MachPort() as port, Connection.serve(port, DeskServer(), Desk) as service:
            with Connection.to(port) as connection:
                connection.root(Desk)
                (theirs,) = service.connections
            assert run_until(lambda: not service.connections)
        senders = [(n.name == CONNECTION_DID_DIE, n.sender) for n in posted]
        assert senders == [(False, connection), (False, theirs), (True, connection), (True, theirs)]


class TestThreadsEnd:
    def test_of_the_service(self) -> None:
        told = threading.Event()
        with MachPort() as port:
            with LoopThread() as thread:
                service = thread.call(partial(Connection.serve, port, DeskServer(), Desk))
                connection = Connection.to(port)
                desk = connection.root(Desk)
                connection.add_invalidation_handler(lambda _: told.set())
                assert desk.add(1) == 2
            with pytest.raises(InvalidPortError):
                desk.add(1)
            assert run_until(told.is_set)
            assert service.connections == ()

    def test_of_the_caller(self, there: There) -> None:
        """Its objects end with it; what it holds goes with its proxies."""
        desks: list[Desk] = []

        def call() -> None:
            connection = Connection.to(Here.way.remote("desk"), timeout=PATIENCE)
            desks.append(connection.root(Desk))
            desks[0].keep(Thing("a"))

        Background(call).result()
        assert eventually(lambda: desks[0].add(1) == 2)
        kept = desks[0].kept()
        assert kept is not None
        with pytest.raises(InvalidPortError):
            kept.name()
        with pytest.raises(LoopEndedError):
            desks[0].keep(Thing("b"))
        del kept
        desks.clear()
        assert eventually(lambda: there.call(roles.connections, "desk") == 0)


def test_a_forked_child_has_none_of_it(there: There) -> None:
    with connected() as (connection, desk):
        numbers = desk.numbers(1000)
        assert next(numbers) == 0

        root: Callable[[], Desk] = partial(connection.root, Desk)

        def child() -> str:
            texts = []
            for use in (
                partial(desk.add, 1),
                partial(next, numbers),
                root,
            ):
                try:
                    use()
                except InvalidPortError as error:
                    texts.append(str(error))
            connection.invalidate()
            return str(["fork" in text for text in texts])

        assert in_child(child) == "[True, True, True]"
        assert desk.add(1) == 2
        assert list(numbers) == list(range(1, 1000))
