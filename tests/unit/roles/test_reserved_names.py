# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""No application can be given a name that a role has for itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.uptier.platform.plugins.plugin_utils.application_check import NAME, problems

ROOT = Path(__file__).resolve().parents[3]
UNIT = re.compile(r"/etc/systemd/system/([a-z0-9-]+?)-(?:[^/\s\"']*)@?\.(?:service|timer|path)(?!\.)")
SYSTEM_USER = re.compile(r"^[ug]!? +\"?([a-z_][a-z0-9_-]*)", re.MULTILINE)
DATABASE_USER = re.compile(r"'(\w+)', postgresql_\w+_password\b")


def texts() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "roles").glob("*/*/*")):
        if path.is_file() and path.parent.name in ("defaults", "vars", "tasks", "templates"):
            yield f"{path.relative_to(ROOT)}", path.read_text(encoding="utf-8")


def names() -> dict[str, str]:
    """Return every name that a role gives to a user or that its units begin with, and where it was found."""
    found: dict[str, str] = {}
    for where, text in texts():
        found.update(dict.fromkeys(UNIT.findall(text), where))
        found.update(dict.fromkeys(DATABASE_USER.findall(text), where))
        if "sysusers" in where:
            found.update(dict.fromkeys(SYSTEM_USER.findall(text), where))
        if where.endswith("defaults/main.yml"):
            for key, value in yaml.safe_load(text).items():
                if re.search(r"_(user|owner|username)$", key) and isinstance(value, str) and NAME.fullmatch(value):
                    found[value] = f"{where} {key}"
    acl = (ROOT / "roles/redis/templates/users.acl.j2").read_text(encoding="utf-8")
    found.update(dict.fromkeys(re.findall(r"^user ([a-z]+) ", acl, re.MULTILINE), "roles/redis/templates/users.acl.j2"))
    return found


def test_names_are_found() -> None:
    assert {"monitor", "admin", "replica", "platform_admin", "redis", "platform", "replicator", "pgbouncer"} <= set(names())


@pytest.mark.parametrize("name", sorted(names()))
def test_a_name_of_a_role_is_no_application(name: str) -> None:
    assert problems([{"name": name}]), f"add {name} ({names()[name]}) to plugins/plugin_utils/reserved.py"
