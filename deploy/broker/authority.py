"""A certificate authority of one farm's own: keys, certificates and the list of revoked ones.

Elliptic curve P-256, which every mosquitto and every board of the last ten years speaks.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from edge.errors import UsageError

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError as missing:
    raise UsageError(
        "making certificates needs the package cryptography: pip install 'earmark[deploy]'"
    ) from missing

CA_DAYS = 20 * 365
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
# A client whose clock is a little behind shall not find the certificate to be from the future.
_LEEWAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate, PEM, and what a register keeps of it."""

    pem: bytes
    serial: int
    not_after: datetime


def new_key() -> bytes:
    """Return a new private key, PEM, without a password."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def new_authority(name: str, key: bytes, now: datetime, days: int = CA_DAYS) -> bytes:
    """Return the certificate, PEM, of an authority that signs with `key`."""
    private = _load_key(key)
    subject = _name(name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LEEWAY)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False
        )
    )
    return builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def check_hosts(hosts: Iterable[str]) -> None:
    """UsageError for what is neither a host name nor an address."""
    for host in hosts:
        try:
            ipaddress.ip_address(host)
        except ValueError as error:
            if not _HOST.fullmatch(host):
                raise UsageError(f"--host {host!r}: neither a host name nor an address") from error


class Authority:
    """Signs certificates. certificate, key: its own, PEM; UsageError when they are no pair."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        try:
            self._certificate = x509.load_pem_x509_certificate(certificate)
            self._key = _load_key(key)
        except ValueError as error:
            raise UsageError(f"the authority's certificate or key cannot be read ({error})") from (
                error
            )
        if self._key.public_key() != self._certificate.public_key():
            raise UsageError("the authority's certificate and key do not belong together")

    @property
    def not_after(self) -> datetime:
        """When everything that it signed ends."""
        return self._certificate.not_valid_after_utc

    def server(self, hosts: Sequence[str], key: bytes, now: datetime, days: int) -> Issued:
        """Sign a broker's certificate for the names and addresses by which it is reached."""
        builder = self._leaf(hosts[0][:64], key, now, days, ExtendedKeyUsageOID.SERVER_AUTH)
        names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
        return self._signed(builder.add_extension(names, critical=False))

    def client(self, name: str, key: bytes, now: datetime, days: int) -> Issued:
        """Sign a client's certificate; its common name is who it is at the broker."""
        return self._signed(self._leaf(name, key, now, days, ExtendedKeyUsageOID.CLIENT_AUTH))

    def revocations(self, serials: Iterable[int], now: datetime) -> bytes:
        """Return the list, PEM, of certificates that are no longer good.

        It holds as long as the authority: one that ran out would lock everybody out.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._certificate.subject)
            .last_update(now - _LEEWAY)
            .next_update(self.not_after)
        )
        for serial in serials:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(serial)
                .revocation_date(now - _LEEWAY)
                .build()
            )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _leaf(
        self, name: str, key: bytes, now: datetime, days: int, purpose: x509.ObjectIdentifier
    ) -> x509.CertificateBuilder:
        public = _load_key(key).public_key()
        issuer = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _LEEWAY)
            .not_valid_after(min(now + timedelta(days=days), self.not_after))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer.value),
                critical=False,
            )
        )

    def _signed(self, builder: x509.CertificateBuilder) -> Issued:
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(
            certificate.public_bytes(serialization.Encoding.PEM),
            certificate.serial_number,
            certificate.not_valid_after_utc,
        )


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError("the key is not an elliptic curve one, as earmark makes them")
    return key


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
