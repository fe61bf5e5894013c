"""How a port, a descriptor or large data stands in a payload's encoded fields: by its number.

What is encoded is ``{"component": 1}``, with the component's number in the message; the component
itself travels beside it. pydantic is given the two lists as its context.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_core import (
    PydanticCustomError,
    PydanticSerializationUnexpectedValue,
    core_schema,
)

from portkit.message import Component

_NUMBER = "component"
"""What the number is called: a number alone could not be told from one, where a field may be a port
or a number."""

COMPONENT = "x-portkit-component"
"""The keyword of JSON Schema that says what travels there."""


class Departing(list[Component]):
    """The context of an encoding: collects the components that travel beside it."""


class Arrived(tuple[Component, ...]):  # noqa: SLOT001 - a subclass carries more
    """The context of a decoding: the message's components, the first of which is decoded."""


def component_schema(
    name: str,
    accept: Callable[[Any], Any],
    *,
    depart: Callable[[Any, Departing], Component] = lambda value, _: value,
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
            if type(value) is not dict and arrive is None:
                return accept(value)  # a default, or what a validator of the program made
            number = value.get(_NUMBER) if type(value) is dict else None
            if type(number) is not int or not 0 < number < len(arrived):
                raise PydanticCustomError("component", "the message has no such component")
            component = arrived[number]
            return accept(component) if arrive is None else arrive(component, arrived)
        except TypeError:
            raise PydanticCustomError(
                "component", "Input should be a {name}", {"name": name}
            ) from None

    def serialize(value: Any, info: core_schema.SerializationInfo) -> Any:
        departing = info.context
        if not isinstance(departing, Departing):
            if info.mode == "python":
                return value
            raise TypeError(f"a {name} travels only in a message: send the payload")
        try:
            value = accept(value)
        except TypeError:  # of a union this may be another's
            raise PydanticSerializationUnexpectedValue(f"this is no {name}") from None
        departing.append(depart(value, departing))
        return {_NUMBER: len(departing)}

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
    """How the field looks where it is encoded: the number of the component, of which 0 is that."""
    return {
        "type": "object",
        "properties": {_NUMBER: {"type": "integer", "minimum": 1}},
        "required": [_NUMBER],
        COMPONENT: name,
    }
