"""The check-in handshake (semantics 7): who a worker is, and the port to reach it by.

A worker sends a request with the number CHECK_IN to the group's door port: its port, its control
port, and a :class:`CheckIn` record. The answer is ACCEPTED with the port that is the main side
for this worker, or REFUSED with a reason. Later the group sends STOP to the control port.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from portkit._validation import first_fault
from portkit.errors import CheckInError
from portkit.message import PortMessage
from portkit.port import Port

CHECK_IN = 100
"""kCheckinMessage of Apple's guide."""
ACCEPTED = 101
REFUSED = 102
STOP = 103

VERSION = 1


class CheckIn(BaseModel):
    """The record in a check-in."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore")

    version: int = VERSION
    index: int = Field(ge=0)
    token: str = Field(max_length=64)


class Arrival(NamedTuple):
    """A check-in as it reached the group."""

    record: CheckIn
    port: Port
    control: Port


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
    try:
        record = CheckIn.model_validate_json(message.data or b"")
    except ValidationError as error:
        raise CheckInError(f"a check-in's record is wrong: {first_fault(error)}") from error
    if record.version != VERSION:
        raise CheckInError(
            f"the worker checks in with version {record.version}, the group speaks {VERSION}"
        )
    return Arrival(record, *ports)


def check_in(door: Port, record: CheckIn, port: Port, control: Port, timeout: float | None) -> Port:
    """Check in at a group's door; the port that is the main side from now on.

    Raises:
        CheckInError: refused, with the reason; or the group is gone.
        CheckInTimeoutError: nobody answered within ``timeout`` seconds.
    """
    answer = door.request(
        (port, control, record.model_dump_json().encode()),
        msgid=CHECK_IN,
        send_timeout=timeout,
        reply_timeout=timeout,
    )
    if answer.msgid != ACCEPTED:
        raise CheckInError(f"the check-in was refused: {(answer.data or b'').decode()}")
    return answer.ports[0]
