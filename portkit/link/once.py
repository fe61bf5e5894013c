"""Send-once rights over a link: answers on their way to the peer that asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portkit.errors import BecameInvalidError, PortError, ReplyDroppedError
from portkit.message import Envelope

if TYPE_CHECKING:
    from portkit.link.link import Link

DROPPED = 1
INVALID = 2
FAILED = 3


def code_of(error: PortError) -> int:
    """How a FAILED frame names the error."""
    if isinstance(error, ReplyDroppedError):
        return DROPPED
    return INVALID if isinstance(error, BecameInvalidError) else FAILED


def error_of(code: int, text: str) -> PortError:
    """The error that a FAILED frame names, as the requester gets it."""
    if code == DROPPED:
        return ReplyDroppedError(text)
    return BecameInvalidError(text) if code == INVALID else PortError(text)


class RemoteAnswer:
    """The place of an answer that the peer waits for; used as :class:`portkit._answer.Answer`.

    Args:
        link: by which the request came.
        number: the send-once right's.
    """

    __slots__ = ("_link", "_number", "_outcomes")

    def __init__(self, link: Link, number: int) -> None:
        self._link = link
        self._number = number
        link.questions += 1
        self._outcomes: list[Envelope | PortError] = []

    @property
    def done(self) -> bool:
        """Whether it was answered, or nobody can be answered any more."""
        return bool(self._outcomes) or self._link.is_closed

    @property
    def abandoned(self) -> bool:
        """Whether the requester is gone: an answer now goes nowhere (M10)."""
        return self._link.is_closed

    def settle(self, outcome: Envelope | PortError) -> bool:
        """Answer, or say that there will be none; False if that was done before.

        An error takes no lock, as finalizers ask: whoever next writes to the link sends it.

        Raises:
            TypeError, TransportError: the answer cannot be sent; another can still be given.
        """
        outcomes = self._outcomes
        if outcomes:
            return False
        outcomes.append(outcome)
        if outcomes[0] is not outcome:
            return False
        if not isinstance(outcome, tuple):
            self._link.note_failure(self._number, outcome)
            return True
        try:
            self._link.sending.answer(self._number, outcome)
        except BaseException:
            outcomes.clear()
            raise
        return True
