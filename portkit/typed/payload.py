"""Messages with a type: models of pydantic whose class says how they travel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError

from portkit._field_schema import Arrived, Departing
from portkit.errors import InvalidPayloadError
from portkit.message import MAX_MSGID, Body, Component, Contents, PortMessage
from portkit.typed.codec import JSON, Codec
from portkit.typed.explain import explain, explain_encoding
from portkit.typed.masked import reveal_secrets

if TYPE_CHECKING:
    from pydantic_core.core_schema import CoreSchema


class Payload(BaseModel, Body):
    """What a message says, as a pydantic model; subclass it to define one.

    ``class Job(Payload, msgid=7)`` travels in messages with that number. Send one with
    ``port.send(Job(...))`` and serve it with a :class:`portkit.typed.Router`. Fields may be ports
    and descriptors, and large data as :data:`portkit.typed.Data`: those travel as components of the
    message, everything else is encoded together. Models within it are best payloads as well, whose
    number does not matter then.

    Within a process the receiver gets the very object that was sent. Payloads are frozen for that
    reason; what their fields refer to should be left alone as well.

    A field that the receiver does not know is ignored, and one that the sender did not know has its
    default, so that programs of different ages understand each other. pydantic's secrets travel as
    they are.

    Class arguments:
        msgid: the number of its messages, 0 to 2**32-1; 0 for one that only ever is an answer.
        codec: what encodes it, the same on both sides; JSON by default.
        Those of pydantic's configuration.

    Raises:
        TypeError, ValueError: at the definition of a class: an argument is wrong, or a field could
            be sent but not received.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True,
        populate_by_name=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
        ser_json_inf_nan="constants",
    )

    codec: ClassVar[Codec] = JSON

    def __init_subclass__(
        cls, *, msgid: int | None = None, codec: Codec | None = None, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        if msgid is not None:
            check_msgid(msgid)
            cls.msgid = msgid
        if codec is not None:
            if isinstance(codec, type) or not hasattr(codec, "decode"):
                raise TypeError(f"codec must be a Codec, such as portkit.typed.JSON, not {codec!r}")
            cls.codec = codec

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Raise where a field is none that can be sent and received."""
        super().__pydantic_init_subclass__(**kwargs)
        for name, field in cls.model_fields.items():
            if name in {"msgid", "codec"}:
                raise TypeError(
                    f"{cls.__name__}.{name} cannot be a field: {name} is an argument of the class, "
                    f"class {cls.__name__}(Payload, {name}=...)"
                )
            alias = field.validation_alias
            read = [name, *(alias.choices if isinstance(alias, AliasChoices) else [alias])]
            if field.serialization_alias is not None and field.serialization_alias not in read:
                raise TypeError(
                    f"{cls.__name__}.{name} would be written as {field.serialization_alias!r}, by "
                    "which nobody reads it: give it alias=, which is both"
                )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As of any model, but for its secrets."""
        schema = handler(source)
        reveal_secrets(schema, handler, cls)
        return schema

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
        components = packed if type(packed) is tuple else message.components
        data = components[0] if components else None
        if isinstance(data, bytes):
            length = len(data)
        elif isinstance(data, memoryview):
            length = data.nbytes
        else:
            raise InvalidPayloadError(
                f"{cls.__name__}: the first component is to be the encoded fields"
            )
        codec = cls.codec
        if length > codec.limit:
            raise _too_long(cls, length)
        try:
            return codec.decode(cls, bytes(data), Arrived(components))
        except ValidationError as error:
            text = explain(error, cls.__pydantic_core_schema__)
        except RecursionError:
            text = "it is nested too deeply"
        except ValueError as error:
            text = str(error)
        raise InvalidPayloadError(f"{cls.__name__}: {text}")

    def _to_components(self) -> tuple[Component, ...]:
        departing = Departing()
        try:
            data = self.codec.encode(self, departing)
        except Exception as error:
            text = explain_encoding(error)
        else:
            if len(data) <= self.codec.limit:
                return (data, *departing)
            raise _too_long(type(self), len(data))
        raise InvalidPayloadError(f"{type(self).__name__} cannot be encoded: {text}")


def check_msgid(msgid: object) -> int:
    """``msgid``, if it can be the number of a type's messages.

    Raises:
        TypeError: it is no int.
        ValueError: it is out of range.
    """
    if isinstance(msgid, bool) or not isinstance(msgid, int):
        raise TypeError(f"msgid must be an int, not {type(msgid).__name__}")
    if not 0 <= msgid <= MAX_MSGID:
        raise ValueError(f"msgid must be from 0 to {MAX_MSGID}, not {msgid}")
    return msgid


def _too_long(payload: type[Payload], length: int) -> InvalidPayloadError:
    return InvalidPayloadError(
        f"{payload.__name__}: {length} bytes are over its codec's limit of {payload.codec.limit}: "
        "send large data in fields of type Data, or define the class with a codec of a higher limit"
    )
