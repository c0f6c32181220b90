# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which roles run on which hosts: the playbooks of the layers, and what their roles take and refuse. Reads files, nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.template import trust_as_template
from ansible_collections.uptier.platform.plugins.plugin_utils.data import LOADER

ROOT = Path(__file__).resolve().parents[2]
ROLES = ROOT / "roles"
WORD = re.compile(r"[a-z_]\w*")
# Variables of hosts that several roles read and none specifies.
OF_HOSTS: dict[str, Mapping[str, Any]] = {
    "platform_address": {"type": "str"},
    "platform_memory_mb": {"type": "int", "default": 4096},
    "platform_cpus": {"type": "int", "default": 2},
    "zone": {"type": "str"},
    "region": {"type": "str"},
}
LAYERS = ("foundation", "state", "application", "edge", "observability")
INCLUDES = ("ansible.builtin.include_role", "ansible.builtin.import_role")


def load(path: Path) -> Any:
    """Return what a file of ours says; nothing where there is none."""
    return (yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER) or {}) if path.is_file() else {}


@cache
def groups_of_roles(conditional: bool = True) -> dict[str, tuple[str, ...]]:
    """Return the inventory groups on whose hosts each role runs, as the layers say it; without those that a task includes, if it wants to."""
    found: dict[str, list[str]] = {}
    for layer in LAYERS:
        for play in load(ROOT / "playbooks" / "layers" / f"{layer}.yml"):
            names = [entry["role"] for entry in play.get("roles", ())]
            names += [task[key]["name"] for task in play.get("tasks", ()) for key in INCLUDES if key in task] if conditional else []
            for name in names:
                found.setdefault(name.rpartition(".")[2], []).extend(play["hosts"].split(":"))
    return {role: tuple(dict.fromkeys(groups)) for role, groups in found.items()}


@cache
def specifications() -> Mapping[str, Mapping[str, Any]]:
    """Return every variable that some role takes, with its specification."""
    found: dict[str, Mapping[str, Any]] = dict(OF_HOSTS)
    for path in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        for entry in load(path)["argument_specs"].values():
            for name, option in (entry.get("options") or {}).items():
                found.setdefault(name, option or {})
    return found


@cache
def defaults(role: str) -> Mapping[str, Any]:
    return load(ROLES / role / "defaults" / "main.yml")


@cache
def internals(role: str) -> Mapping[str, Any]:
    return load(ROLES / role / "vars" / "main.yml")


def trusted(value: Any) -> Any:
    """Let what our own files say be rendered; Ansible renders no text of unknown origin."""
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, Mapping):
        return {key: trusted(item) for key, item in value.items()}
    return [trusted(item) for item in value] if isinstance(value, list) else value


@cache
def own(role: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the defaults of a role and what it sets itself, ready to be rendered."""
    return trusted(defaults(role)), trusted(internals(role))


@cache
def refusals(role: str) -> tuple[tuple[tuple[str, ...], str, Mapping[str, Any]], ...]:
    """Return what a role's preflight asserts: (conditions, message where one does not hold, variables of that task)."""
    found = []
    for task in load(ROLES / role / "tasks" / "preflight.yml") or ():
        asserted = task.get("ansible.builtin.assert")
        if asserted:
            conditions = asserted["that"] if isinstance(asserted["that"], list) else [asserted["that"]]
            found.append((tuple(map(str, conditions)), str(asserted["fail_msg"]), task.get("vars") or {}))
    return tuple(found)


@cache
def read_by(role: str, condition: str) -> frozenset[str]:
    """Return the variables that a condition of a role's preflight looks at: those in it, and those that these are derived from."""
    texts = {**defaults(role), **internals(role), **{name: value for *dummy, extra in refusals(role) for name, value in extra.items()}}
    left, seen = [condition], set()
    while left:
        for word in WORD.findall(left.pop()):
            if word not in seen:
                seen.add(word)
                if word in texts:
                    left.append(str(texts[word]))
    return frozenset(seen)
