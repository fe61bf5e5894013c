"""Payloads as MessagePack, which is shorter than JSON and has bytes; the extra ``msgpack``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from portkit._arguments import check_limit
from portkit.typed.codec import LIMIT

try:
    import msgspec
except ImportError as _error:
    raise ImportError(
        'portkit.typed.msgpack needs msgspec: pip install "portkit[msgpack]"', name=_error.name
    ) from _error

if TYPE_CHECKING:
    from portkit._field_schema import Arrived, Departing

M = TypeVar("M", bound=BaseModel)


class MsgpackCodec:
    """Payloads as MessagePack.

    Bytes are bytes, floats are what they are, and keys may be numbers. A date with a time zone is
    MessagePack's timestamp, so arrives as the same moment in UTC; other dates, times, ``Decimal``,
    ``UUID``, paths and the like are text as in JSON. Models that are strict take only what
    MessagePack itself has: text for none of these. Whole numbers have 64 bits.

    Args:
        limit: bytes that the encoded fields may have, both ways; data that travels as a component
            is not counted.

    Raises:
        TypeError: ``limit`` is no int.
        ValueError: it is less than 1.
    """

    name = "msgpack"

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit: int = check_limit("limit", limit)

    def encode(self, payload: BaseModel, context: Departing) -> bytes:
        """As :meth:`portkit.typed.Codec.encode`."""
        fields = payload.__pydantic_serializer__.to_python(
            payload, by_alias=True, round_trip=True, warnings="error", context=context
        )
        try:
            return msgspec.msgpack.encode(fields, enc_hook=to_jsonable_python)
        except OverflowError:
            raise ValueError("MessagePack has whole numbers of 64 bits only") from None

    def decode(self, model: type[M], data: bytes, context: Arrived) -> M:
        """As :meth:`portkit.typed.Codec.decode`."""
        try:
            fields = msgspec.msgpack.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"it is no MessagePack ({type(error).__name__})") from None
        decoded: Any = model.__pydantic_validator__.validate_python(fields, context=context)
        return decoded  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} limit={self.limit}>"


MSGPACK = MsgpackCodec()
"""For ``class Job(Payload, msgid=7, codec=MSGPACK)``."""
