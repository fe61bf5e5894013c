"""What may be the name of a port."""

from __future__ import annotations

MAX_NAME_BYTES = 1024
"""How many bytes of UTF-8 a name may have."""


def check_name(name: str) -> str:
    """``name``, if it can be the name of a port: any text but the empty one (M2, N3).

    Raises:
        TypeError: it is no str.
        ValueError: it is empty or too long, holds a NUL, or is no valid Unicode.
    """
    if not isinstance(name, str):
        raise TypeError(f"a name is a str, not {type(name).__name__}")
    if not name:
        raise ValueError("a name cannot be empty: a port without a name is made with None")
    if "\0" in name:
        raise ValueError(f"a name cannot hold a NUL character: take it out of {name[:80]!r}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise ValueError(
            f"a name is Unicode text, and {name[:80]!r} holds half a surrogate pair at index "
            f"{error.start}: decode it with errors='replace'"
        ) from None
    if size > MAX_NAME_BYTES:
        raise ValueError(
            f"a name has at most {MAX_NAME_BYTES} bytes of UTF-8, and {name[:20]!r}... has "
            f"{size}: shorten it, or register a hash of it"
        )
    return name
