"""The check-in handshake (semantics 7): who a worker is, and the port to reach it by.

A worker sends a request with the number CHECK_IN to the group's door port: its port, its control
port, and a :class:`CheckIn` record. The answer is ACCEPTED with the port that is the main side
for this worker, or REFUSED with a reason. Later the group sends STOP to the control port.

A worker that the group did not start names neither its number nor a token: the answer brings them
in a :class:`Place`, and a second port, which is to be told how the worker ended.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from portkit._text import printable
from portkit._validation import first_fault
from portkit.errors import CheckInError, ProtocolError
from portkit.message import PortMessage
from portkit.port import Port, ReplyPort

CHECK_IN = 100
"""kCheckinMessage of Apple's guide."""
ACCEPTED = 101
REFUSED = 102
STOP = 103
FAREWELL = 104

VERSION = 1


class CheckIn(BaseModel):
    """The record in a check-in.

    Attributes:
        version: of this handshake.
        index: the worker's number; None where the group is to give it one.
        token: what it proves with that it is this worker; from the last answer, where it had one.
        target: what it runs, where the group did not say.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore")

    version: int = VERSION
    index: int | None = Field(default=None, ge=0)
    token: str = Field(default="", max_length=64)
    target: str = Field(default="", max_length=1024)


class Place(BaseModel):
    """The record in an answer: who the worker is from now on."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore")

    index: int = Field(ge=0)
    name: str = Field(max_length=1024)
    token: str = Field(max_length=64)


class RefusedError(CheckInError):
    """The group does not want this worker, and will not want it later."""


class Arrival(NamedTuple):
    """A check-in as it reached the group."""

    record: CheckIn
    port: Port
    control: Port


class Acceptance(NamedTuple):
    """A group's answer: its port for the worker; the others where the worker came by itself."""

    main: Port
    farewell: Port | None
    place: Place | None


def read(message: PortMessage) -> Arrival:
    """The check-in in a message.

    Raises:
        CheckInError: it is not one, or of a version that this side does not speak.
    """
    if message.msgid != CHECK_IN or not message.is_request:
        raise CheckInError(
            f"the door only takes check-ins (requests, msgid {CHECK_IN}), not {message!r}"
        )
    ports = message.ports
    if len(ports) != 2:
        raise CheckInError(f"a check-in brings two ports, this one {len(ports)}")
    if any(isinstance(port, ReplyPort) for port in ports):  # of whose end nobody would be told
        raise CheckInError("a check-in brings ports, and no rights to answer")
    try:
        record = CheckIn.model_validate_json(message.data or b"")
    except ValidationError as error:
        raise CheckInError(f"a check-in's record is wrong: {first_fault(error)}") from error
    if record.version != VERSION:
        raise CheckInError(
            f"the worker checks in with version {record.version}, the group speaks {VERSION}"
        )
    return Arrival(record, *ports)


def check_in(
    door: Port, record: CheckIn, port: Port, control: Port, timeout: float | None
) -> Acceptance:
    """Check in at a group's door; its answer has the port that is the main side from now on.

    Raises:
        CheckInError: refused, with the reason; or the group is gone.
        CheckInTimeoutError: nobody answered within ``timeout`` seconds.
        ProtocolError: the answer is none.
    """
    answer = door.request(
        (port, control, record.model_dump_json().encode()),
        msgid=CHECK_IN,
        send_timeout=timeout,
        reply_timeout=timeout,
    )
    if answer.msgid == REFUSED:
        raise RefusedError(f"the check-in was refused: {printable(answer.data or b'')}")
    ports = answer.ports
    if answer.msgid != ACCEPTED or not ports:
        raise ProtocolError(f"what answers there is no group's door: it says {answer!r}")
    main, *others = ports
    farewell = others[0] if others else None
    if answer.data is None:
        return Acceptance(main, farewell, None)
    try:
        return Acceptance(main, farewell, Place.model_validate_json(answer.data))
    except ValidationError as error:
        raise ProtocolError(f"the group's answer is wrong: {first_fault(error)}") from error
