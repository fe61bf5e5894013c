"""Where static names are written: in the program, the environment, or a file that may change."""

from __future__ import annotations

import os
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from portkit._report import logger
from portkit._validation import first_fault
from portkit.address import Address
from portkit.errors import TransportError
from portkit.names import check_name
from portkit_transports.socket.transport import place_of

MAX_FILE_BYTES = 1 << 20
"""A file of names that is longer is refused."""


class Place(NamedTuple):
    """Where a port is.

    Attributes:
        host: a name or an IP address.
        number: the port number.
    """

    host: str
    number: int


Places = dict[str, Place]


class Source(ABC):
    """Where names are written.

    Attributes:
        where: the place, for messages.
        can_change: whether names may come later.
    """

    where: str
    can_change: bool = False

    @abstractmethod
    def places(self) -> Places:
        """The names, and where their ports are."""


class FixedNames(Source):
    """Names that stay as they are.

    Args:
        names: addresses by name.
        where: where they are written.

    Raises:
        TypeError, ValueError: a name or an address is none; the message says which.
    """

    def __init__(self, names: Mapping[str, str | Address], where: str) -> None:
        self.where: str = where
        self._places = places_of(names, where)

    def places(self) -> Places:
        """As :meth:`Source.places`."""
        return self._places


class NamesFile(Source):
    """Names in a TOML file, which is read again when it has changed.

    ::

        [names]
        clock = "socket://10.0.0.5:7000"
        "com.example.chat" = "socket://chat.example.com:7001"

    While a file that was replaced cannot be read, the names before hold and a warning is logged.

    Args:
        path: the file.

    Raises:
        TransportError: it cannot be read.
        ValueError: it does not hold names.
    """

    can_change: bool = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).expanduser().absolute()
        self.where: str = str(self._path)
        self._signature = self._look()
        self._places = self._read()

    def places(self) -> Places:
        """As :meth:`Source.places`."""
        # No lock: two threads may read it at once, which is no harm.
        signature = self._look()
        if signature != self._signature:
            self._signature = signature
            try:
                self._places = self._read()
            except (TransportError, ValueError) as error:
                logger.warning("the names read before hold: %s", error)
        return self._places

    def _look(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino

    def _read(self) -> Places:
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise TransportError(
                f"the names in {self.where} cannot be read: {error.strerror}; make the file, or "
                "name another"
            ) from error
        if len(data) > MAX_FILE_BYTES:
            raise ValueError(f"{self.where} has more than {MAX_FILE_BYTES} bytes: shorten it")
        try:
            content: Any = tomllib.loads(data.decode())
            names = _Content.model_validate(content).names
        except ValidationError as error:
            raise ValueError(
                f"{self.where} does not hold names ({first_fault(error)}): under [names] write "
                'name = "socket://HOST:PORT"'
            ) from None
        except ValueError as error:  # no TOML, or no UTF-8
            raise ValueError(f"{self.where} is no TOML: {error}") from None
        return places_of(names, self.where)


class _Content(BaseModel):
    """What is in a file of names."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", strict=True)

    names: dict[str, str]


def split_names(text: str, where: str) -> dict[str, str]:
    """The names in ``clock=socket://10.0.0.5:7000,chat=socket://10.0.0.6:7001``.

    Raises:
        ValueError: there is something else in it.
    """
    found: dict[str, str] = {}
    for entry in text.split(","):
        name, equals, address = (part.strip() for part in entry.partition("="))
        if not entry.strip():
            continue
        if not equals:
            raise ValueError(
                f"{where} holds {entry.strip()[:80]!r}, which is not name=socket://HOST:PORT"
            )
        if name in found:
            raise ValueError(f"{where} has the name {name!r} twice: take one out")
        found[name] = address
    return found


def places_of(names: Mapping[str, str | Address], where: str) -> Places:
    """Names and places that were checked.

    Raises:
        TypeError, ValueError: a name or an address is none; the message says which.
    """
    found: Places = {}
    for name, text in names.items():
        try:
            check_name(name)
            address = Address.parse(text)
            if address.scheme != "socket":
                raise ValueError(f"{str(address)!r} is not socket://HOST:PORT")
            host, number = place_of(address)
            if not host:
                raise ValueError(f"{str(address)!r} names no host")
            if not 0 < number < 65536:
                raise ValueError(f"{str(address)!r} has no port number from 1 to 65535")
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"the name {str(name)[:80]!r} in {where}: {error}") from None
        found[name] = Place(host, number)
    return found
