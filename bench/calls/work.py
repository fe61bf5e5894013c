"""What the other process does when its methods are called, whatever library carries the calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.ipc.server import Control

ORDER: dict[str, Any] = {
    "number": 4711,
    "placed": "2026-03-01T09:30:00Z",
    "currency": "EUR",
    "paid": False,
    "discount": 0.05,
    "note": "leave it with the neighbours",
    "tags": ["gift", "fragile"],
    "customer": {
        "name": "Ada Lovelace",
        "email": "ada@example.org",
        "address": {
            "street": "12 St James's Square",
            "city": "London",
            "code": "SW1Y 4JH",
            "country": "GB",
        },
    },
    "shipping": {
        "street": "1 Rue Coquillière",
        "city": "Paris",
        "code": "75001",
        "country": "FR",
    },
    "lines": [
        {"item": "A-100", "quantity": 2, "price": 19.5},
        {"item": "B-200", "quantity": 1, "price": 250.0},
        {"item": "C-300", "quantity": 12, "price": 1.25},
    ],
}
"""Twenty fields, nested; the fields of an address counted once, as are those of a line."""
TOTAL = 304.0
"""What its lines come to."""


def total(order: dict[str, Any]) -> float:
    """What the lines of an order come to."""
    return float(sum(line["quantity"] * line["price"] for line in order["lines"]))


def _cannot(_: Any) -> Any:
    raise NotImplementedError


@dataclass(frozen=True)
class Client:
    """The methods of :class:`Work`, bound: what a program does that calls them often.

    Attributes:
        order: :data:`ORDER` as this library passes a structure by copy.
    """

    add: Callable[[int, int], int]
    echo: Callable[[bytes], Any]
    settle: Callable[[Any], float]
    numbers: Callable[[int], Iterable[int]]
    ring: Callable[[int], int] = _cannot
    note: Callable[[bytes], Any] = _cannot
    order: Any = field(default_factory=lambda: ORDER)


class Bell:
    """The object of the client's process that is called back."""

    def ring(self, number: int) -> int:
        """The next number."""
        return number + 1


class Work:
    """What is served.

    Args:
        control: counts what came by :meth:`note`.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._bell: Any = None

    def add(self, left: int, right: int) -> int:
        """The sum."""
        return left + right

    def echo(self, data: bytes) -> bytes:
        """The same data."""
        return data

    def settle(self, order: dict[str, Any]) -> float:
        """What the lines come to."""
        return total(order)

    def numbers(self, count: int) -> Iterator[int]:
        """One after the other."""
        yield from range(count)

    def listen(self, bell: Any) -> None:
        """Keep a :class:`Bell` of the client's process."""
        self._bell = bell.ring

    def ring(self, number: int) -> int:
        """Call what was kept."""
        answer: int = self._bell(number)
        return answer

    def note(self, data: bytes) -> None:
        """Count it."""
        self._control.handled(data)
