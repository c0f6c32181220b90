# SPDX-License-Identifier: GPL-3.0-or-later
"""The authority: what it issues is accepted, and a certificate is replaced for a reason only."""

from __future__ import annotations

import datetime

import pytest
from ansible_collections.uptier.platform.plugins.plugin_utils import certificates as c
from cryptography import x509

NOW = datetime.datetime(2026, 6, 1, 12, 0, tzinfo=datetime.UTC)
NAMES = ["db1.internal", "db1", "localhost", "10.0.0.21", "127.0.0.1"]


def days(number):
    return datetime.timedelta(days=number)


@pytest.fixture(name="authority")
def made_authority():
    key, certificate = c.create_authority("test authority", 3650, NOW)
    return c.read_authority(key, certificate, "/inventory/pki")


def test_an_issued_certificate_is_kept(authority):
    certificate = c.issue(authority, NAMES, 90, NOW)[1]
    assert c.defects(certificate, NAMES, authority, NOW) == []
    assert c.defects(certificate, list(reversed(NAMES)), authority, NOW + days(59)) == []


def test_key_and_certificate_belong_together(authority):
    key, certificate = c.issue(authority, NAMES, 90, NOW)
    loaded = c.serialization.load_pem_private_key(key.encode(), None)
    assert c.public_bytes(loaded.public_key()) == c.public_bytes(x509.load_pem_x509_certificate(certificate.encode()).public_key())


def test_names_are_names_and_addresses_are_addresses(authority):
    certificate = x509.load_pem_x509_certificate(c.issue(authority, NAMES, 90, NOW)[1].encode())
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert extension.get_values_for_type(x509.DNSName) == ["db1.internal", "db1", "localhost"]
    assert [str(item) for item in extension.get_values_for_type(x509.IPAddress)] == ["10.0.0.21", "127.0.0.1"]


@pytest.mark.parametrize(
    ("when", "names", "expected"),
    [
        (days(61), NAMES, ["less than a third of its lifetime is left (it expires on 2026-08-30)"]),
        (days(91), NAMES, ["it expired on 2026-08-30"]),
        (days(0), [*NAMES, "redis-1.internal"], ["it lacks redis-1.internal"]),
        (days(0), NAMES[:-2] + ["127.0.0.1"], ["it still names 10.0.0.21"]),
    ],
)
def test_why_a_certificate_is_replaced(authority, when, names, expected):
    assert c.defects(c.issue(authority, NAMES, 90, NOW)[1], names, authority, NOW + when) == expected


def test_a_certificate_of_another_authority_is_replaced(authority):
    other = c.read_authority(*c.create_authority("test authority", 3650, NOW), "/elsewhere")
    assert c.defects(c.issue(other, NAMES, 90, NOW)[1], NAMES, authority, NOW) == ["another authority issued it"]


@pytest.mark.parametrize(("text", "expected"), [(None, "there is none"), ("", "there is none"), ("rubbish", "it cannot be read")])
def test_no_certificate(authority, text, expected):
    assert c.defects(text, NAMES, authority, NOW) == [expected]


def test_check_mode_without_an_authority(authority):
    assert c.defects(c.issue(authority, NAMES, 90, NOW)[1], NAMES, None, NOW) == ["its authority does not exist yet"]


def test_the_trust_file_may_hold_several_authorities():
    old_key, old = c.create_authority("old", 3650, NOW)
    new_key, new = c.create_authority("new", 3650, NOW)
    assert c.pem(c.read_authority(new_key, new + old, "/x").certificate) == new
    assert c.pem(c.read_authority(old_key, new + old, "/x").certificate) == old


def test_a_key_without_its_certificate_is_refused():
    key = c.create_authority("a", 3650, NOW)[0]
    certificate = c.create_authority("b", 3650, NOW)[1]
    with pytest.raises(c.CertificateError, match=r"^/x: none of the 1 certificates in ca\.crt belongs to ca\.key\.") as caught:
        c.read_authority(key, certificate, "/x")
    assert caught.value.reason == "authority_mismatch"


def test_an_unreadable_authority_is_refused():
    with pytest.raises(c.CertificateError, match=r"cannot be read .* Restore ca\.key and ca\.crt from a backup\.") as caught:
        c.read_authority("no key", "no certificate", "/x")
    assert caught.value.reason == "authority_unreadable"


def test_a_certificate_never_outlives_its_authority(authority):
    certificate = x509.load_pem_x509_certificate(c.issue(authority, NAMES, 90, NOW + days(3600))[1].encode())
    assert certificate.not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_an_expired_authority_issues_nothing(authority):
    with pytest.raises(c.CertificateError, match="The internal authority expired on 2036-05-29"):
        c.issue(authority, NAMES, 90, NOW + days(3651))
