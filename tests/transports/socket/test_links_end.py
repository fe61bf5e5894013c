"""Links that nobody needs any more go, on both sides, and with them nothing that was accepted."""

from __future__ import annotations

import gc
import threading
import time

import pytest

from portkit import MachPort, Port, PortMessage, ReceiveTimeoutError, SocketPort
from portkit.link.node import Settings
from tests.ports.helpers import Background
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.socket.ends import ASK, NEVER, Ends, Server, dialled, ends

__all__ = ["ends"]

MIB = 1 << 20


def is_gone(port: SocketPort) -> bool:
    """Whether both sides are without a link in time."""
    return eventually(lambda: not port.connections and not dialled())


def test_a_dropped_handle_takes_its_link_along(ends: Ends) -> None:
    server = Server()
    port = ends.serve(server)
    handle = SocketPort.remote("127.0.0.1", int(str(port.address).rpartition(":")[2]))
    handle.send(b"x")
    assert port.connections == 1
    del handle
    gc.collect()
    assert is_gone(port)
    assert server.wait(1)


def test_so_does_an_invalidated_one(ends: Ends) -> None:
    port = ends.serve(Server())
    handle = ends.remote(port)
    handle.send(b"x")
    handle.invalidate()
    assert is_gone(port)


def test_nothing_accepted_is_lost(ends: Ends) -> None:
    server = Server()
    port = ends.serve(server)
    handle = ends.remote(port)
    for number in range(3000):
        handle.send(b"%d" % number)
    handle.invalidate()
    assert is_gone(port)
    assert server.wait(3000)
    assert server.kept == [b"%d" % number for number in range(3000)]


def test_nor_on_a_slow_line(ends: Ends) -> None:
    settings = Settings(heartbeat=1.0)
    server = Server()
    port = ends.serve(server, settings=settings)
    proxy = ends.proxy(port)
    handle = ends.remote(proxy, settings=settings)
    handle.connect()
    proxy.slow(MIB // 5)  # whose window is closed most of the time
    for number in range(20):
        handle.send(b"%d" % number * 32768)
    handle.invalidate()
    assert server.wait(20)
    assert [data[:1] for data in server.kept] == [b"%d" % number for number in range(10)] + [
        b"1"
    ] * 10
    assert eventually(lambda: not port.connections and not dialled(settings))


def test_nor_where_the_receiver_is_slow_to_take(ends: Ends) -> None:
    settings = Settings(heartbeat=0.3)
    with SocketPort(settings=settings, queue_limit=1000) as port:
        handle = ends.remote(port, settings=settings)
        for number in range(1000):
            handle.send(b"%d" % number)
        handle.invalidate()
        assert eventually(lambda: not dialled(settings))
        for number in range(1000):
            assert port.receive(PATIENCE).data == b"%d" % number


def asked_by_one_who_has_left(ends: Ends) -> tuple[Server, SocketPort]:
    """A server that holds a request, and its port; the handle that asked is invalid."""
    server = Server()
    port = ends.serve(server)
    handle = ends.remote(port)
    with pytest.raises(ReceiveTimeoutError):
        handle.request(b"x", msgid=NEVER, reply_timeout=0)
    assert eventually(lambda: server.asked)
    handle.invalidate()
    return server, port


def test_a_link_stays_while_an_answer_is_due(ends: Ends) -> None:
    server, port = asked_by_one_who_has_left(ends)
    assert port.connections == 1
    server.asked.pop().reply(b"late")
    assert is_gone(port)


def test_or_was_dropped(ends: Ends) -> None:
    server, port = asked_by_one_who_has_left(ends)
    server.asked.pop().drop()
    assert is_gone(port)


def test_a_link_stays_while_the_peer_has_a_right(ends: Ends) -> None:
    server = Server()
    port = ends.serve(server)
    got: list[bytes | None] = []
    with LoopThread() as loop, MachPort(lambda message: got.append(message.data)) as own:
        loop.call(loop.loop.add_port, own)
        handle = ends.remote(port)
        handle.send(own)
        assert server.wait(1)
        handle.invalidate()
        del handle
        for number in range(500):
            server.ports[0].send(b"%d" % number)
        server.ports.clear()
        gc.collect()
        assert is_gone(port)
        assert eventually(lambda: len(got) == 500)
    assert got == [b"%d" % number for number in range(500)]


def test_both_sides_send_while_the_handle_goes(ends: Ends) -> None:
    """Each round's port sends back as long as it can; none of what it had accepted is lost."""
    sent = 0

    def pour(message: PortMessage) -> None:
        nonlocal sent
        (port,) = message.ports
        for _ in range(100):
            port.send(b"y")
            sent += 1

    server = ends.serve(pour)
    got: list[bytes | None] = []
    with LoopThread() as loop, MachPort(lambda message: got.append(message.data)) as own:
        loop.call(loop.loop.add_port, own)
        for _ in range(20):
            handle = ends.remote(server)
            handle.send(own)
            handle.invalidate()
            del handle
        assert eventually(lambda: sent == 2000)
        assert eventually(lambda: len(got) == 2000)
        assert is_gone(server)


def test_handles_come_and_go_on_many_threads(ends: Ends) -> None:
    server = Server()
    port = ends.serve(server)

    def come_and_go() -> None:
        for number in range(50):
            with ends.remote(port) as handle:
                if number % 3:
                    handle.send(b"x")
                else:
                    assert handle.request(b"y", msgid=ASK).data == b"y"

    threads = [Background(come_and_go) for _ in range(4)]
    for thread in threads:
        thread.result()
    assert server.wait(4 * 33)
    assert is_gone(port)
    assert len(server.kept) == 4 * 33


def test_a_stopped_peer_ends_by_heartbeat_though_the_handle_is_gone(ends: Ends) -> None:
    settings = Settings(heartbeat=0.2)
    port = ends.serve(Server())
    proxy = ends.proxy(port)
    handle = ends.remote(proxy, settings=settings)
    handle.connect()
    proxy.stall()
    handle.invalidate()
    assert eventually(lambda: not dialled(settings))


def test_an_invalidated_port_leaves_links_that_are_used(ends: Ends) -> None:
    """Rights that came over its links live on; with the last of them the links end."""
    server = Server()
    port = ends.serve(server)
    got: list[bytes | None] = []
    with LoopThread() as loop, MachPort(lambda message: got.append(message.data)) as own:
        loop.call(loop.loop.add_port, own)
        handle = ends.remote(port)
        watch = ends.watch(handle)
        handle.send(own)
        assert server.wait(1)
        port.invalidate()
        assert eventually(lambda: watch.ended)
        server.ports[0].send(b"still")
        assert eventually(lambda: got == [b"still"])
        server.ports.clear()
        gc.collect()
        assert is_gone(port)


def test_ports_handed_over_survive_in_the_other_direction(ends: Ends) -> None:
    """The client holds a port of the server's process after the dialled handle is gone."""
    inner: list[bytes | None] = []
    with LoopThread() as loop, MachPort(lambda message: inner.append(message.data)) as hidden:
        loop.call(loop.loop.add_port, hidden)

        def lend(message: PortMessage) -> Port:
            return hidden

        port = ends.serve(lend)
        handle = ends.remote(port)
        (found,) = handle.request(b"").ports
        handle.invalidate()
        del handle
        port.invalidate()
        for number in range(100):
            found.send(b"%d" % number)
        del found
        gc.collect()
        assert eventually(lambda: len(inner) == 100)
        assert is_gone(port)


def test_leaving_while_others_arrive(ends: Ends) -> None:
    """A handle made while the link of the last one is leaving has a link of its own."""
    server = Server()
    port = ends.serve(server)
    stop = time.monotonic() + 0.5
    count = 0
    while time.monotonic() < stop:
        handle = ends.remote(port)
        handle.send(b"%d" % count, timeout=PATIENCE)
        count += 1
        handle.invalidate()
    assert server.wait(count)
    assert sorted(server.kept, key=int) == [b"%d" % number for number in range(count)]
    assert is_gone(port)
    assert threading.active_count() < 10
