"""What is wrong with a payload, in words that may be told to anybody: never a value of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core.core_schema import ErrorType

from portkit._text import printable

_MOST = 5
"""Fields that are named; more would hide the first ones."""
_LONGEST = 200
"""Characters of the text on one field."""
_QUOTING = frozenset({"union_tag_invalid", "uuid_parsing"})
"""pydantic's own kinds of errors whose text quotes what was sent."""
_OF_PROGRAMS = frozenset({"assertion_error", "value_error"})
"""Those whose text is a validator's of the program, and may quote it."""
_TRUSTED = frozenset(get_args(ErrorType)) - _QUOTING - _OF_PROGRAMS


def explain(error: ValidationError) -> str:
    """Which fields are wrong, and why."""
    errors = error.errors(include_url=False)
    told = [f"{_field(entry['loc'])}: {_reason(entry)}" for entry in errors[:_MOST]]
    if len(errors) > _MOST:
        told.append(f"and {len(errors) - _MOST} more")
    return printable("; ".join(told))


def _field(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location))[:_LONGEST] or "the payload"


def _reason(entry: Mapping[str, Any]) -> str:
    kind: str = entry["type"]
    reason: str = entry["msg"]
    if kind in _TRUSTED or (
        kind not in _QUOTING and not any(leaf in reason for leaf in _leaves(entry["input"]))
    ):
        return reason[:_LONGEST]
    return f"it is not valid ({kind})"


def _leaves(value: object, depth: int = 8) -> Iterator[str]:
    """The texts of all plain values within ``value``."""
    if depth and isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(key, depth - 1)
            yield from _leaves(inner, depth - 1)
    elif depth and isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _leaves(inner, depth - 1)
    elif value is not None and not isinstance(value, bool) and (text := str(value)):
        yield text
