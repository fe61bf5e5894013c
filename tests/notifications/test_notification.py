"""What a notification is, and that nobody changes it."""

from __future__ import annotations

from typing import Any

import pytest

from portkit import Notification


class Secretive:
    def __repr__(self) -> str:
        return "the password"


def test_has_what_it_was_given() -> None:
    sender = object()
    notification = Notification("Saved", sender, {"path": "a"})
    assert notification.name == "Saved"
    assert notification.sender is sender
    assert notification.user_info == {"path": "a"}


def test_has_nothing_else() -> None:
    notification = Notification("Saved")
    assert notification.sender is None
    assert notification.user_info is None


def test_is_immutable() -> None:
    user_info = {"path": "a"}
    notification: Any = Notification("Saved", None, user_info)
    user_info["path"] = "b"
    assert notification.user_info == {"path": "a"}
    for attribute in ("name", "sender", "user_info", "other"):
        with pytest.raises(AttributeError):
            setattr(notification, attribute, "changed")
    with pytest.raises(TypeError):
        notification.user_info["path"] = "c"


def test_its_description_tells_no_values() -> None:
    notification = Notification("Saved", Secretive(), {"password": "secret"})
    assert repr(notification) == "<Notification 'Saved' from a Secretive>"
    assert repr(Notification("Saved")) == "<Notification 'Saved'>"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((1,), TypeError, "named by a str, not int"),
        ((None,), TypeError, "named by a str"),
        (("",), ValueError, "must not be empty"),
        (("a", None, [("b", 1)]), TypeError, "a mapping, not list"),
    ],
)
def test_wrong_arguments(arguments: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Notification(*arguments)
