"""Which classes are interfaces."""

from __future__ import annotations


def is_interface(annotation: object) -> bool:
    """Whether it is a protocol class of a program."""
    return (
        isinstance(annotation, type)
        and getattr(annotation, "_is_protocol", False)
        and annotation.__module__ not in {"typing", "typing_extensions", "collections.abc"}
    )
