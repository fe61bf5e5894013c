"""Exceptions on their way back to the caller."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from portkit._text import printable
from portkit.errors import InvalidPayloadError, RemoteError
from portkit.remote.method import full_name
from portkit.typed.explain import explain

_NONE: Mapping[str, type[Exception]] = MappingProxyType({})
_LONGEST = 16_384
"""Characters of a traceback, and of a message: the last of the one, the first of the other."""


class Failure(BaseModel):
    """An exception, as it travels."""

    model_config = ConfigDict(frozen=True)

    type: str
    message: str
    traceback: str = ""
    args: list[JsonValue] | None = None


def of(
    error: BaseException, raises: Mapping[str, type[Exception]] = _NONE, *, with_traceback: bool
) -> bytes:
    """What to answer for an exception, whatever it is."""
    if isinstance(error, RemoteError):  # of a third side, say: it stays what it was
        first = Failure.model_construct(
            type=error.type, message=error.message, traceback=error.traceback
        )
        return first.model_dump_json().encode()
    declared = full_name(type(error)) in raises
    failure = Failure.model_construct(
        type=full_name(type(error)),
        message=_text(error)[:_LONGEST],
        traceback=_traceback(error)[-_LONGEST:] if with_traceback else "",
        args=list(error.args) if declared else None,
    )
    try:
        # args may hold anything: where that is no JSON the error comes as one not declared.
        return Failure.model_validate(failure.__dict__).model_dump_json().encode()
    except (ValueError, RecursionError):
        return failure.model_copy(update={"args": None}).model_dump_json().encode()


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text cannot be made)"


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:
        return ""


def to_raise(data: bytes | None, raises: Mapping[str, type[Exception]] = _NONE) -> Exception:
    """The exception that an answer stands for."""
    try:
        failure = Failure.model_validate_json(data or b"")
    except ValidationError as error:
        return InvalidPayloadError(f"an exception that came cannot be read: {explain(error)}")
    remote = RemoteError(printable(failure.type), failure.message, failure.traceback)
    declared = raises.get(failure.type)
    if declared is None or failure.args is None:
        return remote
    try:
        raised = declared(*failure.args)
    except Exception:
        return remote
    raised.__cause__ = remote
    return raised
