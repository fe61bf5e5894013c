"""What may be the name of a peer or a key, and so of files."""

from __future__ import annotations

import re

MAX_NAME = 64
"""How many characters a name may have: as many as the common name of a certificate."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def check_name(name: str, what: str) -> str:
    """``name``, if it can be that of files.

    Args:
        name: the name.
        what: of what it is to be the name, for the error.

    Raises:
        ValueError: it cannot.
    """
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise ValueError(
            f"the name of a {what} has 1 to {MAX_NAME} letters, digits, '.', '_' and '-', and "
            f"begins with no '.' or '-': {name[:80]!r} is none"
        )
    return name


def check_peer(name: str) -> str:
    """``name``, if it can be that of a peer and of its files.

    Raises:
        ValueError: it cannot.
    """
    check_name(name, "peer")
    if name.lower() == "ca" or name.lower().endswith("-key"):
        raise ValueError(f"the files of {name!r} would be taken for others: take another name")
    return name
