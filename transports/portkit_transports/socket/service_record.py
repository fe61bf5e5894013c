"""What DNS-SD says of a port: the record, and how a name becomes a label of DNS and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal
from urllib.parse import unquote_to_bytes

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from portkit._validation import first_fault
from portkit.link.node import ANYONE
from portkit.names import check_name

SERVICE_TYPE = "_portkit._tcp.local."
"""The service type under which ports are published."""
VERSION = 1
"""The version of the record. One that is read may have more keys; they are passed over."""
MAX_LABEL_BYTES = 63
"""How many bytes a label of DNS has, which a name is here."""
MAX_TEXT_BYTES = 1024
"""A TXT record that is longer is refused."""
MAX_ADDRESSES = 16
"""Of how many addresses of one port notice is taken."""

_QUOTED = {chr(code): f"%{code:02X}" for code in (*range(0x20), 0x7F, ord("%"), ord("."))}


@dataclass(frozen=True, slots=True)
class Service:
    """A port as it is published.

    Attributes:
        name: the name it is found by.
        port_id: its id, 16 bytes: another port that takes the number later has another.
        addresses: IP addresses that it listens on.
        number: the TCP port number.
        tls: whether it asks for TLS.
        key: whether it asks for a pre-shared key.
    """

    name: str
    port_id: bytes
    addresses: tuple[str, ...]
    number: int
    tls: bool = False
    key: bool = False

    @property
    def text(self) -> dict[str, str]:
        """Its TXT record."""
        return {
            "version": str(VERSION),
            "id": self.port_id.hex(),
            "tls": str(int(self.tls)),
            "key": str(int(self.key)),
        }

    @property
    def server(self) -> str:
        """The host name that its addresses are published under: each port has one of its own."""
        return f"portkit-{self.port_id.hex()}.local."


def label_of(name: str) -> str:
    """The label of DNS for a name: itself, but for dots, ``%`` and control characters (``%2E``).

    Raises:
        TypeError: it is no str.
        ValueError: it can be no name, or is longer than a label can be.
    """
    check_name(name)
    label = "".join([_QUOTED.get(character, character) for character in name])
    if label.startswith("_"):
        label = f"%5F{label[1:]}"  # in DNS-SD that begins the name of a service, not of one's own
    size = len(label.encode())
    if size > MAX_LABEL_BYTES:
        raise ValueError(
            f"a name on the network has at most {MAX_LABEL_BYTES} bytes of UTF-8, and "
            f"{name[:20]!r}... has {size} ('.', '%' and control characters count three): "
            "shorten it, or register a hash of it"
        )
    return label


def name_of(label: str) -> str:
    """The name that a label stands for.

    Raises:
        ValueError: it stands for none.
    """
    name = check_name(unquote_to_bytes(label).decode())
    if label_of(name) != label:
        raise ValueError(f"the label {label!r} is not as portkit writes it")
    return name


def instance_of(label: str) -> str:
    """The full name in DNS of the service with that label."""
    return f"{label}.{SERVICE_TYPE}"


def label_in(instance: str) -> str:
    """The label in the full name of a service.

    Raises:
        ValueError: it is of another type, or a name with dots in it.
    """
    label, dot, service_type = instance.partition(".")
    if not dot or service_type.lower() != SERVICE_TYPE:
        raise ValueError(f"{instance[:300]!r} is not LABEL.{SERVICE_TYPE}")
    return label


def _check_id(text: str) -> str:
    if text == ANYONE.hex():
        raise ValueError("an id of nothing but zeros is no port's")
    return text


class _Text(BaseModel):
    """The TXT record of a stranger."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="ignore")

    version: Literal["1"]
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$"), AfterValidator(_check_id)]
    tls: Literal["0", "1"] = "0"
    key: Literal["0", "1"] = "0"


def read_service(name: str, text: bytes, addresses: list[str], number: int | None) -> Service:
    """The service that records of the network describe.

    Args:
        name: the name that it was asked for by.
        text: its TXT record.
        addresses: its addresses, any number of them.
        number: the port number in its SRV record.

    Raises:
        ValueError: they describe none; says what is wrong.
    """
    if not number or not 0 < number < 65536:
        raise ValueError(f"there is no port {number}")
    if not addresses:
        raise ValueError("it has no address")
    try:
        read = _Text.model_validate(_read_text(text))
    except ValidationError as error:
        raise ValueError(
            f"its TXT record is not that of a port, version {VERSION}: {first_fault(error)}"
        ) from None
    return Service(
        name,
        bytes.fromhex(read.id),
        tuple(addresses[:MAX_ADDRESSES]),
        number,
        read.tls == "1",
        read.key == "1",
    )


def _read_text(text: bytes) -> dict[str, str]:
    """The keys and values of a TXT record (RFC 6763, 6.4); of a key given twice the first."""
    if len(text) > MAX_TEXT_BYTES:
        raise ValueError(f"its TXT record has {len(text)} bytes, and at most {MAX_TEXT_BYTES}")
    found: dict[str, str] = {}
    while text:
        size = text[0]
        key, _, value = text[1 : 1 + size].decode("ascii", "replace").partition("=")
        found.setdefault(key.lower(), value)
        text = text[1 + size :]
    return found
