# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter from flows to what a host accepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.plugin_utils import firewall, topology

FLOWS = Path(__file__).resolve().parents[2] / "roles" / "platform" / "vars" / "flows.yml"


@cache
def platform_flows() -> list[dict[str, Any]]:
    """Return the platform's own flows, read once a process."""
    return yaml.safe_load(FLOWS.read_text(encoding="utf-8"))["platform_flows"]


def firewall_rules(
    extra: Sequence[Mapping[str, Any]], host: str, groups: Mapping[str, Sequence[str]], hostvars: Any
) -> list[dict[str, Any]]:
    """Return what `host` accepts by the platform's flows and the extra ones."""
    try:
        return firewall.rules_of([*platform_flows(), *extra], host, groups, hostvars)
    except (firewall.FirewallError, topology.TopologyError) as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters of uptier.platform for the firewall."""

    def filters(self) -> dict[str, Any]:
        return {"firewall_rules": firewall_rules}
