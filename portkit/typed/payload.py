"""Messages with a type: models of pydantic whose class says how they travel."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from portkit._field_schema import Arrived, Departing
from portkit.errors import InvalidPayloadError
from portkit.message import MAX_MSGID, Body, Component, Contents, PortMessage
from portkit.typed.codec import JSON, Codec
from portkit.typed.explain import explain


class Payload(BaseModel, Body):
    """What a message says, as a pydantic model; subclass it to define one.

    ``class Job(Payload, msgid=7)`` travels in messages with that number. Send one with
    ``port.send(Job(...))`` and serve it with a :class:`portkit.typed.Router`. Fields may be ports
    and descriptors, and large data as :data:`portkit.typed.Data`: those travel as components of the
    message, everything else is encoded together.

    Within a process the receiver gets the very object that was sent. Payloads are frozen for that
    reason; what their fields refer to should be left alone as well.

    A field that the receiver does not know is ignored, and one that the sender did not know has its
    default, so that programs of different ages understand each other.

    Class arguments:
        msgid: the number of its messages, 0 to 2**32-1; 0 for one that only ever is an answer.
        codec: what encodes it, the same on both sides; JSON by default.
        Those of pydantic's configuration.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", ser_json_bytes="base64", val_json_bytes="base64"
    )

    codec: ClassVar[Codec] = JSON

    def __init_subclass__(
        cls, *, msgid: int | None = None, codec: Codec | None = None, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        if msgid is not None:
            if isinstance(msgid, bool) or not isinstance(msgid, int):
                raise TypeError(f"msgid must be an int, not {type(msgid).__name__}")
            if not 0 <= msgid <= MAX_MSGID:
                raise ValueError(f"msgid must be from 0 to {MAX_MSGID}, not {msgid}")
            cls.msgid = msgid
        if codec is not None:
            cls.codec = codec

    @classmethod
    def from_message(cls, message: PortMessage) -> Self:
        """The payload that a message holds.

        Raises:
            InvalidPayloadError: it holds none of this type; says which fields are wrong and why.
        """
        packed = message._packed
        if type(packed) is Contents and type(packed.body) is cls:
            return packed.body
        if message.msgid != cls.msgid:
            raise InvalidPayloadError(
                f"message {message.msgid} is no {cls.__name__}, which is {cls.msgid}: see what the "
                "other side sends"
            )
        components = message.components
        data = components[0] if components else None
        if not isinstance(data, bytes | memoryview):
            raise InvalidPayloadError(
                f"{cls.__name__}: the first component is to be the encoded fields"
            )
        try:
            return cls.codec.decode(cls, bytes(data), Arrived(components))
        except ValidationError as error:
            raise InvalidPayloadError(f"{cls.__name__}: {explain(error)}") from None
        except (ValueError, RecursionError) as error:
            raise InvalidPayloadError(f"{cls.__name__}: {error}") from None

    def _to_components(self) -> tuple[Component, ...]:
        departing = Departing()
        try:
            data = self.codec.encode(self, departing)
        except Exception as error:
            raise InvalidPayloadError(
                f"{type(self).__name__} cannot be encoded: {error}"
            ) from error
        return (data, *departing)
