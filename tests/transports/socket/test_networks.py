"""Hosts that have more than one address: of IPv6 each has 2**64 of them, and more."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from portkit import PreSharedKey, SocketPort
from portkit.link.node import Settings
from portkit_transports.socket import listener
from portkit_transports.socket.connection import network_of
from tests.support import PATIENCE, eventually
from tests.transports.socket.ends import place


def test_the_network_of_an_address() -> None:
    assert network_of("10.0.0.1") == "10.0.0.1"
    assert network_of("") == ""
    one = network_of("2001:db8:0:1::1")
    assert one == network_of("2001:db8:0:1:ffff:ffff:ffff:ffff")
    assert one != network_of("2001:db8:0:2::1")
    assert network_of("fe80::1%eth0") == network_of("fe80::2%lo")


def test_a_host_with_many_addresses_counts_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = iter([f"2001:db8::{number:x}" for number in range(5)] + ["2001:db8:0:1::1"])
    monkeypatch.setattr(listener, "host_of", lambda _: next(hosts))
    settings = Settings(max_handshakes_per_host=4, greeting_timeout=PATIENCE)
    with SocketPort(key=PreSharedKey.generate("k"), settings=settings) as port, ExitStack() as all_:

        def knock() -> socket.socket:
            return all_.enter_context(socket.create_connection(place(port), PATIENCE))

        for _ in range(4):
            knock()
        assert b"4 connections from 2001:db8::4 are in their handshake" in knock().recv(1000)
        knock()
        assert port._listener is not None
        handshakes = port._listener._handshakes
        assert eventually(lambda: len(handshakes) == 5)  # that of another network is welcome


def test_who_has_nothing_to_prove_counts_until_it_has_greeted() -> None:
    settings = Settings(max_handshakes=4, greeting_timeout=PATIENCE)
    with SocketPort(settings=settings) as port, ExitStack() as all_:
        for _ in range(4):
            all_.enter_context(socket.create_connection(place(port), PATIENCE))
        with socket.create_connection(place(port), PATIENCE) as late:
            assert b"4 connections are in their handshake already" in late.recv(1000)
