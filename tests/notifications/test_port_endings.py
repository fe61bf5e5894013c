"""PORT_DID_BECOME_INVALID: posted once for each port (P3)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from threading import Barrier, Event, current_thread, get_ident

import pytest

from portkit import (
    COMMON_MODES,
    PORT_DID_BECOME_INVALID,
    MachPort,
    Notification,
    NotificationCenter,
    Port,
    RunLoop,
)
from portkit.message import PortMessage
from portkit.notifications.port_endings import _Announcement
from tests.notifications.helpers import Observer
from tests.ports.helpers import Background, Recorder
from tests.support import PATIENCE, LoopThread, Reports, eventually, run_on_thread
from tests.transports.processes import roles
from tests.transports.processes.child import Child
from tests.transports.processes.roles import Do
from tests.transports.processes.ways import Way

CENTER = NotificationCenter.default()


@pytest.fixture
def ends() -> Iterator[Observer]:
    """Told of the end of any port."""
    observer = Observer()
    with CENTER.add_observer(observer, PORT_DID_BECOME_INVALID):
        yield observer


def senders(observer: Observer) -> list[Port]:
    """The ports whose end it was told of, in that order."""
    return [notification.sender for notification in observer.notifications]


class TestALocalPort:
    def test_is_told_of_in_the_call(self, ends: Observer) -> None:
        port = MachPort()
        states: list[bool] = []
        with CENTER.add_observer(lambda _: states.append(port.is_valid), None, port):
            port.invalidate()
        (notification,) = ends.notifications
        assert notification.name == PORT_DID_BECOME_INVALID == "PortDidBecomeInvalid"
        assert notification.sender is port
        assert notification.user_info is None
        assert ends.threads == {get_ident()}
        assert states == [False]

    def test_once(self, ends: Observer) -> None:
        """P3: not again for what is invalid."""
        port = MachPort()
        for _ in range(3):
            port.invalidate()
        assert senders(ends) == [port]

    def test_by_many_threads_at_once(self, ends: Observer) -> None:
        for _ in range(30):
            ends.notifications.clear()
            port = MachPort()
            start = Barrier(4)

            def end(port: MachPort = port, start: Barrier = start) -> None:
                start.wait(PATIENCE)
                port.invalidate()

            for thread in [Background(end) for _ in range(4)]:
                thread.result()
            assert senders(ends) == [port]

    def test_after_its_handlers(self) -> None:
        told: list[str] = []
        port = MachPort()
        port.add_invalidation_handler(lambda port: told.append("handler"))
        with CENTER.add_observer(lambda _: told.append("observer"), PORT_DID_BECOME_INVALID, port):
            port.invalidate()
        assert told == ["handler", "observer"]

    def test_by_sender(self) -> None:
        one, other, observer = MachPort(), MachPort(), Observer()
        with CENTER.add_observer(observer, PORT_DID_BECOME_INVALID, one):
            other.invalidate()
            one.invalidate()
        assert senders(observer) == [one]

    def test_to_who_observes_everything(self) -> None:
        observer, port = Observer(), MachPort()
        with CENTER.add_observer(observer):
            port.invalidate()
        assert senders(observer) == [port]

    def test_on_a_loop(self) -> None:
        observer, port = Observer(), MachPort()
        with LoopThread() as thread:
            with CENTER.add_observer(observer, PORT_DID_BECOME_INVALID, port, loop=thread.loop):
                port.invalidate()
                assert observer.wait(1)
            assert observer.threads == {thread.thread.ident}

    def test_that_goes_with_its_thread(self, ends: Observer) -> None:
        ports: list[Port] = []

        def body() -> None:
            ports.append(MachPort(print))
            RunLoop.current().add_port(ports[0], COMMON_MODES)

        run_on_thread(body)
        assert senders(ends) == ports

    def test_that_nobody_refers_to_is_none(self, ends: Observer) -> None:
        MachPort()
        assert senders(ends) == []

    def test_an_observer_that_fails(self, reports: Reports, ends: Observer) -> None:
        port = MachPort(print)
        error = LookupError("on purpose")

        def fails(notification: Notification) -> None:
            raise error

        with CENTER.add_observer(fails, PORT_DID_BECOME_INVALID):
            port.invalidate()
        assert port.delegate is None
        assert senders(ends) == [port]
        assert reports.take() == [error]

    def test_an_observer_may_end_others(self, ends: Observer) -> None:
        ports = [MachPort() for _ in range(50)]

        def end_next(notification: Notification) -> None:
            following = ports.index(notification.sender) + 1
            if following < len(ports):
                ports[following].invalidate()

        with CENTER.add_observer(end_next, PORT_DID_BECOME_INVALID):
            ports[0].invalidate()
        assert senders(ends) == ports


def test_the_service_thread_ends_before_it_comes_to_it(ends: Observer) -> None:
    """Then it is told of at that end."""
    port = MachPort()
    run_on_thread(lambda: RunLoop.current()._put(_Announcement(CENTER.post, port), wake=True))
    assert senders(ends) == [port]


def test_costs_nothing_while_nobody_observes() -> None:
    code = (
        "import sys\n"
        "from portkit import MachPort, _handlers\n"
        "MachPort().invalidate()\n"
        "assert 'portkit.notifications' not in sys.modules\n"
        "from portkit import NotificationCenter, PORT_DID_BECOME_INVALID\n"
        "NotificationCenter.default().add_observer(print, 'other')\n"
        "NotificationCenter().add_observer(print, PORT_DID_BECOME_INVALID)\n"
        "assert _handlers.announce_end is None\n"
        "assert 'pydantic' not in sys.modules\n"
        "NotificationCenter.default().add_observer(print, PORT_DID_BECOME_INVALID)\n"
        "assert _handlers.announce_end is not None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


HOW: dict[str, Callable[[Child], object]] = {
    "killed": lambda child: child.kill(),
    "invalidated": lambda child: child.call(roles.invalidate, "them"),
}


class TestAHandle:
    @pytest.mark.parametrize("how", HOW.values(), ids=list(HOW))
    def test_that_is_observed_watches_its_port(
        self, child: Child, way: Way, how: Callable[[Child], object]
    ) -> None:
        observer = Observer()
        on_thread: list[str] = []
        remote = way.remote("them")
        with (
            CENTER.add_observer(observer, PORT_DID_BECOME_INVALID, remote),
            CENTER.add_observer(
                lambda _: on_thread.append(current_thread().name), PORT_DID_BECOME_INVALID, remote
            ),
        ):
            remote.send(b"", msgid=Do.KEEP)
            how(child)
            assert observer.wait(1)
            remote.invalidate()  # which is not its end once more
            assert eventually(lambda: on_thread)
        assert [notification.sender is remote for notification in observer.notifications] == [True]
        assert on_thread == ["portkit service"]
        assert not remote.is_valid

    def test_on_a_loop(self, child: Child, way: Way, loop: LoopThread) -> None:
        observer = Observer()
        remote = way.remote("them")
        with CENTER.add_observer(observer, PORT_DID_BECOME_INVALID, remote, loop=loop.loop):
            remote.send(b"", msgid=Do.KEEP)
            child.kill()
            assert observer.wait(1)
        assert observer.threads == {loop.thread.ident}

    def test_that_is_observed_before_it_is_used(self, child: Child, way: Way) -> None:
        observer = Observer()
        remote = way.remote("them")
        with CENTER.add_observer(observer, None, remote):
            assert remote.request(msgid=Do.WHO).data == b"%d" % child.pid
            child.kill()
            assert observer.wait(1)

    def test_that_is_invalidated_here(self, child: Child, way: Way, ends: Observer) -> None:
        remote, other = way.remote("them"), way.remote("them")
        remote.send(b"", msgid=Do.KEEP)
        for _ in range(2):
            remote.invalidate()
        assert [sender is remote for sender in senders(ends)] == [True]
        assert ends.threads == {get_ident()}
        assert other.is_valid

    def test_each_has_an_end_of_its_own(self, child: Child, way: Way) -> None:
        observers = [Observer() for _ in range(3)]
        handles = [way.remote("them") for _ in observers]
        for handle, observer in zip(handles, observers, strict=True):
            CENTER.add_observer(observer, PORT_DID_BECOME_INVALID, handle)
            handle.send(b"", msgid=Do.KEEP)
        handles[0].invalidate()
        assert [len(observer.notifications) for observer in observers] == [1, 0, 0]
        child.kill()
        for observer in observers:
            assert observer.wait(1)
        assert [len(observer.notifications) for observer in observers] == [1, 1, 1]

    def test_of_a_port_of_this_process(self, way: Way, loop: LoopThread) -> None:
        observer = Observer()
        with way.open("us", Recorder(b"!")) as port:
            loop.loop.add_port(port)
            remote = way.remote("us")
            assert remote.request(b"?").data == b"!"
            with (
                CENTER.add_observer(observer, PORT_DID_BECOME_INVALID, remote),
                CENTER.add_observer(observer, PORT_DID_BECOME_INVALID, port),
            ):
                port.invalidate()
                assert observer.wait(2)
        assert {id(sender) for sender in senders(observer)} == {id(port), id(remote)}
        assert len(observer.notifications) == 2

    def test_that_came_in_a_message(self, child: Child, way: Way, loop: LoopThread) -> None:
        got = Event()
        ports: list[Port] = []
        observer = Observer()

        def observe(message: PortMessage) -> None:
            ports.extend(message.ports)
            CENTER.add_observer(observer, PORT_DID_BECOME_INVALID, message.ports[0])
            got.set()

        with way.open("us", observe) as port:
            loop.loop.add_port(port)
            child.call(roles.send_here, "us", "them")
            assert got.wait(PATIENCE)
            child.kill()
            assert observer.wait(1)
        assert senders(observer) == ports

    def test_a_storm_of_ends(self, child: Child, way: Way, ends: Observer) -> None:
        """The port ends while its handles do: each is told of once."""
        handles = [way.remote("them") for _ in range(40)]
        for handle in handles:
            handle.add_invalidation_handler(lambda port: None)
            handle.send(b"", msgid=Do.KEEP)
        start = Barrier(3)

        def end(some: list[Port]) -> None:
            start.wait(PATIENCE)
            for handle in some:
                handle.invalidate()

        enders = [Background(lambda part=part: end(handles[part::2])) for part in range(2)]  # type: ignore[misc]
        start.wait(PATIENCE)
        child.kill()
        for ender in enders:
            ender.result()
        assert ends.wait(40)
        eventually(lambda: len(ends.notifications) > 40, 0.1)
        told = [id(sender) for sender in senders(ends)]
        assert sorted(told) == sorted(map(id, handles))
