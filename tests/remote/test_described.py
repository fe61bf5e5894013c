"""Describing an interface, at its first use, keeps nothing of whoever uses it."""

from __future__ import annotations

import gc
import weakref
from typing import Protocol

import pytest
from pydantic import BaseModel

from portkit.remote.interface import interface_of


class Held:
    """Something in a variable of the caller, as a port would be."""


class Spot(BaseModel):
    x: int


class Plain(Protocol):
    def add(self, number: int) -> int: ...


class Modelled(Protocol):
    def move(self, spot: Spot) -> Spot: ...


@pytest.mark.parametrize("interface", [Plain, Modelled])
def test_variables_of_the_caller_are_not_kept_alive(interface: type) -> None:
    def first_use() -> weakref.ref[Held]:
        held = Held()
        interface_of(interface)
        return weakref.ref(held)

    gc.collect()
    gc.disable()
    try:
        assert first_use()() is None
    finally:
        gc.enable()
