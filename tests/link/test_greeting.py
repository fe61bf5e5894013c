"""The records of the handshake: what is read is what was meant, or it is refused and says why."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portkit.errors import ProtocolError
from portkit.link import greeting
from portkit.link.decoder import Limits
from portkit.link.frames import MAX_RECORD, VERSION

INCARNATION = bytes(range(16))
BOUNDS = {
    "pid": (0, 2**32 - 1),
    "max_message": (1 << 16, 1 << 31),
    "max_components": (1, 65534),
    "max_descriptors": (0, 253),
    "max_parts": (1, 1024),
    "max_shared": (1 << 28, 2**48 - 1),
}


def fields(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(greeting.greeting(INCARNATION, 7, Limits()))
    return found | changes


def read(record: Any) -> greeting.Greeting:
    return greeting.read(json.dumps(record).encode())


limits = st.builds(
    Limits,
    st.integers(*BOUNDS["max_message"]),
    st.integers(*BOUNDS["max_components"]),
    st.integers(*BOUNDS["max_descriptors"]),
    st.integers(*BOUNDS["max_parts"]),
    st.integers(*BOUNDS["max_shared"]),
)


@given(st.binary(min_size=16, max_size=16), st.integers(*BOUNDS["pid"]), limits)
def test_what_was_meant_is_read(incarnation: bytes, pid: int, announced: Limits) -> None:
    record = greeting.greeting(incarnation, pid, announced)
    assert len(record) <= MAX_RECORD
    found = greeting.read(record)
    assert bytes.fromhex(found.incarnation) == incarnation
    assert (found.version, found.pid, found.limits) == (VERSION, pid, announced)


def test_what_a_later_version_adds_is_ignored() -> None:
    assert read(fields(colour="green")) == read(fields())


@pytest.mark.parametrize("name", fields())
def test_every_field_is_needed(name: str) -> None:
    record = fields()
    del record[name]
    with pytest.raises(ProtocolError, match=f"the greeting is wrong: {name}: Field required"):
        read(record)


@pytest.mark.parametrize("name", fields())
@pytest.mark.parametrize("value", [None, True, 1.5, [], {}, "1"])
def test_a_field_of_another_type_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ProtocolError, match=f"the greeting is wrong: {name}: "):
        read(fields(**{name: value}))


@pytest.mark.parametrize("name", BOUNDS)
def test_numbers_are_within_their_bounds(name: str) -> None:
    least, most = BOUNDS[name]
    for value in (least, most):
        assert read(fields(**{name: value})).model_dump()[name] == value
    for value in (least - 1, most + 1, -(10**30), 10**30):
        with pytest.raises(ProtocolError, match=f"the greeting is wrong: {name}: "):
            read(fields(**{name: value}))


@pytest.mark.parametrize(
    "text", ["", "0" * 31, "0" * 33, "0" * 32 + "\n", "A" * 32, "g" * 32, "\u0660" * 32]
)
def test_an_incarnation_is_32_hexadecimal_digits(text: str) -> None:
    with pytest.raises(ProtocolError, match="the greeting is wrong: incarnation: "):
        read(fields(incarnation=text))


@pytest.mark.parametrize("version", [0, 2, 10**9])
def test_another_version_is_named_whatever_else_it_has(version: int) -> None:
    for record in (fields(version=version), {"version": version}):
        with pytest.raises(ProtocolError, match=f"speaks version {version} .* same release"):
            read(record)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"\xff\xfe",
        b"[" * MAX_RECORD,
        b'{"version":' * 300,
        b'{"version":1}',
        b'{"version":1}{"version":1}',
        b'{"version":NaN}',
        b'{"version":' + b"9" * 4000 + b"}",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_no_record_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"^the (greeting is wrong|peer speaks version)"):
        greeting.read(body)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        greeting.read(body)


def test_limits_that_may_not_be_announced_are_an_error_of_this_side() -> None:
    with pytest.raises(ValueError, match="max_message"):
        greeting.greeting(INCARNATION, 7, Limits(message=1))
