"""Fields for large data, which travels beside a payload's other fields, as a component."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from portkit._field_schema import component_schema, json_schema
from portkit.message import LentBytes, pack


def _as_bytes(value: Any) -> bytes:
    return value if type(value) is bytes else bytes(memoryview(value))


def _as_view(value: Any) -> memoryview:
    # As when it were sent: copied, but for bytes and for what Port.allocate() gave.
    if type(value) is memoryview and type(value.obj) in _KEPT and value.c_contiguous:
        return value
    component = pack((value,))[0]  # type: ignore[index]
    if not isinstance(component, bytes | memoryview):
        raise TypeError
    return memoryview(component)


_KEPT = frozenset({bytes, memoryview, LentBytes})
"""What exports memory that is not copied: it does not change, or is lent (see message.pack)."""


class _Travels:
    """Marks a field whose value travels as a component."""

    def __init__(self, accept: Callable[[Any], Any]) -> None:
        self._accept = accept

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return component_schema("bytes-like object", self._accept)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return json_schema("data")


Data = Annotated[bytes, _Travels(_as_bytes)]
"""A field of bytes that travels as a component, not within the encoded fields."""

View = Annotated[memoryview, _Travels(_as_view)]
"""A field like :data:`Data` that copies nothing on arrival, nor a buffer of ``Port.allocate``.

A buffer of any other kind is copied when the payload is made.
"""
