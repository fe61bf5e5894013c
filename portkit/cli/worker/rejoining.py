"""A worker that keeps trying: while its group is not there, and when it was lost."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeAlias

from portkit import AuthenticationError, PortError, ProtocolError
from portkit.workers import Session
from portkit.workers.check_in import RefusedError
from portkit.workers.loss import what_became_of

FINAL = (RefusedError, AuthenticationError, ProtocolError)
"""Reasons not to join that stay: to try again would only be refused again."""

Attempt: TypeAlias = Callable[[Callable[[Session], object]], object]
"""Join the group and work for it, to the end; told what to call with the session."""


class Pauses:
    """How long to wait between attempts: each time longer, and never the same.

    Args:
        first: seconds.
        longest: seconds.
        rng: for the part of them that is left to chance, so that many workers do not come at once.
    """

    def __init__(
        self, first: float = 0.2, longest: float = 10.0, rng: random.Random | None = None
    ) -> None:
        self._first = self._next = first
        self._longest = longest
        self._rng = rng or random.Random()  # noqa: S311 - to spread attempts, not to hide them

    def reset(self) -> None:
        """The next one is the first again."""
        self._next = self._first

    def take(self) -> float:
        """Seconds to wait now."""
        pause, self._next = self._next, min(self._next * 2, self._longest)
        return pause * self._rng.uniform(0.5, 1.0)


class Joining:
    """One worker's attempts, one after the other.

    Args:
        main: the address of the group's door, for people.
        attempt: makes one; called again and again.
        say: told in a line when something has changed.
        pauses: between the attempts.
    """

    def __init__(
        self, main: str, attempt: Attempt, say: Callable[[str], object], pauses: Pauses
    ) -> None:
        self._main = main
        self._attempt = attempt
        self._say = say
        self._pauses = pauses
        self._is_waiting = False

    def work(self) -> None:
        """Work until the group says that it is enough, or the target has returned.

        Raises:
            PortError: of :data:`FINAL`: this worker is not wanted.
            BaseException: what the target raises, but for what comes of a lost group.
        """
        while not self._work_once():
            time.sleep(self._pauses.take())

    def _work_once(self) -> bool:
        """Whether the work is done."""
        sessions: list[Session] = []

        def begin(session: Session) -> None:
            sessions.append(session)
            session.on_check_in = self._joined

        try:
            self._attempt(begin)
        except PortError as error:
            if not sessions or failed_to_join(error, sessions[0]):
                if isinstance(error, FINAL):
                    raise
                if not self._is_waiting:
                    self._say(f"waiting for {self._main}: {error}")
                self._is_waiting = True
                return False
            if not has_lost_its_group(sessions[0]):
                raise
        if has_lost_its_group(sessions[0]):
            self._say(f"lost {self._main}:{what_became_of(sessions[0].main)}")
            return False
        if sessions[0].was_stopped:
            self._say(f"{self._main} needs this worker no more")
        return True

    def _joined(self, session: Session) -> None:
        self._is_waiting = False
        self._pauses.reset()
        self._say(f"{self._main} took this worker as {session.name}")


def failed_to_join(error: PortError, session: Session | None) -> bool:
    """Whether that came of the attempt to join, and not of what the target did."""
    return session is None or session.check_in_failure is error


def has_lost_its_group(session: Session) -> bool:
    """Whether the group has gone without a word."""
    return session.has_checked_in and not session.was_stopped and not session.main.is_valid
