# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters over what comes from a vendor's repository."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.action.vendor_package import catalogue
from ansible_collections.uptier.platform.plugins.plugin_utils import vendors


def tested_version(package: str) -> str:
    """Return the version of a vendor's package that the configuration of its role was written for."""
    try:
        return vendors.tested(catalogue(), package)
    except vendors.VendorError as error:
        raise AnsibleFilterError(str(error)) from error


def withheld(hosts: list[str], hostvars: Any, results: list[str]) -> str:
    """Return in one text what vendors' repositories did not give to any host; empty where nothing is missing."""
    return vendors.report({host: [hostvars[host].get(name) or {} for name in results] for host in hosts})


class FilterModule:
    """Filters of uptier.platform over vendors."""

    def filters(self) -> dict[str, Any]:
        return {"tested_version": tested_version, "withheld": withheld}
