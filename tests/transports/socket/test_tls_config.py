"""TLSConfig: who is accepted, by real handshakes; files that are wrong, and that change."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import shutil
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest
from cryptography import x509
from pydantic import ValidationError

from portkit import TransportError
from portkit.cli.certs.authority import Identity, issue
from portkit_transports.socket.tls import TLSConfig, TLSContext
from tests.support import PATIENCE
from tests.transports.socket.handshakes import handshake, pair, shake, side
from tests.transports.socket.pki import DAY, LOCAL, Pki, put


def test_both_know_each_other(pki: Pki) -> None:
    server, client = pki.config("server"), pki.config("client", ())
    accepted, dialled = shake(server, client)
    assert (accepted.error, dialled.error) == (None, None)
    assert accepted.names == ("client",)
    assert dialled.names == ("server", "localhost", "127.0.0.1", "::1")
    assert accepted.version == dialled.version == "TLSv1.3"
    assert dialled.certificate == server.server().certificate
    assert accepted.certificate == client.client().certificate


def test_the_address_of_a_peer_is_written_in_one_way(pki: Pki) -> None:
    server = pki.config("server", ["FD00:0:0:0:0:0:0:2", "*.Example.com"])
    _, dialled = shake(server, pki.config("client", ()))
    assert dialled.names == ("server", "fd00::2", "*.example.com")


REFUSED: dict[str, tuple[Callable[[Pki], tuple[TLSConfig, TLSConfig]], str, str]] = {
    "a server of another authority": (
        lambda pki: (pki.wrong_authority(), pki.config("client")),
        "alert",
        "certificate verify failed",
    ),
    "a client of another authority": (
        lambda pki: (pki.config(), pki.wrong_authority("client")),
        "certificate verify failed",
        "alert",
    ),
    "an expired server": (
        lambda pki: (pki.expired(), pki.config("client")),
        "certificate expired",
        "certificate has expired",
    ),
    "an expired client": (
        lambda pki: (pki.config(), pki.expired("client")),
        "certificate has expired",
        "certificate expired",
    ),
    "a server before its time": (
        lambda pki: (pki.not_yet_valid(), pki.config("client")),
        "alert",
        "not yet valid",
    ),
    "a client without certificate": (
        lambda pki: (pki.config(), pki.without_certificate()),
        "peer did not return a certificate",
        "certificate required",
    ),
    "an optional certificate that is wrong": (
        lambda pki: (
            pki.config(require_peer_certificate=False),
            pki.wrong_authority("client"),
        ),
        "certificate verify failed",
        "alert",
    ),
    "a peer that poses as an authority": (
        lambda pki: (_issued_by_a_peer(pki), pki.config("client")),
        "alert",
        "certificate verify failed",
    ),
}


def _issued_by_a_peer(pki: Pki) -> TLSConfig:
    peer = issue(pki.authority, "peer", ["peer"], DAY)
    config = pki.write(pki.folder / "posing", issue(peer, "server", LOCAL, DAY))
    assert config.certificate is not None
    with config.certificate.open("ab") as file:
        file.write(peer.certificate_pem)
    return config


@pytest.mark.parametrize(("make", "served", "dialled"), REFUSED.values(), ids=REFUSED)
def test_who_is_refused(
    pki: Pki, make: Callable[[Pki], tuple[TLSConfig, TLSConfig]], served: str, dialled: str
) -> None:
    accepted, client = shake(*make(pki))
    assert served in str(accepted.error)
    assert dialled in str(client.error)


@pytest.mark.parametrize("old", ["server", "client"])
def test_tls_1_2_is_refused(pki: Pki, old: str) -> None:
    contexts = {"server": pki.config().server().context, "client": pki.config().client().context}
    side = ssl.PROTOCOL_TLS_SERVER if old == "server" else ssl.PROTOCOL_TLS_CLIENT
    context = ssl.SSLContext(side)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    config = pki.config()
    assert config.certificate is not None
    context.load_cert_chain(config.certificate, config.key)
    context.load_verify_locations(config.ca)
    accepted, dialled = handshake(**{**contexts, old: context})
    assert "protocol" in str(accepted.error)
    assert "protocol version" in str(dialled.error)


def test_a_server_may_do_without_certificates(pki: Pki) -> None:
    server = pki.config(require_peer_certificate=False)
    accepted, dialled = shake(server, pki.without_certificate())
    assert (accepted.error, dialled.error) == (None, None)
    assert (accepted.names, accepted.certificate) == ((), b"")
    assert pki.without_certificate().client().certificate == b""
    accepted, _ = shake(server, pki.config("client", ()))
    assert accepted.names == ("client",)


def test_no_session_is_resumed(pki: Pki) -> None:
    server, client = pki.config().server().context, pki.config().client().context
    with ThreadPoolExecutor(1) as other, pair() as (left, right):
        accepted = other.submit(side, left, server, Barrier(1), server_side=True)
        with client.wrap_socket(right) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
            assert accepted.result(PATIENCE).error is None
            assert connection.session is None or not connection.session.has_ticket


# --- files ----------------------------------------------------------------------------------------


def _damage(pki: Pki, folder: Path, how: Callable[[TLSConfig], object]) -> TLSConfig:
    config = pki.write(folder, issue(pki.authority, "own", ["own"], DAY))
    how(config)
    return config


def _encrypt(config: TLSConfig) -> None:
    assert config.certificate is not None
    assert config.key is not None
    from cryptography.hazmat.primitives import serialization

    read = Identity.from_pem(config.certificate.read_bytes(), config.key.read_bytes())
    config.key.write_bytes(
        read.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


def _file(config: TLSConfig, field: str) -> Path:
    path = getattr(config, field)
    assert isinstance(path, Path)
    return path


def _pipe(config: TLSConfig) -> None:
    config.ca.unlink()
    os.mkfifo(config.ca)


def _folder(config: TLSConfig) -> None:
    config.ca.unlink()
    config.ca.mkdir()


WRONG_FILES: dict[str, tuple[Callable[[TLSConfig], object], str, str]] = {
    "no authority": (lambda c: c.ca.unlink(), "ca.pem", "No such file"),
    "no certificate": (lambda c: _file(c, "certificate").unlink(), "own.pem", "No such file"),
    "no key": (lambda c: _file(c, "key").unlink(), "own-key.pem", "No such file"),
    "an empty authority": (lambda c: c.ca.write_bytes(b""), "ca.pem", "no certificate of an"),
    "rubbish for an authority": (lambda c: c.ca.write_bytes(b"\xff\0" * 99), "ca.pem", "portkit"),
    "half an authority": (
        lambda c: c.ca.write_bytes(c.ca.read_bytes()[:200]),
        "ca.pem",
        "portkit certs",
    ),
    "an empty certificate": (
        lambda c: _file(c, "certificate").write_bytes(b""),
        "own.pem",
        "no certificate and private key",
    ),
    "a key for a certificate": (
        lambda c: shutil.copy(_file(c, "key"), _file(c, "certificate")),
        "own.pem",
        "no certificate and private key",
    ),
    "a certificate for a key": (
        lambda c: shutil.copy(_file(c, "certificate"), _file(c, "key")),
        "own-key.pem",
        "no certificate and private key",
    ),
    "an encrypted key": (_encrypt, "own-key.pem", "is encrypted"),
    "a pipe": (_pipe, "ca.pem", "is no file"),
    "a folder": (_folder, "ca.pem", "is no file"),
}


@pytest.mark.parametrize("wrong", WRONG_FILES)
@pytest.mark.parametrize("role", ["server", "client"])
def test_wrong_files(pki: Pki, tmp_path: Path, wrong: str, role: str) -> None:
    how, named, told = WRONG_FILES[wrong]
    config = _damage(pki, tmp_path, how)
    for _ in range(2):
        with pytest.raises(TransportError) as caught:
            getattr(config, role)()
        assert str(tmp_path / named) in str(caught.value)
        assert told in str(caught.value)


def test_a_file_that_may_not_be_read(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = pki.write(tmp_path, issue(pki.authority, "own", ["own"], DAY))
    opened: Callable[..., object] = Path.open

    def refuse(path: Path, *args: str) -> object:  # root may read everything
        if path == config.key:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *args)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(TransportError, match=r"own-key\.pem: Permission denied: have its owner"):
        config.server()


def test_a_key_of_another_certificate(pki: Pki, tmp_path: Path) -> None:
    other = issue(pki.authority, "own", ["own"], DAY)
    config = _damage(pki, tmp_path, lambda c: put(_file(c, "key"), other.key_pem))
    with pytest.raises(TransportError, match=r"own-key\.pem is not that of the certificate"):
        config.server()


def test_the_key_may_be_in_the_certificates_file(pki: Pki, tmp_path: Path) -> None:
    config = pki.write(tmp_path, issue(pki.authority, "own", LOCAL, DAY))
    both = tmp_path / "both.pem"
    both.touch(mode=0o600)
    both.write_bytes(
        b"# m\xc3\xbcller's\n"
        + _file(config, "key").read_bytes()
        + _file(config, "certificate").read_bytes()
    )
    one = TLSConfig(ca=config.ca, certificate=both)
    assert one.server().certificate == config.server().certificate
    accepted, dialled = shake(one, pki.config("client"))
    assert (accepted.error, dialled.error) == (None, None)


def test_a_key_others_may_read_is_told(
    pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = _damage(pki, tmp_path, lambda c: _file(c, "key").chmod(0o644))
    config.server()
    (warning,) = caplog.messages
    assert "own-key.pem" in warning
    assert "chmod 600" in warning
    caplog.clear()
    config.server()
    assert caplog.messages == []


# --- the configuration ----------------------------------------------------------------------------


def test_one_that_listens_needs_a_certificate(pki: Pki) -> None:
    with pytest.raises(ValueError, match="certificate= and key="):
        pki.without_certificate().server()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"ca": "ca.pem", "key": "key.pem"},
        {"ca": "ca.pem", "certificates": "own.pem"},
        {"ca": "ca.pem", "peer_names": "alice"},
        {"ca": "ca.pem", "peer_names": [""]},
        {"ca": None},
    ],
)
def test_wrong_fields(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TLSConfig.model_validate(fields)


def test_it_is_a_value(pki: Pki) -> None:
    config = pki.config(peer_names=("a",))
    same = TLSConfig.model_validate(config.model_dump())
    assert same == config
    assert hash(same) == hash(config)
    assert same.server() is config.server()
    assert config.server() is not config.client()
    assert pickle.loads(pickle.dumps(config)) == config
    assert config.model_copy(update={"peer_names": ()}) != config
    with pytest.raises(ValidationError):
        config.peer_names = ()  # type: ignore[misc]


def test_its_files_stay_where_they_were(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pki.write(tmp_path, issue(pki.authority, "own", LOCAL, DAY))
    monkeypatch.chdir(tmp_path)
    config = TLSConfig(ca=Path("ca.pem"), certificate=Path("own.pem"), key=Path("own-key.pem"))
    monkeypatch.chdir("/")
    assert config.ca == tmp_path / "ca.pem"
    assert config.server().certificate != b""


def test_from_a_folder(pki: Pki, tmp_path: Path) -> None:
    config = pki.write(tmp_path, issue(pki.authority, "own", LOCAL, DAY))
    assert TLSConfig.from_folder(str(tmp_path), "own") == config
    limited = TLSConfig.from_folder(tmp_path, "own", peer_names=("a",))
    assert limited.peer_names == ("a",)
    with pytest.raises(TransportError, match=r"other\.pem: 'portkit certs issue other'"):
        TLSConfig.from_folder(tmp_path, "other")
    with pytest.raises(TransportError, match=r"ca\.pem: 'portkit certs init'"):
        TLSConfig.from_folder(tmp_path / "nowhere", "own")


# --- files that change ----------------------------------------------------------------------------


def leaf(context: TLSContext) -> x509.Certificate:
    return x509.load_der_x509_certificate(context.certificate)


def test_nothing_is_read_anew_while_nothing_changes(pki: Pki) -> None:
    config = pki.config()
    assert config.server() is config.server()
    assert config.client() is config.client()


def test_new_files_are_used_from_the_next_connection_on(pki: Pki, tmp_path: Path) -> None:
    own = issue(pki.authority, "own", LOCAL, DAY)
    config = pki.write(tmp_path, own)
    client = pki.config("client")
    _, before = shake(config, client)
    new = issue(pki.authority, "renewed", LOCAL, DAY)
    put(_file(config, "certificate"), new.certificate_pem)
    put(_file(config, "key"), new.key_pem)
    _, after = shake(config, client)
    assert before.names == (*LOCAL, "own")
    assert after.names == (*LOCAL, "renewed")
    assert after.certificate == config.server().certificate


def test_another_authority_is_used_from_the_next_connection_on(pki: Pki, tmp_path: Path) -> None:
    config = pki.write(tmp_path, issue(pki.authority, "own", LOCAL, DAY))
    stranger = pki.wrong_authority("client")
    accepted, _ = shake(config, stranger)
    assert "certificate verify failed" in str(accepted.error)
    both = pki.authority.certificate_pem + pki.stranger.certificate_pem
    put(config.ca, both)
    accepted, _ = shake(config, stranger)
    assert accepted.error is None


def test_files_replaced_by_halves_keep_the_old_and_are_told_once(
    pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "portkit")
    config = pki.write(tmp_path, issue(pki.authority, "own", LOCAL, DAY))
    old = config.server()
    new = issue(pki.authority, "own", LOCAL, DAY)
    put(_file(config, "certificate"), new.certificate_pem)  # the key is the old one's
    for _ in range(3):
        assert config.server() is old
    (told,) = caplog.messages
    assert "own-key.pem is not that of the certificate" in told
    accepted, dialled = shake(config, pki.config("client"))
    assert (accepted.error, dialled.error) == (None, None)

    _file(config, "key").write_bytes(new.key_pem[:100])
    assert config.server() is old
    assert len(caplog.messages) == 2
    _file(config, "key").unlink()
    assert config.server() is old
    assert len(caplog.messages) == 3

    put(_file(config, "key"), new.key_pem)
    assert leaf(config.server()) == new.certificate
    assert config.server() is config.server()
    assert len(caplog.messages) == 4
    assert caplog.records[-1].levelno == logging.INFO


def test_files_that_were_wrong_at_first_are_looked_at_again(pki: Pki, tmp_path: Path) -> None:
    own = issue(pki.authority, "own", LOCAL, timedelta(hours=1))
    config = _damage(pki, tmp_path, lambda c: c.ca.unlink())
    with pytest.raises(TransportError):
        config.server()
    pki.write(tmp_path, own)
    assert leaf(config.server()) == own.certificate


def test_files_that_change_while_they_are_read(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = pki.write(tmp_path, issue(pki.authority, "own", LOCAL, DAY))
    renewed: list[Identity] = []
    original = ssl.SSLContext.load_cert_chain

    def replacing(context: ssl.SSLContext, *args: object) -> None:
        original(context, *args)  # type: ignore[arg-type]
        if len(renewed) < limit:
            renewed.append(issue(pki.authority, "own", LOCAL, DAY))
            pki.write(tmp_path, renewed[-1])

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", replacing)
    limit = 2
    context = config.server()
    assert leaf(context) == renewed[-1].certificate
    _, dialled = handshake(context.context, pki.config("client").client().context)
    assert dialled.certificate == context.certificate

    limit = 99
    with pytest.raises(TransportError, match="again and again"):
        config.client()
