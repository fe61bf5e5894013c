"""When a worker tries again, and what it says meanwhile; without a group."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from portkit import AuthenticationError, CheckInError, InvalidPortError, PortError, TransportError
from portkit.cli.worker.rejoining import Attempt, Joining, Pauses
from portkit.workers.check_in import RefusedError


class FakeSession:
    """What a worker's attempt tells of itself."""

    name = "worker-3"

    def __init__(self, *, joined: bool = True, stopped: bool = False, lost: bool = False) -> None:
        self.has_checked_in = joined
        self.was_stopped = stopped
        self.check_in_failure: PortError | None = None
        self.on_check_in: Callable[[FakeSession], object] | None = None
        self.main = type("Main", (), {"is_valid": not lost})()


class NoPauses(Pauses):
    """Counts them instead."""

    taken = 0

    def take(self) -> float:
        self.taken += 1
        return 0.0


def attempts(*outcomes: FakeSession | tuple[FakeSession, Exception] | Exception) -> Attempt:
    """Each call has the next of these."""
    left = list(outcomes)

    def attempt(begun: Callable[[object], object]) -> None:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        session, error = outcome if isinstance(outcome, tuple) else (outcome, None)
        begun(session)
        if session.has_checked_in:
            assert session.on_check_in is not None
            session.on_check_in(session)
        if error is not None:
            raise error

    return attempt  # type: ignore[return-value]


def worked(attempt: Attempt) -> tuple[list[str], int]:
    """What it said, and how often it paused."""
    said: list[str] = []
    pauses = NoPauses()
    Joining("socket://x:1", attempt, said.append, pauses).work()
    return said, pauses.taken


def not_joined(error: PortError) -> tuple[FakeSession, PortError]:
    session = FakeSession(joined=False)
    session.check_in_failure = error
    return session, error


STOPPED = FakeSession(stopped=True, lost=True)
JOINED = "socket://x:1 took this worker as worker-3"
NEEDED_NO_MORE = "socket://x:1 needs this worker no more"


def test_one_that_is_stopped_ends() -> None:
    assert worked(attempts(STOPPED)) == ([JOINED, NEEDED_NO_MORE], 0)


def test_one_whose_function_returns_ends() -> None:
    assert worked(attempts(FakeSession())) == ([JOINED], 0)


def test_each_change_is_told_once() -> None:
    away = TransportError("nobody there")
    said, pauses = worked(
        attempts(
            *(away, not_joined(CheckInError("gone")), away),
            FakeSession(lost=True),
            *(away, away),
            (FakeSession(lost=True), InvalidPortError("the main side is gone")),
            STOPPED,
        )
    )
    waiting = "waiting for socket://x:1: nobody there"
    lost = "lost socket://x:1: its port was invalidated"
    assert said == [waiting, JOINED, lost, waiting, JOINED, lost, JOINED, NEEDED_NO_MORE]
    assert pauses == 7


@pytest.mark.parametrize("error", [RefusedError("no"), AuthenticationError("no")])
def test_a_refusal_is_final(error: PortError) -> None:
    with pytest.raises(type(error)):
        worked(attempts(not_joined(error)))


@pytest.mark.parametrize("error", [InvalidPortError("another port"), LookupError("a mistake")])
def test_what_the_function_raises_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)):
        worked(attempts((FakeSession(), error)))


def test_an_error_of_the_function_before_it_has_joined_is_raised() -> None:
    with pytest.raises(TransportError):
        worked(attempts((FakeSession(joined=False), TransportError("of its own"))))


def test_pauses_grow_and_are_spread() -> None:
    pauses = Pauses(first=1.0, longest=5.0, rng=random.Random(1))
    for bound in (1.0, 2.0, 4.0, 5.0, 5.0):
        assert bound / 2 <= pauses.take() <= bound
    pauses.reset()
    assert pauses.take() <= 1.0
