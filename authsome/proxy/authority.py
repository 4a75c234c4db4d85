"""Our certificate authority: made once per installation, renewed in time, and the leaf certificates that it issues.

Rule: the key lies in one private file and in the worker's memory. It is in no bundle, no environment and no system
store; what the child gets is the certificate.
"""

import os
import platform
import pwd
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

RENEWAL: Final = timedelta(days=31)
"""How long before its end an authority is replaced: longer than any run lasts that began with it."""
LIFETIME: Final = RENEWAL + timedelta(days=30)
_SKEW: Final = timedelta(minutes=5)  # the same machine reads the same clock, but clocks are set
_NAME_LIMIT: Final = 64  # ub-common-name, RFC 5280 appendix A.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A certificate for one host, its key, and the authority's certificate."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    issuer: x509.Certificate

    def chain_pem(self) -> bytes:
        """The two certificates, the host's first."""
        pem = serialization.Encoding.PEM
        return self.certificate.public_bytes(pem) + self.issuer.public_bytes(pem)

    def key_pem(self) -> bytes:
        """The key alone, which is to be written nowhere."""
        return _key_pem(self.key)


@dataclass(frozen=True, slots=True)
class Authority:
    """The authority's key and certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def renew_at(self) -> datetime:
        """When it is to be replaced."""
        return self.certificate.not_valid_after_utc - RENEWAL

    def serves(self, now: datetime) -> bool:
        """Whether new runs are to have it: from its first moment (a clock may have been wrong then) to its renewal."""
        return self.certificate.not_valid_before_utc <= now < self.renew_at

    def to_pem(self) -> bytes:
        """Key and certificate as one PEM file."""
        return _key_pem(self.key) + self.certificate_pem()

    def certificate_pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def create(now: datetime) -> Authority:
    """Make an authority that lives for `LIFETIME`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _name()[:_NAME_LIMIT])])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(is_authority=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    return Authority(key, builder.sign(key, hashes.SHA256()))


def load(data: bytes) -> Authority:
    """Read what `to_pem` wrote.

    Raises:
        ValueError: it is something else.
    """
    key = serialization.load_pem_private_key(data, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an EC key")  # noqa: TRY004  # the caller has one thing to catch
    certificate = x509.load_pem_x509_certificate(data[data.index(b"-----BEGIN CERTIFICATE") :])
    if certificate.public_key() != key.public_key():
        raise ValueError("the certificate belongs to another key")
    return Authority(key, certificate)


class Issuer:
    """Issues leaf certificates that live as long as the authority; their one key is never written anywhere."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._key = ec.generate_private_key(ec.SECP256R1())

    def issue(self, host: str) -> Leaf:
        """A certificate for a host (a canonical name, or an IPv4 address)."""
        authority = self._authority.certificate
        try:
            name: x509.GeneralName = x509.IPAddress(ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, host)] if len(host) <= _NAME_LIMIT else []
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(authority.subject)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(authority.not_valid_before_utc)
            .not_valid_after(authority.not_valid_after_utc)
            .add_extension(x509.SubjectAlternativeName([name]), critical=not subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._authority.key.public_key()), critical=False
            )
        )
        certificate = builder.sign(self._authority.key, hashes.SHA256())
        return Leaf(certificate=certificate, key=self._key, issuer=authority)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _name() -> str:
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return f"Authsome proxy for {user}@{platform.node() or 'localhost'}"
