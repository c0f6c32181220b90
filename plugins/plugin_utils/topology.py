# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who is in the inventory, under which name and address. Pure functions over host variables."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

# Where Ansible's variables say through which host its SSH goes.
SSH_ARGUMENTS = ("ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_args")


class TopologyError(ValueError):
    """The inventory does not say what is needed; the message names host, variable and fix."""


def address_of(host: str, variables: Mapping[str, Any]) -> str:
    """Return the address under which other hosts reach this one: platform_address, else a numeric ansible_host."""
    for name in ("platform_address", "ansible_host"):
        value = variables.get(name)
        if value is None:
            continue
        try:
            return str(ipaddress.ip_address(str(value)))
        except ValueError:
            if name == "platform_address":
                raise TopologyError(f"{host}: platform_address is {value!r}, which is not an IP address.") from None
    raise TopologyError(f"{host}: no address. Set ansible_host or platform_address to its internal IP address.")


def members(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], domain: str = "internal") -> list[dict[str, str]]:
    """Describe hosts as a list of {name, address, fqdn, zone}, in inventory order."""
    found = []
    for host in hosts:
        variables = hostvars[host]
        found.append(
            {
                "name": str(host),
                "address": address_of(host, variables),
                "fqdn": f"{host}.{domain}",
                "zone": str(variables.get("zone", "")),
            }
        )
    return found


def interface_of(facts: Mapping[str, Any], address: str) -> str:
    """Return the network interface that has an address, by its real name (eth0.100, bond0, br-lan); empty where none has it.

    `facts` are Ansible's, whose keys have no dots and dashes; the name is in `device`.
    """
    wanted = ipaddress.ip_address(address)
    for seen in facts.values():
        if not isinstance(seen, Mapping) or "device" not in seen:
            continue
        first = seen.get("ipv4") or {}
        entries = [*([first] if isinstance(first, Mapping) else first), *(seen.get("ipv4_secondaries") or ()), *(seen.get("ipv6") or ())]
        if any(ipaddress.ip_address(str(entry["address"])) == wanted for entry in entries if entry.get("address")):
            return str(seen["device"])
    return ""


def names_of(host: str, variables: Mapping[str, Any]) -> set[str]:
    """Return under what SSH may know a host: its name in the inventory and its addresses."""
    return {host, *(str(variables[name]) for name in ("ansible_host", "platform_address") if variables.get(name))}


def is_jump(host: str, hostvars: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether SSH to another host goes through this one by -J, ProxyJump or ProxyCommand, as far as Ansible's variables say it."""
    names = names_of(host, hostvars[host])
    for other in hostvars:
        if other == host:
            continue
        given = " ".join(str(hostvars[other].get(name) or "") for name in SSH_ARGUMENTS)
        through = re.search(r"(?:-J|ProxyJump|ProxyCommand).*", given, re.DOTALL | re.IGNORECASE)
        # user@host:port, user@[address]:port, and several hops with commas.
        words = re.split(r"[\s'\"=,]+", through[0].replace("-J", "-J ")) if through else []
        if names & {re.sub(r"^(?:.*@)?\[?(.*?)\]?(?::\d+)?$", r"\1", word) for word in words}:
            return True
    return False
