"""How a port, a descriptor or large data stands in a payload's encoded fields: by its number.

What is encoded holds the number of the component, counted from 1; the component itself travels
beside it in the message. pydantic is given the two lists as its context.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_core import PydanticCustomError, core_schema

from portkit.message import Component


class Departing(list[Component]):
    """The context of an encoding: collects the components that travel beside it."""


class Arrived(tuple[Component, ...]):
    """The context of a decoding: the message's components, the first of which is decoded."""


def component_schema(
    name: str,
    accept: Callable[[Any], Any],
    *,
    depart: Callable[[Any, Departing], Component] = lambda value, context: value,
    arrive: Callable[[Any, Arrived], Any] | None = None,
) -> core_schema.CoreSchema:
    """The schema of a field that travels as a component.

    Args:
        name: what may stand there, for errors.
        accept: makes the field's value of what a program has there; raises TypeError where that
            cannot be.
        depart: makes the component of the value.
        arrive: makes the value of the component that came; by default :func:`accept` does.
    """

    def validate(value: Any, info: core_schema.ValidationInfo) -> Any:
        arrived = info.context
        try:
            if not isinstance(arrived, Arrived):
                return accept(value)
            if type(value) is not int or not 0 < value < len(arrived):
                raise PydanticCustomError("component", "Input should be the number of a component")
            component = arrived[value]
            return accept(component) if arrive is None else arrive(component, arrived)
        except TypeError:
            raise PydanticCustomError("component", f"Input should be a {name}") from None

    def serialize(value: Any, info: core_schema.SerializationInfo) -> Any:
        departing = info.context
        if not isinstance(departing, Departing):
            if info.mode == "python":
                return value
            raise TypeError(f"a {name} travels only in a message: send the payload")
        departing.append(depart(value, departing))
        return len(departing)

    return core_schema.with_info_plain_validator_function(
        validate,
        serialization=core_schema.plain_serializer_function_ser_schema(serialize, info_arg=True),
    )


def instance_schema(kind: type[Any]) -> core_schema.CoreSchema:
    """The schema of a field that holds a component of that class."""

    def accept(value: Any) -> Any:
        if not isinstance(value, kind):
            raise TypeError
        return value

    return component_schema(kind.__name__, accept)


def json_schema(name: str) -> dict[str, Any]:
    """How the field looks where it is encoded."""
    return {
        "type": "integer",
        "minimum": 1,
        "description": f"which component of the message is the {name}; the encoded fields are 0",
    }
