"""Which classes are interfaces, and what their type variables stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin


def is_interface(annotation: object) -> bool:
    """Whether it is a protocol class of a program, or a generic one with what it is of."""
    origin = get_origin(annotation) or annotation
    return (
        isinstance(origin, type)
        and getattr(origin, "_is_protocol", False)
        and origin.__module__ not in {"typing", "typing_extensions", "collections.abc"}
    )


def name_of(protocol: Any) -> str:
    """What an interface is called."""
    origin = get_origin(protocol) or protocol
    of = [getattr(argument, "__name__", str(argument)) for argument in get_args(protocol)]
    name: str = origin.__name__
    return f"{name}[{', '.join(of)}]" if of else name


def substituted(annotation: Any, variables: Mapping[Any, Any]) -> Any:
    """The annotation with type variables replaced by what they stand for."""
    if isinstance(annotation, TypeVar):
        return variables.get(annotation, annotation)
    if isinstance(annotation, type) or not getattr(annotation, "__parameters__", ()):
        return annotation
    alias: Any = annotation
    return alias[tuple([variables.get(free, free) for free in alias.__parameters__])]


def variables_of(protocol: Any) -> dict[type[Any], dict[Any, Any]]:
    """For an interface, and each that it inherits from, what its type variables stand for."""
    found: dict[type[Any], dict[Any, Any]] = {}
    rest = [protocol]
    while rest:
        alias = rest.pop()
        origin = get_origin(alias) or alias
        known = dict(zip(getattr(origin, "__parameters__", ()), get_args(alias), strict=False))
        found[origin] = known
        bases = vars(origin).get("__orig_bases__", origin.__bases__)
        rest += [substituted(base, known) for base in bases if is_interface(base)]
    return found
