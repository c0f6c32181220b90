# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What roles compute and write, rendered by Ansible's own inventory, variables and templates, without a run of a playbook."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play import Play
from ansible.plugins.lookup import template
from ansible.template import Templar, trust_as_template
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager

ROOT = Path(__file__).resolve().parents[3]


class Rendering:
    """An inventory, and extra variables above it: files of variables, which stand in for roles here, would hide those of the inventory."""

    def __init__(self, extra: Mapping[str, Any], inventory: Path | str = "localhost,") -> None:
        self.loader = DataLoader()
        self.loader.set_basedir(str(ROOT))
        self.inventory = InventoryManager(loader=self.loader, sources=[str(inventory)])
        self.manager = VariableManager(loader=self.loader, inventory=self.inventory)
        self.manager._extra_vars = self.loader.load(json.dumps(dict(extra)))
        self.hostvars = HostVars(self.inventory, self.manager, self.loader)

    def show(self, text: str, files: Iterable[Path], host: str = "localhost", variables: Mapping[str, Any] | None = None) -> Any:
        """Return what a template is in a play on a host, with files of variables."""
        data = {"hosts": host, "vars_files": [str(path) for path in files if path.is_file()], "vars": dict(variables or {})}
        play = Play.load(data, variable_manager=self.manager, loader=self.loader)
        known = self.manager.get_vars(play=play, host=self.inventory.get_host(host))
        # As config_files does it: the lookup would make a deep copy of all variables for each template.
        with patch.object(template, "deepcopy", dict, create=True):
            return Templar(loader=self.loader, variables={**known, "hostvars": self.hostvars}).template(trust_as_template(text))


def files_of(*roles: str) -> list[Path]:
    """The files of variables of roles, in the order in which a role reads them."""
    return [ROOT / "roles" / role / name for role in roles for name in ("defaults/main.yml", "vars/main.yml")]


def render_templates(role: str, names: Sequence[str], variables: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts that a role writes on localhost with its defaults, by name of the file."""
    paths = [ROOT / "roles" / role / "templates" / name for name in names]
    looked_up = ", ".join(f"'{path.stem}': lookup('ansible.builtin.template', '{path}')" for path in paths)
    return Rendering(variables).show("{{ {" + looked_up + "} }}", files_of(role))


@pytest.fixture(scope="session")
def rendering() -> type[Rendering]:
    """Return what renders with an inventory of one's own."""
    return Rendering


@pytest.fixture(scope="session")
def variable_files() -> Callable[..., list[Path]]:
    """Return what names the files of variables of roles."""
    return files_of


@pytest.fixture(scope="session")
def render_role() -> Callable[[str, Sequence[str], Mapping[str, Any]], dict[str, str]]:
    """Return what renders templates of a role with its defaults: the role, names of templates, variables."""
    return render_templates
