"""Send-once rights over a link: answers on their way to the peer that asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portkit._answer import ABANDONED, Holder, tell
from portkit.errors import (
    AuthenticationError,
    BecameInvalidError,
    InvalidPayloadError,
    PortError,
    ReplyDroppedError,
)
from portkit.link import service
from portkit.message import Envelope

if TYPE_CHECKING:
    from portkit.link.link import Link

DROPPED = 1
INVALID = 2
FAILED = 3
INVALID_PAYLOAD = 4
NOT_ALLOWED = 5
_CODES: dict[type[PortError], int] = {
    ReplyDroppedError: DROPPED,
    BecameInvalidError: INVALID,
    InvalidPayloadError: INVALID_PAYLOAD,
    AuthenticationError: NOT_ALLOWED,
}
_ERRORS = {code: error for error, code in _CODES.items()}


def code_of(error: PortError) -> int:
    """How a FAILED frame names the error."""
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), FAILED)


def error_of(code: int, text: str) -> PortError:
    """The error that a FAILED frame names, as the requester gets it."""
    return _ERRORS.get(code, PortError)(text)


class RemoteAnswer:
    """The place of an answer that the peer waits for; used as :class:`portkit._answer.Answer`.

    Args:
        link: by which the request came.
        number: the send-once right's.

    Attributes:
        holder: as :class:`portkit._answer.Outcome` has it.
    """

    __slots__ = ("_given_up", "_link", "_number", "_outcomes", "holder")

    def __init__(self, link: Link, number: int) -> None:
        self._link = link
        self._number = number
        self._outcomes: list[Envelope | PortError] = []
        self._given_up = False
        self.holder: Holder | None = None
        link.table.ask(number, self)

    @property
    def transport(self) -> str:
        """That of the link."""
        return self._link.node.transport

    @property
    def done(self) -> bool:
        """Whether it was answered, or nobody can be answered any more."""
        return bool(self._outcomes) or self._given_up or self._link.is_closed

    @property
    def abandoned(self) -> bool:
        """Whether the requester gave up, or is gone: an answer now goes nowhere (M10)."""
        outcomes = self._outcomes
        return outcomes[0] is ABANDONED if outcomes else self._given_up or self._link.is_closed

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
            self._link.table.asked.pop(self._number, None)
            self._link.note_failure(self._number, outcome)
            return True
        try:
            self._link.sending.answer(self._number, outcome)
        except BaseException:
            outcomes.clear()
            if self._given_up:
                self.abandon()
            raise
        self._link.table.asked.pop(self._number, None)
        return True

    def abandon(self) -> None:
        """The requester gave up, or is gone: whoever holds the request is told."""
        self._given_up = True  # first, for an answer that is just being refused
        outcomes = self._outcomes
        if not outcomes:
            outcomes.append(ABANDONED)
        loop = service.loop()
        if outcomes[0] is ABANDONED and loop is not None:
            tell(self.holder, loop)
