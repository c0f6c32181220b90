# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Nothing that does nothing: every variable is read by something, and every shared one is specified. Tags are the playbooks'."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from ansible_collections.uptier.platform.plugins.plugin_utils.layers import OF_HOSTS

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
# Documentation and specifications say what a variable is; they do not read it.
SILENT = ("argument_specs.yml", "README.md")
READERS = {
    path: path.read_text(encoding="utf-8")
    for folder in ("roles", "playbooks", "plugins")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.is_file() and path.suffix in (".yml", ".j2", ".py") and path.name not in SILENT
}


def lines_that_read(name: str) -> list[str]:
    """Return the lines that name a variable and neither define it nor are comments."""
    word = re.compile(rf"\b{name}\b")
    return [
        line
        for text in READERS.values()
        if name in text
        for line in text.splitlines()
        if word.search(line) and not line.lstrip().startswith("#") and not line.startswith(f"{name}:")
    ]


def test_every_variable_is_read() -> None:
    files = [role / kind / "main.yml" for role in ROLES for kind in ("defaults", "vars")]
    names = [name for file in files if file.is_file() for name in yaml.safe_load(file.read_text(encoding="utf-8")) or {}]
    assert [name for name in names if not lines_that_read(name)] == [], "remove it, or let it do what it says"


def test_every_shared_variable_is_specified() -> None:
    """What several roles take is on the platform's page; without a specification a wrong type or value passes preflight."""
    options = yaml.safe_load((ROOT / "roles/platform/meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"][
        "options"
    ]
    defaults = [READERS.get(role / "defaults" / "main.yml", "") for role in ROLES]
    expressions = [found for text in defaults for found in re.findall(r"\{\{.*?\}\}", text, re.S)]
    read = {name for expression in expressions for name in re.findall(r"(?<!['\w])platform_[a-z0-9_]+", expression)}
    assert read - set(options) - set(OF_HOSTS) == set()


def test_the_role_of_the_platform_and_the_vendors_roles_take_the_same_repository() -> None:
    def repository(role: str, name: str) -> dict[str, object]:
        path = ROOT / "roles" / role / "meta" / "argument_specs.yml"
        return yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"][name]["options"]

    page = repository("platform", "platform_grafana_repository")
    assert {role: repository(role, f"{role}_repository") == page for role in ("grafana", "loki", "alloy")} == {
        "grafana": True, "loki": True, "alloy": True,
    }  # fmt: skip


def test_tags_are_the_playbooks() -> None:
    """Some roles had tags and some had none, so that the same word reached half a role in one and all of it in another."""
    tagged = [
        str(path.relative_to(ROOT)) for path in READERS if "roles" in path.parts and re.search(r"^\s*(tags|apply):", READERS[path], re.M)
    ]
    assert tagged == []


def test_every_role_of_a_layer_has_its_name_as_a_tag() -> None:
    named, missing = set(), []
    for path in sorted((ROOT / "playbooks" / "layers").glob("*.yml")):
        for play in yaml.safe_load(path.read_text(encoding="utf-8")):
            roles = [(entry["role"], entry.get("tags")) for entry in play.get("roles", [])]
            for task in play.get("tasks", []):
                include = task.get("ansible.builtin.include_role") or task.get("ansible.builtin.import_role")
                if include:
                    roles.append((include["name"], task.get("tags") or play.get("tags")))
                    if "ansible.builtin.include_role" in task and include.get("apply") != {"tags": task["tags"]}:
                        missing.append(f"{path.name}: {include['name']} does not pass its tags on")
            for role, tags in roles:
                name = role.rpartition(".")[2]
                named.add(name)
                # More than its own where it has to be there whenever those others are.
                if name not in tags and name != "platform":
                    missing.append(f"{path.name}: {role} has the tags {tags}")
    assert missing == []
    assert named == {role.name for role in ROLES}
