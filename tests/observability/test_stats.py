"""``portkit.stats()`` tells what is there, and what went wrong, from any thread."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import portkit
from portkit import (
    BecameInvalidError,
    MachPort,
    MessagePort,
    PortMessage,
    ReceiveTimeoutError,
    ReplyDroppedError,
    RunLoop,
    SocketPort,
    Timer,
    _report,
)
from portkit._tally import Tally
from portkit.statistics import LinkStats, LoopStats, PortStats, Stats
from portkit.typed import Payload, Router
from tests.observability.helpers import busy
from tests.observability.peers import peer, reach
from tests.ports.helpers import Background, in_child, served
from tests.support import LoopThread, Reports, eventually, run_on_thread


class Job(Payload, msgid=7):
    text: str


def loop_of(thread: str) -> LoopStats | None:
    return next((loop for loop in portkit.stats().loops if loop.thread == thread), None)


def link_by(transport: str) -> LinkStats:
    (found,) = [link for link in portkit.stats().links if link.transport == transport]
    return found


def port_named(name: str) -> PortStats:
    (found,) = [port for port in portkit.stats().ports if port.name == name]
    return found


# Loops and ports.


def test_loops_and_their_ports() -> None:
    with LoopThread() as thread, MachPort(lambda message: None, queue_limit=7) as port:
        assert eventually(lambda: (found := loop_of("loop")) is not None and found.is_waiting)
        with busy(thread.loop):
            thread.loop.add_port(port)
            thread.loop.add_timer(Timer(100.0, lambda timer: None))
            thread.loop.perform(int)
            port.send_many([b""] * 3)
            loop = loop_of("loop")
            assert loop is not None
            found = next(one for one in portkit.stats().ports if one.thread == "loop")
    assert loop.mode == "default"
    assert not loop.is_waiting
    assert (loop.ports, loop.timers, loop.calls_waiting, loop.messages_waiting) == (1, 1, 1, 3)
    assert found == PortStats("MachPort", "mach", None, None, "loop", True, 3, 7, 0)
    assert loop_of("loop") is None  # with its thread


def test_a_call_for_several_modes_counts_once_and_not_when_it_ran() -> None:
    def count() -> list[int]:
        loop = RunLoop.current()
        thread = threading.current_thread().name
        loop.perform(int, modes=["one", "two"])
        counts = [waiting(thread)]
        loop.run_in_mode("three", 0)
        loop.perform(int, modes=["one", "three"])
        counts.append(waiting(thread))
        loop.add_timer(Timer(100.0, lambda timer: None), "one")
        loop.run_in_mode("one", 0)
        return [*counts, waiting(thread)]

    def waiting(thread: str) -> int:
        loop = loop_of(thread)
        assert loop is not None
        return loop.calls_waiting

    assert run_on_thread(count) == [1, 2, 0]


def test_a_thread_without_a_loop_is_none() -> None:
    def names() -> list[str]:
        MachPort().invalidate()
        return [loop.thread for loop in portkit.stats().loops]

    assert "test" not in run_on_thread(names)


def test_a_foreign_thread_has_a_name_too() -> None:
    import _thread

    done, go_on = threading.Event(), threading.Event()

    def foreign() -> None:
        RunLoop.current()
        done.set()
        go_on.wait()

    ident = _thread.start_new_thread(foreign, ())
    assert done.wait(30)
    try:
        assert loop_of(f"ident {ident}") is not None
    finally:
        go_on.set()
    assert eventually(lambda: loop_of(f"ident {ident}") is None)


def test_a_forked_child_begins_anew() -> None:
    def child() -> str:
        stats = portkit.stats()
        return f"{[loop.thread for loop in stats.loops]} {len(stats.links)} {stats.pid != parent}"

    parent = os.getpid()
    with pytest.raises(ReceiveTimeoutError), MachPort() as port:
        port.request(b"", reply_timeout=0)
    with LoopThread():
        assert in_child(child) == "[] 0 True"
    assert in_child(lambda: portkit.stats().totals.requests_given_up) == "0"


# Links.


@pytest.fixture
def answering() -> Iterator[str]:
    """The address of a port of another process, which answers all requests but one."""
    with peer("answering") as name:
        yield name


def test_a_link_to_another_process(answering: str) -> None:
    with reach(answering) as port:
        for _ in range(3):
            port.request(b"x" * 100)
        port.send(b"one-way")
        port.request([b"x" * (1 << 18)], msgid=1)
        with pytest.raises(ReceiveTimeoutError):
            port.request(b"", msgid=2, reply_timeout=0)
        link = link_by("message")
        assert f"user {os.getuid()}" in link.peer
        assert link.is_greeted
        assert link.messages_sent == 6
        assert link.messages_received == 4
        assert link.requests_sent == 5
        assert link.requests_received == link.requests_unanswered == 0
        assert link.rights_imported == 1
        assert link.bytes_sent > 300
        assert link.bytes_received > 300
        assert link.memory_lent >= 1 << 18
        assert link.memory_borrowed == 0
        assert link.heartbeat is None


def test_what_a_peer_asks_and_holds(answering: str) -> None:
    asked: list[PortMessage] = []

    def keep(message: PortMessage) -> None:
        message.defer()
        asked.append(message)

    with LoopThread() as thread, MessagePort("statistics-asked", keep) as mine:
        thread.loop.add_port(mine)
        with reach(answering) as port:
            port.send(mine, msgid=3)  # it sends a request to this port
            assert eventually(lambda: asked)
            link = link_by("message")
            assert (link.requests_received, link.requests_unanswered) == (1, 1)
            assert link.rights_exported == 1
            found = port_named("statistics-asked")
            assert (found.kind, found.transport, found.senders) == ("MessagePort", "message", 1)
            assert found.address == "message:statistics-asked"
            asked.pop().reply(b"")
            assert link_by("message").requests_unanswered == 0


def test_a_port_that_only_a_peer_can_send_to(answering: str) -> None:
    with MessagePort(queue_limit=5) as mine, reach(answering) as port:
        port.request(mine, msgid=4)  # it sends to this port, and keeps it
        assert eventually(lambda: mine.pending)
        (found,) = [one for one in portkit.stats().ports if one.queue_limit == 5]
        assert (found.thread, found.pending, found.name) == (None, 1, None)


def test_links_over_tcp() -> None:
    opened = portkit.stats().totals.links_opened
    with LoopThread() as thread, SocketPort(delegate=lambda message: b"") as port:
        thread.loop.add_port(port)
        with SocketPort.remote("127.0.0.1", port.number) as remote:
            remote.request(b"")
            assert remote.transport == "socket"
            assert portkit.stats().traffic
            links = [link for link in portkit.stats().links if link.transport == "socket"]
            assert len(links) == 2  # both ends are here
            assert {link.heartbeat for link in links} == {10.0}
            assert sorted(link.requests_sent for link in links) == [0, 1]
    assert portkit.stats().totals.links_opened == opened + 2


# Totals.


def test_what_went_wrong_is_counted(reports: Reports) -> None:
    before = portkit.stats().totals

    def drop(message: PortMessage) -> None:
        message.drop()

    with MachPort() as port:
        port.send_many([b""] * 3)
        with pytest.raises(ReceiveTimeoutError):
            port.request(b"", reply_timeout=0)
    with served(drop) as port, pytest.raises(ReplyDroppedError):
        port.request(b"")
    with served(Router()) as port:
        port.send(b"", msgid=99)
        with pytest.raises(portkit.InvalidPayloadError):
            port.request(b"", msgid=99)
    _report.report("an error", None, "the test")
    RunLoop.current()._report("an error", None, "the test")
    reports.take()
    after = portkit.stats().totals
    assert after.messages_destroyed - before.messages_destroyed == 4
    assert after.requests_given_up - before.requests_given_up == 1
    assert after.requests_dropped - before.requests_dropped == 1
    assert after.payloads_refused - before.payloads_refused == 2
    assert after.errors_reported - before.errors_reported == 2


def test_a_request_that_fails_is_not_given_up() -> None:
    before = portkit.stats().totals
    port = MachPort()

    def end() -> None:
        assert eventually(lambda: port.pending)
        port.invalidate()

    ending = Background(end)
    with pytest.raises(BecameInvalidError):
        port.request(b"")
    ending.result()
    assert portkit.stats().totals.requests_given_up == before.requests_given_up


def test_a_tally_loses_none() -> None:
    tally = Tally()

    def add() -> None:
        for _ in range(5000):
            tally.add()

    threads = [Background(add) for _ in range(4)]
    for thread in threads:
        thread.result()
    tally.add(7)
    assert tally.value == 20007


# As a whole.


def test_as_a_dict_it_is_json() -> None:
    with served(lambda message: None) as port:
        port.send(b"")
        stats = portkit.stats()
        found = json.loads(json.dumps(stats.as_dict()))
    assert found["pid"] == os.getpid()
    assert abs(found["time"] - time.time()) < 3600
    assert {"loops", "ports", "links", "totals"} < set(found)
    assert found["loops"][0].keys() == {*LoopStats.__slots__}
    assert isinstance(stats, Stats)


def test_from_many_threads_while_everything_changes() -> None:
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            with served(lambda message: b"") as port:
                port.request(b"")
                port.send(b"")

    changing = [Background(change) for _ in range(3)]
    try:
        for _ in range(300):
            stats = portkit.stats()
            assert all(port.pending >= 0 for port in stats.ports)
    finally:
        stop.set()
    for thread in changing:
        thread.result()


def test_it_does_not_wait_for_a_loop_that_is_busy() -> None:
    with LoopThread() as thread:
        with thread.loop._lock:  # as one that is adding an item
            Background(portkit.stats).result()
        with busy(thread.loop):
            portkit.stats()


def test_no_file_has_the_name_of_the_function() -> None:
    """Importing a module ``portkit.stats`` would put it in the function's place."""
    assert not (Path(portkit.__file__).parent / "stats.py").exists()
    assert callable(portkit.stats)
