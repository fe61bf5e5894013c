"""What is told of a bad payload: field and reason, never a value."""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from portkit import InvalidPayloadError, PortMessage
from portkit.typed import Data, Payload
from portkit.typed.msgpack import MSGPACK
from tests.typed.models import Handover, Job, Login, Quoting

SECRET = "xyzzy"


def told(kind: type[Payload], data: bytes, *more: Any) -> str:
    """What the sender of such fields hears."""
    with pytest.raises(InvalidPayloadError) as caught:
        kind.from_message(PortMessage(components=[data, *more], msgid=kind.msgid))
    error = caught.value
    assert error.__cause__ is error.__context__ is None, "a traceback would show the values"
    return str(error)


class Kind(Enum):
    ONE = "one"


class Left(BaseModel):
    side: Literal["left"]
    value: int


class Right(BaseModel):
    side: Literal["right"]
    value: int


def check_constant(value: str) -> str:
    raise ValueError("must not be anything at all")


def check_assert(value: str) -> str:
    if value:
        raise AssertionError("must be empty")  # what an assert does, but for pytest's own
    return value


def check_truncated(value: str) -> str:
    raise ValueError(f"bad: {value[:4].upper()}")


def check_template(value: str) -> str:
    raise PydanticCustomError("rotten", "{value} is rotten", {"value": value[::-1]})


def check_int(value: str) -> int:
    return int(value)


class Order(Payload, msgid=30):
    """Where values could be quoted."""

    constant: Annotated[str, AfterValidator(check_constant)] = ""
    asserted: Annotated[str, AfterValidator(check_assert)] = ""
    truncated: Annotated[str, AfterValidator(check_truncated)] = ""
    template: Annotated[str, AfterValidator(check_template)] = ""
    parsed: Annotated[str, AfterValidator(check_int)] = "0"
    union: Annotated[Left | Right, Field(discriminator="side")] | None = None
    kind: Kind = Kind.ONE
    id: UUID | None = None
    literal: Literal["a", "b"] = "a"
    pattern: Annotated[str, StringConstraints(pattern="^a+$")] = "a"
    prices: dict[str, int] = {}  # noqa: RUF012 - pydantic copies it
    by_number: dict[int, int] = {}  # noqa: RUF012
    items: list[Left] = []  # noqa: RUF012
    data: bytes = b""
    either: int | list[int] | Data = 0


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("constant", '"xyzzy"', "constant: must not be anything at all"),
        ("asserted", '"xyzzy"', "asserted: must be empty"),
        ("truncated", '"xyzzy"', "truncated: it is not valid (value_error)"),
        ("template", '"xyzzy"', "template: it is not valid (rotten)"),
        ("parsed", '"xyzzy"', "parsed: it is not valid (value_error)"),
        ("union", '{"side": "xyzzy"}', "union: it is not valid (union_tag_invalid)"),
        ("union", '{"side": "left", "value": "xyzzy"}', "union.left.value: Input should be"),
        ("kind", '"xyzzy"', "kind: Input should be 'one'"),
        ("id", '"xyzzy"', "id: it is not valid (uuid_parsing)"),
        ("literal", '"xyzzy"', "literal: Input should be 'a' or 'b'"),
        ("pattern", '"xyzzy"', "pattern: String should match pattern '^a+$'"),
        ("prices", '{"xyzzy": "xyzzy"}', "prices.…: Input should be a valid integer"),
        ("by_number", '{"xyzzy": 1}', "by_number.….key: Input should be a valid integer"),
        ("items", '[{"side": "left", "value": "xyzzy"}]', "items.…value"),
        ("data", '"xyzzy!"', "data: it is not valid (bytes_invalid_encoding)"),
        ("either", '"xyzzy"', "either.int: Input should be a valid integer"),
        ("either", '{"component": 9}', "either: the message has no such component"),
    ],
)
def test_no_value_is_quoted(field: str, value: str, text: str) -> None:
    said = told(Order, f'{{"{field}": {value}}}'.encode())
    assert said.startswith("Order: ")
    assert SECRET not in said
    assert SECRET.upper()[:4] not in said
    assert SECRET[::-1] not in said
    if field == "items":
        assert ".value: Input should be a valid integer" in said
    elif field == "by_number":
        assert said.startswith("Order: by_number.…")
    else:
        assert text in said


def test_numbers_of_items_are_told_where_they_cannot_be_keys() -> None:
    class Basket(Payload, msgid=31):
        items: list[Left]

    said = told(Basket, b'{"items": [{"side": "left", "value": 1}, {"side": "left"}]}')
    assert said == "Basket: items.1.value: Field required"


def test_number_keys_are_not_told() -> None:
    class Accounts(Payload, msgid=32, codec=MSGPACK):
        balance: dict[int, int]

    said = told(Accounts, b"\x81\xa7balance\x81\xcd\x12\x34\xa1x")  # {4660: "x"}
    assert said.startswith("Accounts: balance.…: Input should be a valid integer")


def test_names_of_unknown_fields_are_not_told() -> None:
    class Narrow(Payload, msgid=33, extra="forbid"):
        pass

    assert told(Narrow, b'{"xyzzy": 1}') == "Narrow: …: Extra inputs are not permitted"


def test_model_validators() -> None:
    class Range(Payload, msgid=34):
        low: int
        high: int

        @model_validator(mode="after")
        def ordered(self) -> Range:
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

        @field_validator("low")
        @classmethod
        def quotes(cls, value: int) -> int:
            if value == 4711:
                raise ValueError(f"not {value}")
            return value

    assert told(Range, b'{"low": 2, "high": 1}') == "Range: the payload: low is above high"
    assert "4711" not in told(Range, b'{"low": 4711, "high": 1}')


def test_secrets_that_are_none() -> None:
    assert told(Login, b'{"user": "me", "password": {"xyzzy": 1}}') == (
        "Login: password: Input should be a valid string"
    )
    assert "xyzzy" not in told(Quoting, b'{"word": "xyzzy"}')


def test_the_first_few_fields_are_named() -> None:
    said = told(Order, json.dumps({"prices": dict.fromkeys("abcdefghi", "x")}).encode())
    assert said.count("prices") == 5
    assert said.endswith("; and 4 more")


def test_of_very_many_none_is_looked_at() -> None:
    class Numbers(Payload, msgid=35):
        numbers: list[int]

    data = b'{"numbers": [' + b'"",' * 100_000 + b"0]}"
    assert told(Numbers, data) == "Numbers: 100000 values are not valid"


def test_all_that_is_told_is_short_and_printable() -> None:
    long = "\\u001b" + "a" * 3000
    said = told(Order, f'{{"prices": {{"{long}": "x", "b": {{}}}}, "literal": []}}'.encode())
    assert len(said.encode()) <= 1024
    assert said.isprintable()


def test_missing_fields_and_wrong_types() -> None:
    assert told(Job, b"{}") == "Job: path: Field required"
    assert told(Job, b'{"path": 3, "retries": -1}') == (
        "Job: path: Input should be a valid string; "
        "retries: Input should be greater than or equal to 0"
    )
    assert told(Job, b"[1]") == "Job: the payload: Input should be an object"


class TestComponents:
    @pytest.mark.parametrize(
        "number", ["0", "-1", "2", "true", "1.0", '"1"', "null", "[1]", "1e99"]
    )
    def test_that_are_not_there(self, number: str) -> None:
        data = b'{"port": {"component": %s}}' % number.encode()
        assert told(Handover, data, b"x") == ("Handover: port: the message has no such component")

    @pytest.mark.parametrize("value", ["1", '"port"', "null", "[]", "{}"])
    def test_that_are_no_numbers(self, value: str) -> None:
        assert told(Handover, b'{"port": %s}' % value.encode(), b"x") in {
            "Handover: port: Input should be a Port",
            "Handover: port: the message has no such component",
        }

    def test_of_another_kind(self) -> None:
        said = told(Handover, b'{"port": {"component": 1}}', b"data")
        assert said == "Handover: port: Input should be a Port"
