"""Arguments and results that go by reference: those annotated with an interface (D11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pydantic_core import core_schema

from portkit._field_schema import Arrived, Departing, component_schema
from portkit.port import Port
from portkit.remote.protocols import name_of

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

    from portkit.message import Component
    from portkit.remote.exchange import Coming, Leaving


class Reference:
    """Marks what is annotated with an interface: an object on one side, a proxy on the other.

    Args:
        protocol: the interface.
    """

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return component_schema(
            name_of(self._protocol), self._accept, depart=self._depart, arrive=self._arrive
        )

    def _accept(self, value: Any) -> Any:
        from portkit.remote.interface import interface_of  # noqa: PLC0415 - interfaces name others

        interface_of(self._protocol).check(value)
        return value

    def _depart(self, value: Any, context: Departing) -> Component:
        return cast("Leaving", context).reference_to(value, self._protocol)

    def _arrive(self, component: Any, context: Arrived) -> Any:
        if not isinstance(component, Port):
            raise TypeError
        return cast("Coming", context).connection._imports.object_at(component, self._protocol)
