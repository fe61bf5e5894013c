"""Authorities to throw away, and TLS configurations that are right or wrong in one point each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from portkit.cli.certs.authority import Identity, issue, make_authority
from portkit_transports.socket.tls import TLSConfig

LOCAL = ("localhost", "127.0.0.1", "::1")
DAY = timedelta(days=1)


class Pki:
    """An authority whom all its configurations trust. Options are those of ``TLSConfig``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = count()

    @cached_property
    def authority(self) -> Identity:
        return make_authority("test CA", 9 * DAY)

    @cached_property
    def stranger(self) -> Identity:
        """An authority of the same name whom nobody trusts."""
        return make_authority("test CA", DAY)

    def config(
        self, name: str = "server", hosts: Sequence[str] = LOCAL, **options: Any
    ) -> TLSConfig:
        """As ``portkit certs issue`` makes it."""
        return self.write(self._new(), issue(self.authority, name, [name, *hosts], DAY), **options)

    def without_certificate(self, **options: Any) -> TLSConfig:
        return self.write(self._new(), None, **options)

    def wrong_name(self, **options: Any) -> TLSConfig:
        return self.config("elsewhere", ["elsewhere.example"], **options)

    def expired(self, name: str = "server", **options: Any) -> TLSConfig:
        begins = datetime.now(UTC) - 2 * DAY
        made = issue(self.authority, name, [name, *LOCAL], DAY, begins=begins)
        return self.write(self._new(), made, **options)

    def not_yet_valid(self, name: str = "server", **options: Any) -> TLSConfig:
        begins = datetime.now(UTC) + DAY
        made = issue(self.authority, name, [name, *LOCAL], DAY, begins=begins)
        return self.write(self._new(), made, **options)

    def wrong_authority(self, name: str = "server", **options: Any) -> TLSConfig:
        """It trusts as the others do, but who vouches for it is a stranger."""
        made = issue(self.stranger, name, [name, *LOCAL], DAY)
        return self.write(self._new(), made, **options)

    def write(
        self,
        folder: Path,
        own: Identity | None,
        **options: Any,
    ) -> TLSConfig:
        """The configuration of files in ``folder``, written over those there."""
        folder.mkdir(exist_ok=True)
        ca = put(folder / "ca.pem", self.authority.certificate_pem)
        if own is None:
            return TLSConfig(ca=ca, **options)
        certificate = put(folder / "own.pem", own.certificate_pem)
        key = put(folder / "own-key.pem", own.key_pem)
        return TLSConfig(ca=ca, certificate=certificate, key=key, **options)

    def _new(self) -> Path:
        return self.folder / f"{next(self._numbers)}"


def put(path: Path, data: bytes) -> Path:
    """Put ``data`` there at once, for this user alone."""
    written = path.with_suffix(".new")
    written.touch(mode=0o600)
    written.write_bytes(data)
    return written.rename(path)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))
