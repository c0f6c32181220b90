# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every role is applied in a scenario of its own or shared with others, on both releases of Debian, and molecule/README.md says where."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.parent.name for path in ROOT.glob("roles/*/tasks"))
PREFIX = "uptier.platform."
RELEASES = {12, 13}
# Changes no host: it is the preflight of a tier's playbook, and its cases are unit tests.
OF_TIERS = {"platform": {"tier_growth", "tier_startup"}}


def used_by(tasks: Any) -> Iterator[str]:
    """Yield the roles of this collection that tasks and their blocks include."""
    for task in tasks or []:
        for key in ("ansible.builtin.include_role", "ansible.builtin.import_role"):
            if key in task:
                yield task[key]["name"]
        for key in ("block", "rescue", "always"):
            yield from used_by(task.get(key))


def applied() -> dict[str, dict[str, set[int]]]:
    """Return role -> scenario -> releases of the hosts to which the scenario's converge.yml applies it."""
    found: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for path in sorted(ROOT.glob("molecule/role_*/converge.yml")):
        platforms = yaml.safe_load((path.parent / "molecule.yml").read_text(encoding="utf-8"))["platforms"]
        for play in yaml.safe_load(path.read_text(encoding="utf-8")):
            wanted = set(play["hosts"].split(":"))
            hosts = [host for host in platforms if wanted & {"all", host["name"], *host.get("groups", [])}]
            assert hosts, f"{path.parent.name}: no host is in {play['hosts']}"
            for name in [*(entry["role"] for entry in play.get("roles", [])), *used_by(play.get("tasks"))]:
                if name.startswith(PREFIX):
                    found[name.removeprefix(PREFIX)][path.parent.name] |= {host["lab_release"] for host in hosts}
    return found


@pytest.mark.parametrize("role", [role for role in ROLES if role not in OF_TIERS])
def test_role_is_applied_on_both_releases(role: str) -> None:
    scenarios = applied().get(role, {})
    assert set().union(*scenarios.values()) == RELEASES, (
        f"{role} is applied in {dict(scenarios)}; add it to a converge.yml below molecule/role_*"
    )


def test_the_readme_says_where() -> None:
    text = (ROOT / "molecule" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` +\| ((?:`(?:role|tier)_\w+`(?:, )?)+) *\|", text, re.MULTILINE)
    said = {role: set(re.findall(r"`(\w+)`", cell)) for role, cell in rows}
    assert said == {**{role: set(scenarios) for role, scenarios in applied().items()}, **OF_TIERS}
    assert sorted(said) == ROLES
