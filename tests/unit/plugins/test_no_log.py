# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible strikes each value of a secret option out of all that a module returns, so a structure may be one only where all its values are secrets."""

from __future__ import annotations

import ast
from pathlib import Path

PLUGINS = Path(__file__).parents[3] / "plugins"
# From names to passwords, and nothing else.
PASSWORDS = {("pg_objects.py", "passwords"), ("pgbouncer_users.py", "users"), ("pgbouncer_users.py", "others")}


def secret_structures() -> set[tuple[str, str]]:
    found = set()
    for path in [*PLUGINS.glob("modules/*.py"), *PLUGINS.glob("module_utils/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Dict):
                continue
            for key, value in zip(node.keys, node.values, strict=True):
                if not (isinstance(key, ast.Constant) and isinstance(value, ast.Dict)):
                    continue
                option = {
                    k.value: getattr(v, "value", None) for k, v in zip(value.keys, value.values, strict=True) if isinstance(k, ast.Constant)
                }
                if option.get("no_log") is True and option.get("type") in ("dict", "list", "raw", "json"):
                    found.add((path.name, str(key.value)))
    return found


def test_only_passwords_are_secret_structures() -> None:
    assert secret_structures() == PASSWORDS
