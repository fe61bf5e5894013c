"""What pydantic finds wrong with a record, in a line."""

from __future__ import annotations

from pydantic import ValidationError


def first_fault(error: ValidationError) -> str:
    """Where the first fault is, and what: "pid: Field required"."""
    first = error.errors()[0]
    return ": ".join([*map(str, first["loc"]), first["msg"]])
