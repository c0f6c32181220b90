# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A server that a provider runs in place of the platform's own. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEBIANS_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


def described(given: Mapping[str, Any], defaults: Mapping[str, Any], authority: str) -> dict[str, Any]:
    """Return the description of a server with what was left out filled in; nothing where there is none.

    `ca_file` is what it is verified against on a host: `authority`, where the provider's is put, or those that Debian trusts.
    """
    if not given:
        return {}
    found = {**defaults, **{key: value for key, value in given.items() if value not in (None, "")}}
    return {**found, "ca_file": authority if found["ca"] else DEBIANS_AUTHORITIES}
