"""What turns a payload's fields into bytes and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pydantic import BaseModel

if TYPE_CHECKING:
    from portkit._field_schema import Arrived, Departing

M = TypeVar("M", bound=BaseModel)


class Codec(Protocol):
    """Writes and reads payloads.

    The contexts are to be given to pydantic as they are: with them it numbers the components.
    """

    @property
    def name(self) -> str:
        """What the encoding is called, such as "json"."""
        ...

    def encode(self, payload: BaseModel, context: Departing) -> bytes:
        """The payload's fields as bytes; any exception says that this cannot be done."""
        ...

    def decode(self, model: type[M], data: bytes, context: Arrived) -> M:
        """A payload of such bytes.

        Raises:
            pydantic.ValidationError: they are none of that model.
            ValueError: they are none of this codec.
        """
        ...


class JSONCodec:
    """Payloads as JSON.

    Args:
        limit: bytes that a payload may have, both ways; data that travels as a component is not
            counted.
    """

    name = "json"

    def __init__(self, limit: int = 16 << 20) -> None:
        self.limit: int = limit

    def encode(self, payload: BaseModel, context: Departing) -> bytes:
        """As :meth:`Codec.encode`."""
        data = payload.__pydantic_serializer__.to_json(payload, context=context)
        check_length(len(data), self.limit)
        return data

    def decode(self, model: type[M], data: bytes, context: Arrived) -> M:
        """As :meth:`Codec.decode`."""
        check_length(len(data), self.limit)
        decoded: Any = model.__pydantic_validator__.validate_json(data, context=context)
        return decoded  # type: ignore[no-any-return]


def check_length(length: int, limit: int) -> None:
    """Raise where the encoded fields are too long.

    Raises:
        ValueError: they are.
    """
    if length > limit:
        raise ValueError(
            f"{length} bytes are over the codec's limit of {limit}: send large data in a field of "
            "type Data, or raise limit="
        )


JSON = JSONCodec()
"""The codec of payloads that name no other."""
