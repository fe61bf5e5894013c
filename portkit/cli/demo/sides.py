"""Where the main job's workers come from: its group, this module, or people on other hosts."""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from portkit.cli.demo.started import started
from portkit.cli.security import connection_options, split_folder_and_name, tls_from_folder
from portkit.workers import WorkerGroup

TARGET = "portkit.cli.demo.digest:hash_files"
"""By name, as other processes import it."""
MAIN = "main"
"""Whose certificate the main side shows, where nothing else is said."""
_WORKER = "worker"
_OWN = {"mach", "message"}
"""Over these groups start their workers themselves."""
_CHECK_IN_TIMEOUT = 30.0
"""Seconds: there may be more workers than processors, and each starts a Python of its own."""
_PLACE = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+)):([0-9]{1,5})")
_ANYWHERE = {"0.0.0.0", "[::]"}  # noqa: S104 - compared with, not listened at


class Side:
    """Workers that the group starts itself; others derive from it.

    Args:
        options: for the group.

    Attributes:
        options: all of them.
        return_later: whether workers that are lost may come back.
    """

    return_later: bool = False

    def __init__(self, **options: Any) -> None:
        self.options: dict[str, Any] = {"check_in_timeout": _CHECK_IN_TIMEOUT, **options}

    def attend(
        self, group: WorkerGroup, say: Callable[[str], object]
    ) -> AbstractContextManager[None]:
        """From before the group is started to after it was stopped.

        Args:
            group: made with :attr:`options`.
            say: told in a line what somebody has to do.
        """
        return nullcontext()

    def all_came(self) -> None:
        """Every worker has checked in."""

    def close(self) -> None:
        """It is over, or did not even begin."""


class OverTLS(Side):
    """Workers that this module starts on this host, with certificates to throw away."""

    def __init__(self) -> None:
        from portkit.cli.certs.folder import CertsFolder  # noqa: PLC0415 - needs cryptography

        self._folder = tempfile.TemporaryDirectory(prefix="portkit-demo-")
        try:
            certs = CertsFolder(Path(self._folder.name))
            certs.init("portkit demo", 1)
            certs.issue(MAIN, ["127.0.0.1"], 1)
            certs.issue(_WORKER, [], 1)
            tls = tls_from_folder(self._folder.name, MAIN)
        except BaseException:
            self.close()
            raise
        super().__init__(address=("127.0.0.1", 0), tls=tls)

    @contextmanager
    def attend(self, group: WorkerGroup, say: Callable[[str], object]) -> Iterator[None]:
        """Start the workers, which end with this process however that ends."""
        command = [
            *(sys.executable, "-P", "-m", "portkit", "worker", TARGET, "--main", str(group.open())),
            *("--tls", f"{self._folder.name}:{_WORKER}", "--no-retry", "--lifeline"),
            *("--check-in-timeout", f"{_CHECK_IN_TIMEOUT:g}"),
        ]
        path = os.pathsep.join([os.path.abspath(entry) for entry in sys.path])  # noqa: PTH100
        with started(group, command, {**os.environ, "PYTHONPATH": path}):
            yield

    def all_came(self) -> None:
        """Nobody else is to come: what is not there cannot be left behind."""
        self.close()

    def close(self) -> None:
        """Remove the certificates."""
        self._folder.cleanup()


class Listening(Side):
    """Workers that people start on other hosts.

    Args:
        listen: ``HOST:PORT``.
        tls: ``FOLDER:NAME``; without a name it is that of :data:`MAIN`.
        psk: the file of a pre-shared key.

    Raises:
        ValueError: an option is wrong.
        TransportError: a file cannot be used.
    """

    return_later: bool = True

    def __init__(self, listen: str, tls: str | None, psk: Path | None) -> None:
        found = _PLACE.fullmatch(listen)
        if found is None:
            raise ValueError(f"--listen {listen!r} is no place: write HOST:PORT, or [::]:PORT")
        self._certificate: Path | None = None
        if tls is not None:
            folder, name = split_folder_and_name(tls, name=MAIN)
            self._certificate = Path(folder, f"{name}.pem")
            tls = f"{folder}:{name}"
        self._psk = psk
        super().__init__(
            check_in_timeout=None,
            address=(found[1] or found[2], int(found[3])),
            **connection_options("socket", tls=tls, psk=psk),
        )

    @contextmanager
    def attend(self, group: WorkerGroup, say: Callable[[str], object]) -> Iterator[None]:
        """Say how to start workers."""
        door = str(group.open())
        try:
            say(f"waiting for workers, {len(group.workers)} in all; start them on other hosts with")
            say(f"  {self._command(door)}")
            yield
        finally:
            group.stop()

    def _command(self, door: str) -> str:
        host, _, number = door.partition("//")[2].rpartition(":")
        if host in _ANYWHERE:
            door = f"socket://{_own_name(self._certificate)}:{number}"
        words = ["portkit", "worker", TARGET, "--main", door]
        if self._certificate is not None:
            folder = self._certificate.parent
            words += ["--tls", f"{folder}:{_other_name(folder, self._certificate.stem)}"]
        if self._psk is not None:
            words += ["--psk", str(self._psk)]
        return shlex.join(words)


def side_of(over: str, listen: str | None, tls: str | None, psk: Path | None) -> Side:
    """Where workers over that scheme come from.

    Raises:
        ValueError: options that do not go together, or are wrong.
        TransportError: a file cannot be used.
    """
    if listen is not None:
        if over != "socket":
            raise ValueError("--listen is for workers of other hosts: add --over socket")
        return Listening(listen, tls, psk)
    if tls is not None or psk is not None:
        raise ValueError("--tls and --psk are for workers of other hosts: add --listen HOST:PORT")
    if over == "socket":
        return OverTLS()
    if over not in _OWN:
        raise ValueError(f"workers cannot be started over {over!r}: they can over mach and message")
    return Side()


def _own_name(certificate: Path | None) -> str:
    """What others may call this host: its certificate says it, where it has one."""
    if certificate is not None:
        from cryptography import x509  # noqa: PLC0415 - see OverTLS

        names = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions
        for name in names.get_extension_for_class(x509.SubjectAlternativeName).value:
            if str(name.value) not in {certificate.stem, "localhost", "127.0.0.1", "::1"}:
                return f"[{name.value}]" if ":" in str(name.value) else str(name.value)
    return socket.gethostname()


def _other_name(folder: Path, own: str) -> str:
    """A name for which there is a certificate, and which is not this side's."""
    names = sorted([path.name.removesuffix("-key.pem") for path in folder.glob("*-key.pem")])
    return next((name for name in names if name not in {"ca", own}), "NAME")
