"""Arguments and results that are iterators: their items go as they are asked for."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any, cast

from pydantic_core import core_schema

from portkit._field_schema import Arrived, Departing, component_schema
from portkit.port import Port
from portkit.remote.method import Result

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

    from portkit.message import Component
    from portkit.remote.exchange import Coming, Leaving


class Stream:
    """Marks an iterator.

    Args:
        item: the type of its items, as pydantic is to have it.
        is_async: whether the side that gets it iterates with ``async for``.
    """

    def __init__(self, item: Any, *, is_async: bool) -> None:
        self._items = Result(list[item])
        self._is_async = is_async

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return component_schema("iterator", _accept, depart=self._depart, arrive=self._arrive)

    def _depart(self, value: Any, context: Departing) -> Component:
        return cast("Leaving", context).stream_of(value, self._items)

    def _arrive(self, component: Any, context: Arrived) -> Any:
        if not isinstance(component, Port):
            raise TypeError
        connection = cast("Coming", context).connection
        return connection._imports.stream_at(component, self._items, is_async=self._is_async)


def _accept(value: Any) -> Any:
    if not isinstance(value, Iterable | AsyncIterable):
        raise TypeError
    return value
