# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters for PostgreSQL: settings from the host's size, who gets its connections, databases from the applications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.pool_users import client_name
from ansible_collections.uptier.platform.plugins.plugin_utils import application, databases, postgresql_tuning, repositories

MANAGED = sorted(databases.managed({"host": "any"}))


def postgresql_settings(
    memory_mb: float,
    cpus: int,
    connections: int,
    workload: str = "oltp",
    disk_mb: int = 20480,
    disk: str = "ssd",
    workers: int = 8,
) -> dict[str, Any]:
    """Return the settings of PostgreSQL that fit memory, processors, connections and disk."""
    try:
        # Behind -e, numbers are texts.
        return postgresql_tuning.postgresql_settings(
            float(memory_mb), int(cpus), int(connections), workload, int(disk_mb), disk, int(workers)
        )
    except postgresql_tuning.TuningError as error:
        raise AnsibleFilterError(str(error)) from error


def postgresql_connections(maximum: int, pooled: int, reserved: int, hosts: int) -> dict[str, Any]:
    """Return how the connections of one server are shared out: {maximum, pooled, hosts, each, reserved, free}."""
    try:
        return dict(postgresql_tuning.postgresql_connections(int(maximum), int(pooled), int(reserved), hosts))
    except postgresql_tuning.TuningError as error:
        raise AnsibleFilterError(str(error)) from error


def patroni_members(members: Sequence[Mapping[str, Any]], api_port: int, port: int | None = None) -> list[dict[str, Any]]:
    """Return each member with the address of its Patroni, as the modules for PostgreSQL take them.

    With the port of PostgreSQL also where that is reached: {name, url, host, port}, else {name, url}.
    """
    found = []
    for member in members:
        entry: dict[str, Any] = {"name": str(member["name"]), "url": f"https://{member['address']}:{int(api_port)}"}
        found.append(entry if port is None else {**entry, "host": str(member["fqdn"]), "port": int(port)})
    return found


def managed_postgresql(managed: Mapping[str, Any], key: str, otherwise: Any = "") -> Any:
    """Return one property of the PostgreSQL server that a provider runs, or `otherwise` where the platform has its own."""
    if key not in MANAGED:
        raise AnsibleFilterError(f"A managed PostgreSQL has no {key!r}: it has {', '.join(MANAGED)}.")
    return databases.managed(managed).get(key, otherwise)


def databases_of(applications: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one database for each application that wants one, with an owner for migrations, a user that writes and one that reads."""
    return databases.databases(application.completed(applications))


def pool_user(user: str, password: str) -> str:
    """Return the name under which an application logs in to its pools with this password.

    Former and new password are accepted side by side that way while a password is changed.
    """
    return client_name(user, str(password))


def repository_problems(second: Mapping[str, Any], first_path: str, version: str) -> list[str]:
    """Return what is wrong with the description of the second repository of backups, one sentence or two each; nothing where there is none."""
    return [str(problem) for problem in repositories.problems(second, first_path, version)]


def repository_settings(second: Mapping[str, Any], cipher_pass: str, retention_days: int, key_file: str) -> dict[str, str]:
    """Return pgBackRest's settings for the second repository of backups, by their names without `repo2-`."""
    return repositories.settings(second, cipher_pass, int(retention_days), key_file)


class FilterModule:
    """Filters of uptier.platform for PostgreSQL."""

    def filters(self) -> dict[str, Any]:
        return {
            "postgresql_settings": postgresql_settings,
            "postgresql_connections": postgresql_connections,
            "postgresql_parameters": postgresql_tuning.split_parameters,
            "patroni_members": patroni_members,
            "managed_postgresql": managed_postgresql,
            "pool_user": pool_user,
            "repository_problems": repository_problems,
            "repository_settings": repository_settings,
            "databases": databases_of,
            "database_users": databases.database_users,
        }
