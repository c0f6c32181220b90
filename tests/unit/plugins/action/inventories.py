# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Inventories as Ansible itself loads them, and what preflight says of them, without a start of Ansible for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from ansible_collections.uptier.platform.plugins.action import preflight as action
from ansible_collections.uptier.platform.plugins.plugin_utils import data, layers, preflight
from ansible_collections.uptier.platform.plugins.plugin_utils.application import completed
from ansible_collections.uptier.platform.plugins.plugin_utils.databases import database_users, databases

STRONG = "kJ8sLq2mZx7Rt4Vb9Wn3Hc6Yd1Pf5Gg0"


def secrets(applications: Any) -> dict[str, Any]:
    """Return a value for every secret, as create_secrets would have made it."""
    known = completed(applications)
    users = {
        "database_user": database_users(databases(known)),
        "cache_user": [application["name"] for application in known if application["cache"]],
    }
    return {
        entry["name"]: {user: f"{STRONG}{user}" for user in users[entry["per"]]} if "per" in entry else STRONG[: entry["length"]]
        for entry in data.read("secrets.yml")["platform_secrets"]
    }


def context_of(sources: Sequence[Path | str], tier: str, extra: Mapping[str, Any] | None = None, release: str = "12") -> preflight.Context:
    """Return what preflight would look at, with hosts that have answered and that have every release of the page."""
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=[str(source) for source in sources])
    manager = VariableManager(loader=loader, inventory=inventory)
    manager._extra_vars = dict(extra or {})
    hostvars = HostVars(inventory, manager, loader)
    hosts = inventory.get_hosts("all")
    variables = manager.get_vars(host=hosts[0]) if hosts else manager.get_vars()
    templar = Templar(loader=loader, variables=variables)
    page = templar.template(variables.get("platform_applications", []))
    unpacked = [f"{application['name']}/{application['version']}" for application in completed(page)]
    for host in hosts:
        manager.set_nonpersistent_facts(
            host.name, {action.PROBE: {"release": release, "python": "3.11", "unpacked": unpacked, "problems": []}}
        )
    for name, value in secrets(page).items():
        manager._extra_vars.setdefault(name, value)
    variables = {**layers.trusted(layers.defaults("platform")), **(manager.get_vars(host=hosts[0]) if hosts else manager.get_vars())}
    variables.update(platform_tier=tier, hostvars=hostvars)
    task = MagicMock()
    task.get_variable_manager.return_value._inventory = inventory
    templar = Templar(loader=loader, variables=variables)
    found = action.ActionModule(task, MagicMock(), MagicMock(), loader, templar, MagicMock())._context(variables)
    found.exists = lambda path: "nothing" not in path  # what is built or made by a run is not there
    return found


def problems_of(sources: Sequence[Path | str], tier: str, extra: Mapping[str, Any] | None = None) -> list[str]:
    return [str(problem) for problem in preflight.problems_of(context_of(sources, tier, extra))]
