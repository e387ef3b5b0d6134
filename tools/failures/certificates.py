"""Certificates that are wrong on purpose: as they would be at another time, or from another authority."""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tools.lab import Lab


def authority_key(lab: Lab) -> ec.EllipticCurvePrivateKey:
    """The key of the lab's authority."""
    key = serialization.load_pem_private_key((lab.directory / "tls" / "ca.key").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def issued(
    certificate: x509.Certificate,
    earlier: datetime.timedelta,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name | None = None,
) -> bytes:
    """The same certificate, issued earlier, signed with an authority's key; as PEM."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(issuer or certificate.issuer)
        .public_key(certificate.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(certificate.not_valid_before_utc - earlier)
        .not_valid_after(certificate.not_valid_after_utc - earlier)
    )
    for extension in certificate.extensions:
        if issuer is None or not isinstance(extension.value, x509.AuthorityKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def of_a_stranger(certificate: x509.Certificate) -> bytes:
    """The same certificate, from an authority that nobody in the lab knows; as PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A stranger")])
    return issued(certificate, datetime.timedelta(0), ec.generate_private_key(ec.SECP256R1()), name)
