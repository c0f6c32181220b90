# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Pages that say what the code says are as the code has them, and the examples of the roles use what there is."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

import reference  # noqa: E402 - the path has to be set first

ROLES = sorted(reference.roles())
SECTIONS = ["Requirements", "Example", "What it never does", "Variables"]
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.M | re.S)
# A variable without which a default cannot be computed: nothing after it says what holds where it is missing.
NEEDED = re.compile(r"\{\{\s*((?:vault|platform)_\w+)\s*\}\}")


def test_generated_pages_are_up_to_date() -> None:
    assert reference.old() == [], "run `make reference` and commit what it writes"


def text_of(role: str) -> str:
    return (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("role", ROLES)
def test_readme_has_its_sections(role: str) -> None:
    assert re.findall(r"^## (.*)$", text_of(role), re.M) == SECTIONS


def example(role: str) -> list[dict[str, Any]]:
    """Return the plays of a role's example, as a reader would copy them."""
    section = text_of(role).partition("## Example\n")[2]
    return yaml.safe_load(BLOCK.search(section)[1])


def entries(role: str) -> dict[str, dict[str, Any]]:
    """Return the variables that the example gives to each role that it applies."""
    found = {}
    for play in example(role):
        for entry in play.get("roles", []):
            found[entry["role"].removeprefix("uptier.platform.")] = entry.get("vars", {})
        for task in play.get("tasks", []):
            found[task["ansible.builtin.import_role"]["name"].removeprefix("uptier.platform.")] = {}
    return found


@pytest.mark.parametrize("role", ROLES)
def test_example_works_alone(role: str) -> None:
    given = entries(role)
    assert role in given, f"the first block of YAML under Example does not apply {role}"
    for name, values in given.items():
        options = reference.specs_of(ROOT / "roles" / name)["main"]["options"]
        defaults = reference.load(ROOT / "roles" / name / "defaults" / "main.yml") or {}
        unknown = [key for key in values if key not in options and not key.startswith("vault_")]
        assert not unknown, f"{name} knows no {unknown}"
        missing = [
            f"{key} ({needed[1]})"
            for key, value in defaults.items()
            if key not in values and (needed := NEEDED.search(str(value))) and needed[1] not in values
        ]
        assert not missing, f"without these, the example for {name} stops at an undefined variable: {missing}"


@functools.cache
def all_variables() -> set[str]:
    return {name for role in ROLES for name in reference.specs_of(ROOT / "roles" / role)["main"].get("options") or {}}


@pytest.mark.parametrize("role", ROLES)
def test_blocks_use_variables_that_exist(role: str) -> None:
    known = all_variables()
    for block in BLOCK.findall(text_of(role)):
        data = yaml.safe_load(block)
        unknown = [key for key in data if key not in known] if isinstance(data, dict) else []
        assert not unknown, f"roles/{role}/README.md: {unknown}"
