"""The folder of an authority: what is where, and what of it is made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from portkit.cli.certs.authority import Identity, is_authority, issue, make_authority
from portkit.cli.certs.errors import CertsError
from portkit.cli.certs.files import NewFile, failed, make_folder, write_all
from portkit.cli.certs.names import MAX_NAME, check_peer

_PUBLIC, _PRIVATE = 0o644, 0o600


class CertsFolder:
    """A folder with ``ca.pem``, ``ca-key.pem``, and of each peer ``NAME.pem`` and ``NAME-key.pem``.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def authority(self) -> Path:
        """The file of the authority's certificate: every peer has a copy."""
        return self.path / "ca.pem"

    @property
    def authority_key(self) -> Path:
        """The file of its private key: nobody has a copy."""
        return self.path / "ca-key.pem"

    def certificate(self, name: str) -> Path:
        """The file of the peer's certificate."""
        return self.path / f"{name}.pem"

    def key(self, name: str) -> Path:
        """The file of the peer's private key."""
        return self.path / f"{name}-key.pem"

    def init(self, name: str, days: int, *, force: bool = False) -> datetime:
        """Make the folder, if it is not there, and an authority in it.

        Args:
            name: the authority's common name.
            days: how long it is valid.
            force: whether one that is there is replaced: what it issued is worth nothing then.

        Returns:
            When it stops being valid.

        Raises:
            CertsError: there is one, or it cannot be written.
            ValueError: the name cannot be a common name.
        """
        if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
            raise ValueError(
                f"an authority's name has 1 to {MAX_NAME} printable characters: "
                f"{name[:80]!r} is none"
            )
        make_folder(self.path)
        made = make_authority(name, timedelta(days=days))
        self._write(self.authority, self.authority_key, made, force=force)
        return made.ends

    def issue(self, name: str, hosts: Sequence[str], days: int, *, force: bool = False) -> datetime:
        """Make a key and a certificate for one peer.

        Args:
            name: the peer's name, which is also that of its files.
            hosts: DNS names and IP addresses at which it listens, beside its name.
            days: how long the certificate is valid; never longer than the authority.
            force: whether those that are there are replaced.

        Returns:
            When the certificate stops being valid.

        Raises:
            CertsError: there is no authority to issue it, there is one already, or it cannot
                be written.
            ValueError: the name or a host is none.
        """
        made = issue(self._read(), check_peer(name), [name, *hosts], timedelta(days=days))
        self._write(self.certificate(name), self.key(name), made, force=force)
        return made.ends

    def _read(self) -> Identity:
        """The authority, if it can issue certificates now."""
        try:
            files = [path.read_bytes() for path in (self.authority, self.authority_key)]
        except FileNotFoundError as error:
            raise CertsError(
                f"there is no {error.filename}: 'portkit certs init {self.path}' makes an "
                "authority; its key is only where that was done"
            ) from error
        except OSError as error:
            raise failed(f"cannot read {error.filename}", error) from error
        try:
            authority = Identity.from_pem(*files)
        except ValueError as error:
            raise CertsError(
                f"{self.authority} and {self.authority_key} are no authority: {error}"
            ) from error
        if not is_authority(authority.certificate):
            raise CertsError(
                f"{self.authority} may issue no certificates: "
                "take another folder for 'portkit certs init'"
            )
        if authority.ends <= datetime.now(UTC):
            raise CertsError(
                f"{self.authority} has expired on {authority.ends:%Y-%m-%d}: make another "
                f"authority with 'portkit certs init {self.path} --force', and issue the "
                "certificates of all peers anew"
            )
        return authority

    def _write(self, certificate: Path, key: Path, made: Identity, *, force: bool) -> None:
        try:
            write_all(
                [
                    NewFile(key, made.key_pem, _PRIVATE),
                    NewFile(certificate, made.certificate_pem, _PUBLIC),
                ],
                replace=force,
            )
        except FileExistsError as error:
            raise CertsError(f"{error.filename} is there already: '--force' replaces it") from error
        except OSError as error:
            raise failed(f"cannot write into {self.path}", error) from error
