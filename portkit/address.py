"""Addresses: the text by which a port is opened or reached, ``scheme:target``."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

SCHEME_PATTERN = r"[a-z][a-z0-9+.-]*"


class Address(BaseModel):
    """Where a port is: the transport's scheme, and a target that the transport understands.

    Examples: ``mach:`` (a thread of this process), ``message:NAME``, ``socket://HOST:PORT``.

    Raises:
        ValueError: the scheme or the target cannot be one (pydantic's ``ValidationError``).
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    scheme: str = Field(pattern=f"^{SCHEME_PATTERN}$", max_length=32)
    target: str = Field(default="", max_length=1024, pattern=r"^[^\x00-\x1f]*$")

    @classmethod
    def parse(cls, text: str | Address) -> Address:
        """The address in ``text``.

        Raises:
            TypeError: it is neither str nor address.
            ValueError: it has no scheme, or one that cannot be.
        """
        if isinstance(text, Address):
            return text
        if not isinstance(text, str):
            raise TypeError(f"an address is a str such as 'mach:', not {type(text).__name__}")
        scheme, colon, target = text.partition(":")
        if not colon or not re.fullmatch(SCHEME_PATTERN, scheme):
            raise ValueError(
                f"{text!r} is not an address: write scheme:target, as in 'mach:' or "
                "'socket://127.0.0.1:7000'"
            )
        return cls(scheme=scheme, target=target)

    def __str__(self) -> str:
        return f"{self.scheme}:{self.target}"
