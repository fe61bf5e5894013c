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

    __slots__ = ()


class Arrived(tuple[Component, ...]):
    """The context of a decoding: the message's components, the first of which is decoded."""

    __slots__ = ()


def component_schema(
    kind: type[Any], accept: Callable[[Any], Any] | None = None
) -> core_schema.CoreSchema:
    """The schema of a field that holds a component.

    Args:
        kind: the class of components that may stand there.
        accept: makes one of what a program, or a message, has there; raises TypeError where it
            cannot. By default an instance of ``kind`` stands for itself.
    """

    def validate(value: Any, info: core_schema.ValidationInfo) -> Any:
        arrived = info.context
        if isinstance(arrived, Arrived):
            if type(value) is not int or not 0 < value < len(arrived):
                raise PydanticCustomError("component", "Input should be the number of a component")
            value = arrived[value]
        if accept is not None:
            try:
                return accept(value)
            except TypeError:
                pass
        elif isinstance(value, kind):
            return value
        raise PydanticCustomError("component", f"Input should be a {kind.__name__}")

    def serialize(value: Any, info: core_schema.SerializationInfo) -> Any:
        departing = info.context
        if not isinstance(departing, Departing):
            if info.mode == "python":
                return value
            raise TypeError(f"a {kind.__name__} travels only in a message: send the payload")
        departing.append(value)
        return len(departing)

    return core_schema.with_info_plain_validator_function(
        validate,
        serialization=core_schema.plain_serializer_function_ser_schema(serialize, info_arg=True),
    )


def json_schema(name: str) -> dict[str, Any]:
    """How the field looks where it is encoded."""
    return {
        "type": "integer",
        "minimum": 1,
        "description": f"which component of the message is the {name}; the encoded fields are 0",
    }
