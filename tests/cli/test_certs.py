"""``portkit certs``: what it makes, what it says, and what it refuses."""

from __future__ import annotations

import errno
import os
import stat
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID
from typer.testing import CliRunner, Result

from portkit.cli.app import app
from portkit.cli.certs.authority import Identity, issue, make_authority
from portkit_transports.socket.shared_key import PreSharedKey
from portkit_transports.socket.tls import TLSConfig
from tests.cli.helpers import PORTKIT, run
from tests.transports.socket.handshakes import shake

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the commands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def certs(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["certs", *[str(argument) for argument in arguments]])


def made(*arguments: str | Path) -> str:
    """Run a command that succeeds; what it prints."""
    done = certs(*arguments)
    assert done.exit_code == 0, done.output
    return done.output


def told(*arguments: str | Path, status: int = 1) -> str:
    """Run a command that fails; the one line it prints."""
    done = certs(*arguments)
    assert done.exit_code == status, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("portkit certs: ")
    return line


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(of: x509.Certificate) -> list[str]:
    found = of.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(name.value) for name in found.value]


# --- what is made ---------------------------------------------------------------------------------


def test_as_a_user_calls_it(here: Path) -> None:
    done = run(*PORTKIT, "certs", "init")
    assert (done.returncode, done.stderr) == (0, "")
    assert "portkit-certs/ca.pem" in done.stdout
    assert "portkit certs issue NAME --host HOST --folder portkit-certs" in done.stdout
    for name in ("server", "client"):
        done = run(*PORTKIT, "certs", "issue", name, "--host", "127.0.0.1")
        assert (done.returncode, done.stderr) == (0, "")
    assert "TLSConfig.from_folder('portkit-certs', 'client')" in done.stdout
    assert "--tls portkit-certs:client" in done.stdout
    server, client = (TLSConfig.from_folder("portkit-certs", name) for name in ("server", "client"))
    for accepted, dialled in (shake(server, client), shake(client, server)):
        assert (accepted.error, dialled.error) == (None, None)
        assert server.check_peer(dialled.names, "127.0.0.1") == ""


def test_an_authority(here: Path) -> None:
    before = datetime.now(UTC)
    made("init", "folder", "--name", "Müller & Co")
    own = certificate(here / "folder" / "ca.pem")
    assert own.subject == own.issuer
    assert own.subject.rfc4514_string() == "CN=Müller & Co"
    own.verify_directly_issued_by(own)
    constraints = own.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = own.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.digital_signature) == (True, False)
    assert abs(own.not_valid_before_utc - (before - 5 * MINUTE)) < MINUTE
    assert abs(own.not_valid_after_utc - (before + 3650 * DAY)) < MINUTE


def test_a_certificate_of_a_peer(here: Path) -> None:
    before = datetime.now(UTC)
    made("init", "folder")
    hosts = ["10.0.0.2", "FD00:0::2", "*.Example.com", "bücher.example", "server"]
    made("issue", "server", "--folder", "folder", *[f"--host={host}" for host in hosts])
    own = certificate(here / "folder" / "server.pem")
    own.verify_directly_issued_by(certificate(here / "folder" / "ca.pem"))
    assert own.subject.rfc4514_string() == "CN=server"
    assert names(own) == [
        "server",
        "10.0.0.2",
        str(ip_address("fd00::2")),
        "*.example.com",
        "xn--bcher-kva.example",
    ]
    constraints = own.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    usage = own.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert set(usage.value) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert abs(own.not_valid_before_utc - (before - 5 * MINUTE)) < MINUTE
    assert abs(own.not_valid_after_utc - (before + 365 * DAY)) < MINUTE


def test_an_address_may_be_a_name(here: Path) -> None:
    made("init")
    made("issue", "10.0.0.2")
    own = certificate(here / "portkit-certs" / "10.0.0.2.pem")
    found = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(found) == [x509.IPAddress(ip_address("10.0.0.2"))]


def test_days(here: Path) -> None:
    made("init", "--days", "30")
    assert f"{datetime.now(UTC) + 7 * DAY:%Y-%m-%d}" in made("issue", "week", "--days", "7")
    made("issue", "year")
    folder = here / "portkit-certs"
    ends = certificate(folder / "ca.pem").not_valid_after_utc
    assert certificate(folder / "year.pem").not_valid_after_utc == ends
    assert certificate(folder / "week.pem").not_valid_after_utc < ends


def test_who_may_read_what_is_made(here: Path) -> None:
    mask = os.umask(0)
    try:
        made("init", "a/b")
        made("issue", "peer", "--folder", "a/b")
    finally:
        os.umask(mask)
    folder = here / "a" / "b"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    keys, others = {"ca-key.pem", "peer-key.pem"}, {"ca.pem", "peer.pem"}
    assert modes == {**dict.fromkeys(keys, 0o600), **dict.fromkeys(others, 0o644)}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_force_replaces(here: Path) -> None:
    made("init", "folder")
    made("issue", "peer", "--folder", "folder")
    before = contents(here / "folder")
    made("issue", "peer", "--folder", "folder", "--force")
    renewed = contents(here / "folder")
    changed = {name for name, data in renewed.items() if data != before[name]}
    assert changed == {"peer.pem", "peer-key.pem"}
    made("init", "folder", "--force")
    changed = {n for n, data in contents(here / "folder").items() if data != renewed[n]}
    assert changed == {"ca.pem", "ca-key.pem"}
    key = here / "folder" / "ca-key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_an_authority_made_elsewhere(here: Path, kind: str) -> None:
    subject = make_authority("elsewhere", DAY).certificate.subject
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else Ed25519PrivateKey.generate()
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + DAY)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    own = builder.sign(key, hashes.SHA256() if kind == "rsa" else None)
    put_authority(here / "folder", Identity(own, key))
    made("issue", "peer", "--folder", "folder")
    certificate(here / "folder" / "peer.pem").verify_directly_issued_by(own)


def put_authority(folder: Path, authority: Identity) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    (folder / "ca-key.pem").write_bytes(authority.key_pem)


def test_a_pre_shared_key(here: Path) -> None:
    done = run(*PORTKIT, "certs", "key", "field-key", "--folder", "a/b")
    assert (done.returncode, done.stderr) == (0, "")
    assert "PreSharedKey.read('a/b/field-key.key')" in done.stdout
    assert "--psk a/b/field-key.key" in done.stdout
    path = here / "a" / "b" / "field-key.key"
    key = PreSharedKey.read(path)
    assert key.id == "field-key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "field-key.key is there already" in told("key", "field-key", "--folder", "a/b")
    assert PreSharedKey.read(path).secret == key.secret
    made("key", "another", "--folder", "a/b")
    assert PreSharedKey.read(path.with_name("another.key")).secret != key.secret


# --- what is refused ------------------------------------------------------------------------------


def test_nothing_is_replaced_unasked(here: Path) -> None:
    made("init")
    made("issue", "peer")
    folder = here / "portkit-certs"
    before = contents(folder)
    assert "ca-key.pem is there already: '--force' replaces it" in told("init")
    assert "peer-key.pem is there already: '--force'" in told("issue", "peer")
    assert contents(folder) == before
    (folder / "peer-key.pem").unlink()
    assert "peer.pem is there already" in told("issue", "peer")
    (folder / "ca-key.pem").unlink()
    assert "ca.pem is there already" in told("init")
    del before["peer-key.pem"], before["ca-key.pem"]
    assert contents(folder) == before


def test_no_authority(here: Path) -> None:
    line = told("issue", "peer")
    assert "there is no portkit-certs/ca.pem: 'portkit certs init portkit-certs'" in line
    made("init")
    (here / "portkit-certs" / "ca-key.pem").unlink()
    assert "there is no portkit-certs/ca-key.pem" in told("issue", "peer")
    assert list(contents(here / "portkit-certs")) == ["ca.pem"]


def test_an_expired_authority(here: Path) -> None:
    begins = datetime.now(UTC) - 2 * DAY
    put_authority(here / "portkit-certs", make_authority("old", DAY, begins=begins))
    line = told("issue", "peer")
    assert f"ca.pem has expired on {begins + DAY:%Y-%m-%d}" in line
    assert "--force" in line


def test_what_is_no_authority(here: Path) -> None:
    authority = make_authority("own", DAY)
    folder = here / "portkit-certs"
    put_authority(folder, issue(authority, "leaf", ["leaf"], DAY))
    assert "ca.pem may issue no certificates" in told("issue", "peer")
    put_authority(folder, Identity(authority.certificate, make_authority("x", DAY).key))
    assert "the private key is not that of the certificate" in told("issue", "peer")
    put_authority(folder, authority)
    (folder / "ca.pem").write_bytes(b"\xff\0 rubbish")
    assert "are no authority: the certificate is not one in PEM" in told("issue", "peer")
    put_authority(folder, authority)
    (folder / "ca-key.pem").write_bytes(authority.key_pem[:60])
    assert "are no authority: the private key is not one in PEM" in told("issue", "peer")
    (folder / "ca-key.pem").write_bytes(
        authority.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert "are no authority: the private key is encrypted" in told("issue", "peer")
    assert set(contents(folder)) == {"ca.pem", "ca-key.pem"}


@pytest.mark.parametrize(
    "name",
    ["", "ca", "CA", "ca-key", "peer-key", "../peer", "a/b", ".hidden", "a b", "a" * 65, "é"],
)
def test_names_of_no_peer(here: Path, name: str) -> None:
    made("init")
    assert "name" in told("issue", "--", name, status=2)
    assert set(contents(here / "portkit-certs")) == {"ca.pem", "ca-key.pem"}


@pytest.mark.parametrize(
    "host",
    [
        "",
        "http://server",
        "server:7000",
        "[::1]",
        "10.0.0.0/8",
        "a b",
        "*",
        "*.",
        "a..b",
        "-a",
        "a*",
    ],
)
def test_hosts_that_are_none(here: Path, host: str) -> None:
    made("init")
    line = told("issue", "peer", f"--host={host}", status=2)
    assert f"{host!r} is no DNS name or IP address" in line
    assert set(contents(here / "portkit-certs")) == {"ca.pem", "ca-key.pem"}


@pytest.mark.parametrize("name", ["", "a" * 65, "a\nb"])
def test_names_of_no_authority(here: Path, name: str) -> None:
    assert "an authority's name has 1 to 64" in told("init", "--name", name, status=2)
    assert not (here / "portkit-certs").exists()


@pytest.mark.parametrize("days", ["0", "-1", "36501", "many"])
@pytest.mark.parametrize("command", [["init"], ["issue", "peer"]])
def test_strange_days(command: list[str], days: str) -> None:
    done = certs(*command, "--days", days)
    assert done.exit_code == 2
    assert "--days" in done.output


def test_a_folder_that_is_none(here: Path) -> None:
    (here / "file").touch()
    assert "cannot make the folder file" in told("init", "file")
    assert "cannot make the folder file/inner" in told("init", "file/inner")
    assert "cannot read file/ca.pem" in told("issue", "peer", "--folder", "file")


def test_a_folder_that_anybody_may_write(here: Path) -> None:
    folder = here / "open"
    folder.mkdir()
    folder.chmod(0o777)
    assert "'chmod o-w open'" in told("init", "open")
    assert contents(folder) == {}


@pytest.mark.parametrize("failing", ["write", "fsync", "rename"])
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_what_cannot_be_written_leaves_all_as_it_was(
    here: Path, monkeypatch: pytest.MonkeyPatch, failing: str, force: list[str]
) -> None:
    """As with a folder that is read-only, or a file system that is full."""
    made("init")
    if force:
        made("issue", "peer")
    before = contents(here / "portkit-certs")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(
        *{
            "write": (os, "fchmod", refuse),
            "fsync": (os, "fsync", refuse),
            "rename": (Path, "rename", refuse),
        }[failing]
    )
    line = told("issue", "peer", *force)
    assert "cannot write into portkit-certs: No space left on device" in line
    assert contents(here / "portkit-certs") == before


@pytest.mark.parametrize("key_id", ["", "../key", "a b", "a" * 65, "é"])
def test_names_of_no_key(here: Path, key_id: str) -> None:
    assert "the name of a key has 1 to 64" in told("key", key_id, status=2)
    assert list(here.iterdir()) == []


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("portkit.cli.certs.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    line = told("init")
    assert 'this needs cryptography: pip install "portkit[cli]"' in line
    made("key", "without")


def test_the_library_is_loaded_by_these_commands_alone() -> None:
    code = "import sys, portkit.cli.app; sys.exit('cryptography' in sys.modules)"
    assert run(sys.executable, "-c", code).returncode == 0


# --- help -----------------------------------------------------------------------------------------


def test_help() -> None:
    assert "certs" in CliRunner().invoke(app, ["--help"]).output
    told = made("--help")
    for file in ("ca.pem", "ca-key.pem", "NAME.pem", "NAME-key.pem", "ID.key"):
        assert file in told
    for command, options in {
        "init": ["FOLDER", "--name", "--days", "--force"],
        "issue": ["NAME", "--host", "--folder", "--days", "--force"],
        "key": ["ID", "--folder"],
    }.items():
        told = made(command, "--help")
        for option in options:
            assert option in told
        assert "Exit status" in told
