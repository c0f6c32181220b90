# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters over the inventory, the tier profiles and the Debian releases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.plugin_utils import tiers, topology
from ansible_collections.uptier.platform.plugins.plugin_utils.data import read


def all_or_localhost(groups: dict[str, list[str]]) -> str:
    """Return the pattern of a play over all hosts; without any it is localhost, so that there is somebody who says so."""
    return "all" if groups.get("all") else "localhost"


def members(hosts: list[str], hostvars: Any, domain: str = "internal") -> list[dict[str, str]]:
    """Describe hosts as {name, address, fqdn, zone}, in inventory order."""
    try:
        return topology.members(hosts, hostvars, domain)
    except topology.TopologyError as error:
        raise AnsibleFilterError(str(error)) from error


def differences(now: str, wanted: str, patterns: Mapping[str, str]) -> list[str]:
    """Return the names of the patterns that find something else in two texts; none where there is no first text yet.

    A pattern is matched at every line. With one group, what it holds is compared; with two, what the second holds for each that the
    first finds in both texts, and those are named too.
    """
    found = []
    for name, pattern in patterns.items() if now else ():
        before, after = (re.findall(pattern, text, re.M) for text in (now, wanted))
        if re.compile(pattern).groups < 2:
            found += [name] if before != after else []
            continue
        known = dict(after)
        other = [key for key, value in before if known.get(key, value) != value]
        found += [f"{name} ({', '.join(other)})"] if other else []
    return found


def interface_of(facts: dict[str, Any], address: str) -> str:
    """Return the network interface that has an address, by its real name; empty where none has it."""
    try:
        return topology.interface_of(facts, address)
    except ValueError as error:
        raise AnsibleFilterError(f"interface_of: {error}") from error


def is_jump(host: str, hostvars: dict[str, Any]) -> bool:
    """Tell whether SSH to another host goes through this one, as far as Ansible's variables say it."""
    return topology.is_jump(host, hostvars)


def tier_value(tier: str, key: str) -> Any:
    """Return one number of one tier."""
    try:
        return tiers.tier_value(read("tiers.yml")["platform_tiers"], tier, key)
    except tiers.TierError as error:
        raise AnsibleFilterError(str(error)) from error


def release_value(release: str, name: str) -> str:
    """Return the version of a program that a Debian release carries."""
    releases = read("releases.yml")["platform_releases"]
    carried = releases.get(str(release))
    if carried is None:
        raise AnsibleFilterError(f"Debian {release!s} is not supported: hosts run Debian {' or '.join(releases)}.")
    if name not in carried:
        raise AnsibleFilterError(f"releases.yml does not say which {name} Debian {release!s} carries: it has {', '.join(sorted(carried))}.")
    return carried[name]


class FilterModule:
    """Filters of uptier.platform over inventory, tiers and releases."""

    def filters(self) -> dict[str, Any]:
        return {
            "all_or_localhost": all_or_localhost,
            "differences": differences,
            "interface_of": interface_of,
            "is_jump": is_jump,
            "members": members,
            "release_value": release_value,
            "tier_value": tier_value,
        }
