# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Databases and their users, as applications imply them, and where a provider runs the server. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.uptier.platform.plugins.plugin_utils.application import Application
from ansible_collections.uptier.platform.plugins.plugin_utils.providers import described

# The provider's authority on a host.
AUTHORITY = "/etc/uptier/managed-postgresql/ca.crt"
DEFAULTS = {"host": "", "port": 5432, "ca": "", "admin_user": "", "admin_database": "postgres"}


def managed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all about the server that a provider runs, with what was left out filled in; nothing where there is none."""
    found = described(given, DEFAULTS, AUTHORITY)
    return {"replica_host": found["host"], "replica_port": found["port"], **found} if found else {}


def databases(applications: Iterable[Application]) -> list[dict[str, Any]]:
    """Return one database for each application that wants one, with an owner for migrations, a user that writes and one that reads."""
    found = []
    for application in applications:
        if application["database"]:
            name = application["name"]
            found.append({"name": name, "owner": f"{name}_owner", "readwrite": [name], "readonly": [f"{name}_ro"], "extensions": []})
    return found


def database_users(wanted: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return every user that the databases name, each once."""
    names = []
    for database in wanted:
        names += [database["owner"], *database.get("readwrite", []), *database.get("readonly", [])]
    return list(dict.fromkeys(names))
