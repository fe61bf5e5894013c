"""Who a port is and whom it trusts, in TLS: certificates, read anew when their files change."""

from __future__ import annotations

import os
import re
import ssl
import stat
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple, Self
from weakref import WeakKeyDictionary

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from portkit._report import logger
from portkit._text import printable
from portkit.errors import TransportError
from portkit_transports.socket.certificate_names import is_expected, is_named, peer_names_of

__all__ = ["TLSConfig", "TLSContext", "peer_names_of"]

_MAKE = "'portkit certs' makes what is needed"
_BLOCK = re.compile(
    r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL | re.ASCII
)
_ATTEMPTS = 5

Role = Literal["server", "client"]
Signature = tuple[tuple[int, ...] | None, ...]


class TLSContext(NamedTuple):
    """What a handshake needs.

    Attributes:
        context: the settings of TLS: version 1.3 or later, no session tickets, the peer verified.
        certificate: this side's own certificate, DER; empty if it shows none.
    """

    context: ssl.SSLContext
    certificate: bytes


class _Current(NamedTuple):
    """What was loaded last, from which files, and which later ones could not be."""

    context: TLSContext
    signature: Signature
    refused: Signature | None = None


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()  # whatever the working directory is when they are read


_File = Annotated[Path, AfterValidator(_absolute)]


class TLSConfig(BaseModel):
    """Who this side is, and whom it trusts. The files are read when they are first needed.

    Files that are replaced later are found and used from the next connection on; while they
    cannot be read, the ones before are, and a warning is logged. Equal configurations share links.

    Attributes:
        ca: PEM file of the authorities whose certificates are trusted.
        certificate: PEM file of this side's certificate, and of those between it and the authority.
            None only for one that dials ports that have ``require_peer_certificate=False``.
        key: PEM file of its private key, not encrypted; None if that is in ``certificate``.
        peer_names: whose certificates are accepted: DNS names, ``*.example.com``, IP addresses,
            URIs or common names. None given: one that dials expects the host it dials, one that
            listens accepts every certificate of the authorities.
        require_peer_certificate: whether one that listens refuses peers without a certificate. One
            that dials always does.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    ca: _File
    certificate: _File | None = None
    key: _File | None = None
    peer_names: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    require_peer_certificate: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.key is not None and self.certificate is None:
            raise ValueError("a key is of use with its certificate alone: give certificate= too")
        return self

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        name: str,
        *,
        peer_names: tuple[str, ...] = (),
        require_peer_certificate: bool = True,
    ) -> Self:
        """The configuration of the peer ``name``, from a folder of ``portkit certs``.

        Args:
            folder: where ``ca.pem``, ``NAME.pem`` and ``NAME-key.pem`` are.
            name: as given to ``portkit certs issue``.
            peer_names: as the attribute.
            require_peer_certificate: as the attribute.

        Raises:
            TransportError: one of the files is not there.
        """
        folder = Path(folder)
        config = cls(
            ca=folder / "ca.pem",
            certificate=folder / f"{name}.pem",
            key=folder / f"{name}-key.pem",
            peer_names=peer_names,
            require_peer_certificate=require_peer_certificate,
        )
        for path in config._files:
            if not path.exists():
                do = "init" if path == config.ca else f"issue {name}"
                raise TransportError(
                    f"there is no {path}: 'portkit certs {do}' with the folder {folder} makes it, "
                    "or copy it from where that was done"
                )
        return config

    def server(self) -> TLSContext:
        """What one that listens needs, as the files are now.

        Raises:
            ValueError: it has no certificate.
            TransportError: a file cannot be used; the message names it and says why.
        """
        if self.certificate is None:
            raise ValueError(
                f"a port that listens needs certificate= and key= in its TLSConfig: {_MAKE}"
            )
        return self._current("server")

    def client(self) -> TLSContext:
        """What one that dials needs, as the files are now.

        Raises:
            TransportError: a file cannot be used; the message names it and says why.
        """
        return self._current("client")

    def check_peer(self, names: tuple[str, ...], expected_host: str | None) -> str:
        """Why a peer whose certificate was verified is refused; empty if it is not.

        Args:
            names: what :func:`peer_names_of` says of it.
            expected_host: the host that was dialled; None for one that listens.
        """
        shown = (
            f"its certificate is for {printable(', '.join(names))}" if names else "it has no name"
        )
        if self.peer_names:
            if is_expected(names, self.peer_names):
                return ""
            return f"{shown}, and only {', '.join(self.peer_names)} is expected (peer_names)"
        if expected_host is None or is_named(names, expected_host):
            return ""
        return (
            f"{shown}, not for {expected_host}: dial it by a name it has, have it issued with "
            f"'--host {expected_host}', or say in peer_names whom you expect"
        )

    @property
    def _files(self) -> list[Path]:
        return [path for path in (self.ca, self.certificate, self.key) if path is not None]

    def _current(self, role: Role) -> TLSContext:
        # No lock: two threads may load the same at once, which is no harm, and a fork none either.
        roles = _loaded.get(self) or _loaded.setdefault(self, {})
        current = roles.get(role)
        signature = _signature(self._files)
        if current is not None and signature in (current.signature, current.refused):
            return current.context
        try:
            context, signature = self._load(role, signature)
        except TransportError as error:
            if current is None:
                raise
            logger.warning("TLS goes on with the certificates read before: %s", error)
            roles[role] = current._replace(refused=signature)
            return current.context
        if current is not None:
            logger.info("TLS uses the certificates that are new in %s", self.ca.parent)
        roles[role] = _Current(context, signature)
        return context

    def _load(self, role: Role, signature: Signature) -> tuple[TLSContext, Signature]:
        """Load files that do not change meanwhile: those whose signature comes with them."""
        for _ in range(_ATTEMPTS):
            loaded = TLSContext(self._context(role), self._own_certificate())
            before, signature = signature, _signature(self._files)
            if signature == before:
                return loaded, signature
        raise TransportError(
            f"{self.ca} and the files with it are written again and again: "
            "replace each at once, by renaming"
        )

    def _context(self, role: Role) -> ssl.SSLContext:
        protocol = ssl.PROTOCOL_TLS_SERVER if role == "server" else ssl.PROTOCOL_TLS_CLIENT
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # check_peer does it, with peer_names
        context.options |= ssl.OP_NO_TICKET
        if role == "server":
            context.num_tickets = 0  # what OP_NO_TICKET leaves of them in TLS 1.3
        needed = role == "client" or self.require_peer_certificate
        context.verify_mode = ssl.CERT_REQUIRED if needed else ssl.CERT_OPTIONAL
        try:
            _readable(self.ca)
            context.load_verify_locations(self.ca)
        except ssl.SSLError as error:
            raise TransportError(
                f"{self.ca} holds no certificate of an authority in PEM ({_why(error)}): {_MAKE}"
            ) from error
        except OSError as error:
            raise _unreadable(self.ca, error) from error
        if self.certificate is not None:
            self._load_own(context, self.certificate, self.key or self.certificate)
        return context

    def _load_own(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        _readable(certificate)
        if _readable(key).st_mode & (stat.S_IROTH | stat.S_IWOTH):
            logger.warning("others may read the private key %s: 'chmod 600' it", key)
        try:
            context.load_cert_chain(certificate, key, lambda: _no_password(key))
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise TransportError(
                    f"the key {key} is not that of the certificate {certificate}: "
                    "replace both together"
                ) from error
            raise TransportError(
                f"{certificate} and {key} are no certificate and private key in PEM "
                f"({_why(error)}): {_MAKE}"
            ) from error
        except OSError as error:
            raise _unreadable(certificate, error) from error

    def _own_certificate(self) -> bytes:
        if self.certificate is None:
            return b""
        try:
            text = self.certificate.read_text("utf-8", "replace")
            found = _BLOCK.search(text)
            return ssl.PEM_cert_to_DER_cert(found[0] if found else text)
        except (OSError, ValueError) as error:
            raise TransportError(
                f"{self.certificate} does not begin with a certificate in PEM ({error}): {_MAKE}"
            ) from error


_loaded: WeakKeyDictionary[TLSConfig, dict[Role, _Current]] = WeakKeyDictionary()
"""Beside the configurations, which so stay what they are: values that compare, hash and pickle."""


def _signature(files: list[Path]) -> Signature:
    """What changes when one of the files does."""
    return tuple([_state(path) for path in files])


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - for every connection
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev)


def _readable(path: Path) -> os.stat_result:
    """Raise with the file's name where it cannot be read: OpenSSL's errors do not say which."""
    try:
        found = path.stat()
        if stat.S_ISREG(found.st_mode):  # opening a pipe would wait for its writer
            path.open("rb").close()
            return found
    except OSError as error:
        raise _unreadable(path, error) from error
    raise TransportError(f"TLS cannot read {path}: it is no file: name another")


def _unreadable(path: Path, error: OSError) -> TransportError:
    remedy = {
        FileNotFoundError: f"{_MAKE}, or name another file",
        PermissionError: "have its owner let this user read it, or name another file",
    }.get(type(error), "name another file")
    return TransportError(f"TLS cannot read {path}: {error.strerror or error}: {remedy}")


def _no_password(key: Path) -> str:
    raise TransportError(
        f"the private key {key} is encrypted, and nobody is there to ask for its password: "
        "write it without, for this user alone, with 'openssl pkey -in OLD -out NEW'"
    )


def _why(error: ssl.SSLError) -> str:
    return error.reason or error.strerror or str(error)
