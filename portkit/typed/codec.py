"""What turns a payload's fields into bytes and back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pydantic import BaseModel
from pydantic_core import from_json

from portkit._arguments import check_limit

if TYPE_CHECKING:
    from portkit._field_schema import Arrived, Departing

M = TypeVar("M", bound=BaseModel)

DEPTH = 200
"""How deep pydantic reads lists and objects of JSON within each other."""
_UNBOUNDED = frozenset({"any", "definition-ref", "json"})
LIMIT = 1 << 20
"""Bytes that the encoded fields of a payload may have. pydantic needs some hundred times as much
memory to tell what is wrong with fields of which each byte is wrong."""


class Codec(Protocol):
    """Writes and reads payloads.

    The contexts are to be given to pydantic as they are: with them it numbers the components.
    """

    @property
    def name(self) -> str:
        """What the encoding is called, such as "json"."""
        ...

    @property
    def limit(self) -> int:
        """Bytes that the encoded fields may have; :class:`Payload` sees to it, both ways."""
        ...

    def encode(self, payload: BaseModel, context: Departing) -> bytes:
        """The payload's fields as bytes; any exception says that this cannot be done."""
        ...

    def decode(self, model: type[M], data: bytes, context: Arrived) -> M:
        """A payload of such bytes.

        Raises:
            pydantic.ValidationError: they are none of that model.
            ValueError: they are none of this codec; the text is told to the sender.
        """
        ...


class JSONCodec:
    """Payloads as JSON.

    Numbers that JSON lacks are NaN, Infinity and -Infinity. Bytes are in base64, for URLs. Of two
    values with one name the last counts. Lists and objects go 200 deep, in the payload's own.

    Args:
        limit: bytes that the encoded fields may have, both ways; data that travels as a component
            is not counted.

    Raises:
        TypeError: ``limit`` is no int.
        ValueError: it is less than 1.
    """

    name = "json"

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit: int = check_limit("limit", limit)

    def encode(self, payload: BaseModel, context: Departing) -> bytes:
        """As :meth:`Codec.encode`."""
        data = payload.__pydantic_serializer__.to_json(
            payload, by_alias=True, round_trip=True, warnings="error", context=context
        )
        if data.count(b"[") + data.count(b"{") > DEPTH and _is_unbounded(type(payload)):
            _check_depth(data)
        return data

    def decode(self, model: type[M], data: bytes, context: Arrived) -> M:
        """As :meth:`Codec.decode`."""
        decoded: Any = model.__pydantic_validator__.validate_json(data, context=context)
        return decoded  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} limit={self.limit}>"


def _check_depth(data: bytes) -> None:
    """Raise where no receiver could read it: pydantic writes deeper than it reads."""
    try:
        from_json(data, cache_strings="none")
    except ValueError:
        raise ValueError(f"it is nested more than {DEPTH} deep") from None


@lru_cache(maxsize=1024)
def _is_unbounded(model: type[BaseModel]) -> bool:
    """Whether its fields may be nested as deep as somebody likes: no type says how deep."""
    rest: list[Any] = [model.__pydantic_core_schema__]
    while rest:
        node = rest.pop()
        if isinstance(node, list | tuple):
            rest += node
        elif isinstance(node, Mapping):
            if node.get("type") in _UNBOUNDED or "serialization" in node:
                return True
            rest += [value for key, value in node.items() if key not in {"default", "metadata"}]
    return bool(model.model_config.get("extra") == "allow")


JSON = JSONCodec()
"""The codec of payloads that name no other."""
