"""Whom a certificate names, and whether that is who was expected."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import cast

_KINDS = ("DNS", "IP Address", "URI")


def peer_names_of(connection: ssl.SSLObject | ssl.SSLSocket) -> tuple[str, ...]:
    """Whom the peer's verified certificate names.

    Returns:
        Its alternative names that are DNS names, IP addresses or URIs, then its common name; each
        once, none empty. Nothing if the peer showed no certificate.
    """
    certificate = connection.getpeercert() or {}
    names: dict[str, None] = {}
    for kind, value in cast("Iterable[tuple[str, str]]", certificate.get("subjectAltName", ())):
        if kind in _KINDS:
            names[_address(value) or value if kind == "IP Address" else value] = None
    subject = cast("Iterable[Iterable[tuple[str, str]]]", certificate.get("subject", ()))
    for part, value in [pair for parts in subject for pair in parts]:
        if part == "commonName":
            names[value] = None
    names.pop("", None)
    return tuple(names)


def is_named(names: Iterable[str], host: str) -> bool:
    """Whether one of the names of a certificate is that of ``host``, a DNS name or an IP address.

    A name as ``*.example.com`` stands for every name with one label more than ``example.com``.
    """
    address = _address(host.partition("%")[0])  # without the zone of fe80::1%eth0
    if address is not None:
        return any(_address(name) == address for name in names)
    host = _ascii(host)
    return any(_covers(name, host) for name in names)


def is_expected(names: Iterable[str], expected: Iterable[str]) -> bool:
    """Whether one of the names of a certificate is one of those expected.

    One expected may be ``*.example.com``, for every name with one label more than that.
    """
    patterns = [_address(pattern) or pattern for pattern in expected]
    return any(_covers(pattern, name) for name in names for pattern in patterns)


def _covers(pattern: str, name: str) -> bool:
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    if pattern == name:
        return True
    if not pattern.startswith("*.") or _address(name) is not None:
        return False
    label, _, rest = name.partition(".")
    return label not in {"", "*"} and rest == pattern[2:] != ""


def _address(text: str) -> str | None:
    """The one way to write an IP address; None if it is none."""
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return None


def _ascii(host: str) -> str:
    """``bücher.example`` as certificates write it."""
    if not host.isascii():
        with suppress(UnicodeError):
            return host.encode("idna").decode("ascii")
    return host
