"""When a certificate is issued, and that it verifies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from plugins.modules.certificates import issue_authority, issue_leaf, reason_to_issue, reason_to_renew, subject

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WANTED: dict[str, Any] = {
    "name": "backend-1/backend",
    "common_name": "backend.service.consul",
    "dns_names": ["backend.service.consul", "backend-1"],
    "ip_addresses": ["10.80.1.101"],
}
CA_KEY = ec.generate_private_key(ec.SECP256R1())
KEY = ec.generate_private_key(ec.SECP256R1())


def authority(key: ec.EllipticCurvePrivateKey = CA_KEY, now: datetime = NOW) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issue_authority(subject("Test CA"), key, 3650, now))


def leaf(wanted: dict[str, Any] = WANTED) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issue_leaf(wanted, KEY, authority(), CA_KEY, 300, NOW))


def test_a_new_certificate_verifies_and_is_kept() -> None:
    certificate = leaf()
    certificate.verify_directly_issued_by(authority())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == WANTED["dns_names"]
    assert reason_to_issue(certificate, KEY, WANTED, authority(), NOW) == ""


def test_it_is_issued_where_there_is_none() -> None:
    assert reason_to_issue(None, KEY, WANTED, authority(), NOW) == "it did not exist"
    assert reason_to_issue(leaf(), None, WANTED, authority(), NOW) == "it did not exist"


def test_it_is_renewed_when_a_third_of_its_life_is_left() -> None:
    assert reason_to_issue(leaf(), KEY, WANTED, authority(), NOW + timedelta(days=199)) == ""
    assert "expires" in reason_to_issue(leaf(), KEY, WANTED, authority(), NOW + timedelta(days=201))


def test_an_authority_is_renewed_in_time_and_what_it_issued_stays() -> None:
    assert reason_to_renew(authority(), NOW + timedelta(days=2400)) == ""
    assert "expires" in reason_to_renew(authority(), NOW + timedelta(days=2500))
    renewed = authority(now=NOW + timedelta(days=2500))
    leaf().verify_directly_issued_by(renewed)
    assert reason_to_issue(leaf(), KEY, WANTED, renewed, NOW) == ""


def test_it_is_issued_again_for_other_names_keys_and_authorities() -> None:
    other_names = {**WANTED, "dns_names": ["elsewhere"]}
    assert reason_to_issue(leaf(), KEY, other_names, authority(), NOW) == "its names have changed"
    assert reason_to_issue(leaf(), CA_KEY, WANTED, authority(), NOW) == "it belongs to another key"
    assert reason_to_issue(leaf(), KEY, WANTED, authority(KEY), NOW) == "the authority has changed"
