# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What imports what inside plugins: pure modules that stay pure, and no more than a host needs. Cycles: tests/unit/docs/test_imports.py."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = "ansible_collections.uptier.platform."
# What a decision or a picture has no use for.
ACTING = {"subprocess", "socket", "threading", "time", "ansible.module_utils.urls", "ansible.module_utils.basic"}


def imports(name: str) -> set[str]:
    """Return the names of modules that a module imports; those of the collection without its own name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            module = node.module.removeprefix(PACKAGE)
            inside = {f"{module}.{alias.name}" for alias in node.names if f"{module}.{alias.name}" in MODULES}
            found |= inside or {module}
    return found


MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "plugins").rglob("*.py") if path.stem != "__init__"}
GRAPH = {name: imports(name) for name in MODULES}


def closure(name: str) -> set[str]:
    """Return all modules of the collection that come along with one."""
    seen: set[str] = set()
    left = [name]
    while left:
        one = left.pop()
        if one not in seen:
            seen.add(one)
            left += GRAPH[one] & MODULES
    return seen - {name}


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in sorted(MODULES)
        if name.startswith("plugins.module_utils.") and f"{name}_apply" in MODULES or name.endswith((".picture", ".patroni", ".member"))
    ],
)
def test_what_decides_does_not_act(name: str) -> None:
    """x.py beside x_apply.py, and the picture of a cluster."""
    assert not {f"{one} imports {used}" for one in closure(name) | {name} for used in GRAPH[one] & ACTING}


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("pg_cluster_info", {"failover", "failover_patroni", "psql", "patroni_store", "session"}),
        ("patroni_config", {"picture", "psql", "session"}),
        ("pg_objects", {"psql", "schema", "picture"}),
        ("pg_schema", {"objects", "psql"}),
        ("pgbouncer_hold", {"probe_apply", "session"}),
    ],
)
def test_a_module_takes_to_a_host_what_it_needs(module: str, without: set[str]) -> None:
    used = closure(f"plugins.modules.{module}")
    assert not used & {f"plugins.module_utils.postgresql.{name}" for name in without}
