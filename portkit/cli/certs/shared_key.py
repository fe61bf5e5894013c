"""Pre-shared keys, for links without certificates."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from portkit.cli.certs.errors import CertsError
from portkit.cli.certs.files import make_folder
from portkit.cli.certs.names import check_name
from portkit.errors import TransportError

_MODULE = "portkit_transports.socket.shared_key"


def make_key(folder: Path, key_id: str) -> Path:
    """Make a key, and write it into the folder, which is made if it is not there.

    Args:
        folder: where.
        key_id: the name by which both sides speak of it.

    Returns:
        The key's file: ``ID.key``.

    Raises:
        CertsError: there is one already, or it cannot be written.
        ValueError: it cannot be called that.
    """
    path = folder / f"{check_name(key_id, 'key')}.key"
    make_folder(folder)
    key_class = import_module(_MODULE).PreSharedKey  # nothing here knows a transport beforehand
    try:
        key_class.generate(key_id).write(path)
    except TransportError as error:
        raise CertsError(str(error)) from error
    return path
