"""Exceptions on their way back to the caller."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from portkit._text import printable
from portkit.errors import InvalidPayloadError, RemoteError
from portkit.remote.method import full_name
from portkit.typed.explain import explain

_NONE: Mapping[str, type[Exception]] = MappingProxyType({})
_LONGEST = 16_384
"""Characters of a message, and about so many of a traceback: those of its middle do not go."""
_LARGEST = 1 << 18
"""Bytes of an exception that goes with its arguments."""


class Failure(BaseModel):
    """An exception, as it travels.

    Attributes:
        type: its class.
        message: what it says.
        traceback: where it was raised.
        declared: the class, it or one that it is derived from, that the caller expects.
        args: what that is made of.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    type: str
    message: str
    traceback: str = ""
    declared: str = ""
    args: list[JsonValue] | None = None


def of(
    error: BaseException, raises: Mapping[str, type[Exception]] = _NONE, *, with_traceback: bool
) -> bytes:
    """What to answer for an exception, whatever it is."""
    if isinstance(error, RemoteError):  # of a third side, say: it stays what it was
        first = Failure.model_construct(
            type=_plain(error.type),
            message=_plain(error.message),
            traceback=_plain(error.traceback) if with_traceback else "",
        )
        return first.model_dump_json().encode()
    failure = Failure.model_construct(
        type=_plain(full_name(type(error))),
        message=_plain(_text(error)[:_LONGEST]),
        traceback=_plain(_traceback(error)) if with_traceback else "",
    )
    declared = next((base for base in map(full_name, type(error).__mro__) if base in raises), None)
    if declared is not None:
        try:
            # args may hold anything: where that is no JSON the error comes as one not declared.
            whole = Failure.model_validate(
                {**failure.__dict__, "declared": declared, "args": list(error.args)}
            )
            data = whole.model_dump_json().encode()
            if len(data) < _LARGEST:
                return data
        except Exception:  # noqa: S110 - of an attribute named args, too
            pass
    return failure.model_dump_json().encode()


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its text cannot be made)"


def _traceback(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:
        return ""
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]}\n  …\n{text[-half:]}"


def _plain(text: str) -> str:
    """The text, as far as it can be encoded."""
    return text.encode("utf-8", "backslashreplace").decode()


def to_raise(data: bytes | None, raises: Mapping[str, type[Exception]] = _NONE) -> Exception:
    """The exception that an answer stands for."""
    try:
        failure = Failure.model_validate_json(data or b"")
    except ValidationError as error:
        return InvalidPayloadError(f"an exception that came cannot be read: {explain(error)}")
    remote = RemoteError(printable(failure.type), failure.message, failure.traceback)
    declared = raises.get(failure.declared)
    if declared is None or failure.args is None:
        return remote
    try:
        raised = declared(*failure.args)
    except Exception:
        return remote
    raised.__cause__ = remote
    return raised
