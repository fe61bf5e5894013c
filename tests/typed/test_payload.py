"""What a payload's class may look like, and what its instances are."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from pydantic import (
    AliasChoices,
    BaseModel,
    Field,
    PlainSerializer,
    RootModel,
    SecretBytes,
    SecretStr,
    ValidationError,
    computed_field,
)

from portkit import InvalidPayloadError, MachPort, PortMessage
from portkit.typed import JSON, JSONCodec, Payload
from tests.typed.models import Handover, Job, Login, Picture, Point, Result, Tree

T = TypeVar("T")


def sent(payload: Payload) -> PortMessage:
    """The message that arrives elsewhere, where nothing passes by reference."""
    packed = PortMessage(components=payload)
    return PortMessage(components=packed.components, msgid=packed.msgid)


def round_trip(payload: Any) -> Any:
    """What a receiver elsewhere has."""
    return type(payload).from_message(sent(payload))


class TestNumbers:
    def test_stand_in_the_class(self) -> None:
        assert (Job.msgid, Result.msgid, Payload.msgid) == (7, 8, 0)

    def test_are_inherited(self) -> None:
        class Urgent(Job):
            by: float

        assert Urgent.msgid == 7

    @pytest.mark.parametrize("msgid", ["7", 7.0, True, None])
    def test_are_ints(self, msgid: Any) -> None:
        if msgid is None:
            type("Fine", (Payload,), {}, msgid=None)
            return
        with pytest.raises(TypeError, match="msgid must be an int"):
            type("Wrong", (Payload,), {}, msgid=msgid)

    @pytest.mark.parametrize("msgid", [-1, 1 << 32])
    def test_have_32_bits(self, msgid: int) -> None:
        with pytest.raises(ValueError, match="msgid must be from 0"):
            type("Wrong", (Payload,), {}, msgid=msgid)

    @pytest.mark.parametrize("name", ["msgid", "codec"])
    def test_are_no_fields(self, name: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydantic's, of the same
            with pytest.raises(TypeError, match=f"{name} is an argument of the class"):
                type("Wrong", (Payload,), {"__annotations__": {name: int}, name: 7})

    @pytest.mark.parametrize("codec", ["json", JSONCodec, 3])
    def test_codecs_are_codecs(self, codec: Any) -> None:
        with pytest.raises(TypeError, match=r"codec must be a Codec, such as portkit\.typed\.JSON"):
            type("Wrong", (Payload,), {}, codec=codec)

    def test_codecs_are_inherited(self) -> None:
        small = JSONCodec(limit=100)

        class Small(Payload, msgid=3, codec=small):
            pass

        class Smaller(Small):
            pass

        assert Smaller.codec is small
        assert Job.codec is JSON


class TestInstances:
    def test_are_frozen(self) -> None:
        job: Any = Job(path="/a")
        with pytest.raises(ValidationError, match="frozen"):
            job.path = "/b"
        assert job == Job(path="/a")
        assert hash(job) == hash(Job(path="/a"))

    def test_are_validated_where_they_are_made(self) -> None:
        with pytest.raises(ValidationError):
            Job(path=3)
        with pytest.raises(ValidationError, match="should be a Port"):
            Handover(port=3)
        with pytest.raises(ValidationError, match="should be a bytes-like object"):
            Picture(name="a", pixels="text")

    def test_are_known_by_their_type_in_a_message(self) -> None:
        message = PortMessage(components=Login(user="me", password=SecretStr("hush")))
        assert repr(message) == "<PortMessage msgid=14 [Login]>"

    def test_bring_their_number(self) -> None:
        assert PortMessage(components=Job(path="/a"), msgid=7).msgid == 7
        with pytest.raises(ValueError, match="Job travels with msgid 7: leave msgid= out"):
            PortMessage(components=Job(path="/a"), msgid=8)

    def test_are_whole_messages(self) -> None:
        with pytest.raises(TypeError, match="a Job is a whole message, not a component"):
            PortMessage(components=[Job(path="/a")])  # type: ignore[list-item]
        with pytest.raises(TypeError, match="Job is a class, not a component: send one of it"):
            PortMessage(components=Job)  # type: ignore[arg-type]

    def test_are_no_messages_that_are_something_else(self) -> None:
        with pytest.raises(InvalidPayloadError, match="message 8 is no Job, which is 7"):
            Job.from_message(PortMessage(components=Result(path="/a", size=1)))
        with pytest.raises(InvalidPayloadError, match="first component is to be the encoded"):
            Job.from_message(PortMessage(msgid=7))
        with pytest.raises(InvalidPayloadError, match="first component is to be the encoded"):
            Job.from_message(PortMessage(components=MachPort(), msgid=7))

    def test_are_shown_with_components_by_name_only(self) -> None:
        picture = Picture(name="a", pixels=b"secret pixels")
        with pytest.raises(ValueError, match="travels only in a message: send the payload"):
            picture.model_dump_json()
        assert picture.model_dump() == {"name": "a", "pixels": b"secret pixels"}


class TestModels:
    def test_generic(self) -> None:
        class Box(Payload, Generic[T], msgid=20):
            value: T

        box = Box[int](value=3)
        assert Box[int].msgid == 20
        assert round_trip(box) == box
        with pytest.raises(InvalidPayloadError, match="value: Input should be a valid integer"):
            Box[int].from_message(sent(Box(value="x")))

    def test_of_one_value(self) -> None:
        class Names(Payload, RootModel[list[str]], msgid=21):
            pass

        assert sent(Names(["a", "b"])).components == (b'["a","b"]',)
        assert round_trip(Names(["a", "b"])) == Names(["a", "b"])

    def test_unions_with_a_discriminator(self) -> None:
        class Circle(BaseModel):
            kind: Literal["circle"] = "circle"
            radius: float

        class Square(BaseModel):
            kind: Literal["square"] = "square"
            side: float

        class Draw(Payload, msgid=22):
            shape: Annotated[Circle | Square, Field(discriminator="kind")]

        assert round_trip(Draw(shape=Square(side=1))).shape == Square(side=1)

    def test_that_hold_themselves(self) -> None:
        tree = Tree(name="a", below=(Tree(name="b"), Tree(name="c", below=(Tree(name="d"),))))
        assert round_trip(tree) == tree

    def test_dataclasses_and_plain_models_in_them(self) -> None:
        @dataclass
        class Size:
            width: int

        class Sheet(Payload, msgid=23):
            size: Size
            corner: Point

        sheet = Sheet(size=Size(3), corner=Point(x=1, y=2))
        assert round_trip(sheet) == sheet

    def test_aliases(self) -> None:
        class Aliased(Payload, msgid=24):
            both: int = Field(alias="Both")
            read: int = Field(validation_alias="Read")
            several: int = Field(validation_alias=AliasChoices("s", "S"), serialization_alias="S")

        payload = Aliased.model_validate({"Both": 1, "Read": 2, "S": 3})
        assert sent(payload).components == (b'{"Both":1,"read":2,"S":3}',)
        assert round_trip(payload) == payload

    def test_an_alias_that_nobody_reads(self) -> None:
        with pytest.raises(TypeError, match=r"Wrong\.x would be written as 'X', by which nobody"):

            class Wrong(Payload):
                x: int = Field(serialization_alias="X")

    def test_computed_fields_stay_here(self) -> None:
        class Squared(Payload, msgid=25, extra="forbid"):
            side: int

            @computed_field
            def area(self) -> int:
                return self.side**2

        assert sent(Squared(side=3)).components == (b'{"side":3}',)
        assert round_trip(Squared(side=3)).area == 9


class TestSecrets:
    def test_travel_as_they_are(self) -> None:
        login = Login(user="me", password=SecretStr("hush"), others=(SecretStr("psst"),))
        assert round_trip(login) == login
        assert round_trip(login).others[0].get_secret_value() == "psst"

    def test_are_asterisks_elsewhere(self) -> None:
        login = Login(user="me", password=SecretStr("hush"), others=(SecretStr("psst"),))
        for shown in (login.model_dump_json(), str(login.model_dump(mode="json")), repr(login)):
            assert "hush" not in shown
            assert "psst" not in shown
            assert "***" in shown

    def test_of_bytes(self) -> None:
        class Key(Payload, msgid=26):
            key: SecretBytes

        assert round_trip(Key(key=SecretBytes(b"\xff\0"))).key.get_secret_value() == b"\xff\0"

    def test_in_a_payload_within(self) -> None:
        class Request(Payload, msgid=27):
            login: Login

        request = Request(login=Login(user="me", password=SecretStr("hush")))
        assert round_trip(request) == request

    def test_in_a_plain_model_are_refused(self) -> None:
        class Credentials(BaseModel):
            password: SecretStr

        with pytest.raises(TypeError, match=r"derive Credentials from portkit\.typed\.Payload"):

            class Request(Payload):
                by_user: dict[str, list[Credentials]]

    def test_in_a_plain_model_that_says_how(self) -> None:
        class Credentials(BaseModel):
            password: Annotated[SecretStr, PlainSerializer(SecretStr.get_secret_value)]

        class Request(Payload, msgid=28):
            credentials: Credentials

        request = Request(credentials=Credentials(password=SecretStr("hush")))
        assert round_trip(request) == request
