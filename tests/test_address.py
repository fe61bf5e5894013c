"""Addresses: scheme:target."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portkit import Address

SCHEMES = st.from_regex(r"[a-z][a-z0-9+.-]{0,31}", fullmatch=True)
TARGETS = st.text(st.characters(exclude_categories=["Cs"], min_codepoint=32), max_size=1024)


@pytest.mark.parametrize(
    ("text", "scheme", "target"),
    [
        ("mach:", "mach", ""),
        ("message:office", "message", "office"),
        ("socket://127.0.0.1:7000", "socket", "//127.0.0.1:7000"),
        ("a+b.c-d:x:y", "a+b.c-d", "x:y"),
        ("message:Büro", "message", "Büro"),
    ],
)
def test_parse(text: str, scheme: str, target: str) -> None:
    address = Address.parse(text)
    assert (address.scheme, address.target) == (scheme, target)
    assert str(address) == text
    assert Address.parse(address) is address


@settings(deadline=None)
@given(SCHEMES, TARGETS)
def test_text_and_address_are_the_same(scheme: str, target: str) -> None:
    address = Address(scheme=scheme, target=target)
    assert Address.parse(str(address)) == address
    assert hash(Address.parse(str(address))) == hash(address)


@pytest.mark.parametrize(
    "text",
    ["", "mach", ":", ":x", "1x:", "-x:", "Mach:", "ma ch:", "x" * 33 + ":", "mach:" + "x" * 1025,
     "mach:\0", "mach:a\nb", "mach:\n", "mach\n:"],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        Address.parse(text)


@pytest.mark.parametrize("wrong", [None, 5, b"mach:", object()])
def test_wrong_type(wrong: Any) -> None:
    with pytest.raises(TypeError, match="str"):
        Address.parse(wrong)


def test_does_not_change() -> None:
    address = Address.parse("mach:")
    with pytest.raises(ValueError, match="frozen"):
        address.target = "x"  # type: ignore[misc]
    with pytest.raises(ValueError, match="forbidden"):
        Address(scheme="mach", port=5)  # type: ignore[call-arg]
