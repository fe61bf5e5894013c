"""Who may not connect is refused at once, and both sides say why; all others are served."""

from __future__ import annotations

import logging
import re
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import SecretBytes

from portkit import AuthenticationError, PreSharedKey, SocketPort
from portkit.cli.certs.authority import Identity, issue
from portkit.link.frames import HEADER, HEADER_SIZE, Kind
from portkit_transports.socket.tls import TLSConfig
from tests.ports.helpers import Background
from tests.support import PATIENCE, LoopThread, eventually
from tests.transports.socket.connections import echoing, is_quiet, place_of
from tests.transports.socket.pki import DAY, Pki, put

AT_ONCE = 2.5
"""Seconds: half of the time after which a handshake is given up."""

KEY = PreSharedKey(id="k", secret=SecretBytes(b"the secret of both"))
WRONG = PreSharedKey(id="k", secret=SecretBytes(b"some other secret"))
UNKNOWN = PreSharedKey(id="unknown", secret=SecretBytes(b"the secret of both"))

Options = Callable[[Pki], dict[str, Any]]


def tls(**options: Any) -> Options:
    return lambda pki: {"tls": pki.config(**options)}


def key(found: PreSharedKey) -> Options:
    return lambda _: {"key": found}


def both(first: Options, second: Options) -> Options:
    return lambda pki: first(pki) | second(pki)


FRIEND = tls(name="friend")


def nothing(pki: Pki) -> dict[str, Any]:
    return {}


class Case(NamedTuple):
    """A dialler that is refused, or refuses.

    Attributes:
        server, client: the options of each side.
        told: what the dialler's error says, as a pattern.
        logged: what the listener's log says.
        welcome: the options of a dialler that is served there, if there can be one.
    """

    server: Options
    client: Options
    told: str
    logged: str
    welcome: Options | None = None


UNTRUSTED = "certificate is not trusted: {}.* CA that both sides name, and look at their dates"
NO_KEY = "a pre-shared key is asked for here, and the peer proves none: give key= on both sides"
NOT_THE_KEY = "not known here, or its secret is another: give both sides the same key"
NOT_BOTH_TLS = "one side speaks TLS and the other does not: give tls= to both, or to none"
NOT_ASKED = "which this side does not ask for: give key= on both sides, or on none"

CASES: dict[str, Case] = {
    "a stranger vouches for the dialler": Case(
        tls(),
        lambda pki: {"tls": pki.wrong_authority("client")},
        "does not trust the authority of this side's certificate: use one CA",
        UNTRUSTED.format("unable to get local issuer certificate"),
        FRIEND,
    ),
    "the dialler's certificate has expired": Case(
        tls(),
        lambda pki: {"tls": pki.expired("client")},
        "this side's certificate has expired: issue another",
        UNTRUSTED.format("certificate has expired"),
        FRIEND,
    ),
    "the dialler's certificate is not valid yet": Case(
        tls(),
        lambda pki: {"tls": pki.not_yet_valid("client")},
        "refuses this side's certificate, and its log says why: look at the dates",
        UNTRUSTED.format("certificate is not yet valid"),
        FRIEND,
    ),
    "the dialler has no certificate": Case(
        tls(),
        lambda pki: {"tls": pki.without_certificate()},
        "wants a certificate of this side: give TLSConfig certificate= and key=",
        "shows no certificate, and this side wants one: give it certificate= and key=",
        FRIEND,
    ),
    "the dialler is somebody else": Case(
        tls(peer_names=("friend",)),
        tls(name="client"),
        r"the peer refused .*only friend is expected \(peer_names\)",
        r"is not wanted: its certificate is for client, .*only friend is expected \(peer_names\)",
        FRIEND,
    ),
    "a stranger vouches for the listener": Case(
        lambda pki: {"tls": pki.wrong_authority()},
        tls(name="client"),
        UNTRUSTED.format("unable to get local issuer certificate"),
        "does not trust the authority of this side's certificate: use one CA",
    ),
    "the listener's certificate has expired": Case(
        lambda pki: {"tls": pki.expired()},
        tls(name="client"),
        UNTRUSTED.format("certificate has expired"),
        "this side's certificate has expired: issue another",
    ),
    "the listener's certificate is not valid yet": Case(
        lambda pki: {"tls": pki.not_yet_valid()},
        tls(name="client"),
        UNTRUSTED.format("certificate is not yet valid"),
        "refuses this side's certificate, and its log says why: look at the dates",
    ),
    "the secret is another": Case(
        key(KEY), key(WRONG), NOT_THE_KEY, f"key 'k' .*{NOT_THE_KEY}", key(KEY)
    ),
    "the key is not known": Case(
        key(KEY),
        key(UNKNOWN),
        NOT_THE_KEY,
        f"key 'unknown', which is not known, was refused.*{NOT_THE_KEY}",
        key(KEY),
    ),
    "the dialler has no key": Case(key(KEY), nothing, NO_KEY, NO_KEY, key(KEY)),
    "the listener asks for no key": Case(nothing, key(KEY), NOT_ASKED, NOT_ASKED, nothing),
    "the secret is another, over TLS": Case(
        both(tls(), key(KEY)),
        both(tls(name="client"), key(WRONG)),
        NOT_THE_KEY,
        rf"\(client\), key 'k' .*{NOT_THE_KEY}",
        both(FRIEND, key(KEY)),
    ),
    "the dialler has a certificate and no key": Case(
        both(tls(), key(KEY)),
        tls(name="client"),
        NO_KEY,
        rf"\(client\) .*{NO_KEY}",
        both(FRIEND, key(KEY)),
    ),
    "the listener asks for no key, over TLS": Case(
        tls(), both(tls(name="client"), key(KEY)), NOT_ASKED, NOT_ASKED, FRIEND
    ),
    "the listener alone speaks TLS": Case(tls(), nothing, NOT_BOTH_TLS, NOT_BOTH_TLS, FRIEND),
    "the listener alone speaks TLS, the dialler has a key": Case(
        tls(), key(KEY), NOT_BOTH_TLS, NOT_BOTH_TLS, FRIEND
    ),
    "the dialler alone speaks TLS": Case(nothing, tls(), NOT_BOTH_TLS, NOT_BOTH_TLS, nothing),
    "the dialler alone speaks TLS, the listener has a key": Case(
        key(KEY), tls(), NOT_BOTH_TLS, NOT_BOTH_TLS, key(KEY)
    ),
}


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged at WARNING and above."""
    caplog.set_level(logging.WARNING, "portkit")
    return lambda: [record.getMessage() for record in caplog.records]


def refused(port: SocketPort, options: dict[str, Any]) -> str:
    """What a dialler is told, which must not take long."""
    remote = SocketPort.remote(*place_of(port), **options)
    start = time.monotonic()
    with pytest.raises(AuthenticationError) as caught:
        remote.request(b"let me in", send_timeout=PATIENCE)
    assert time.monotonic() - start < AT_ONCE
    assert remote.is_valid, "another try may be made"
    remote.invalidate()
    return str(caught.value)


def ask(port: SocketPort, options: dict[str, Any]) -> bytes | None:
    remote = SocketPort.remote(*place_of(port), **options)
    answer = remote.request(b"let me in", send_timeout=PATIENCE).data
    remote.invalidate()
    return answer


def matches(pattern: str, lines: list[str]) -> list[str]:
    return [line for line in lines if re.search(pattern, line)]


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_both_sides_say_why_and_others_are_served(
    case: Case, pki: Pki, warnings: Callable[[], list[str]]
) -> None:
    with echoing(**case.server(pki)) as port:
        host, number = place_of(port)
        told = refused(port, case.client(pki))
        assert matches(case.told, [told])
        assert told.startswith(f"{host}:{number}: ")
        assert eventually(lambda: matches(case.logged, warnings()))
        assert eventually(lambda: is_quiet(port))
        (logged,) = matches(case.logged, warnings())
        assert host in logged
        if case.welcome is not None:
            assert ask(port, case.welcome(pki)) == b"let me in"


def test_a_listener_with_the_wrong_name_is_not_talked_to(pki: Pki) -> None:
    with echoing(tls=pki.wrong_name()) as port:
        told = refused(port, FRIEND(pki))
        assert "127.0.0.1 is not who was expected: its certificate is for elsewhere" in told
        assert "say in peer_names whom you expect" in told
        assert ask(port, {"tls": pki.config(peer_names=("*.example",))}) == b"let me in"


LISTENERS: dict[str, Options] = {
    "plain": nothing,
    "key": key(KEY),
    "TLS": tls(),
    "TLS and key": both(tls(), key(KEY)),
}
WELCOME: dict[str, Options] = {
    "plain": nothing,
    "key": key(KEY),
    "TLS": FRIEND,
    "TLS and key": both(FRIEND, key(KEY)),
}
HTTP = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"


@pytest.mark.parametrize("kind", LISTENERS)
def test_a_web_browser_is_told_and_logged(
    kind: str, pki: Pki, warnings: Callable[[], list[str]]
) -> None:
    with echoing(**LISTENERS[kind](pki)) as port:
        start = time.monotonic()
        with socket.create_connection(place_of(port), PATIENCE) as browser:
            browser.sendall(HTTP)
            came = rest(browser)
        assert time.monotonic() - start < AT_ONCE
        assert refusal_in(came)
        assert eventually(lambda: is_quiet(port))
        (logged,) = warnings()
        assert "127.0.0.1" in logged
        assert refusal_in(came) in logged
        assert ask(port, WELCOME[kind](pki)) == b"let me in"


def rest(connection: socket.socket) -> bytes:
    """All that comes until the end, also where that is a reset."""
    came = b""
    try:
        while more := connection.recv(1 << 16):
            came += more
    except ConnectionResetError:
        pass
    return came


def refusal_in(came: bytes) -> str:
    """The text of the one frame that came."""
    size, kind, _, _ = HEADER.unpack_from(came)
    assert (size, kind) == (len(came), Kind.REFUSED)
    return came[HEADER_SIZE:].decode()


def test_tls_before_version_1_3_is_refused(pki: Pki, warnings: Callable[[], list[str]]) -> None:
    old = pki.config("client").client().context
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with echoing(tls=pki.config()) as port:
        with (
            socket.create_connection(place_of(port), PATIENCE) as connection,
            pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"),
        ):
            old.wrap_socket(connection)
        assert eventually(warnings)
        assert eventually(lambda: is_quiet(port))
        (logged,) = warnings()
        assert "127.0.0.1 was refused: the peer does not speak TLS 1.3 or later" in logged


def test_a_listener_that_speaks_an_older_tls_is_refused(pki: Pki) -> None:
    config = pki.config()
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert config.certificate is not None
    old.load_cert_chain(config.certificate, config.key)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)

        def serve() -> None:
            with listening.accept()[0] as connection, pytest.raises(ssl.SSLError):
                old.wrap_socket(connection, server_side=True)

        served = Background(serve)
        remote = SocketPort.remote(*listening.getsockname(), tls=config)
        with pytest.raises(AuthenticationError, match=r"does not speak TLS 1\.3 or later"):
            remote.send(b"", timeout=PATIENCE)
        remote.invalidate()
        served.result()


# Certificates that are replaced.


def test_the_next_connection_is_made_with_certificates_that_were_replaced(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    served = pki.config()
    with echoing(tls=served) as port:
        assert ask(port, {"tls": pki.config("first")}) == b"let me in"
        assert served.certificate is not None
        replace(pki, served, issue(pki.authority, "renamed", ["renamed"], DAY))
        assert "its certificate is for renamed" in refused(port, {"tls": pki.config("second")})
        expecting = pki.config("third", peer_names=("renamed",))
        assert ask(port, {"tls": expecting}) == b"let me in"


def test_a_dialler_uses_its_new_certificate_as_well(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    senders: list[Any] = []
    own = pki.config("old")
    with (
        LoopThread() as thread,
        SocketPort(
            delegate=lambda message: senders.append(message.sender), tls=pki.config()
        ) as port,
    ):
        thread.loop.add_port(port)
        ask(port, {"tls": own})
        replace(pki, own, issue(pki.authority, "new", ["new"], DAY))
        ask(port, {"tls": own})
    assert [sender.names[0] for sender in senders] == ["old", "new"]


def test_an_authority_that_is_replaced_shuts_out_whom_it_does_not_know(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    served = pki.config()
    known = pki.config("known")
    with echoing(tls=served) as port:
        assert ask(port, {"tls": known}) == b"let me in"
        put(served.ca, pki.stranger.certificate_pem)
        assert "use one CA" in refused(port, {"tls": known})


def replace(pki: Pki, config: TLSConfig, made: Identity) -> None:
    assert config.certificate is not None
    pki.write(config.certificate.parent, made)
