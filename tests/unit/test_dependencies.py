# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the product uses of other collections is what it says it depends on, and nothing more."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
# A module, filter, lookup or connection by its full name; those of ansible-core and our own are no dependency.
FOREIGN = re.compile(r"(?<![\w./-])(?!ansible\.builtin\.|uptier\.platform\.)((?:community|ansible)\.[a-z_]+)\.[a-z_]+")
# Imports of Python in plugins; whatever stands below ansible_collections is a collection.
IMPORTED = re.compile(r"ansible_collections\.(\w+\.\w+)")


def used() -> set[str]:
    """Return the collections that roles, playbooks and plugins name."""
    found = set()
    for folder in ("roles", "playbooks", "inventories/prod", "inventories/staging"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in (".yml", ".j2"):
                lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
                found.update(FOREIGN.findall("\n".join(lines)))
    for path in (ROOT / "plugins").rglob("*.py"):
        found.update(IMPORTED.findall(path.read_text(encoding="utf-8")))
    return found - {"uptier.platform"}


def test_the_pattern_finds_what_it_is_for() -> None:
    assert FOREIGN.findall("{{ ports | map('community.general.dict_kv', 'name') }}\n  ansible.posix.sysctl:\n") == [
        "community.general",
        "ansible.posix",
    ]
    assert FOREIGN.findall("  ansible.builtin.copy:\n  uptier.platform.packages:\n") == []


def test_galaxy_names_what_is_used() -> None:
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    assert set(galaxy["dependencies"]) == used()


def test_the_execution_environment_has_what_is_used() -> None:
    image = yaml.safe_load((ROOT / "execution-environment.yml").read_text(encoding="utf-8"))
    names = {entry["name"] for entry in image["dependencies"]["galaxy"]["collections"] if entry.get("type") != "file"}
    assert names == used()


def test_the_readme_says_so() -> None:
    (row,) = re.findall(r"^\| collections \| (.*) \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert set(re.findall(r"\b(?:community|ansible)\.\w+", row)) == used()
    assert used() or row.startswith("none")
