"""The tree of errors, their codes (M1), and that they survive a pickle."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

import portkit
from portkit import errors

TREE: dict[str, tuple[tuple[type[BaseException], ...], int | None]] = {
    "PortError": ((Exception,), None),
    "InvalidPortError": ((errors.PortError,), -3),
    "BecameInvalidError": ((errors.InvalidPortError,), -5),
    "SendTimeoutError": ((errors.PortError, TimeoutError), -1),
    "ReceiveTimeoutError": ((errors.PortError, TimeoutError), -2),
    "TransportError": ((errors.PortError,), -4),
    "MessageTooLargeError": ((errors.TransportError,), -4),
    "ProtocolError": ((errors.TransportError,), -4),
    "AuthenticationError": ((errors.TransportError,), -4),
    "ReplyDroppedError": ((errors.PortError,), None),
    "NameInUseError": ((errors.PortError,), None),
    "NameNotFoundError": ((errors.PortError, LookupError), None),
    "RemoteError": ((errors.PortError,), None),
    "InvalidPayloadError": ((errors.PortError, ValueError), None),
    "CheckInError": ((errors.PortError,), None),
    "CheckInTimeoutError": ((errors.CheckInError, TimeoutError), None),
    "WorkerDiedError": ((errors.CheckInError,), None),
    "LoopEndedError": ((errors.PortError,), None),
    "WrongThreadError": ((errors.PortError, RuntimeError), None),
}

ALL = [getattr(errors, name) for name in TREE]


def test_there_are_no_others() -> None:
    found = {
        name for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, BaseException)
    }  # fmt: skip
    assert found == set(TREE)


@pytest.mark.parametrize("name", TREE)
def test_bases_and_code(name: str) -> None:
    error = getattr(errors, name)
    bases, code = TREE[name]
    assert error.__bases__ == bases
    assert error.code == code
    assert getattr(portkit, name) is error
    assert error.__doc__


@pytest.mark.parametrize("name", TREE)
def test_stands_in_the_tree_of_the_docstring(name: str) -> None:
    assert errors.__doc__ is not None
    (line,) = [line for line in errors.__doc__.splitlines() if f" {name} " in f"{line} "]
    bases, code = TREE[name]
    if code is not None and code != bases[0].__dict__.get("code"):
        assert f"({code})" in line
    for base in bases[1:]:
        assert base.__name__ in line


@pytest.mark.parametrize("error", ALL)
def test_is_caught_as(error: type[errors.PortError]) -> None:
    made = error("what to do")
    assert isinstance(made, errors.PortError)
    assert str(made) == "what to do"
    assert isinstance(made, TimeoutError) is ("Timeout" in error.__name__)
    assert isinstance(made, OSError) is ("Timeout" in error.__name__)


@pytest.mark.parametrize("error", ALL)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(error: type[errors.PortError], protocol: int) -> None:
    made = error("what to do")
    made.accepted = 3
    for twin in (pickle.loads(pickle.dumps(made, protocol)), copy.copy(made)):
        assert type(twin) is error
        assert str(twin) == "what to do"
        assert (twin.accepted, twin.code) == (3, error.code)
