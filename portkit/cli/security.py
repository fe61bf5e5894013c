"""Certificates and keys from the command line, as options of a connection."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

_PACKAGE = "portkit_transports.socket"


def tls_from_folder(folder: str | Path, name: str) -> Any:
    """The ``TLSConfig`` of the peer ``name``, from a folder of ``portkit certs``.

    Raises:
        TransportError: a file is not there, or not what it should be.
    """
    return import_module(_PACKAGE).TLSConfig.from_folder(folder, name)


def split_folder_and_name(text: str, *, name: str = "") -> tuple[str, str]:
    """What stands in ``FOLDER:NAME``.

    Args:
        text: from the command line.
        name: where it names none.

    Raises:
        ValueError: there is no folder or no name in it.
    """
    folder, colon, given = text.rpartition(":")
    if not colon:
        folder, given = text, name
    if not (folder and given):
        raise ValueError(f"--tls {text!r} lacks a part: write FOLDER:NAME, as for 'portkit certs'")
    return folder, given


def connection_options(
    scheme: str,
    *,
    tls: str | None = None,
    ca: Path | None = None,
    certificate: Path | None = None,
    key_file: Path | None = None,
    peer_names: Sequence[str] = (),
    psk: Path | None = None,
) -> dict[str, Any]:
    """What a connection is to prove, and to want to have proved.

    Args:
        scheme: of the address to connect to.
        tls: ``FOLDER:NAME``, instead of the next three.
        ca: the file of the authorities that are trusted.
        certificate: of this side.
        key_file: its private key.
        peer_names: whose certificates are accepted; none given, that of the host that is dialled.
        psk: the file of a pre-shared key.

    Raises:
        ValueError: these options do not go together.
        TransportError: a file cannot be used.
    """
    options: dict[str, Any] = {}
    files = {"ca": ca, "certificate": certificate, "key": key_file}
    if not any([tls, *files.values(), peer_names, psk]):
        return options
    if scheme != "socket":
        raise ValueError(f"certificates and keys are for socket://HOST:PORT, not for {scheme!r}")
    if tls is not None:
        if any(files.values()):
            raise ValueError("--tls names all three files: give it, or --ca with the others")
        folder, name = split_folder_and_name(tls)
        options["tls"] = tls_from_folder(folder, name)
    elif ca is not None:
        options["tls"] = import_module(_PACKAGE).TLSConfig(**files)
    elif any(files.values()) or peer_names:
        raise ValueError("certificates need an authority that is trusted: give --tls or --ca")
    if peer_names:
        options["tls"] = options["tls"].model_copy(update={"peer_names": tuple(peer_names)})
    if "tls" in options:
        options["tls"].client()  # so that wrong files are told of before anybody is dialled
    if psk is not None:
        options["key"] = import_module(_PACKAGE).PreSharedKey.read(psk)
    return options
