"""From the annotations of an interface to types that pydantic checks and encodes.

What is annotated with an interface goes by reference, iterators as streams, ``bytes`` as
components; all else by copy.
"""

from __future__ import annotations

import collections.abc
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from portkit.remote.protocols import is_interface
from portkit.remote.reference import Reference
from portkit.remote.stream_field import Stream
from portkit.typed.fields import Data

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


def remote_type(annotation: Any) -> Any:
    """The type that stands for the annotation on its way to another thread, process or host."""
    if annotation is bytes:
        return Data
    if is_interface(annotation):
        return Annotated[Any, Reference(annotation)]
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin in _ITERATORS or origin in _ASYNC_ITERATORS:
        item = remote_type(arguments[0])
        return Annotated[Any, Stream(item, is_async=origin in _ASYNC_ITERATORS)]
    if origin is None or origin is Literal or not arguments:
        return annotation
    if origin is Annotated:
        return Annotated[(remote_type(arguments[0]), *arguments[1:])]
    inner = tuple([part if part is Ellipsis else remote_type(part) for part in arguments])
    if origin is Union or origin is types.UnionType:
        return Union[inner]  # noqa: UP007 - of as many as there are
    return annotation if inner == arguments else origin[inner]
