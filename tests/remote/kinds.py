"""Values of every kind, and an interface whose methods give each of them back."""

from __future__ import annotations

import datetime as dt
import math
import types
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from portkit.typed.fields import Data, View

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: float


@dataclass
class Line:
    start: Point
    end: Point
    label: bytes = b""
    weight: float = 1.0
    tags: list[str] = field(default_factory=list)


class Options(TypedDict, total=False):
    verbose: bool
    key: bytes
    ratio: float


class Person(BaseModel):
    name: str
    born: dt.date
    friends: list[Person] = []
    favourite: Colour | None = None


class Box(BaseModel, Generic[T]):
    content: T


class Measured(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")

    value: float | None


class Attachment(BaseModel):
    name: str
    content: Data


NOW = dt.datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=dt.UTC)
ANNA = Person(name="Anna", born=dt.date(1999, 12, 31), favourite=Colour.BLUE)

KINDS: dict[str, tuple[Any, list[Any]]] = {
    "integer": (int, [0, 1, -1, 2**7, -(2**31), 2**32, 2**63, -(2**63), 2**64, 3**2000, 10**4000]),
    "floating": (float, [0.0, -0.0, 0.1, 1e-320, 1.7e308, -2.5, math.inf, -math.inf, math.nan]),
    "boolean": (bool, [True, False]),
    "nothing": (None, [None]),
    "text": (str, ["", "plain", "häßlich", "\0", "\u2028\u2029", "😀" * 100, "e\u0301", '"\\']),
    "data": (bytes, [b"", b"\0\xff", bytes(100_000)]),
    "data_in_list": (list[bytes], [[], [b"a", b"", b"\xff" * 10]]),
    "data_or_text": (bytes | str, [b"a", "a"]),
    "limited": (Annotated[int, Field(ge=0, le=9)], [0, 9]),
    "decimal": (Decimal, [Decimal("1.10"), Decimal("-1e400"), Decimal(0)]),
    "fraction": (Fraction, [Fraction(1, 3)]),
    "complex_number": (complex, [1 + 2j]),
    "moment": (dt.datetime, [NOW, NOW.replace(tzinfo=None)]),
    "day": (dt.date, [dt.date.min, dt.date.max]),
    "time": (dt.time, [dt.time(1, 2, 3, 4)]),
    "duration": (dt.timedelta, [dt.timedelta(days=-1, microseconds=1)]),
    "uuid": (uuid.UUID, [uuid.UUID(int=1)]),
    "path": (PurePosixPath, [PurePosixPath("/a/b")]),
    "enum": (Colour, list(Colour)),
    "int_enum": (Level, list(Level)),
    "literal": (Literal["a", 1] | None, ["a", 1, None]),
    "optional": (int | None, [None, 5]),
    "union": (int | str | list[int], [1, "1", [1]]),
    "list": (list[list[int]], [[], [[]], [[1], [2, 3]]]),
    "tuple": (tuple[int, str], [(1, "a")]),
    "many": (tuple[int, ...], [(), (1, 2, 3)]),
    "set": (set[int], [set(), {1, 2}]),
    "frozen_set": (frozenset[str], [frozenset({"a"})]),
    "dict": (dict[str, int], [{}, {"a": 1, "": 2, "\0": 3}]),
    "dict_by_int": (dict[int, list[float]], [{1: [1.0], -2: []}]),
    "dict_by_enum": (dict[Colour, int], [{Colour.RED: 1}]),
    "named_tuple": (Point, [Point(1, 2.0), Point(-1, math.inf)]),
    "dataclass": (Line, [Line(Point(1, 2.0), Point(3, 4.0), b"\xff\0", math.nan, ["a"])]),
    "typed_dict": (Options, [{}, {"verbose": True, "key": b"\xff", "ratio": math.inf}]),
    "model": (Person, [ANNA, Person(name="Bo", born=dt.date(1, 1, 1), friends=[ANNA, ANNA])]),
    "optional_model": (Person | None, [None, ANNA]),
    "generic": (Box[list[Colour]], [Box[list[Colour]](content=[Colour.RED])]),
    "models": (dict[str, list[Person]], [{"a": [ANNA]}]),
    "infinite_model": (Measured, [Measured(value=math.inf), Measured(value=math.nan)]),
    "model_with_data": (Attachment, [Attachment(name="a", content=b"\0\xff" * 50_000)]),
    "plain": (Any, [None, 1, "a", [1, {"a": [True, 1.5]}], math.inf]),
    "plain_object": (object, [{"a": None}]),
    "bare_list": (list, [[1, "a", [None]]]),
    "bare_dict": (dict, [{"a": [1]}]),
    "bare_tuple": (tuple, [(1, "a")]),
}


def _echo(kind: Any) -> Any:
    def echo(self: object, value: Any) -> Any:
        raise NotImplementedError

    echo.__annotations__ = {"value": kind, "return": kind}
    return echo


def _last(self: object) -> str:
    raise NotImplementedError


Echo: Any = types.new_class(
    "Echo",
    (Protocol,),
    {},
    lambda namespace: namespace.update(
        {name: _echo(kind) for name, (kind, _) in KINDS.items()}, view=_echo(View), last=_last
    ),
)
"""Has a method for each kind, that gives back what it gets."""


class EchoServer:
    """An :data:`Echo`."""

    def __init__(self) -> None:
        self._last = ""

    def last(self) -> str:
        """What came last, as it looked here."""
        return self._last

    def __getattr__(self, name: str) -> Any:
        if name not in KINDS and name != "view":
            raise AttributeError(name)
        return self._echo

    def _echo(self, value: Any) -> Any:
        self._last = repr(value)
        return value
