# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A server that a provider runs in place of the platform's own. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

DEBIANS_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


def described(given: Mapping[str, Any], defaults: Mapping[str, Any], authority: str) -> dict[str, Any]:
    """Return the description of a server with what was left out filled in; nothing where there is none.

    `ca_file` is what it is verified against on a host: `authority`, where the provider's is put, or those that Debian trusts. What is true
    or false by default may be given as a word, as an INI inventory and `-e` give it.
    """
    if not given:
        return {}
    found = {**defaults, **{key: value for key, value in given.items() if value not in (None, "")}}
    found |= {key: _truth(found[key], value) for key, value in defaults.items() if isinstance(value, bool)}
    return {**found, "ca_file": authority if found["ca"] else DEBIANS_AUTHORITIES}


def _truth(value: Any, default: bool) -> bool:
    try:
        return boolean(value)
    except TypeError:
        return default
