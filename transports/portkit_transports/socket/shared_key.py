"""Pre-shared keys, and how two sides prove to each other that they have the same one.

Four frames before any other, the dialler's first; nothing here reads or writes a connection. The
document is docs/wire-protocol.md. A proof is good for one exchange in one direction on one
connection: both sides' nonces, the side that gives it and the TLS certificate are in it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretBytes,
    ValidationError,
    field_validator,
    model_validator,
)

from portkit._text import printable
from portkit._validation import first_fault
from portkit.errors import AuthenticationError, TransportError
from portkit.link import frames
from portkit.link.frames import HEADER, HEADER_SIZE, MAX_KEY_ID, MAX_TEXT, NONCE_SIZE, Kind
from portkit_transports.socket import key_file

CLIENT = b"portkit client"
"""How the dialler's proof begins."""
SERVER = b"portkit server"
"""How the listener's proof begins."""

_ID = 1
_CHALLENGE = 2
_PROOF = 3
_ANSWER = 4
_OVER = 0
"""No frame may come: the exchange has ended, well or badly, or has not begun."""

_SECRET_SIZE = 32
_LEAST = 16
_MOST = 1024
_MAKE = "'portkit certs key ID' makes one, or PreSharedKey.generate(id).write(path)"
_UNPROVEN = (
    "the pre-shared key is not known here, or its secret is another: give both sides the same key"
)


class PreSharedKey(BaseModel):
    """A secret that two sides have, and the name by which they speak of it.

    The secret has to be random, as that of :meth:`generate` is: whoever hears the exchange on a
    link without TLS can try out words and sentences at leisure. It appears in no representation,
    error or log, and a key cannot be pickled.

    Attributes:
        id: 1 to 64 printable ASCII characters without spaces. It is sent in the clear.
        secret: 16 to 1024 bytes.

    Raises:
        ValueError: a part of it is not so.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        strict=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    id: str = Field(pattern=r"^[!-~]{1,64}$")
    secret: SecretBytes

    @model_validator(mode="before")
    @classmethod
    def _mask(cls, values: Any) -> Any:
        """Hide the secret before anything can fail: errors keep what they were given."""
        if not isinstance(values, dict) or isinstance(values.get("secret"), SecretBytes):
            return values
        given = values.get("secret")
        return {**values, "secret": SecretBytes(given) if isinstance(given, bytes) else None}

    @field_validator("secret")
    @classmethod
    def _check_size(cls, secret: SecretBytes) -> SecretBytes:
        if not _LEAST <= len(secret) <= _MOST:
            raise ValueError(
                f"a secret has {_LEAST} to {_MOST} random bytes: PreSharedKey.generate(id) makes it"
            )
        return secret

    @classmethod
    def generate(cls, id: str) -> Self:  # noqa: A002 - the field's name
        """A new key, of 32 random bytes.

        Raises:
            ValueError: it cannot be called that.
        """
        return cls(id=id, secret=SecretBytes(secrets.token_bytes(_SECRET_SIZE)))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """The key in a file that :meth:`write` made, or ``{"id": "…", "secret": "<hex>"}``.

        Raises:
            AuthenticationError: others could have read the file.
            TransportError: it cannot be read, or holds no key.
        """
        try:
            data = key_file.read(Path(path))
        except OSError as error:
            raise TransportError(
                f"cannot read the pre-shared key {path}: {error.strerror or error}; {_MAKE}"
            ) from error
        try:
            file = _File.model_validate_json(data)
            return cls(id=file.id, secret=SecretBytes(bytes.fromhex(file.secret)))
        except ValidationError as error:
            fault = first_fault(error)
        raise TransportError(  # not from the error, for that knows what is in the file
            f"{path} holds no pre-shared key: {fault}; {_MAKE}"
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Put the key into a new file, mode 0600: all of it, or nothing.

        Raises:
            TransportError: there is such a file already, or it cannot be written.
        """
        file = _File(id=self.id, secret=self.secret.get_secret_value().hex())
        try:
            key_file.write(Path(path), file.model_dump_json().encode() + b"\n")
        except FileExistsError as error:
            raise TransportError(
                f"{path} is there already and may be the only copy of a key: remove it, or choose "
                "another path"
            ) from error
        except OSError as error:
            raise TransportError(
                f"cannot write the pre-shared key {path}: {error.strerror or error}; choose a "
                "folder of your own that can be written"
            ) from error

    def __reduce__(self) -> NoReturn:
        """Keys are not pickled.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "a pre-shared key cannot be pickled, for its secret would be in the bytes: pass on the "
            "path of its file, and PreSharedKey.read() it there"
        )


class _File(BaseModel):
    """A key as its file has it."""

    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, hide_input_in_errors=True)

    id: str
    secret: str = Field(pattern=r"^([0-9a-fA-F]{2})+$", repr=False)


def binding_of(certificate: bytes) -> bytes:
    """What ties an exchange to its connection.

    Args:
        certificate: the listener's TLS certificate, DER; empty without TLS.
    """
    return hashlib.sha256(certificate).digest() if certificate else b""


def proof(secret: bytes, side: bytes, key_id: bytes, nonces: bytes, binding: bytes) -> bytes:
    """What only someone with the secret can say.

    Args:
        secret: the key's.
        side: whose proof it is: :data:`CLIENT` or :data:`SERVER`.
        key_id: the key's id.
        nonces: the dialler's, then the listener's.
        binding: as :func:`binding_of` gives it.
    """
    said = side + len(key_id).to_bytes(1, "little") + key_id + nonces + binding
    return hmac.digest(secret, said, "sha256")


class KeyDialler:
    """The dialling side of an exchange. Frames are given and taken whole.

    Args:
        key: the key to prove, and to have proved.
        binding: as :func:`binding_of` gives it.

    Attributes:
        is_done: whether both sides have proved the key.
    """

    __slots__ = ("_binding", "_due", "_key", "_nonces", "is_done")

    def __init__(self, key: PreSharedKey, binding: bytes) -> None:
        self._key = key
        self._binding = binding
        self._nonces = secrets.token_bytes(NONCE_SIZE)
        self._due = _OVER
        self.is_done: bool = False

    @property
    def key_id(self) -> str:
        """The key's."""
        return self._key.id

    def begin(self) -> bytes:
        """The frame to send first."""
        self._due = _CHALLENGE
        return frames.auth(_ID, self._nonces + self._key.id.encode())

    def received(self, frame: bytes) -> bytes:
        """A frame came; what to send, which may be nothing.

        Raises:
            AuthenticationError: the peer refused the key, or did not prove it. The exchange has
                failed; nothing more may be sent.
        """
        due, self._due, self.is_done = self._due, _OVER, False  # whatever goes wrong now
        body = _body(frame, due)
        if due == _CHALLENGE:
            self._nonces += body
            self._due = _ANSWER
            return frames.auth(_PROOF, self._proof(CLIENT))
        if not hmac.compare_digest(body, self._proof(SERVER)):
            raise AuthenticationError(
                f"the peer does not prove pre-shared key {self._key.id!r}: it does not have the "
                "secret, or somebody in between changed what was said. Look at what listens there"
            )
        self.is_done = True
        return b""

    def _proof(self, side: bytes) -> bytes:
        key = self._key
        secret = key.secret.get_secret_value()
        return proof(secret, side, key.id.encode(), self._nonces, self._binding)


class KeyListener:
    """The accepting side of an exchange. Frames are given and taken whole.

    What it sends and raises is the same for an unknown id and a wrong secret.

    Args:
        keys: those of which the peer has to prove one; no two have the same id.
        binding: as :func:`binding_of` gives it.

    Attributes:
        is_done: whether both sides have proved the key, once the last frame is sent.
        key_id: of the key that the peer proved; empty until then.
        claim: which key the peer spoke of, and whether it is known: for the log, not for the peer.

    Raises:
        ValueError: there is no key, or two have the same id.
    """

    __slots__ = (
        "_asked",
        "_binding",
        "_due",
        "_nonces",
        "_secret",
        "_secrets",
        "claim",
        "is_done",
        "key_id",
    )

    def __init__(self, keys: Sequence[PreSharedKey], binding: bytes) -> None:
        self._secrets = {key.id.encode(): key.secret for key in keys}
        if not keys or len(self._secrets) < len(keys):
            raise ValueError("give one pre-shared key or more, each with an id of its own")
        self._binding = binding
        self._nonces = b""
        self._asked = b""
        self._secret = b""
        self._due = _ID
        self.is_done: bool = False
        self.key_id: str = ""
        self.claim: str = ""

    def begin(self) -> bytes:
        """Nothing: the dialler speaks first."""
        return b""

    def received(self, frame: bytes) -> bytes:
        """A frame came; what to send.

        Raises:
            AuthenticationError: the peer did not prove a key. The text is for the log and for the
                peer; nothing else may be sent.
        """
        due, self._due, self.is_done = self._due, _OVER, False  # whatever goes wrong now
        body = _body(frame, due)
        if due == _ID:
            self._choose(body[NONCE_SIZE:])
            nonce = secrets.token_bytes(NONCE_SIZE)
            self._nonces = body[:NONCE_SIZE] + nonce
            self._due = _PROOF
            return frames.auth(_CHALLENGE, nonce)
        if not hmac.compare_digest(body, self._proof(CLIENT)):
            raise AuthenticationError(_UNPROVEN)
        self.key_id = self._asked.decode()
        self.is_done = True
        return frames.auth(_ANSWER, self._proof(SERVER))

    def _choose(self, key_id: bytes) -> None:
        known = self._secrets.get(key_id)
        # No proof is that of an unknown key, and finding that out takes as long.
        self._secret = known.get_secret_value() if known else secrets.token_bytes(_SECRET_SIZE)
        self._asked = key_id
        name = ascii(key_id.decode(errors="replace"))
        self.claim = f"key {name}" if known else f"key {name}, which is not known,"

    def _proof(self, side: bytes) -> bytes:
        return proof(self._secret, side, self._asked, self._nonces, self._binding)


def _body(frame: bytes, due: int) -> bytes:
    """What the frame that is due says.

    Raises:
        AuthenticationError: it is another one, or not as it has to be.
    """
    if due == _OVER:
        raise AuthenticationError("a frame came after the end of the exchange, or before it began")
    length, kind, step, count = (
        HEADER.unpack_from(frame) if len(frame) >= HEADER_SIZE else (0, 0, 0, 0)
    )
    from_listener = due in (_CHALLENGE, _ANSWER)
    if from_listener and kind == Kind.REFUSED:
        shown = printable(frame[HEADER_SIZE : HEADER_SIZE + MAX_TEXT])
        raise AuthenticationError(f"the peer refused the connection: {shown}")
    if due == _ID and kind == Kind.HELLO:
        raise AuthenticationError(
            "a pre-shared key is asked for here, and the peer proves none: give key= on both sides"
        )
    most = NONCE_SIZE + (MAX_KEY_ID if due == _ID else 0)
    body = frame[HEADER_SIZE:]
    whole = length == len(frame) and NONCE_SIZE <= len(body) <= most
    if kind != Kind.AUTH or step != due or count or not whole:
        raise AuthenticationError(
            f"the peer does not keep to the exchange: a frame of {len(frame)} bytes, type {kind}, "
            f"step {step} came where step {due} of the proof of a pre-shared key was due"
        )
    return body
