"""The records of the handshake: who each side is, and what it lets the other send."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from portkit._validation import first_fault
from portkit.errors import ProtocolError
from portkit.link.channel import MOST_DESCRIPTORS
from portkit.link.decoder import Limits
from portkit.link.frames import VERSION

LEAST_SHARED = 1 << 28
"""What every side accepts of shared memory, so that lending need not wait for the greeting."""


class _Version(BaseModel):
    """What the records of all versions have in common."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore", strict=True)

    version: int


class Greeting(_Version):
    """HELLO and WELCOME. What a later version adds is ignored.

    Attributes:
        version: of the protocol; both sides must speak the same.
        incarnation: 32 hexadecimal digits drawn at random when the process began to use links.
        pid: of the process, for people; what is relied on comes from the kernel.
        max_message, max_components, max_descriptors, max_parts, max_shared: see
            :class:`Limits`.
    """

    incarnation: str = Field(pattern="^[0-9a-f]{32}$")
    pid: int = Field(ge=0, lt=1 << 32)
    max_message: int = Field(ge=1 << 16, le=1 << 31)
    max_components: int = Field(ge=1, le=65534)
    max_descriptors: int = Field(ge=0, le=MOST_DESCRIPTORS)
    max_parts: int = Field(ge=1, le=1024)
    max_shared: int = Field(ge=LEAST_SHARED, lt=1 << 48)

    @property
    def limits(self) -> Limits:
        """What may be sent to the side whose record this is."""
        return Limits(
            self.max_message,
            self.max_components,
            self.max_descriptors,
            self.max_parts,
            self.max_shared,
        )


def greeting(incarnation: bytes, pid: int, limits: Limits) -> bytes:
    """This side's record, as it is sent."""
    record = Greeting(
        version=VERSION,
        incarnation=incarnation.hex(),
        pid=pid,
        max_message=limits.message,
        max_components=limits.components,
        max_descriptors=limits.descriptors,
        max_parts=limits.parts,
        max_shared=limits.shared,
    )
    return record.model_dump_json().encode()


def read(body: bytes) -> Greeting:
    """The peer's record.

    Raises:
        ProtocolError: it is not one, or of another version of the protocol.
    """
    try:
        version = _Version.model_validate_json(body).version
        if version != VERSION:
            raise ProtocolError(
                f"the peer speaks version {version} of the protocol, this side {VERSION}: "
                "use the same release of portkit on both sides"
            )
        return Greeting.model_validate_json(body)
    except ValidationError as error:
        raise ProtocolError(f"the greeting is wrong: {first_fault(error)}") from error
