"""What may be the name of a port."""

from __future__ import annotations

from typing import Any

import pytest

from portkit.names import MAX_NAME_BYTES, check_name


@pytest.mark.parametrize(
    "name", ["a", "com.example.app", "a/b", "..", "/", " ", "\n", "%41", "Ä", "日本", "\U0001f600"]
)
def test_any_text_is_a_name(name: str) -> None:
    assert check_name(name) is name


def test_the_limit_counts_bytes() -> None:
    assert check_name("ä" * (MAX_NAME_BYTES // 2))
    with pytest.raises(ValueError, match="1026: shorten it"):
        check_name("ä" * (MAX_NAME_BYTES // 2 + 1))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "cannot be empty"),
        ("a\0b", "NUL"),
        ("a\udc80", "surrogate"),
        ("a" * 10_000, "10000: shorten it"),
    ],
)
def test_what_is_no_name(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_name(name)


@pytest.mark.parametrize("name", [None, b"name", 7])
def test_only_text_is_a_name(name: Any) -> None:
    with pytest.raises(TypeError, match="a name is a str"):
        check_name(name)
