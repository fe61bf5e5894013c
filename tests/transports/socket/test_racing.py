"""Connecting to the first of several addresses that answers (RFC 8305)."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from queue import SimpleQueue
from typing import Any

import pytest

from portkit import SocketPort, TransportError
from portkit_transports.socket.racing import NEXT_ATTEMPT, Option, Race
from portkit_transports.socket.resolving import Place
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.socket.connections import (
    echoing,
    few_descriptors,
    open_sockets,
    place_of,
    silent,
)

SOON = NEXT_ATTEMPT * 0.8
"""Less than the pause between two attempts."""


def place(address: tuple[Any, ...]) -> Place:
    return Place(socket.AF_INET, address)


@contextmanager
def answering() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        yield listening


def refusing() -> Place:
    """An address at which nobody listens."""
    with answering() as listening:
        return place(listening.getsockname())


class Outcome:
    """A race on a thread's loop, and what comes of it."""

    def __init__(
        self, thread: LoopThread, places: Sequence[Place], options: Sequence[Option] = ()
    ) -> None:
        self._came: SimpleQueue[tuple[float, socket.socket | OSError]] = SimpleQueue()
        self._begun = time.monotonic()
        self.thread = thread
        self.race = Race(places, options, thread.loop, self._connected)
        thread.call(self.race.start)

    def _connected(self, outcome: socket.socket | OSError) -> None:
        self._came.put((time.monotonic() - self._begun, outcome))

    def winner(self) -> tuple[float, socket.socket]:
        """After how long, and the connection."""
        took, outcome = self._came.get(timeout=PATIENCE)
        assert isinstance(outcome, socket.socket), outcome
        self._check_over()
        return took, outcome

    def error(self) -> tuple[float, OSError]:
        took, outcome = self._came.get(timeout=PATIENCE)
        assert isinstance(outcome, OSError)
        self._check_over()
        return took, outcome

    def _check_over(self) -> None:
        """It calls once, and nothing of it is left."""
        self.thread.call(lambda: None)
        assert not self.race._running
        assert self._came.empty()

    @property
    def is_undecided(self) -> bool:
        return self._came.empty()


@pytest.fixture
def thread(no_leftovers: None) -> Iterator[LoopThread]:
    with LoopThread() as made:
        yield made


def test_the_first_wins_if_it_answers(thread: LoopThread) -> None:
    with answering() as listening, answering() as other:
        outcome = Outcome(thread, [place(listening.getsockname()), place(other.getsockname())])
        took, connection = outcome.winner()
        with connection:
            assert connection.getpeername() == listening.getsockname()
        assert took < SOON
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()


def test_while_the_first_is_silent_the_second_is_tried(thread: LoopThread) -> None:
    with silent() as nowhere, answering() as listening:
        before = open_sockets()
        took, connection = Outcome(thread, [nowhere, place(listening.getsockname())]).winner()
        with connection:
            assert connection.getpeername() == listening.getsockname()
            assert open_sockets() == before + 1, "the loser is closed"
        assert SOON < took < NEXT_ATTEMPT + 1


def test_after_one_that_refuses_the_next_is_tried_at_once(thread: LoopThread) -> None:
    with answering() as listening:
        places = [refusing(), refusing(), place(listening.getsockname())]
        took, connection = Outcome(thread, places).winner()
        connection.close()
        assert took < SOON


def test_each_gets_its_time_before_the_next(thread: LoopThread) -> None:
    with silent() as nowhere, answering() as listening:
        places = [nowhere, nowhere, place(listening.getsockname())]
        took, connection = Outcome(thread, places).winner()
        connection.close()
        assert took > 2 * SOON


def test_one_that_answers_late_wins_all_the_same(thread: LoopThread) -> None:
    """Nobody waits for the second to fail: it goes on beside it."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, ExitStack() as stack:
        crowd = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in crowd:
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        with silent() as nowhere:
            outcome = Outcome(thread, [place(listening.getsockname()), nowhere])
            assert not eventually(lambda: not outcome.is_undecided, NEXT_ATTEMPT + 0.1)
            listening.settimeout(0.0)
            stack.callback(accept_all, listening)

            def answered() -> bool:
                accept_all(listening)
                return not outcome.is_undecided

            assert eventually(answered)
            _, connection = outcome.winner()
            with connection:
                assert connection.getpeername() == listening.getsockname()


def accept_all(listening: socket.socket) -> None:
    try:
        while True:
            listening.accept()[0].close()
    except BlockingIOError:
        pass


def test_when_all_refuse_the_error_is_of_the_first(thread: LoopThread) -> None:
    took, error = Outcome(thread, [refusing(), place(("255.255.255.255", 9))]).error()
    assert error.errno == errno.ECONNREFUSED
    assert took < SOON


def test_when_the_first_fails_last_the_error_is_still_its_own(thread: LoopThread) -> None:
    with ExitStack() as stack:
        slow = stack.enter_context(silent())
        outcome = Outcome(thread, [slow, place(("255.255.255.255", 9))])
        assert not eventually(lambda: not outcome.is_undecided, NEXT_ATTEMPT + 0.1)
        stack.close()  # from now on it refuses
        assert outcome.error()[1].errno == errno.ECONNREFUSED


def test_without_an_address_there_is_an_error(thread: LoopThread) -> None:
    assert Outcome(thread, []).error()[1].errno == errno.EHOSTUNREACH


def test_without_descriptors_there_is_an_error(thread: LoopThread) -> None:
    with silent() as nowhere, few_descriptors(0):
        assert Outcome(thread, [nowhere, nowhere]).error()[1].errno == errno.EMFILE


def test_a_race_that_is_given_up_calls_nobody(thread: LoopThread) -> None:
    with silent() as nowhere:
        before = open_sockets()
        outcome = Outcome(thread, [nowhere, nowhere])
        assert eventually(lambda: len(outcome.race._running) == 2)
        thread.call(outcome.race.cancel)
        assert open_sockets() == before
        assert outcome.is_undecided


def test_options_are_set_before_the_connection_is_made(thread: LoopThread) -> None:
    with answering() as listening:
        options: list[Option] = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        outcome = Outcome(thread, [place(listening.getsockname())], options)
        with closing(outcome.winner()[1]) as connection:
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        wrong: list[Option] = [(socket.SOL_SOCKET, 9999, 1)]
        assert Outcome(thread, [place(listening.getsockname())], wrong).error()[1].errno


# As ports use it.


def known(monkeypatch: pytest.MonkeyPatch, places: list[Place]) -> None:
    """The host ``several.test`` has these addresses."""
    real = socket.getaddrinfo

    def look_up(host: str, *args: Any, **options: Any) -> Any:
        if host != "several.test":
            return real(host, *args, **options)
        if options.get("flags"):
            raise socket.gaierror(socket.EAI_NONAME, "no number")
        return [(family, socket.SOCK_STREAM, 6, "", address) for family, address in places]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def test_a_port_is_reached_at_the_address_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with echoing() as port, silent() as nowhere:
        known(monkeypatch, [nowhere, place(place_of(port))])
        remote = SocketPort.remote("several.test", place_of(port)[1])
        start = time.monotonic()
        assert remote.request(b"?").data == b"?"
        assert time.monotonic() - start < NEXT_ATTEMPT + 2
        remote.invalidate()


def test_addresses_that_do_not_answer_are_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with silent() as nowhere:
        known(monkeypatch, [nowhere, refusing()])
        remote = SocketPort.remote("several.test", 7000, connect_timeout=0.5)
        with pytest.raises(TransportError, match=r"did not answer within 0\.5 s \(connecting\)"):
            remote.connect(PATIENCE)


def test_that_nobody_listens_is_told_at_once() -> None:
    host, number = refusing().address
    remote = SocketPort.remote(host, number)
    start = time.monotonic()
    with pytest.raises(TransportError, match=r"Connection refused; see whether the port is open"):
        remote.connect(PATIENCE)
    assert time.monotonic() - start < 1
