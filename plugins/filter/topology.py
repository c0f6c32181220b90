# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters over the inventory and the tier profiles."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.plugin_utils import tiers, topology

DATA = Path(__file__).resolve().parents[2] / "roles" / "platform" / "vars"


@cache
def read(name: str) -> Any:
    """Return one of the platform's data files, read once a process."""
    return yaml.safe_load((DATA / name).read_text(encoding="utf-8"))


def members(hosts: list[str], hostvars: Any, domain: str = "internal") -> list[dict[str, str]]:
    """Describe hosts as {name, address, fqdn, zone}, in inventory order."""
    try:
        return topology.members(hosts, hostvars, domain)
    except topology.TopologyError as error:
        raise AnsibleFilterError(str(error)) from error


def tier_value(tier: str, key: str) -> Any:
    """Return one number of one tier."""
    try:
        return tiers.tier_value(read("tiers.yml")["platform_tiers"], tier, key)
    except tiers.TierError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters of uptier.platform over inventory and tiers."""

    def filters(self) -> dict[str, Any]:
        return {"members": members, "tier_value": tier_value}
