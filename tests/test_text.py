"""What strangers said, as errors and the log show it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from portkit._text import LONGEST, printable
from portkit.errors import PortError
from portkit.link import frames
from portkit.link.frames import Kind
from portkit.link.node import Node, Settings
from portkit.link.remote_port import RemotePort
from portkit.message import Sender
from portkit_transports.socket.tls import TLSConfig
from tests.link.raw import RawPeer
from tests.support import PATIENCE, eventually

FORGED = "\x1b[2J\r\nERROR forged \u202e\0é"
SHOWN = "?[2J??ERROR forged ??é"


@pytest.mark.parametrize("said", [FORGED, FORGED.encode()])
def test_what_steers_terminals_is_left_out(said: str | bytes) -> None:
    assert printable(said) == SHOWN


@pytest.mark.parametrize(
    "said", ["ä" * 10_000, b"x" * 10_000, b"\xff" * 10_000, "é".encode() * 5000]
)
def test_it_has_an_end(said: str | bytes) -> None:
    assert len(printable(said)) == LONGEST + 3
    assert printable(printable(said)[:LONGEST]) == printable(said)[:LONGEST]


def test_names_of_certificates() -> None:
    assert str(Sender(host="10.0.0.1", names=(FORGED,))) == f"10.0.0.1 ({SHOWN})"
    reason = TLSConfig(ca="ca.pem", peer_names=("right",)).check_peer((FORGED, "x" * 5000), None)
    assert reason.isprintable()
    assert reason.startswith(f"its certificate is for {SHOWN}, xxx")
    assert len(reason) < 2000


def test_the_reason_of_a_refusal() -> None:
    with RawPeer(Node(Settings()), dialled=True) as peer:
        peer.send(frames.record(Kind.REFUSED, FORGED.encode() + b"x" * 4000))
        assert eventually(lambda: peer.link.is_closed)
        assert peer.link.ending.isprintable()
        assert peer.link.ending.startswith(f"the peer refused it: {SHOWN}xxx")


def test_the_reason_of_a_failure() -> None:
    with RawPeer(Node(Settings()), dialled=True) as peer:
        peer.send(peer.hello(Kind.WELCOME))
        port = RemotePort(peer.link.table.open(b"D" * 16, b"r" * 16))
        with ThreadPoolExecutor(1) as other:
            asked = other.submit(lambda: port.request(b"?", reply_timeout=PATIENCE))
            while peer.next().kind != Kind.MESSAGE:
                pass
            peer.send(frames.failed(1, 3, FORGED))
            with pytest.raises(PortError) as caught:
                asked.result(PATIENCE)
        assert str(caught.value) == SHOWN
