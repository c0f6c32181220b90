# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Public certificates: when a pair is replaced, and which provided pairs are refused."""

from __future__ import annotations

import datetime

import pytest
from ansible_collections.uptier.platform.plugins.plugin_utils import certificates
from ansible_collections.uptier.platform.plugins.plugin_utils import site_certificates as s

NOW = datetime.datetime(2026, 6, 1, 12, 0, tzinfo=datetime.UTC)
NAMES = ["demo.test", "www.demo.test"]


@pytest.fixture(name="authority", scope="module")
def made_authority():
    return certificates.read_authority(*certificates.create_authority("test", 3650, NOW), "/pki")


def found(chain, fits=True, source="selfsigned"):
    return {"chain": chain, "fits": fits, "source": source}


def days(number):
    return datetime.timedelta(days=number)


@pytest.mark.parametrize("provider", ["selfsigned", "provided", "acme"])
def test_missing_or_damaged_pairs_are_replaced(authority, provider):
    assert s.reasons(provider, NAMES, found(None, fits=False), authority, "x", NOW) == ["there is none"]
    assert s.reasons(provider, NAMES, found("x", fits=False), authority, "x", NOW) == ["its key does not match"]


def test_selfsigned_follows_names_and_age(authority):
    chain = certificates.issue(authority, NAMES, 90, NOW)[1]
    assert s.reasons("selfsigned", NAMES, found(chain), authority, None, NOW + days(50)) == []
    assert s.reasons("selfsigned", [*NAMES, "new.test"], found(chain), authority, None, NOW) == ["it lacks new.test"]
    assert "less than a third" in s.reasons("selfsigned", NAMES, found(chain), authority, None, NOW + days(61))[0]


def test_provided_follows_the_file(authority):
    chain = certificates.issue(authority, NAMES, 90, NOW)[1]
    assert s.reasons("provided", NAMES, found(chain), None, chain, NOW) == []
    assert s.reasons("provided", NAMES, found(chain), None, "other", NOW) == ["the file on the controller differs"]


def test_acme_leaves_what_the_client_put_there():
    assert s.reasons("acme", [*NAMES, "new.test"], found("anything", source="acme"), None, None, NOW) == []


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*.demo.test", "a.demo.test", True),
        ("*.demo.test", "demo.test", False),
        ("*.demo.test", "a.b.demo.test", False),
        ("a.test", "a.test", True),
    ],
)
def test_wildcards(pattern, name, expected):
    assert s.covers(pattern, name) is expected


def test_usable_pair_passes(authority):
    key, chain = certificates.issue(authority, NAMES, 90, NOW)
    s.check_provided("demo", chain, key, NAMES, NOW)


@pytest.mark.parametrize(
    ("domains", "when", "own_key", "message"),
    [
        ([*NAMES, "shop.test"], 0, True, "does not cover shop.test"),
        (NAMES, 91, True, "valid from 2026-06-01 to 2026-08-30"),
        (NAMES, 0, False, "does not belong to the first certificate"),
    ],
)
def test_unusable_pairs_are_refused(authority, domains, when, own_key, message):
    key, chain = certificates.issue(authority, NAMES, 90, NOW)
    if not own_key:
        key = certificates.issue(authority, NAMES, 90, NOW)[0]
    with pytest.raises(certificates.CertificateError, match=message):
        s.check_provided("demo", chain, key, domains, NOW + days(when))


def test_garbage_is_refused():
    with pytest.raises(certificates.CertificateError, match="cannot be read"):
        s.check_provided("demo", "no pem", "no pem", NAMES, NOW)
