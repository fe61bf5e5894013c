"""Every exception portkit raises on purpose.

::

    PortError
    ├── InvalidPortError (-3)           the port was invalid before the call
    │   └── BecameInvalidError (-5)     it became invalid while the call waited
    ├── SendTimeoutError (-1)           also a TimeoutError: no room in time
    ├── ReceiveTimeoutError (-2)        also a TimeoutError: no answer or message in time
    ├── TransportError (-4)             a transport is unknown or failed
    │   ├── MessageTooLargeError        the message is over a limit of the link
    │   ├── ProtocolError               the peer broke the protocol; its link is closed
    │   └── AuthenticationError         one side refused the other
    ├── InvalidPayloadError             also a ValueError: a payload is not what was agreed
    ├── ReplyDroppedError               the receiver let a request go unanswered
    ├── RemoteError                     what was called at the other side raised
    ├── NameInUseError                  somebody alive has registered that name
    ├── NameNotFoundError               also a LookupError: nobody has registered that name
    ├── CheckInError                    a worker's check-in was refused or failed
    │   ├── CheckInTimeoutError         also a TimeoutError: workers are missing
    │   └── WorkerDiedError             a worker ended when it should not have
    ├── LoopEndedError                  the run loop's thread has ended, or the process forked
    └── WrongThreadError                also a RuntimeError: only the owning thread may do this

The numbers are CFMessagePort's result codes (M1), as ``code`` on the class. A ``TypeError`` or
``ValueError`` means that the caller's arguments are wrong and that nothing was done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from portkit.message import PortMessage


class PortError(Exception):
    """The root of portkit's errors.

    Attributes:
        code: CFMessagePort's result code for this outcome (M1), or None where it has none.
        accepted: how many messages a failed ``send_many`` had delivered before the error.
    """

    code: ClassVar[int | None] = None
    accepted: int = 0


class InvalidPortError(PortError):
    """The port is invalid: it was invalidated, its thread ended, or the process forked."""

    code: ClassVar[int | None] = -3


class BecameInvalidError(InvalidPortError):
    """The port became invalid while the call waited for room or for an answer."""

    code: ClassVar[int | None] = -5


class SendTimeoutError(PortError, TimeoutError):
    """The receiver's queue had no room in time. Nothing of the message was sent."""

    code: ClassVar[int | None] = -1


class ReceiveTimeoutError(PortError, TimeoutError):
    """No message, or no answer to a request, arrived in time."""

    code: ClassVar[int | None] = -2


class TransportError(PortError):
    """A transport is unknown, cannot do what was asked, or failed."""

    code: ClassVar[int | None] = -4


class MessageTooLargeError(TransportError):
    """The message is over a limit that this side or the peer announced. Nothing was sent."""


class ProtocolError(TransportError):
    """The peer sent what the protocol does not allow; the link to it is closed."""


class AuthenticationError(TransportError):
    """One side of a link refused the other; the message says who, and why."""


class InvalidPayloadError(PortError, ValueError):
    """A message does not say what its type asks for, or nobody knows its type.

    The text names the fields and what is wrong with each, never the values.

    Attributes:
        about: the message that it is about, where that arrived in this process.
    """

    about: PortMessage | None = None


class ReplyDroppedError(PortError):
    """The request was received, but whoever held it let it go without an answer."""


class RemoteError(PortError):
    """An exception of the other side of a connection of :mod:`portkit.remote`.

    Attributes:
        type: the class of the exception, with its module.
        message: what it said.
        traceback: where it was raised, as the other side shows it; empty if that tells none.
    """

    def __init__(self, type: str, message: str = "", traceback: str = "") -> None:  # noqa: A002
        super().__init__(type, message, traceback)
        self.type: str = type
        self.message: str = message
        self.traceback: str = traceback
        if traceback:
            self.add_note(f"the traceback of the other side:\n{traceback}")

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class NameInUseError(PortError):
    """A port that lives has the name; pick another, or have its owner give it up."""


class NameNotFoundError(PortError, LookupError):
    """No port that lives has the name."""


class CheckInError(PortError):
    """A worker's check-in was refused or could not be completed."""


class CheckInTimeoutError(CheckInError, TimeoutError):
    """Not every worker checked in in time; the message names those missing."""


class WorkerDiedError(CheckInError):
    """A worker ended when it should not have; the message holds its traceback."""


class LoopEndedError(PortError):
    """The run loop's thread has ended (or this process is a fork); it runs nothing any more."""


class WrongThreadError(PortError, RuntimeError):
    """The call belongs on another thread; the message names both."""
