"""A private authority and the certificates it issues. Nothing here reads or writes files."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SKEW = timedelta(minutes=5)
"""How long certificates are valid before they are made: clocks of hosts differ."""

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


class Identity(NamedTuple):
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: SigningKey

    @property
    def ends(self) -> datetime:
        """When it stops being valid."""
        return self.certificate.not_valid_after_utc

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as a file holds it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key as a file holds it: not encrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    @classmethod
    def from_pem(cls, certificate: bytes, key: bytes) -> Self:
        """The identity in the contents of two files.

        Raises:
            ValueError: they hold none, or not of one another; the message says which.
        """
        try:
            read = x509.load_pem_x509_certificate(certificate)
        except ValueError as error:
            raise ValueError("the certificate is not one in PEM") from error
        try:
            private = serialization.load_pem_private_key(key, None)
        except TypeError as error:
            raise ValueError("the private key is encrypted: write it without a password") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ValueError("the private key is not one in PEM") from error
        if private.public_key() != read.public_key():
            raise ValueError("the private key is not that of the certificate")
        if isinstance(private, SigningKey):
            return cls(read, private)
        raise ValueError("the private key is of no kind that is known: EC, RSA or Ed25519")


def make_authority(name: str, validity: timedelta, *, begins: datetime | None = None) -> Identity:
    """A new authority, whose certificates are for peers alone: it makes no further authorities.

    Args:
        name: its common name.
        validity: for how long, from ``begins``.
        begins: when its validity does; by default :data:`SKEW` ago.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _common_name(name)
    builder = (
        _builder(subject, key, validity, begins)
        .issuer_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    return Identity(builder.sign(key, hashes.SHA256()), key)


def issue(
    authority: Identity,
    name: str,
    hosts: Sequence[str],
    validity: timedelta,
    *,
    begins: datetime | None = None,
) -> Identity:
    """A new key with a certificate of ``authority``, for one who dials, or listens, or both.

    Args:
        authority: who vouches for it.
        name: its common name.
        hosts: its DNS names and IP addresses; as :func:`alternative_name` takes them.
        validity: for how long, from ``begins``; never longer than the authority's.
        begins: when its validity does; by default :data:`SKEW` ago.

    Raises:
        ValueError: a host is none.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    names = list(dict.fromkeys(alternative_name(host) for host in hosts))
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    public = authority.key.public_key()
    builder = (
        _builder(_common_name(name), key, validity, begins, latest=authority.ends)
        .issuer_name(authority.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    digest = None if isinstance(authority.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Identity(builder.sign(authority.key, digest), key)


def alternative_name(host: str) -> x509.GeneralName:
    """``host``, an IP address or a DNS name (also ``*.example.com``), as certificates hold it.

    Raises:
        ValueError: it is neither.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        name = ""
    labels = name.lower().removeprefix("*.").removesuffix(".").split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(
            f"{host[:80]!r} is no DNS name or IP address: write it without scheme, port and "
            "brackets, as server.example.com, 10.0.0.2 or fd00::2"
        )
    return x509.DNSName(name.lower().removesuffix("."))


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may issue certificates."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return constraints.value.ca


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    validity: timedelta,
    begins: datetime | None,
    *,
    latest: datetime | None = None,
) -> x509.CertificateBuilder:
    """What all certificates have."""
    now = datetime.now(UTC)
    ends = (begins or now) + validity
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins or now - SKEW)
        .not_valid_after(ends if latest is None else min(ends, latest))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
