"""Payloads that several of these tests send."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, SecretStr

from portkit import Descriptor, Port, PortMessage, ReplyPort
from portkit.typed import Data, Payload, View
from tests.support import Reports, eventually


class Job(Payload, msgid=7):
    """Something to do."""

    path: str
    retries: Annotated[int, Field(ge=0)] = 3


class Result(Payload, msgid=8):
    """What came of it."""

    path: str
    size: int


class Picture(Payload, msgid=9):
    """Large data, beside a name."""

    name: str
    pixels: Data = b""


class Frame(Payload, msgid=10):
    """Large data that is not copied."""

    pixels: View


class Handover(Payload, msgid=11):
    """Ports, by themselves and among other things."""

    port: Port
    more: tuple[Port, ...] = ()
    either: Port | int = 0


class OpenFile(Payload, msgid=12):
    """A descriptor."""

    file: Descriptor


class Errand(Payload, msgid=13):
    """The right to answer a request that somebody else made."""

    answer_to: ReplyPort


class Login(Payload, msgid=14):
    """A secret, by itself and among other things."""

    user: str
    password: SecretStr
    others: tuple[SecretStr, ...] = ()


class Anything(Payload, msgid=15):
    """Whatever there is."""

    value: Any = None


def quote(value: str) -> str:
    """Tell everybody what it was."""
    raise ValueError(f"{value} is not good enough")


class Quoting(Payload, msgid=16):
    """A validator that gives away what it saw."""

    word: Annotated[str, AfterValidator(quote)]


class Tree(Payload, msgid=29):
    """A model that holds itself."""

    name: str
    below: tuple[Tree, ...] = ()


class Point(BaseModel):
    """A model that is no payload."""

    x: float
    y: float


def answered(message: PortMessage) -> Any:
    """A delegate: what came is the answer, byte for byte."""
    return message.components


def reported(reports: Reports) -> BaseException | None:
    """The one error that was reported; the requester may have heard of it first."""
    assert eventually(lambda: reports.records)
    (error,) = reports.take()
    return error


def hash_file(message: PortMessage) -> Result:
    """A delegate that knows what it gets."""
    job = Job.from_message(message)
    return Result(path=job.path, size=len(job.path))
