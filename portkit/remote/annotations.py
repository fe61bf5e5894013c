"""From the annotations of an interface to types that pydantic checks and encodes.

What is annotated with an interface goes by reference, iterators as streams, ``bytes`` as
components; all else by copy.
"""

from __future__ import annotations

import collections.abc
import types
from typing import Annotated, Any, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import JsonValue

from portkit.remote.protocols import is_interface
from portkit.remote.reference import Reference
from portkit.remote.stream_field import Stream
from portkit.typed.fields import Data, View

_ITERATORS = {
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
}
_ASYNC_ITERATORS = {
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
}
_ALIASES: dict[Any, Any] = {
    Any: JsonValue,
    object: JsonValue,
    bytes: Data,
    memoryview: View,
    list: list[JsonValue],
    dict: dict[str, JsonValue],
    tuple: tuple[JsonValue, ...],
    set: set[JsonValue],
    frozenset: frozenset[JsonValue],
}
"""What stands for types that do not say what they hold: plain data, of which nothing is lost."""


def remote_type(annotation: Any, own: Any, named: list[Any]) -> Any:
    """The type that stands for the annotation on its way to another thread, process or host.

    Args:
        annotation: it.
        own: what ``Self`` is.
        named: gets all interfaces that it names.

    Raises:
        TypeError: what is annotated so cannot go.
    """
    if annotation is Self:
        annotation = own
    if is_interface(annotation):
        named.append(annotation)
        return Annotated[Any, Reference(annotation)]
    origin = get_origin(annotation) or annotation
    arguments = get_args(annotation)
    if origin in _ITERATORS or origin in _ASYNC_ITERATORS:
        item = remote_type(arguments[0] if arguments else Any, own, named)
        return Annotated[Any, Stream(item, is_async=origin in _ASYNC_ITERATORS)]
    if origin is collections.abc.Callable:
        raise TypeError("no function can go: annotate it with an interface that has a method")
    if isinstance(annotation, TypeVar):
        raise TypeError(f"nothing says what {annotation} is: name the interface as Interface[int]")
    if not arguments:
        return _ALIASES.get(annotation, annotation)
    if origin is Literal or (origin is Annotated and arguments[0] in (Any, object)):
        return annotation
    if origin is Annotated:
        return Annotated[(remote_type(arguments[0], own, named), *arguments[1:])]
    inner = tuple(
        [part if part is Ellipsis else remote_type(part, own, named) for part in arguments]
    )
    return _made_of(annotation, origin, inner)


def _made_of(annotation: Any, origin: Any, inner: tuple[Any, ...]) -> Any:
    """A union or a container, of those types."""
    if origin is Union or origin is types.UnionType:
        if len([part for part in inner if _is_port(part)]) > 1:
            raise TypeError(f"of {annotation} nothing tells which one comes: take one of them")
        return Union[inner]  # noqa: UP007 - of as many as there are
    return annotation if inner == get_args(annotation) else origin[inner]


def _is_port(kind: Any) -> bool:
    marks = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    return any(isinstance(mark, Reference | Stream) for mark in marks)
