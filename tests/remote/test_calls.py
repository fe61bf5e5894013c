"""Calls, callbacks, one-way calls and their order; time-outs, threads, statistics."""

from __future__ import annotations

import gc
import threading
from contextvars import Context, ContextVar
from functools import partial
from typing import Protocol

import pytest

from portkit import InvalidPortError, MachPort, PortError, ReceiveTimeoutError, RemoteError, RunLoop
from portkit.remote import Call, Connection, Service, current_call, with_timeout
from tests.ports.helpers import Background
from tests.remote import roles
from tests.remote.desk import Desk, DeskServer, Listener
from tests.remote.sides import InProcess, There, connected
from tests.support import PATIENCE, LoopThread, Reports, eventually
from tests.transports.processes.roles import Here

pytestmark = pytest.mark.own_thread


class Ear:
    """A listener."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.threads: set[int] = set()

    def heard(self, number: int) -> int:
        self.numbers.append(number)
        self.threads.add(threading.get_ident())
        return 2 * number


class TestCalls:
    def test_ten_thousand(self, there: There) -> None:
        with connected() as (connection, desk):
            assert all(desk.add(number, 1) == number + 1 for number in range(10_000))
            assert connection.statistics().made == 10_000
            (theirs,) = there.call(roles.statistics, "desk")
            assert theirs[:4] == (0, 10_000, 0, 0)

    def test_arguments_by_name_and_by_default(self, there: There) -> None:
        """What the caller leaves out, the object has its own default for."""
        with connected() as (_, desk):
            assert desk.add(3) == 4
            assert desk.add(right=5, left=1) == 6

    def test_echoes_of_100_kb(self, there: There) -> None:
        with connected() as (_, desk):
            for number in range(50):
                data = bytes([number]) * 100_000
                assert desk.echo(data) == data

    def test_out_of_line(self, there: There) -> None:
        with connected() as (_, desk):
            data = bytes(range(256)) * 8192
            for _ in range(3):
                assert desk.echo(data) == data

    def test_it_is_there_that_is_called(self, there: There) -> None:
        with connected() as (_, desk):
            assert desk.process() == there.call(roles.process)

    def test_current_call(self, there: There) -> None:
        assert current_call() is None
        with connected() as (_, desk):
            assert desk.depth() == 1
        assert current_call() is None


class TestCallbacks:
    def test_a_thousand_during_a_call(self, there: There) -> None:
        ear = Ear()
        with connected() as (_, desk):
            assert desk.call_back(ear, 1000) == [2 * number for number in range(1000)]
        assert ear.numbers == list(range(1000))
        assert ear.threads == {threading.get_ident()}

    def test_of_many_objects_whose_loop_never_runs_but_in_calls(self, there: There) -> None:
        """The other side lets go of each; here that is noticed in time, or not all could go."""
        with connected(max_objects=20) as (connection, desk):
            for _ in range(100):
                assert desk.call_back(Ear(), 1) == [0]
            assert eventually(lambda: desk.add(1) and connection.statistics().objects <= 1)

    def test_from_several_threads(self, there: There) -> None:
        ear = Ear()
        with connected() as (_, desk):
            assert desk.call_back_from_threads(ear, 4, 50) == 4 * 2 * sum(range(50))
        assert len(ear.numbers) == 200
        assert ear.threads == {threading.get_ident()}

    def test_nested_both_ways(self, there: There) -> None:
        with connected() as (_, desk):
            assert desk.descend(DeskServer(), 10) == 11

    def test_nested_too_deep(self, there: There) -> None:
        """One of the sides says so, before either's stack is full; both go on."""
        with connected(max_depth=20) as (_, desk):
            with pytest.raises(RemoteError, match="max_depth=") as caught:
                desk.descend(DeskServer(), 10_000)
            assert caught.value.type == "builtins.RecursionError"
            assert desk.add(1) == 2

    def test_nested_too_deep_by_default(self, there: There) -> None:
        with connected() as (_, desk):
            with pytest.raises(RemoteError, match="the limit is 32"):
                desk.descend(DeskServer(), 10_000)
            assert desk.descend(DeskServer(), 31) == 32

    def test_nested_deeper_than_the_other_side_lets(self, there: There) -> None:
        there.call(roles.serve, "shallow", {"max_depth": 3})
        with connected("shallow") as (_, desk):
            with pytest.raises(RemoteError, match="the limit is 3") as caught:
                desk.descend(DeskServer(), 100)
            assert caught.value.type == "builtins.RecursionError"
            assert desk.depth() == 1

    def test_on_another_thread_than_the_callers(self, there: There) -> None:
        """The objects of a connection are served on its loop, whoever calls."""
        ear = Ear()
        with LoopThread() as thread, connected(loop=thread.loop) as (_, desk):
            assert desk.call_back(ear, 10) == [2 * number for number in range(10)]
            assert ear.threads == {thread.loop.ident}

    def test_who_calls(self, there: There) -> None:
        class Asked:
            def heard(self, number: int) -> int:
                call = current_call()
                assert call is not None
                calls.append(call)
                return 0

        calls: list[Call] = []
        with connected() as (connection, desk):
            desk.call_back(Asked(), 1)
            (call,) = calls
            assert call.connection is connection
            assert call.depth == 2
            assert (call.sender is None) == (not isinstance(there, InProcess))
            calls.clear()
            del call

    def test_what_is_registered_in_a_call_does_not_keep_it(self, there: There) -> None:
        seen = []

        class Later:
            def heard(self, number: int) -> int:
                RunLoop.current().call_later(0, lambda: seen.append(current_call()))
                RunLoop.current().add_port(port)
                port.delegate = lambda message: seen.append(current_call())
                seen.append(current_call())
                return 0

        with MachPort() as port, connected() as (_, desk):
            desk.call_back(Later(), 1)
            port.send(b"")
            assert eventually(
                lambda: RunLoop.current().run_in_mode("default", 0) and len(seen) == 3
            )
        assert seen[0] is not None
        assert seen[1:] == [None, None]


class TestOneWay:
    def test_in_order_with_calls(self, there: There) -> None:
        with connected() as (_, desk):
            for number in range(200):
                desk.note(number)
                if number % 7 == 0:
                    assert desk.notes() == list(range(number + 1))
            assert desk.notes() == list(range(200))

    def test_what_was_sent_before_the_end_is_done(self, there: There) -> None:
        for _ in range(20):
            with connected() as (_, desk):
                for number in range(10):
                    desk.note(number)
                del desk
        # Each connection's objects have ports of their own, between which there is no order.
        assert eventually(
            lambda: sorted(there.call(roles.collect_calls, "desk")) == sorted([*range(10)] * 20)
        )

    def test_errors_are_reported_there_only(self, there: There, reports: Reports) -> None:
        with connected() as (_, desk):
            desk.fail_unheard()
            assert desk.add(1) == 2
            (theirs,) = there.call(roles.statistics, "desk")
            assert theirs.failed == 1
        if not isinstance(there, InProcess):
            (error,) = reports.take()
            assert str(error) == "unheard"

    def test_to_an_ended_connection(self, there: There) -> None:
        with connected() as (_, desk):
            pass
        with pytest.raises(InvalidPortError, match="make another one"):
            desk.note(1)


class TestTimeouts:
    def test_of_a_connection(self, there: There) -> None:
        with connected() as (connection, desk):
            connection.options = connection.options._replace(timeout=0.05)
            del desk
            hasty = connection.root(Desk)
            with pytest.raises(ReceiveTimeoutError):
                hasty.wait(0.2)
            assert with_timeout(hasty, PATIENCE).add(1) == 2

    def test_of_a_proxy(self, there: There) -> None:
        with connected() as (_, desk):
            hasty = with_timeout(desk, 0.05)
            assert hasty == desk
            assert hash(hasty) == hash(desk)
            with pytest.raises(ReceiveTimeoutError):
                hasty.wait(0.2)
            desk.wait(0.1)

    def test_late_answers_go_nowhere(self, there: There) -> None:
        with connected() as (_, desk):
            for _ in range(5):
                with pytest.raises(ReceiveTimeoutError):
                    with_timeout(desk, 0).wait(0.01)
            assert desk.add(1) == 2

    def test_wrong_ones(self, there: There) -> None:
        with connected() as (_, desk):
            with pytest.raises((TypeError, ValueError)):
                with_timeout(desk, "1")  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="proxy"):
                with_timeout(3, 1.0)


class TestThreads:
    def test_many_call_through_one_proxy(self, there: There) -> None:
        with connected() as (_, desk):

            def call(thread: int) -> list[int]:
                return [desk.add(thread, number) for number in range(200)]

            threads = [Background(partial(call, thread)) for thread in range(8)]
            for thread, running in enumerate(threads):
                assert running.result() == [thread + number for number in range(200)]

    def test_more_callers_than_fit_on_a_stack(self) -> None:
        """Each waits for a callback while the next is served, but not without end."""

        class Nesting(DeskServer):
            inside = deepest = 0

            def call_back(self, listener: Listener, times: int) -> list[int]:
                self.inside += 1
                self.deepest = max(self.deepest, self.inside)
                try:
                    return super().call_back(listener, times)
                finally:
                    self.inside -= 1

        root = Nesting()
        with LoopThread() as serving, LoopThread() as listening, MachPort() as port:
            service = serving.call(lambda: Connection.serve(port, root, Desk, max_depth=4))
            with Connection.to(port, loop=listening.loop, timeout=PATIENCE) as connection:
                desk = connection.root(Desk)
                ear, go_on = Ear(), threading.Event()
                listening.loop.perform(go_on.wait, PATIENCE)
                callers = [Background(partial(desk.call_back, ear, 1)) for _ in range(60)]
                assert eventually(lambda: connection.statistics().made == 60 and root.inside >= 4)
                go_on.set()
                assert [caller.result() for caller in callers] == [[0]] * 60
                assert root.deepest <= 5
            serving.call(service.invalidate)

    def test_many_ask_for_the_root_at_once(self, there: There) -> None:
        with Connection.to(Here.way.remote("desk"), timeout=PATIENCE) as connection:
            barrier = threading.Barrier(8)

            def root() -> Desk:
                barrier.wait(PATIENCE)
                return connection.root(Desk)

            roots = [running.result() for running in [Background(root) for _ in range(8)]]
            assert len({id(desk) for desk in roots}) == 1
            assert roots[0].add(1) == 2
            del roots
            assert eventually(lambda: there.call(roles.connections, "desk") == 1)


class TestStatistics:
    def test_of_both_sides(self, there: There) -> None:
        with connected() as (connection, desk):
            desk.add(1)
            with pytest.raises(RemoteError):
                desk.fail("plain")
            item = desk.item("a")
            desk.call_back(Ear(), 3)
            ours = connection.statistics()
            assert ours.made == 4
            assert ours.served == 3
            assert ours.proxies == 2
            (theirs,) = there.call(roles.statistics, "desk")
            assert (theirs.made, theirs.served, theirs.failed, theirs.refused) == (3, 4, 1, 0)
            assert theirs.objects == 2
            del item
            gc.collect()
            assert eventually(lambda: there.call(roles.statistics, "desk")[0].objects == 1)


class TestOnOneThread:
    def test_service_and_caller_share_a_loop(self) -> None:
        with (
            MachPort() as port,
            Connection.serve(port, DeskServer(), Desk),
            Connection.to(port) as connection,
        ):
            desk = connection.root(Desk)
            assert desk.add(1) == 2
            assert desk.descend(DeskServer(), 6) == 1  # what it gets is the object itself

    def test_unless_they_serve_nothing_meanwhile(self) -> None:
        with (
            MachPort() as port,
            Connection.serve(port, DeskServer(), Desk, independent=True),
            Connection.to(port) as connection,
            pytest.raises(PortError, match="thread"),
        ):
            connection.root(Desk)


NAME: ContextVar[str] = ContextVar("name", default="nobody")


class Asking(Protocol):
    def variable(self, other: Asking | None) -> list[str]: ...


class Asked:
    def variable(self, other: Asking | None) -> list[str]:
        found = [NAME.get()]
        NAME.set("changed in a call")
        return found if other is None else found + other.variable(None)


def test_context_variables_are_those_of_where_a_side_was_made() -> None:
    with LoopThread() as thread, MachPort() as port:

        def serve() -> Service:
            NAME.set("the service")
            service = Connection.serve(port, Asked(), Asking)
            NAME.set("later")
            return service

        service = thread.call(lambda: Context().run(serve))
        NAME.set("the caller")
        with service, Connection.to(port) as connection:
            NAME.set("later")
            asking = connection.root(Asking)
            for _ in range(2):
                assert asking.variable(Asked()) == ["the service", "the caller"]
            assert NAME.get() == "later"
