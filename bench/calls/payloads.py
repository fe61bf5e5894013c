"""What typed messages say here, and what answers them: 3 fields, or 20 that are nested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from bench.calls.work import ORDER
from portkit.typed import Payload, Router


class Job(Payload, msgid=7):
    """Three fields."""

    name: str
    priority: int
    factor: float


class Result(Payload):
    """What answers either."""

    name: str
    value: float
    done: bool


class Place(BaseModel):
    """Where somebody is."""

    street: str
    city: str
    code: str
    country: str


class Customer(BaseModel):
    """Who ordered."""

    name: str
    email: str
    address: Place


class Line(BaseModel):
    """What was ordered."""

    item: str
    quantity: int
    price: float


class Order(Payload, msgid=8):
    """Twenty fields, those of its parts included."""

    number: int
    placed: str
    currency: str
    paid: bool
    discount: float
    note: str
    tags: list[str]
    customer: Customer
    shipping: Place
    lines: list[Line]


def on_job(job: Job) -> Result:
    """Answer it."""
    return Result(name=job.name, value=job.priority * job.factor, done=True)


def total(order: Order) -> float:
    """What its lines come to."""
    return sum(line.quantity * line.price for line in order.lines)


def on_order(order: Order) -> Result:
    """Answer it."""
    return Result(name=order.currency, value=total(order), done=True)


def router() -> Router:
    """Answers both."""
    router = Router()
    router.on(Job)(on_job)
    router.on(Order)(on_order)
    return router


@dataclass(frozen=True)
class Shape:
    """A type of payload.

    Attributes:
        name: in the tables.
        kind: the type.
        make: makes one, as a program does from what it has.
        answer: makes the answer.
    """

    name: str
    kind: type[Payload]
    make: Callable[[], Payload]
    answer: Callable[[Any], Result]

    def made_once(self) -> Shape:
        """The same, always with the same payload."""
        payload = self.make()
        return Shape(f"{self.name}, made once", self.kind, lambda: payload, self.answer)


JOB = Shape("3 fields", Job, lambda: Job(name="resize", priority=3, factor=0.5), on_job)
ORDERED = Shape("20 fields", Order, lambda: Order(**ORDER), on_order)
SHAPES = (JOB, JOB.made_once(), ORDERED, ORDERED.made_once())
"""Each in turn."""
