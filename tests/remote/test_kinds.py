"""Values of every kind travel by copy: what the other side has is what was sent."""

from __future__ import annotations

from typing import Any

import pytest

from portkit import InvalidPayloadError, MachPort
from portkit.remote import Connection
from tests.remote import roles
from tests.remote.kinds import ANNA, KINDS, Echo, EchoServer, Person
from tests.remote.sides import There
from tests.support import PATIENCE
from tests.transports.processes.roles import Here

pytestmark = pytest.mark.own_thread


@pytest.fixture
def echoing(there: There) -> There:
    there.call(roles.serve_echo, "echo")
    return there


def connect() -> Connection:
    return Connection.to(Here.way.remote("echo"), timeout=PATIENCE)


def shown(text: str) -> str:
    """The text, with UTC as the standard library has it, not pydantic."""
    return text.replace("TzInfo(0)", "datetime.timezone.utc")


def test_each_comes_as_it_is_and_back(echoing: There) -> None:
    with connect() as connection:
        echo = connection.root(Echo)
        for name, (_, values) in KINDS.items():
            for value in values:
                back = getattr(echo, name)(value)
                assert shown(repr(back)) == repr(value), name
                assert type(back) is type(value), name
                assert shown(echo.last()) == repr(value), name


def test_a_view_is_read_without_a_copy(echoing: There) -> None:
    with connect() as connection:
        back = connection.root(Echo).view(memoryview(b"seen"))
        assert isinstance(back, memoryview)
        assert bytes(back) == b"seen"


def test_a_large_echo(echoing: There) -> None:
    data = bytes(range(256)) * 40_000
    with connect() as connection:
        assert connection.root(Echo).data(data) == data


UNFIT: list[tuple[str, Any, str]] = [
    ("integer", "many", "value: Input should be a valid integer"),
    ("integer", None, "value"),
    ("text", "\ud800", "surrogates|does not allow"),
    ("limited", 10, "less than or equal to 9"),
    ("literal", "b", "value"),
    ("enum", "green", "value"),
    ("plain", {"a": (1, 2)}, "JSON"),
    ("plain", object(), "JSON"),
    ("bare_list", [object()], "JSON"),
    ("typed_dict", {"unknown": 1}, "Extra inputs"),
    ("model", {"name": "a"}, "born"),
    ("data", "text", "bytes-like"),
]


@pytest.mark.parametrize(("name", "value", "text"), UNFIT)
def test_what_does_not_fit_stays_here(name: str, value: Any, text: str) -> None:
    """Nothing is sent: the caller erred."""
    with (
        MachPort() as port,
        Connection.serve(port, EchoServer(), Echo) as service,
        Connection.to(port) as connection,
    ):
        method = getattr(connection.root(Echo), name)
        with pytest.raises(InvalidPayloadError, match=text) as caught:
            method(value)
        assert f"Echo.{name}" in str(caught.value)
        assert [other.statistics().served for other in service.connections] == [0]


def test_too_large_a_number_is_refused_where_it_comes(echoing: There) -> None:
    with connect() as connection:
        echo = connection.root(Echo)
        with pytest.raises(InvalidPayloadError, match="number out of range"):
            echo.integer(10**5000)
        assert echo.integer(1) == 1


def test_what_refers_to_itself_cannot_be_encoded(echoing: There) -> None:
    round_about: list[Any] = []
    round_about.append(round_about)
    with connect() as connection:
        echo = connection.root(Echo)
        with pytest.raises(InvalidPayloadError):
            echo.bare_list(round_about)
        friend = Person.model_construct(name="a", born=ANNA.born, friends=[])
        friend.friends.append(friend)
        with pytest.raises(InvalidPayloadError):
            echo.model(friend)
        assert echo.integer(1) == 1
