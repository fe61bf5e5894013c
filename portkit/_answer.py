"""The place where one answer to one request arrives.

Settling takes no lock, so that a finalizer may do it: the first in ``_outcomes`` wins.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from portkit import _tally
from portkit._wakeup import Reader, Waiter
from portkit.errors import PortError, ReceiveTimeoutError
from portkit.message import Envelope

if TYPE_CHECKING:
    from portkit.runloop.loop import RunLoop

ABANDONED = ReceiveTimeoutError("the requester stopped waiting")
"""The outcome where the requester gave up."""
Holder: TypeAlias = "tuple[Callable[[Any, Any, RunLoop | None], object], object, object]"
"""Who is told: what to call, from any thread and without a lock, and two arguments for it. The
third is the loop to perform handlers on that have none of their own; None: call them here."""


def tell(holder: Holder | None, otherwise: RunLoop | None) -> None:
    """Tell whoever holds a request that its requester gave up. Told twice is as told once."""
    if holder is not None:
        call, first, second = holder
        call(first, second, otherwise)


class Outcome(Protocol):
    """Where an answer goes: to a requester of this process, or over a link.

    Attributes:
        holder: who is told if the requester gives up, or None. Whoever sets this looks at
            ``abandoned`` afterwards, and tells itself.
    """

    holder: Holder | None

    @property
    def transport(self) -> str:
        """That which the answer takes."""
        ...

    @property
    def done(self) -> bool:
        """Whether it is settled, or nobody waits any more."""
        ...

    @property
    def abandoned(self) -> bool:
        """Whether the requester gave up, or is gone."""
        ...

    def settle(self, outcome: Envelope | PortError) -> bool:
        """Settle it; False if that was done before."""
        ...


class Answer:
    """What a requester waits for: an envelope, or the reason why none will come.

    Args:
        waiter: the requesting thread's.

    Attributes:
        holder: as :class:`Outcome` has it.
    """

    __slots__ = ("_outcomes", "_waiter", "holder")

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self.holder: Holder | None = None
        self._outcomes: list[Envelope | PortError] = []

    @property
    def transport(self) -> str:
        """None that needs a link."""
        return "mach"

    @property
    def outcome(self) -> Envelope | PortError | None:
        """What came, or None so far."""
        return self._outcomes[0] if self._outcomes else None

    @property
    def done(self) -> bool:
        """Whether the outcome is there."""
        return bool(self._outcomes)

    def settle(self, outcome: Envelope | PortError) -> bool:
        """Set the outcome and wake the requester; False if it was settled before. Any thread."""
        outcomes = self._outcomes
        if outcomes:
            if self._waiter.armed is self:
                self._waiter.ring()  # an exception may have kept who settled from ringing
            return False
        outcomes.append(outcome)
        if outcomes[0] is not outcome:
            return False
        self._waiter.ring()
        return True

    @property
    def abandoned(self) -> bool:
        """Whether the requester gave up: an answer now is late and goes nowhere (M10)."""
        return isinstance(self.outcome, ReceiveTimeoutError)

    def wait(self, timeout: float | None, reader: Reader | None = None) -> None:
        """Block up to ``timeout`` seconds for the outcome, running nothing else meanwhile.

        Args:
            timeout: seconds, or None for ever.
            reader: what the outcome comes in by, read by this thread while it waits.
        """
        waiter = self._waiter
        waiter.check_awake()
        deadline = None if timeout is None else monotonic() + timeout
        remaining = timeout
        try:
            while True:
                waiter.armed = self
                if self._outcomes or (remaining is not None and remaining <= 0):
                    return
                if reader is None:
                    waiter.sleep(remaining)
                else:
                    reader.sleep(waiter, remaining)
                if deadline is not None:
                    remaining = deadline - monotonic()
        finally:
            waiter.armed = None
            if reader is not None:
                reader.leave(waiter)

    def abandon(self) -> None:
        """Give up waiting: what is answered from now on goes nowhere, and its holder is told."""
        if self.settle(ABANDONED):
            _tally.requests_given_up.add()
        if self.holder is not None and self.abandoned:
            tell(self.holder, None)

    def result(self, timeout: float | None) -> Envelope:
        """The answer; closes the place if there is none, so that a late one goes nowhere.

        Where it raises the caller calls :meth:`abandon`.

        Raises:
            ReceiveTimeoutError: no outcome yet.
            PortError: the outcome is an error.
        """
        if not self._outcomes:
            late = ReceiveTimeoutError(
                f"no answer within {timeout} s: raise reply_timeout=, or look at the receiver"
            )
            if self.settle(late):
                _tally.requests_given_up.add()
        outcome = self._outcomes[0]
        if isinstance(outcome, tuple):
            return outcome
        raise outcome
