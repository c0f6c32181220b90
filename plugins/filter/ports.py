# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters from hosts to the ports on which something listens there, as the user set them."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.plugin_utils import ports, topology


def port_of(hosts: list[str], name: str, hostvars: Any) -> int:
    """Return the port on which all of these hosts listen for one purpose; without hosts, the platform's default.

    Hosts that have different ports are refused, with both values.
    """
    try:
        return ports.Numbers(hostvars).shared(hosts, name)
    except ports.PortError as error:
        raise AnsibleFilterError(str(error)) from error


def endpoints(hosts: list[str], name: str, hostvars: Any, domain: str = "internal") -> list[str]:
    """Return where each of these hosts listens for one purpose, as internal name and port: mon1.internal:9093."""
    numbers = ports.Numbers(hostvars)
    try:
        return [f"{member['fqdn']}:{numbers.on(member['name'], name)}" for member in topology.members(hosts, hostvars, domain)]
    except (ports.PortError, topology.TopologyError) as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters of uptier.platform over ports."""

    def filters(self) -> dict[str, Any]:
        return {"port_of": port_of, "endpoints": endpoints}
