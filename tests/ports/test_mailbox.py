"""The bounded queue between senders and one consumer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from portkit import BecameInvalidError, InvalidPortError, SendTimeoutError, _thread
from portkit._wakeup import Waiter
from portkit.mailbox import Mailbox
from portkit.message import Envelope
from tests.ports.helpers import Background, hooked, interrupt
from tests.support import PATIENCE, eventually


def envelope(number: int) -> Envelope:
    return (number, (), None, None)


def take(mailbox: Mailbox) -> int:
    """What a consumer does for one envelope."""
    number = mailbox.queue.popleft()[0]
    if mailbox.senders:
        mailbox.wake_sender()
    return number


def blocked(mailbox: Mailbox, count: int = 1) -> bool:
    return eventually(lambda: len(mailbox.senders) == count)


def put_all(mailbox: Mailbox, *numbers: int, timeout: float | None = PATIENCE) -> Callable[[], Any]:
    def put() -> None:
        for number in numbers:
            mailbox.put(envelope(number), timeout)

    return put


class TestBounds:
    def test_takes_as_many_as_its_limit(self) -> None:
        mailbox = Mailbox(3)
        for number in range(3):
            mailbox.put(envelope(number), 0)
        with pytest.raises(SendTimeoutError):
            mailbox.put(envelope(3), 0)
        assert [number for number, *_ in mailbox.queue] == [0, 1, 2]

    @pytest.mark.parametrize("timeout", [0, -1, 0.01])
    def test_full_raises_in_time_and_changes_nothing(self, timeout: float) -> None:
        mailbox = Mailbox(1)
        mailbox.put(envelope(0), timeout)  # P6: one non-blocking try succeeds where there is room
        with pytest.raises(SendTimeoutError, match="queue_limit"):
            mailbox.put(envelope(1), timeout)
        assert len(mailbox.queue) == 1
        assert not mailbox.senders

    def test_only_consumer_never_waits_for_itself(self) -> None:
        mailbox = Mailbox(1)
        mailbox.attach(lambda: None, threading.get_ident())
        mailbox.put(envelope(0), 0)
        with pytest.raises(SendTimeoutError, match="only this thread"):
            mailbox.put(envelope(1), None)


class TestBlockedSenders:
    def test_proceeds_as_soon_as_there_is_room(self) -> None:
        mailbox = Mailbox(1)
        mailbox.put(envelope(0), 0)
        sender = Background(put_all(mailbox, 1, timeout=None))
        assert blocked(mailbox)
        assert take(mailbox) == 0
        sender.result()
        assert take(mailbox) == 1

    def test_one_sender_keeps_its_order_through_blocking(self) -> None:
        mailbox = Mailbox(1)
        sender = Background(put_all(mailbox, *range(50)))
        taken: list[int] = []
        while len(taken) < 50:
            assert eventually(lambda: mailbox.queue)
            taken.append(take(mailbox))
        sender.result()
        assert taken == list(range(50))

    def test_longest_waiting_is_woken_first(self) -> None:
        mailbox = Mailbox(1)
        mailbox.put(envelope(0), 0)
        first = Background(put_all(mailbox, 1))
        assert blocked(mailbox, 1)
        second = Background(put_all(mailbox, 2))
        assert blocked(mailbox, 2)
        taken = []
        for thread in (first, second):
            taken.append(take(mailbox))
            thread.result()
        assert [*taken, take(mailbox)] == [0, 1, 2]

    def test_room_that_came_before_the_sender_slept_is_not_missed(self) -> None:
        """The consumer looks for senders between two steps of one that gets ready to sleep, and
        somebody else takes the room that was meant for it.
        """
        mailbox = Mailbox(1)
        mailbox.put(envelope(0), 0)

        def interleave() -> None:
            take(mailbox)
            mailbox.put(envelope(1), 0)

        mailbox.senders = hooked(mailbox.senders, append=interleave)
        sender = Background(put_all(mailbox, 2, timeout=None))
        assert eventually(lambda: mailbox.queue and mailbox.queue[0][0] == 1)
        assert blocked(mailbox)
        assert take(mailbox) == 1
        sender.result()

    def test_room_that_an_interrupted_sender_leaves_goes_to_the_next(self) -> None:
        """This thread is woken for room, and an exception strikes before it uses it."""
        mailbox = Mailbox(1)
        mailbox.put(envelope(0), 0)
        rounds: list[int] = []
        others: list[Background] = []

        class Senders(deque[Waiter]):
            def append(self, waiter: Waiter, /) -> None:
                super().append(waiter)
                if waiter is mine:
                    rounds.append(1)
                    if len(rounds) == 2:
                        interrupt()

        def second_in_line() -> None:
            assert blocked(mailbox, 1)
            others.append(Background(put_all(mailbox, 2, timeout=None)))
            assert blocked(mailbox, 2)
            assert take(mailbox) == 0

        mine = _thread.current().waiter
        mailbox.senders = Senders()
        helper = Background(second_in_line)
        with pytest.raises(KeyboardInterrupt):
            mailbox.put(envelope(1), PATIENCE)
        helper.result()
        others[0].result()
        assert take(mailbox) == 2

    @pytest.mark.parametrize("step", ["getitem", "popleft"])
    def test_is_woken_by_a_consumer_that_is_interrupted(self, step: str) -> None:
        mailbox = Mailbox(1)
        mailbox.put(envelope(0), 0)
        sender = Background(put_all(mailbox, 1, timeout=None))
        assert blocked(mailbox)
        mailbox.senders = hooked(mailbox.senders, **{step: interrupt})
        with pytest.raises(KeyboardInterrupt):
            take(mailbox)
        if step == "getitem":  # nothing has happened yet: it is still in line
            mailbox.wake_sender()
        sender.result()

    @pytest.mark.parametrize("waiting", [1, 5])
    def test_close_wakes_them(self, waiting: int) -> None:
        mailbox = Mailbox(1)
        mailbox.put(envelope(0), 0)
        senders = [Background(put_all(mailbox, 1, timeout=None)) for _ in range(waiting)]
        assert blocked(mailbox, waiting)
        assert mailbox.close() == [envelope(0)]
        for sender in senders:
            with pytest.raises(BecameInvalidError):
                sender.result()
        assert not mailbox.senders


class TestPutMany:
    def test_accepts_all_where_there_is_room(self) -> None:
        mailbox = Mailbox(5)
        assert mailbox.put_many([envelope(n) for n in range(5)], 0) == 5
        assert mailbox.put_many([], 0) == 0

    def test_says_how_many_went_in(self) -> None:
        mailbox = Mailbox(3)
        with pytest.raises(SendTimeoutError) as caught:
            mailbox.put_many([envelope(n) for n in range(5)], 0)
        assert caught.value.accepted == 3
        assert [number for number, *_ in mailbox.queue] == [0, 1, 2]

    def test_waits_for_room_for_the_rest(self) -> None:
        mailbox = Mailbox(2)
        sender = Background(lambda: mailbox.put_many([envelope(n) for n in range(7)], PATIENCE))
        taken: list[int] = []
        while len(taken) < 7:
            assert eventually(lambda: mailbox.queue)
            taken.append(take(mailbox))
        assert sender.result() == 7
        assert taken == list(range(7))

    def test_closing_says_how_many_went_in(self) -> None:
        mailbox = Mailbox(2)
        sender = Background(lambda: mailbox.put_many([envelope(n) for n in range(7)], PATIENCE))
        assert blocked(mailbox)
        take(mailbox)
        assert eventually(lambda: len(mailbox.queue) == 2 and mailbox.senders)
        mailbox.close()
        with pytest.raises(BecameInvalidError) as caught:
            sender.result()
        assert caught.value.accepted == 3


class TestConsumer:
    def test_is_told_once_until_it_rests(self) -> None:
        told: list[int] = []
        mailbox = Mailbox(10)
        mailbox.attach(lambda: told.append(len(mailbox.queue)))
        mailbox.put(envelope(0), 0)
        mailbox.put_many([envelope(1), envelope(2)], 0)
        assert told == [1]
        mailbox.queue.clear()
        mailbox.rest()
        mailbox.put(envelope(3), 0)
        assert told == [1, 1]

    def test_is_told_at_once_of_what_lies_there(self) -> None:
        told: list[int] = []
        mailbox = Mailbox(10)
        mailbox.put(envelope(0), 0)
        mailbox.attach(lambda: told.append(1))
        assert told == [1]
        mailbox.detach()
        mailbox.put(envelope(1), 0)
        mailbox.attach(lambda: told.append(2))
        assert told == [1, 2]

    def test_resting_over_envelopes_tells_again(self) -> None:
        told: list[int] = []
        mailbox = Mailbox(10)
        mailbox.attach(lambda: told.append(1))
        mailbox.put(envelope(0), 0)
        mailbox.rest()
        assert told == [1, 1]

    def test_what_is_put_back_comes_first(self) -> None:
        mailbox = Mailbox(1)
        told: list[int] = []
        mailbox.attach(lambda: told.append(1))
        mailbox.put(envelope(0), 0)
        first = mailbox.queue.popleft()
        mailbox.put(envelope(1), 0)
        mailbox.put_back(first)  # it goes over the limit rather than away
        assert [number for number, *_ in mailbox.queue] == [0, 1]
        assert told == [1, 1]


class InterruptedLock:
    """A lock after whose first release Ctrl-C strikes."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._calls = 0

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()
        self._calls += 1
        if self._calls == 1:
            interrupt()


@pytest.mark.parametrize("many", [False, True])
def test_an_interrupted_put_leaves_no_envelope_unnoticed(many: bool) -> None:
    told: list[int] = []
    mailbox = Mailbox(5)
    mailbox.attach(lambda: told.append(1))
    mailbox.lock = InterruptedLock()  # type: ignore[assignment]
    put: Callable[[], object] = put_all(mailbox, 0)
    if many:
        put = partial(mailbox.put_many, [envelope(0)], 0)
    with pytest.raises(KeyboardInterrupt):
        put()
    assert bool(told) is bool(mailbox.queue)


class TestClose:
    def test_refuses_and_returns_the_unread(self) -> None:
        mailbox = Mailbox(4)
        mailbox.put_many([envelope(0), envelope(1)], 0)
        assert mailbox.close() == [envelope(0), envelope(1)]
        assert mailbox.close() is None
        with pytest.raises(InvalidPortError) as caught:
            mailbox.put(envelope(2), 0)
        assert type(caught.value) is InvalidPortError
        with pytest.raises(InvalidPortError):
            mailbox.put_many([envelope(2)], 0)
        assert not mailbox.queue

    def test_an_envelope_is_either_taken_or_returned(self) -> None:
        """A consumer may take while another thread closes: nobody gets the same one."""
        mailbox = Mailbox(100)
        mailbox.put_many([envelope(n) for n in range(3)], 0)
        taken: list[Envelope] = []

        class Taken(deque[Envelope]):
            def __iter__(self) -> Any:
                copy = list(super().__iter__())
                taken.append(super().popleft())
                return iter(copy)

            def popleft(self) -> Envelope:
                first = super().popleft()
                if not taken:
                    taken.append(super().popleft())
                return first

        mailbox.queue = Taken(mailbox.queue)
        unread = mailbox.close()
        assert unread is not None
        assert sorted(number for number, *_ in [*unread, *taken]) == [0, 1, 2]

    def test_nothing_can_be_put_back_afterwards(self) -> None:
        mailbox = Mailbox(1)
        mailbox.put(envelope(0), 0)
        first = mailbox.queue.popleft()
        mailbox.close()
        mailbox.put_back(first)
        assert not mailbox.queue


class MailboxMachine(RuleBasedStateMachine):
    """A mailbox does what a list with a limit does, and its consumer never sleeps on work."""

    @initialize(limit=st.integers(1, 4))
    def make(self, limit: int) -> None:
        self.mailbox = Mailbox(limit)
        self.model: list[int] = []
        self.limit = limit
        self.next = 0
        self.told = False
        self.attached = False
        self.closed = False

    def on_ready(self) -> None:
        self.told = True

    def numbers(self, count: int) -> list[int]:
        start, self.next = self.next, self.next + count
        return list(range(start, self.next))

    @rule()
    def put(self) -> None:
        (number,) = self.numbers(1)
        wanted: type[Exception] | None = None
        if self.closed:
            wanted = InvalidPortError
        elif len(self.model) >= self.limit:
            wanted = SendTimeoutError
        if wanted is None:
            self.mailbox.put(envelope(number), 0)
            self.model.append(number)
        else:
            with pytest.raises(wanted):
                self.mailbox.put(envelope(number), 0)

    @rule(count=st.integers(0, 6))
    def put_many(self, count: int) -> None:
        numbers = self.numbers(count)
        if self.closed:
            with pytest.raises(InvalidPortError):
                self.mailbox.put_many([envelope(n) for n in numbers], 0)
            return
        room = max(0, self.limit - len(self.model))
        try:
            accepted = self.mailbox.put_many([envelope(n) for n in numbers], 0)
        except SendTimeoutError as error:
            accepted = error.accepted
            assert count > room
        assert accepted == min(count, room)
        self.model += numbers[:accepted]

    @precondition(lambda self: self.model and self.attached)
    @rule(put_back=st.booleans())
    def take(self, put_back: bool) -> None:
        """As a consumer that found the mailbox ready."""
        taken = self.mailbox.queue.popleft()
        assert taken[0] == self.model[0]
        if put_back:
            self.mailbox.put_back(taken)
        else:
            del self.model[0]
            if not self.mailbox.queue:
                self.told = False
                self.mailbox.rest()

    @rule()
    def attach(self) -> None:
        self.told = False
        self.attached = True
        self.mailbox.attach(self.on_ready)

    @rule()
    def detach(self) -> None:
        self.attached = False
        self.mailbox.detach()

    @rule()
    def rest(self) -> None:
        if self.attached:
            self.told = False
            self.mailbox.rest()

    @precondition(lambda self: self.next > 3)
    @rule()
    def close(self) -> None:
        unread = self.mailbox.close()
        if self.closed:
            assert unread is None
        else:
            assert unread == [envelope(n) for n in self.model]
        self.model = []
        self.closed = True

    @invariant()
    def same(self) -> None:
        assert [number for number, *_ in self.mailbox.queue] == self.model

    @invariant()
    def consumer_knows(self) -> None:
        if self.attached and self.model:
            assert self.told


TestMailboxModel = MailboxMachine.TestCase
TestMailboxModel.settings = settings(deadline=None, stateful_step_count=30)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), max_size=5), max_size=5), st.integers(1, 5))
def test_put_many_in_pieces_is_one_sequence(pieces: list[list[int]], limit: int) -> None:
    mailbox = Mailbox(limit)
    wanted = [number for piece in pieces for number in piece]
    for piece in pieces:
        try:
            mailbox.put_many([envelope(n) for n in piece], 0)
        except SendTimeoutError:
            break
    got = [number for number, *_ in mailbox.queue]
    assert got == wanted[: len(got)]
    assert len(got) == min(limit, len(wanted))
