"""What strangers said, in errors and in the log."""

from __future__ import annotations

LONGEST = 1024
"""Characters that are shown of it."""


def printable(said: str | bytes) -> str:
    """The same for people: without what steers a terminal or begins another line of the log."""
    text = said if isinstance(said, str) else said[: 4 * LONGEST].decode(errors="replace")
    shown = "".join([char if char.isprintable() else "?" for char in text[:LONGEST]])
    return shown if len(text) <= LONGEST else f"{shown}..."
