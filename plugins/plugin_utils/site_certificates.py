# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which public certificates have to be replaced. Pure functions, used on the controller only."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.uptier.platform.plugins.plugin_utils import certificates
from ansible_collections.uptier.platform.plugins.plugin_utils.certificates import serialization, x509


def covers(pattern: str, name: str) -> bool:
    """Whether a name in a certificate, perhaps a wildcard, stands for a host name."""
    if pattern == name:
        return True
    return pattern.startswith("*.") and name.partition(".")[2] == pattern[2:] and not name.startswith("*.")


def uncovered(chain: str, domains: Sequence[str]) -> list[str]:
    names = certificates.alternative_names(x509.load_pem_x509_certificates(chain.encode())[0])
    return [domain for domain in domains if not any(covers(name, domain) for name in names)]


def reasons(
    provider: str,
    domains: Sequence[str],
    found: Mapping[str, Any],
    authority: certificates.Authority | None,
    provided: str | None,
    now: datetime.datetime,
) -> list[str]:
    """Return why the pair on the host has to be replaced; an empty list keeps it."""
    if not found["chain"]:
        return ["there is none"]
    if not found["fits"]:
        return ["its key does not match"]
    if provider == "provided":
        return [] if found["chain"] == provided else ["the file on the controller differs"]
    if provider == "acme":
        return []
    return certificates.defects(found["chain"], domains, authority, now)


def check_provided(site: str, chain: str, key: str, domains: Sequence[str], now: datetime.datetime) -> None:
    """Refuse a pair that a browser would refuse."""

    def refuse(message: str) -> None:
        raise certificates.CertificateError("certificate_unusable", f"{site}: {message}")

    try:
        leaf = x509.load_pem_x509_certificates(chain.encode())[0]
        private = serialization.load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise certificates.CertificateError(
            "certificate_unusable",
            f"{site}: the provided certificate or key cannot be read ({error}). Provide PEM files, the key without a passphrase.",
        ) from error
    if certificates.public_bytes(leaf.public_key()) != certificates.public_bytes(private.public_key()):
        refuse("the provided key does not belong to the first certificate of the file. Put the site's own certificate first.")
    if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
        refuse(f"the provided certificate is valid from {leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d}.")
    missing = uncovered(chain, domains)
    if missing:
        refuse(f"the provided certificate does not cover {', '.join(missing)}.")
