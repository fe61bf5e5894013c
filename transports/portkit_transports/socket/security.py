"""What connections must prove: certificates, a pre-shared key, or nothing on loopback."""

from __future__ import annotations

import ipaddress
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from portkit_transports.socket.shared_key import PreSharedKey
from portkit_transports.socket.tls import TLSConfig


class InsecureWarning(UserWarning):
    """A port can be reached from other hosts by anybody, as it was told to be."""


class Security(NamedTuple):
    """What one side of a connection proves, and wants to have proved.

    Attributes:
        tls: certificates; None for a connection that is not encrypted.
        keys: pre-shared keys: that of the side that dials, or all that a listener accepts.
    """

    tls: TLSConfig | None = None
    keys: tuple[PreSharedKey, ...] = ()

    @property
    def is_nothing(self) -> bool:
        """Whether nothing is proved."""
        return self.tls is None and not self.keys

    @classmethod
    def of(
        cls, tls: TLSConfig | None, key: PreSharedKey | Sequence[PreSharedKey] | None
    ) -> Security:
        """From the arguments of a port.

        Raises:
            TypeError: one is of the wrong type.
            ValueError: two keys have the same id.
        """
        if tls is not None and not isinstance(tls, TLSConfig):
            raise TypeError(f"tls is a TLSConfig, not {type(tls).__name__}")
        if key is None:
            keys: tuple[PreSharedKey, ...] = ()
        else:
            keys = tuple(key) if isinstance(key, Sequence) else (key,)
        for one in keys:
            if not isinstance(one, PreSharedKey):
                raise TypeError(f"key is a PreSharedKey, or several, not {type(one).__name__}")
        if len({one.id for one in keys}) < len(keys):
            raise ValueError("two pre-shared keys have the same id: give each its own")
        return cls(tls, keys)

    def check_listening(self, host: str, *, insecure: bool) -> None:
        """Whether a port may listen at that address.

        Raises:
            ValueError: others could connect unasked.
        """
        if not self.is_nothing or ipaddress.ip_address(host).is_loopback:
            return
        if not insecure:
            raise ValueError(
                f"whoever reaches {host} could connect: give tls=TLSConfig(...) or key=PreSharedKey"
                "(...) ('portkit certs' makes both), listen at 127.0.0.1, or say insecure=True"
            )
        warnings.warn(
            f"anybody who reaches {host} can connect, and read and change what is sent",
            InsecureWarning,
            stacklevel=3,
        )
