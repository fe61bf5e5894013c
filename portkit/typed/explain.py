"""What is wrong with a payload, in words that may be told to anybody: never a value of it.

pydantic's own texts are told but for the few that quote. A text of the program's own validators is
told where it stands in the code that raised it, word for word; one that was put together there may
hold the value. Of where it is, names and numbers are told, keys of dictionaries are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core.core_schema import ErrorType

from portkit._text import printable

_MOST = 5
"""Fields that are named; more would hide the first ones."""
_TOO_MANY = 1000
"""Errors of which none is looked at: a peer could have the receiver spend seconds on that."""
_LONGEST = 100
"""Characters of where a field is, and of the text on it: all that is told fits into FAILED."""
_QUOTING = frozenset(
    {
        "bytes_invalid_encoding",
        "get_attribute_error",
        "iteration_error",
        "mapping_type",
        "union_tag_invalid",
        "uuid_parsing",
    }
)
"""pydantic's own kinds of errors whose text quotes what was sent, or an exception's text."""
_OF_PROGRAMS = frozenset({"assertion_error", "value_error"})
"""Those whose text is a validator's of the program."""
_TRUSTED = frozenset(get_args(ErrorType)) - _QUOTING - _OF_PROGRAMS | {
    "component",
    "invalid-json-value",
}
_UNTOLD = "…"
_NO_VALUES = re.compile(
    r"Unable to serialize unknown type: <class '[\w.<>]+'>"
    r"|Circular reference detected|Maximum serialization depth exceeded"
    r"|invalid utf-8 sequence"
    r"|Error calling function `\w+`: \w+"
)
"""What pydantic says of values that cannot be written, as far as it does not quote them."""
_WRONG_FIELD = re.compile(r"field_name='(\w+)'")


def explain(error: ValidationError, schema: Mapping[str, Any] | None = None) -> str:
    """Which fields are wrong, and why.

    Args:
        error: what pydantic raised.
        schema: pydantic's core schema of what was validated, whose names may be told; without it
            every part of a location is.
    """
    count = error.error_count()
    if count > _TOO_MANY:
        return f"{count} values are not valid"
    names = None if schema is None else frozenset(_words_of(schema))
    errors = error.errors(include_url=False, include_input=False)
    told = [f"{_field(entry['loc'], names)}: {_reason(entry)}" for entry in errors[:_MOST]]
    if len(errors) > _MOST:
        told.append(f"and {len(errors) - _MOST} more")
    return printable("; ".join(told))


def explain_encoding(error: Exception) -> str:
    """Why a payload cannot be written."""
    text = str(error)
    if type(error) is ValueError:  # a codec's own; pydantic's are of other classes
        return text
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if known := _NO_VALUES.search(text):
        return known[0]
    if field := _WRONG_FIELD.search(text):
        return f"{field[1]} holds what its type does not allow"
    return f"it holds what its type does not allow ({type(error).__name__})"


def _field(location: tuple[int | str, ...], names: frozenset[str] | None) -> str:
    parts = [
        str(part) if names is None or names.issuperset(_words(str(part))) else _UNTOLD
        for part in location
        if not str(part).startswith("function-")  # one of a union, by what checks it
    ]
    return ".".join(parts)[:_LONGEST] or "the payload"


def _words_of(schema: object) -> Iterator[str]:
    """The names that a schema consists of, and the numbers that items of its lists have."""
    rest = [schema]
    indices = True
    while rest:
        node = rest.pop()
        if isinstance(node, Mapping):
            if node.get("type") == "dict":
                keys = node.get("keys_schema")
                indices &= isinstance(keys, Mapping) and keys.get("type") == "str"
            yield from _words(" ".join(map(str, node)))
            rest += [value for key, value in node.items() if key not in {"default", "metadata"}]
        elif isinstance(node, list | tuple):
            rest += node
        elif isinstance(node, str):
            yield from _words(node)
        elif callable(node):
            yield from _words(getattr(node, "__name__", ""))
    yield "key"
    if indices:  # else a number may be somebody's key
        yield from map(str, range(_TOO_MANY))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text) or [text]


def _reason(entry: Mapping[str, Any]) -> str:
    kind: str = entry["type"]
    reason: str = entry["msg"]
    if kind in _TRUSTED:
        return reason[:_LONGEST]
    error = entry.get("ctx", {}).get("error")
    if isinstance(error, Exception) and _is_literal(str(error), error.__traceback__):
        return str(error)[:_LONGEST]
    return f"it is not valid ({kind})"


def _is_literal(text: str, traceback: TracebackType | None) -> bool:
    """Whether the text stands in the function that raised it."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and text in traceback.tb_frame.f_code.co_consts
