"""Remote ports that reconnect: what goes on, what ends, and what is told of it."""

from __future__ import annotations

import gc
import logging
import threading
from functools import partial
from random import Random
from typing import Any

import pytest

from portkit import (
    AuthenticationError,
    BecameInvalidError,
    InvalidPortError,
    MachPort,
    SendTimeoutError,
    SocketPort,
)
from portkit.link.node import Settings
from portkit.link.relay import Relay
from portkit.link.rights import Import
from portkit_transports.socket.addressed_right import AddressedRight
from portkit_transports.socket.backoff import Backoff
from portkit_transports.socket.dialling import Dialling
from portkit_transports.socket.shared_key import PreSharedKey
from tests.ports.helpers import Background
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.socket.ends import ASK, NEVER, SOON, Ends, Server, dialled, ends, place
from tests.transports.socket.pki import Pki
from tests.transports.socket.test_remote import full, mute, nobody

__all__ = ["ends"]

HOUR = Backoff(initial=3600, maximum=3600)


# What goes on.


def test_a_handle_outlives_its_connections(ends: Ends) -> None:
    server = Server()
    proxy = ends.proxy(ends.serve(server))
    handle = ends.remote(proxy, reconnect=SOON)
    watch = ends.watch(handle)
    for number in range(5):
        assert handle.request(b"%d" % number, msgid=ASK).data == b"%d" % number
        proxy.cut()
        assert watch.wait(2 * number + 2)
    assert handle.is_valid
    assert watch.ended == []
    assert [event.is_connected for event in watch.events] == [False, True] * 5
    assert watch.unacknowledged == 0
    assert all("lost" in event.reason for event in watch.events[::2])
    assert proxy.accepted == 6


def test_a_send_that_begins_without_a_connection_waits_for_one(ends: Ends) -> None:
    server = Server()
    proxy = ends.proxy(ends.serve(server))
    handle = ends.remote(proxy, reconnect=SOON)
    handle.connect()
    proxy.refuse()
    assert eventually(lambda: not handle.is_connected)
    assert eventually(lambda: right_of(handle)._failed)
    with pytest.raises(SendTimeoutError, match=r"no connection.*; the last attempt: .*refused"):
        handle.send(b"0", timeout=0.02)
    waiting = [
        Background(lambda: handle.send(b"1", timeout=PATIENCE)),
        Background(lambda: handle.send_many([b"1", b"1"], timeout=PATIENCE)),
        Background(lambda: handle.request(b"1", msgid=ASK, send_timeout=PATIENCE)),
        Background(lambda: handle.connect(PATIENCE)),
    ]
    proxy.listen()
    for one in waiting:
        one.result()
    assert server.wait(3)
    assert server.kept == [b"1"] * 3


def test_it_begins_without_a_server(ends: Ends) -> None:
    with nobody() as number:
        handle = SocketPort.remote("127.0.0.1", number, reconnect=SOON)
        waiting = Background(lambda: handle.send(b"x", timeout=PATIENCE))
        assert eventually(lambda: right_of(handle)._failed > 1)
    server = Server()
    ends.serve(server, ("127.0.0.1", number))
    waiting.result()
    assert server.wait(1)
    handle.invalidate()


def test_one_message_without_waiting_is_kept_through_attempts(ends: Ends) -> None:
    server = Server()
    proxy = ends.proxy(ends.serve(server))
    handle = ends.remote(proxy, reconnect=SOON)
    proxy.refuse()
    handle.send(b"1", timeout=0)
    with pytest.raises(SendTimeoutError):
        handle.send(b"2", timeout=0)
    assert eventually(lambda: right_of(handle)._failed > 1)
    proxy.listen()
    assert server.wait(1)
    handle.send(b"3", timeout=PATIENCE)
    assert server.wait(2)
    assert server.kept == [b"1", b"3"]


def test_a_server_that_is_started_again_is_found_again(ends: Ends) -> None:
    server = Server()
    port = ends.serve(server)
    at = place(port)
    handle = ends.remote(port, reconnect=SOON)
    watch = ends.watch(handle)
    for _ in range(3):
        assert handle.request(b"x", msgid=ASK, send_timeout=PATIENCE).data == b"x"
        port.invalidate()
        assert eventually(lambda: not handle.is_connected)
        port = ends.serve(server, at)
    assert handle.request(b"x", msgid=ASK, send_timeout=PATIENCE).data == b"x"
    assert watch.events[0].reason == "its owner invalidated it"
    assert watch.ended == []


def test_what_comes_late_by_an_earlier_connection_does_not_come_out_of_order(ends: Ends) -> None:
    server = Server()
    port = ends.serve(server)
    proxy = ends.proxy(port)
    handle = ends.remote(proxy, reconnect=SOON)
    watch = ends.watch(handle)
    handle.send(b"1")
    assert server.wait(1)
    proxy.stall()
    for _ in range(5):
        handle.send(b"late")
    handle.send([b"late", b"x" * 100_000])
    proxy.orphan()
    assert watch.wait(1)  # before that the next would be late as well
    proxy.stall(False)
    handle.send(b"2", timeout=PATIENCE)
    assert server.wait(2)
    assert port.connections == 2
    proxy.deliver()
    assert eventually(lambda: port.connections == 1)
    assert handle.request(b"", msgid=ASK).data == b""
    assert server.kept == [b"1", b"2"]
    assert watch.events[0].unacknowledged >= 6


def test_a_relayed_handle_keeps_working(ends: Ends) -> None:
    """A third port's process gets the handle over another link, and sends by way of this one."""
    server = Server()
    proxy = ends.proxy(ends.serve(server))
    handle = ends.remote(proxy, reconnect=SOON)
    third = Server()
    ends.remote(ends.serve(third)).send([b"take it", handle])
    assert third.wait(1)
    (relayed,) = third.ports
    for number in range(3):
        relayed.send(b"%d" % number)
        assert relayed.request(b"x", msgid=ASK, reply_timeout=PATIENCE).data == b"x"
        assert server.wait(number + 1)
        proxy.cut()
        assert eventually(lambda n=number: proxy.accepted == n + 2)  # type: ignore[misc]
    assert relayed.is_valid
    assert server.kept == [b"0", b"1", b"2"]


# What ends.


def test_requests_fail_with_their_connection(ends: Ends) -> None:
    server = Server()
    proxy = ends.proxy(ends.serve(server))
    handle = ends.remote(proxy, reconnect=SOON)
    asking = [
        Background(lambda: handle.request(b"x", msgid=NEVER, reply_timeout=PATIENCE))
        for _ in range(3)
    ]
    assert eventually(lambda: len(server.asked) == 3)
    proxy.cut()
    for one in asking:
        with pytest.raises(BecameInvalidError, match=r"the connection was lost: .*reset"):
            one.result()
    server.asked.clear()
    assert handle.request(b"y", msgid=ASK, send_timeout=PATIENCE).data == b"y"


def test_ports_that_came_over_the_old_connection_end_with_it(ends: Ends) -> None:
    with LoopThread() as loop, MachPort(lambda message: None) as hidden:
        loop.call(loop.loop.add_port, hidden)
        lent = ends.serve(lambda message: hidden)
        proxy = ends.proxy(lent)
        handle = ends.remote(proxy, reconnect=SOON)
        (found,) = handle.request(b"").ports
        watch = ends.watch(found)
        proxy.cut()
        assert eventually(lambda: watch.ended)
        (again,) = handle.request(b"", send_timeout=PATIENCE).ports
        again.send(b"x")
        assert not found.is_valid


def test_after_so_many_failures_the_handle_ends_once(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = ends.proxy(ends.serve(Server()))
    backoff = Backoff(initial=0.01, maximum=0.01, attempts=3)
    handle, other = (ends.remote(proxy, reconnect=backoff) for _ in range(2))
    watch, other_watch = ends.watch(handle), ends.watch(other)
    handle.connect()
    with caplog.at_level(logging.WARNING):
        proxy.refuse()
        assert eventually(lambda: not handle.is_connected)
        with pytest.raises(InvalidPortError, match=r"gone: .*refused"):
            handle.send(b"x", timeout=PATIENCE)
        assert eventually(lambda: watch.ended and other_watch.ended)
    assert watch.ended == [handle]
    assert other_watch.ended == [other]
    assert [event.is_connected for event in watch.events] == [False]
    assert caplog.text.count("trying again") == 1
    proxy.listen()
    fresh = ends.remote(proxy, reconnect=backoff)
    assert fresh != handle
    fresh.send(b"y")


def test_a_success_begins_the_count_anew(ends: Ends) -> None:
    proxy = ends.proxy(ends.serve(Server()))
    handle = ends.remote(proxy, reconnect=Backoff(initial=0.01, maximum=0.01, attempts=1))
    watch = ends.watch(handle)
    handle.connect()
    for number in range(4):
        proxy.cut()
        assert watch.wait(2 * number + 2)
    assert handle.is_valid


# What is told.


def test_unread_messages_are_reported(ends: Ends) -> None:
    with SocketPort(queue_limit=100) as port:
        proxy = ends.proxy(port)
        handle = ends.remote(proxy, reconnect=SOON)
        watch = ends.watch(handle)
        handle.connect()
        for number in range(30):
            handle.send(b"%d" % number)
        assert eventually(lambda: port.pending == 30)
        proxy.cut()
        assert watch.wait(2)
        assert watch.events[0].unacknowledged == 30


def test_taken_messages_are_not_once_the_line_was_quiet(ends: Ends) -> None:
    settings = Settings(heartbeat=0.15)
    server = Server()
    proxy = ends.proxy(ends.serve(server))
    handle = ends.remote(proxy, reconnect=SOON, settings=settings)
    watch = ends.watch(handle)
    for number in range(30):
        handle.send(b"%d" % number)
    assert server.wait(30)
    right = right_of(handle)._right
    assert right is not None
    assert eventually(lambda: right.taken == 30)
    proxy.cut()
    assert watch.wait(2)
    assert watch.events[0].unacknowledged == 0


def test_an_answer_acknowledges_what_was_sent_before(ends: Ends) -> None:
    server = Server()
    proxy = ends.proxy(ends.serve(server))
    handle = ends.remote(proxy, reconnect=SOON)
    watch = ends.watch(handle)
    for number in range(30):
        handle.send(b"%d" % number)
    waiting = Background(lambda: handle.request(b"", msgid=NEVER, reply_timeout=None))
    assert eventually(lambda: server.asked)
    for _ in range(100):  # though that request is first, and open
        handle.request(b"x", msgid=ASK)
    assert len(right_of(handle)._requests._open) < 64
    for _ in range(5):
        handle.send(b"y")
    proxy.cut()
    with pytest.raises(BecameInvalidError):
        waiting.result()
    assert watch.wait(2)
    assert watch.events[0].unacknowledged == 5
    server.asked.clear()


def test_answers_tell_nothing_of_what_was_sent_after(ends: Ends) -> None:
    """Requests and messages of many threads, of which the last are never taken."""
    with SocketPort(queue_limit=1000) as port:
        proxy = ends.proxy(port)
        handle = ends.remote(proxy, reconnect=SOON)
        watch = ends.watch(handle)
        handle.connect()
        asking = [
            Background(lambda: handle.request(b"?", reply_timeout=PATIENCE)) for _ in range(4)
        ]
        telling = [Background(lambda: handle.send_many([b"!"] * 50)) for _ in range(4)]
        for one in telling:
            one.result()
        assert eventually(lambda: port.pending == 204)
        untaken = 204
        answered = 0
        while answered < 4:
            message = port.receive(PATIENCE)
            untaken -= 1
            if message.data == b"?":
                message.reply(b"")
                answered += 1
        for one in asking:
            one.result()
        proxy.cut()
        assert watch.wait(2)
        assert watch.events[0].unacknowledged >= untaken


def test_where_nobody_asks_the_log_tells(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    with SocketPort() as port, caplog.at_level(logging.INFO):
        proxy = ends.proxy(port)
        handle = ends.remote(proxy, reconnect=SOON)
        handle.send(b"x")
        handle.send(b"y")
        assert eventually(lambda: port.pending == 2)
        proxy.cut()
        assert eventually(lambda: "is connected again" in caplog.text)
    (told,) = [text for text in caplog.messages if "may be lost" in text]
    assert told.startswith("127.0.0.1:")
    assert told.count("the connection was lost") <= 1
    assert told.endswith(
        "; of the messages to it 2 may be lost: add_connection_handler() tells the program"
    )


def test_a_handle_that_was_invalidated_is_told_nothing(ends: Ends) -> None:
    proxy = ends.proxy(ends.serve(Server()))
    gone, stays = (ends.remote(proxy, reconnect=SOON) for _ in range(2))
    told, watch = ends.watch(gone), ends.watch(stays)
    stays.connect()
    gone.invalidate()
    proxy.cut()
    assert watch.wait(2)
    assert told.events == []


def test_a_handler_is_called_on_its_own_loop(ends: Ends) -> None:
    proxy = ends.proxy(ends.serve(Server()))
    handle = ends.remote(proxy, reconnect=SOON)
    threads: list[threading.Thread] = []
    with LoopThread() as loop:
        handle.add_connection_handler(
            lambda port, event: threads.append(threading.current_thread()), loop=loop.loop
        )
        handle.connect()
        proxy.cut()
        assert eventually(lambda: len(threads) == 2)
        assert set(threads) == {loop.thread}
    with pytest.raises(TypeError):
        handle.add_connection_handler(5)  # type: ignore[arg-type]


def test_who_finds_an_end_first_reports_it(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that closes the connection is held up; another one sends meanwhile."""
    with SocketPort() as port:
        handle = ends.remote(port, reconnect=SOON)
        watch = ends.watch(handle)
        handle.send(b"1")
        assert eventually(lambda: port.pending == 1)
        held, go_on = threading.Event(), threading.Event()
        lost = AddressedRight._lost

        def slowly(self: AddressedRight) -> None:
            if isinstance(threading.current_thread(), Background):
                held.set()
                assert go_on.wait(PATIENCE)
            lost(self)

        monkeypatch.setattr(AddressedRight, "_lost", slowly)
        (link,) = dialled()
        closing = Background(partial(link.close, "the test did it"))
        assert held.wait(PATIENCE)
        handle.send(b"2", timeout=PATIENCE)
        assert watch.wait(2)
        go_on.set()
        closing.result()
        ends.settle()
        assert [(event.is_connected, event.unacknowledged) for event in watch.events] == [
            (False, 1),
            (True, 0),
        ]


# Pauses.


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pause before each attempt, none of which is made; each attempt goes on at once."""
    recorded: list[float] = []
    start = Dialling.start

    def record(self: Dialling, delay: float = 0.0) -> None:
        recorded.append(delay)
        start(self, 0.0)

    monkeypatch.setattr(Dialling, "start", record)
    return recorded


def test_pauses_follow_the_backoff(pauses: list[float]) -> None:
    with nobody() as number:
        backoff = Backoff(initial=0.5, maximum=7, factor=3, jitter=0, attempts=6)
        handle = SocketPort.remote("127.0.0.1", number, reconnect=backoff)
        with pytest.raises(InvalidPortError):
            handle.send(b"x", timeout=PATIENCE)
    assert pauses == [0.0, 1.5, 4.5, 7, 7, 7]


def test_after_a_loss_the_first_pause_is_the_initial_one(ends: Ends, pauses: list[float]) -> None:
    proxy = ends.proxy(ends.serve(Server()))
    backoff = Backoff(initial=0.5, maximum=7, factor=3, jitter=0, attempts=2)
    handle = ends.remote(proxy, reconnect=backoff)
    watch = ends.watch(handle)
    handle.connect()
    proxy.cut()
    assert watch.wait(2)
    assert pauses == [0.0, 0.5]
    proxy.refuse()
    assert eventually(lambda: watch.ended)
    assert pauses == [0.0, 0.5, 0.5, 1.5]


def test_backoff_by_itself() -> None:
    backoff = Backoff(initial=1, maximum=10, factor=2, jitter=0.5)
    random, again = Random(1), Random(1)
    for failed in range(2000):
        pause = backoff.pause(failed, random)
        whole = min(10.0, 2.0 ** min(failed, 10))
        assert pause == whole * (1 - 0.5 * again.random())
    assert Backoff(attempts=2).pause(1) is not None
    assert Backoff(attempts=2).pause(2) is None
    for wrong in ({"initial": -1}, {"factor": 0.5}, {"jitter": 2}, {"attempts": 0}, {"more": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Backoff(**wrong)


# Refusals.


def test_who_is_refused_is_told_at_once_and_connects_once_that_is_mended(ends: Ends) -> None:
    key, other = PreSharedKey.generate("test"), PreSharedKey.generate("test")
    server = Server()
    port = ends.serve(server, key=key)
    at = place(port)
    handle = ends.remote(port, key=key, reconnect=SOON)
    watch = ends.watch(handle)
    handle.connect()
    port.invalidate()
    assert eventually(lambda: not handle.is_connected)
    port = ends.serve(server, at, key=other)
    for _ in range(2):
        with pytest.raises(AuthenticationError, match=str(at[1])):
            handle.send(b"x", timeout=PATIENCE)
    assert handle.is_valid
    port.invalidate()
    ends.serve(server, at, key=key)
    assert watch.wait(2)
    handle.send(b"y", timeout=PATIENCE)
    assert server.wait(1)
    assert [event.is_connected for event in watch.events] == [False, True]


def test_a_request_that_waits_is_refused_too(ends: Ends) -> None:
    key, other = PreSharedKey.generate("test"), PreSharedKey.generate("test")
    handle = ends.remote(ends.serve(Server(), key=key), key=other, reconnect=SOON)
    with pytest.raises(AuthenticationError):
        handle.request(b"x", send_timeout=PATIENCE)
    with pytest.raises(AuthenticationError):
        handle.connect(PATIENCE)


def test_reconnect_with_certificates(ends: Ends, pki: Pki) -> None:
    tls = pki.config()
    server = Server()
    proxy = ends.proxy(ends.serve(server, tls=tls))
    handle = ends.remote(proxy, tls=tls, reconnect=SOON)
    watch = ends.watch(handle)
    for number in range(3):
        assert handle.request(b"x", msgid=ASK, send_timeout=PATIENCE).data == b"x"
        proxy.cut()
        assert watch.wait(2 * number + 2)


# The handle ends in each phase; the fixture no_leftovers looks what that leaves.


@pytest.mark.parametrize("how", ["invalidated", "dropped"])
@pytest.mark.parametrize("phase", ["resolving", "connecting", "handshake", "opening", "pause"])
def test_a_handle_that_ends_leaves_nothing(
    ends: Ends, phase: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {"connecting": full, "handshake": mute, "opening": mute, "pause": nobody}.get(phase)
    released = threading.Event()
    if phase == "resolving":
        where = nobody

        def slowly(host: str, port: int, flags: int) -> Any:
            if flags:
                raise OSError("no address")
            released.wait(PATIENCE)
            raise OSError("no such host")

        monkeypatch.setattr("portkit_transports.socket.resolving._places", slowly)
    assert where is not None
    key = PreSharedKey.generate("x") if phase == "handshake" else None
    settings = Settings(heartbeat=0.3, greeting_timeout=0.3)
    with where() as number:
        handles = [
            SocketPort.remote(
                "127.0.0.1",
                number,
                key=key,
                reconnect=HOUR,
                connect_timeout=3600,
                settings=settings,
            )
        ]
        with pytest.raises(SendTimeoutError):
            handles[0].connect(0)

        def reached(right: AddressedRight) -> bool:
            dialling = right._dialling
            if phase == "opening":
                return right._opening is not None
            if phase == "pause":
                return right._failed == 1 and dialling is not None and dialling._timer is not None
            doing = "looking up the host" if phase == "resolving" else phase
            return dialling is not None and dialling._doing.endswith(doing)

        assert eventually(lambda: reached(right_of(handles[0])))
        if how == "invalidated":
            handles[0].invalidate()
        handles.clear()
        gc.collect()
        assert eventually(lambda: not has_service(), 3.0), "the service thread still has clients"
        released.set()
    assert eventually(lambda: not dialled(settings))


def has_service() -> bool:
    return any(thread.name == "portkit service" for thread in threading.enumerate())


def right_of(handle: Any) -> AddressedRight:
    right = handle._right
    assert isinstance(right, AddressedRight)
    return right


def test_none_is_kept_between_the_first_message_and_the_connection_that_it_waited_for(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    handle = ends.remote(ends.serve(server), reconnect=SOON)
    again: list[BaseException | None] = []
    post = Import.post

    def meanwhile(self: Import, envelope: Any, timeout: float | None) -> None:
        post(self, envelope, timeout)
        if not again:
            again.append(None)
            try:
                handle.send(b"2", timeout=0)
            except SendTimeoutError as error:
                again[0] = error.with_traceback(None)

    monkeypatch.setattr(Import, "post", meanwhile)
    handle.send(b"1", timeout=0)
    assert eventually(lambda: again and handle.is_connected)
    assert isinstance(again[0], SendTimeoutError)
    handle.send(b"3")
    assert server.wait(2)
    assert server.kept == [b"1", b"3"]


def test_a_relay_says_what_may_be_lost(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever sent it is told of no end, as the port goes on."""
    handle = ends.remote(ends.serve(Server()), reconnect=SOON)
    handle.connect()

    def break_off(self: Import, envelope: Any, timeout: float | None) -> None:
        raise BecameInvalidError("the cable was cut")

    monkeypatch.setattr(Import, "post", break_off)
    left: list[object] = []
    with caplog.at_level(logging.WARNING):
        Relay(handle, left.append).put((0, (b"x",), None, None))
    assert left == [(b"x",)]
    assert "may be lost: the cable was cut" in caplog.text
