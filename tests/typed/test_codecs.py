"""What goes through a codec comes out as it was, or the side that erred is told why."""

from __future__ import annotations

import enum
import json
import math
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretBytes, SecretStr

from portkit import InvalidPayloadError, MachPort, PortMessage
from portkit.typed import JSON, Codec, JSONCodec, Payload
from portkit.typed.msgpack import MSGPACK, MsgpackCodec
from tests.typed.models import Anything, Handover, Job, Login, Picture, Point, Tree
from tests.typed.test_payload import round_trip, sent

CODECS = pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])


class Colour(enum.Enum):
    RED = "red"


VALUES = [
    (bytes, bytes(range(256))),
    (str, "κόσμε\0\U0001f600"),
    (int, -(1 << 63)),
    (float, 0.1),
    (float, math.inf),
    (float | None, -math.inf),
    (Decimal, Decimal("1.100")),
    (UUID, UUID(int=3)),
    (Colour, Colour.RED),
    (Path, Path("/a/b")),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, 6)),  # noqa: DTZ001
    (datetime, datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=3)))),
    (date, date(2026, 1, 2)),
    (time, time(1, 2, 3, 4)),
    (timedelta, timedelta(days=3, microseconds=4)),
    (set[int], {1, 2}),
    (frozenset[bytes], frozenset([b"\xff"])),
    (tuple[int, str], (1, "a")),
    (dict[int, str], {1: "a"}),
    (dict[UUID, date], {UUID(int=3): date(2026, 1, 2)}),
    (list[Any], [None, True, 1, 1.5, "a", [], {}]),
    (SecretStr, SecretStr("hush")),
    (SecretBytes, SecretBytes(b"\xff")),
    (Point, Point(x=1, y=2)),
    (Job, Job(path="/a")),
]


def described(kind: Any, codec: Codec) -> type[Any]:
    """A payload with one field of that type."""
    return type("Made", (Payload,), {"__annotations__": {"value": kind}}, msgid=1, codec=codec)


@CODECS
@pytest.mark.parametrize(("kind", "value"), VALUES, ids=[str(value) for _, value in VALUES])
def test_round_trip(codec: Codec, kind: Any, value: Any) -> None:
    made = described(kind, codec)
    assert round_trip(made(value=value)).value == value


@CODECS
def test_not_a_number(codec: Codec) -> None:
    """JSON has none, and pydantic writes null: as if it had not been there."""
    made = described(float | None, codec)
    assert math.isnan(round_trip(made(value=math.nan)).value)


@CODECS
def test_components_stand_by_their_number(codec: Codec) -> None:
    class Mixed(Payload, msgid=1, codec=codec):
        handover: Handover
        picture: Picture

    port, other = MachPort(), MachPort()
    mixed = Mixed(
        handover=Handover(port=port, more=(other, port), either=other),
        picture=Picture(name="a", pixels=b"pixels"),
    )
    assert sent(mixed).components[1:] == (port, other, port, other, b"pixels")
    assert round_trip(mixed) == mixed
    assert round_trip(Handover(port=port, either=1)).either == 1


def test_json_is_what_the_manual_says() -> None:
    port = MachPort()
    (fields, component) = sent(Handover(port=port)).components
    assert fields == b'{"port":{"component":1},"more":[],"either":0}'
    assert component is port


class TestStrict:
    @CODECS
    def test_what_the_format_has(self, codec: Codec) -> None:
        class Strict(Payload, msgid=1, codec=codec, strict=True):
            text: str
            number: float
            data: bytes
            when: datetime

        strict = Strict(text="a", number=math.inf, data=b"\xff", when=datetime.now(UTC))
        assert round_trip(strict) == strict

    def test_what_it_has_not(self) -> None:
        class Strict(Payload, msgid=1, codec=MSGPACK, strict=True):
            id: UUID

        with pytest.raises(InvalidPayloadError, match="id: Input should be an instance of UUID"):
            round_trip(Strict(id=UUID(int=3)))


class TestLimits:
    @pytest.mark.parametrize("codec", [JSONCodec(limit=100), MsgpackCodec(limit=100)])
    def test_of_size_both_ways(self, codec: Codec) -> None:
        made = described(str, codec)
        assert round_trip(made(value="a" * 80)).value == "a" * 80
        with pytest.raises(InvalidPayloadError, match="bytes are over its codec's limit of 100"):
            sent(made(value="a" * 100))
        with pytest.raises(InvalidPayloadError, match="200 bytes are over its codec's limit of 1"):
            made.from_message(PortMessage(components=b" " * 200, msgid=1))

    @pytest.mark.parametrize("kind", [JSONCodec, MsgpackCodec])
    def test_are_numbers(self, kind: Any) -> None:
        assert repr(kind(limit=3)) == f"<{kind.__name__} limit=3>"
        with pytest.raises(TypeError, match="limit must be an int, not str"):
            kind(limit="3")
        with pytest.raises(TypeError, match="limit must be an int, not bool"):
            kind(limit=True)
        with pytest.raises(ValueError, match="limit must be at least 1"):
            kind(limit=0)

    def test_large_data_does_not_count(self) -> None:
        picture = Picture(name="a", pixels=bytes(5 << 20))
        assert round_trip(picture) == picture

    @CODECS
    def test_of_depth_when_it_is_written(self, codec: Codec) -> None:
        class Deep(Payload, msgid=1, codec=codec):
            value: Any

        value: Any = 1
        for _ in range(100_000):
            value = [value]
        deep = Deep.model_construct(value=value)
        with pytest.raises(InvalidPayloadError, match="Deep cannot be encoded"):
            sent(deep)
        while isinstance(value, list):  # a level at a time: else the interpreter's stack is full
            value = value.pop()

    @pytest.mark.parametrize("depth", [198, 199, 200, 230, 254])
    def test_what_can_be_written_can_be_read(self, depth: int) -> None:
        """pydantic writes JSON 255 deep, and reads 200."""
        value: Any = 1
        for _ in range(depth):
            value = [value]
        if depth < 200:
            assert round_trip(Anything(value=value)).value == value
            return
        with pytest.raises(InvalidPayloadError, match="it is nested more than 200 deep"):
            sent(Anything(value=value))

    def test_of_models_that_hold_themselves(self) -> None:
        tree = Tree(name="leaf")
        for _ in range(99):  # an object and an array each
            tree = Tree(name="branch", below=(tree,))
        assert round_trip(tree) == tree
        for _ in range(20):
            tree = Tree(name="branch", below=(tree,))
        with pytest.raises(InvalidPayloadError, match="it is nested more than 200 deep"):
            sent(tree)

    def test_many_beside_each_other_are_not_deep(self) -> None:
        class Forest(Payload, msgid=3):
            trees: tuple[Tree, ...]
            points: list[Point]

        forest = Forest(trees=(Tree(name="["),) * 500, points=[Point(x=1, y=2)] * 500)
        assert round_trip(forest) == forest

    @CODECS
    def test_of_what_holds_itself(self, codec: Codec) -> None:
        class Circular(Payload, msgid=1, codec=codec):
            value: Any

        value: list[Any] = []
        value.append(value)
        with pytest.raises(InvalidPayloadError, match="Circular cannot be encoded: "):
            sent(Circular.model_construct(value=value))
        value.clear()

    @pytest.mark.parametrize("depth", [201, 5000, 300_000])
    def test_of_depth_when_it_is_read(self, depth: int) -> None:
        data = b'{"value":' + b"[" * depth + b"]" * depth + b"}"
        with pytest.raises(InvalidPayloadError, match="recursion limit exceeded"):
            Anything.from_message(PortMessage(components=data, msgid=15))

    def test_of_depth_when_msgpack_is_read(self) -> None:
        deep = described(Any, MSGPACK)
        data = b"\x81\xa5value" + b"\x91" * 300_000 + b"\x01"
        with pytest.raises(InvalidPayloadError, match="nested too deeply"):
            deep.from_message(PortMessage(components=data, msgid=1))

    def test_of_whole_numbers_in_msgpack(self) -> None:
        with pytest.raises(InvalidPayloadError, match="whole numbers of 64 bits only"):
            sent(described(int, MSGPACK)(value=1 << 64))
        assert round_trip(described(int, JSON)(value=1 << 64)).value == 1 << 64


class TestBadBytes:
    @pytest.mark.parametrize(
        "data",
        [b"", b"{", b"\xff", b'{"path": "\xff"}', b"[]", b"null", b'{"path": 3}', b'{"path"}',
         b'{"path": "a"} x', b'{"path": "\\ud800"}', b"\xef\xbb\xbf{}"],
    )  # fmt: skip
    def test_json(self, data: bytes) -> None:
        with pytest.raises(InvalidPayloadError, match=r"^Job: "):
            Job.from_message(PortMessage(components=data, msgid=7))

    @pytest.mark.parametrize(
        "data",
        [b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
         b"\xa2\xff\xff", b"\x80\x80", b"\x81\x90\x01", b"\xc7\x0c\xff" + b"\xff" * 12,
         b"\xd6\xff\0\0\0\0"],
    )  # fmt: skip
    def test_msgpack(self, data: bytes) -> None:
        with pytest.raises(InvalidPayloadError, match=r"^Made: "):
            described(int, MSGPACK).from_message(PortMessage(components=data, msgid=1))

    def test_of_two_values_with_one_name_the_last_counts(self) -> None:
        twice = PortMessage(components=b'{"path": "a", "path": "b"}', msgid=7)
        assert Job.from_message(twice).path == "b"

    @given(st.binary(max_size=200))
    def test_any(self, data: bytes) -> None:
        assert_payload_or_error(Everything, data)
        assert_payload_or_error(EverythingPacked, data)

    @given(st.data())
    def test_any_json(self, data: st.DataObject) -> None:
        value = data.draw(json_values)
        assert_payload_or_error(Everything, json.dumps(value).encode(errors="surrogatepass"))
        try:
            packed = msgspec.msgpack.encode(value)
        except (OverflowError, UnicodeEncodeError):
            return
        assert_payload_or_error(EverythingPacked, packed)


class Everything(Payload, msgid=2):
    """Each kind of field that there is."""

    text: str = ""
    data: bytes = b""
    number: float = 0
    decimal: Decimal = Decimal(0)
    when: datetime | date | time | timedelta = time()
    id: UUID | None = None
    colour: Colour = Colour.RED
    path: Path | None = None
    table: dict[int, set[str]] = {}  # noqa: RUF012 - pydantic copies it
    within: Handover | Picture | Login | None = None
    whatever: Any = None


class EverythingPacked(Everything, codec=MSGPACK):
    """The same in another coding."""


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["2026-01-02", "P3D", "red", "1e400", "NaN", "_w==", {"component": 1}])
)
json_values = st.recursive(
    st.dictionaries(st.sampled_from(sorted(Everything.model_fields)), scalars),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("component"), inner),
) | st.fixed_dictionaries(
    {}, optional={name: st.lists(scalars) | scalars for name in Everything.model_fields}
)


def assert_payload_or_error(kind: type[Payload], data: bytes) -> None:
    """Whatever the bytes: a payload, or the one error."""
    try:
        payload = kind.from_message(PortMessage(components=[data, b"more"], msgid=2))
    except InvalidPayloadError as error:
        assert str(error).startswith(f"{kind.__name__}: ")  # noqa: PT017
        assert error.__cause__ is error.__context__ is None  # noqa: PT017
    else:
        assert isinstance(payload, kind)


class TestWhatCannotBeWritten:
    @CODECS
    def test_says_so_without_the_value(self, codec: Codec) -> None:
        made = described(int, codec)
        with pytest.raises(InvalidPayloadError) as caught:
            sent(made.model_construct(value="secret"))
        assert str(caught.value).startswith("Made cannot be encoded: ")
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is caught.value.__context__ is None

    @CODECS
    def test_names_the_type(self, codec: Codec) -> None:
        made = described(Any, codec)
        with pytest.raises(InvalidPayloadError, match=r"type: <class 'object'>|object"):
            sent(made(value=object()))

    def test_ports_stand_only_where_they_are_declared(self) -> None:
        with pytest.raises(InvalidPayloadError, match="unknown type"):
            sent(Anything(value=MachPort()))


def test_codecs_have_to_agree() -> None:
    packed = sent(EverythingPacked()).components
    with pytest.raises(InvalidPayloadError, match="Everything: the payload: Invalid JSON"):
        Everything.from_message(PortMessage(components=packed, msgid=2))


def test_a_codec_of_ones_own() -> None:
    class Backwards:
        name = "backwards"
        limit = 100

        def encode(self, payload: Any, context: Any) -> bytes:
            return JSON.encode(payload, context)[::-1]

        def decode(self, model: Any, data: bytes, context: Any) -> Any:
            if not data:
                raise ValueError("there is nothing to turn round")
            return JSON.decode(model, data[::-1], context)

    made = described(int, Backwards())
    assert sent(made(value=3)).components == (b'}3:"eulav"{',)
    assert round_trip(made(value=3)).value == 3
    with pytest.raises(InvalidPayloadError, match=r"^Made: there is nothing to turn round$"):
        made.from_message(PortMessage(components=b"", msgid=1))


def test_without_msgspec_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['msgspec'] = None\n"
        "import portkit.typed\n"
        "try: import portkit.typed.msgpack\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert 'pip install "portkit[msgpack]"' in done.stdout, done.stderr
