#!/usr/bin/python
"""Keep a certificate authority on the controller and the certificates that it has issued."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificates
short_description: A private certificate authority and its certificates, in one call
description:
  - Makes a certificate authority (ECDSA P-256) and issues a key and a certificate for each name of a list.
  - A certificate is issued again when less than a third of its life is left, when its names have changed, or when
    the authority is another one. Keys are kept while they are readable.
  - The authority's own certificate is renewed by the same rule, with its key, so that what it has issued stays valid.
  - community.crypto needs three tasks a certificate and renews only at a fixed date; for some fifteen certificates
    that is most of a run's time. This module uses the same library (cryptography).
options:
  directory:
    description: Folder for C(ca.pem), C(ca.key) and C(NAME.pem), C(NAME.key). Keys have mode 0600.
    type: path
    required: true
  authority:
    description: Common name of the authority, used when it is made.
    type: str
    required: true
  authority_days:
    description: Life of the authority in days.
    type: int
    default: 3650
  days:
    description: Life of a certificate in days.
    type: int
    default: 365
  certificates:
    description: What to issue.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: File name without ending, may contain folders, such as C(backend-1/consul).
        type: str
        required: true
      common_name:
        description: The subject's common name.
        type: str
        required: true
      dns_names:
        description: DNS names that it is valid for.
        type: list
        elements: str
        default: []
      ip_addresses:
        description: IP addresses that it is valid for.
        type: list
        elements: str
        default: []
author: HashiStack Lab (@hashistack-lab)
attributes:
  check_mode:
    description: Tells in check mode what it would change, and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Issue the certificates
  hashistack.lab.certificates:
    directory: "{{ lab_directory }}/tls"
    authority: HashiStack Lab CA
    certificates:
      - name: backend-1/backend
        common_name: backend.service.consul
        dns_names: [backend.service.consul]
"""

RETURN = r"""
issued:
  description: Names of the certificates that were issued, with the reason.
  type: dict
  returned: always
  sample: {"backend-1/backend": "it expires on 2026-12-24"}
"""

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.hashistack.lab.plugins.module_utils.files import write_private

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    CRYPTOGRAPHY_ERROR = ""
except ImportError as error:
    CRYPTOGRAPHY_ERROR = str(error)


def read_key(path: str) -> CertificateIssuerPrivateKeyTypes | None:
    """The private key in a PEM file, or None where there is no file."""
    if not os.path.exists(path):
        return None
    with open(path, "rb") as stream:
        key = serialization.load_pem_private_key(stream.read(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path} is not an ECDSA key")
    return key


def read_certificate(path: str) -> x509.Certificate | None:
    """The certificate in a PEM file, or None where there is no file."""
    if not os.path.exists(path):
        return None
    with open(path, "rb") as stream:
        return x509.load_pem_x509_certificate(stream.read())


def key_pem(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    """A private key as unencrypted PKCS #8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def subject(common_name: str) -> x509.Name:
    """A name with only a common name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def builder(name: x509.Name, issuer: x509.Name, key: Any, days: int, now: datetime) -> x509.CertificateBuilder:
    """What an authority's and a leaf's certificate share. Valid from five minutes ago, for clocks that differ."""
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def usage(*, authority: bool) -> x509.KeyUsage:
    """The key usage of an authority or of a leaf."""
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def issue_authority(name: x509.Name, key: CertificateIssuerPrivateKeyTypes, days: int, now: datetime) -> bytes:
    """A self-signed authority's certificate as PEM."""
    certificate = (
        builder(name, name, key, days, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def alternative_names(wanted: dict[str, Any]) -> list[x509.GeneralName]:
    """The subject alternative names of an entry of ``certificates``."""
    return [x509.DNSName(name) for name in wanted["dns_names"]] + [
        x509.IPAddress(ipaddress.ip_address(address)) for address in wanted["ip_addresses"]
    ]


def issue_leaf(
    wanted: dict[str, Any],
    key: CertificateIssuerPrivateKeyTypes,
    authority: x509.Certificate,
    authority_key: CertificateIssuerPrivateKeyTypes,
    days: int,
    now: datetime,
) -> bytes:
    """A certificate for TLS servers and clients, signed by the authority, as PEM."""
    certificate = (
        builder(subject(wanted["common_name"]), authority.subject, key, days, now)
        .add_extension(x509.SubjectAlternativeName(alternative_names(wanted)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def reason_to_renew(certificate: x509.Certificate, now: datetime) -> str:
    """Why a certificate's time is over or will be soon; empty where it is not."""
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    if certificate.not_valid_after_utc - now < life / 3:
        return f"it expires on {certificate.not_valid_after_utc:%Y-%m-%d}"
    return ""


def reason_to_issue(
    certificate: x509.Certificate | None,
    key: CertificateIssuerPrivateKeyTypes | None,
    wanted: dict[str, Any],
    authority: x509.Certificate,
    now: datetime,
) -> str:
    """Why a certificate must be issued (again); empty where it need not."""
    if certificate is None or key is None:
        return "it did not exist"
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception:  # any failure to verify has the same remedy
        return "the authority has changed"
    if certificate.public_key() != key.public_key():
        return "it belongs to another key"
    if ending := reason_to_renew(certificate, now):
        return ending
    present = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if certificate.subject != subject(wanted["common_name"]) or set(present) != set(alternative_names(wanted)):
        return "its names have changed"
    return ""


def main() -> None:
    """Run the module."""
    entry = {
        "name": {"type": "str", "required": True},
        "common_name": {"type": "str", "required": True},
        "dns_names": {"type": "list", "elements": "str", "default": []},
        "ip_addresses": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "authority": {"type": "str", "required": True},
            "authority_days": {"type": "int", "default": 3650},
            "days": {"type": "int", "default": 365},
            "certificates": {"type": "list", "elements": "dict", "default": [], "options": entry},
        },
        supports_check_mode=True,
    )
    if CRYPTOGRAPHY_ERROR:
        module.fail_json(msg=missing_required_lib("cryptography"))
    directory: str = module.params["directory"]
    now = datetime.now(UTC)
    issued: dict[str, str] = {}

    def write(path: str, content: bytes, mode: int = 0o600) -> None:
        if not module.check_mode:
            write_private(path, content, mode)

    ca_path, ca_key_path = os.path.join(directory, "ca.pem"), os.path.join(directory, "ca.key")
    authority, authority_key = read_certificate(ca_path), read_key(ca_key_path)
    if authority is not None and authority_key is None:
        module.fail_json(
            msg=f"{ca_path} is there and {ca_key_path} is not: restore the key from a backup, or remove both "
            "to begin with a new authority (every certificate is then issued again)."
        )
    if authority_key is None:
        authority_key = ec.generate_private_key(ec.SECP256R1())
        write(ca_key_path, key_pem(authority_key))
    reason = "it did not exist" if authority is None else reason_to_renew(authority, now)
    if authority is None or reason:
        name = authority.subject if authority else subject(module.params["authority"])
        pem = issue_authority(name, authority_key, module.params["authority_days"], now)
        authority = x509.load_pem_x509_certificate(pem)
        write(ca_path, pem, 0o644)
        issued["ca"] = reason

    for wanted in module.params["certificates"]:
        path = os.path.join(directory, wanted["name"])
        key = read_key(path + ".key")
        reason = reason_to_issue(read_certificate(path + ".pem"), key, wanted, authority, now)
        if not reason:
            continue
        issued[wanted["name"]] = reason
        if key is None:
            key = ec.generate_private_key(ec.SECP256R1())
            write(path + ".key", key_pem(key))
        write(path + ".pem", issue_leaf(wanted, key, authority, authority_key, module.params["days"], now), 0o644)
    module.exit_json(changed=bool(issued), issued=issued)


if __name__ == "__main__":
    main()
