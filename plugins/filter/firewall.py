# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter from flows to what a host accepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.plugin_utils import firewall, ports, topology
from ansible_collections.uptier.platform.plugins.plugin_utils.data import read


def firewall_rules(
    extra: Sequence[Mapping[str, Any]], host: str, groups: Mapping[str, Sequence[str]], hostvars: Any, tier: str = "startup"
) -> list[dict[str, Any]]:
    """Return what `host` accepts by the platform's flows and the extra ones."""
    numbers = ports.Numbers(hostvars, groups, read("tiers.yml")["platform_tiers"].get(tier))
    try:
        firewall.refuse(extra, groups)
        return firewall.rules_of([*ports.flows_to(host, numbers), *extra], host, groups, hostvars)
    except (firewall.FirewallError, ports.PortError, topology.TopologyError) as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters of uptier.platform for the firewall."""

    def filters(self) -> dict[str, Any]:
        return {"firewall_rules": firewall_rules}
