"""Whom a certificate names, and who is expected: what TLSConfig makes of it."""

from __future__ import annotations

import pytest

from tests.transports.socket.pki import Pki

NAMES = ("server", "Example.COM", "*.example.org", "10.0.0.2", "fd00::2", "spiffe://a/b")


@pytest.mark.parametrize(
    "host",
    [
        "server",
        "SERVER",
        "server.",
        "example.com",
        "a.example.org",
        "10.0.0.2",
        "fd00:0:0::2",
        "FD00::2",
        "fd00::2%eth0",
    ],
)
def test_a_server_has_the_name_that_was_dialled(pki: Pki, host: str) -> None:
    assert pki.config().check_peer(NAMES, host) == ""


@pytest.mark.parametrize(
    "host",
    [
        "serve",
        "example.org",
        "a.b.example.org",
        ".example.org",
        "*.example.org.evil",
        "10.0.0.3",
        "fd00::3",
        "com",
        "",
    ],
)
def test_a_server_has_not_the_name_that_was_dialled(pki: Pki, host: str) -> None:
    told = pki.config().check_peer(NAMES, host)
    assert f"not for {host}:" in told
    assert "--host" in told
    assert "peer_names" in told


def test_a_host_in_another_script(pki: Pki) -> None:
    config = pki.config()
    assert config.check_peer(("xn--bcher-kva.example",), "bücher.example") == ""
    assert config.check_peer(("xn--bcher-kva.example",), "bucher.example") != ""
    assert config.check_peer(("x",), "\N{SNOWMAN}" * 70) != ""


def test_no_wildcard_stands_for_addresses_or_everything(pki: Pki) -> None:
    config = pki.config()
    assert config.check_peer(("*.0.0.2", "*", "*.", "*.*"), "10.0.0.2") != ""
    assert config.check_peer(("*", "*."), "server") != ""
    assert config.check_peer(("*.*",), "a.b") != ""
    assert pki.config(peer_names=("*.0.0.2",)).check_peer(("10.0.0.2",), None) != ""


@pytest.mark.parametrize(
    ("expected", "shown", "accepted"),
    [
        (("alice", "bob"), ("bob",), True),
        (("alice",), ("bob", "Alice"), True),
        (("alice",), ("bob",), False),
        (("*.example.org",), ("a.example.org",), True),
        (("*.example.org",), ("example.org",), False),
        (("*.example.org",), ("a.b.example.org",), False),
        (("a.example.org",), ("*.example.org",), False),
        (("spiffe://a/b",), ("spiffe://a/b",), True),
        (("FD00::0:2",), ("fd00::2",), True),
        (("alice",), (), False),
    ],
)
@pytest.mark.parametrize("dialled", [None, "server", "alice"])
def test_peer_names_say_who_is_expected(
    pki: Pki,
    expected: tuple[str, ...],
    shown: tuple[str, ...],
    dialled: str | None,
    accepted: bool,
) -> None:
    told = pki.config(peer_names=expected).check_peer(shown, dialled)
    assert (told == "") == accepted
    if not accepted:
        assert "peer_names" in told
        assert expected[0] in told


def test_a_server_without_peer_names_accepts_whom_the_authority_knows(pki: Pki) -> None:
    assert pki.config().check_peer(("anybody",), None) == ""
    assert pki.config().check_peer((), None) == ""
