# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters for internal names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.plugin_utils import names, topology


def certificate_names(host: str, hostvars: Any, groups: Mapping[str, Sequence[str]], domain: str = "internal") -> list[str]:
    """Return every name and address under which a host is verified; the first is the common name of its certificate."""
    try:
        return names.certificate_names(host, topology.address_of(host, hostvars[host]), groups, domain)
    except topology.TopologyError as error:
        raise AnsibleFilterError(str(error)) from error


def hosts_entries(host: str, hostvars: Any, groups: Mapping[str, Sequence[str]], domain: str = "internal") -> list[dict[str, Any]]:
    """Return the lines of a host's /etc/hosts as {address, names}: every host of the platform, then the cluster's name."""
    try:
        return names.hosts_entries(host, hostvars, groups, domain)
    except topology.TopologyError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters of uptier.platform for internal names."""

    def filters(self) -> dict[str, Any]:
        return {"certificate_names": certificate_names, "hosts_entries": hosts_entries}
