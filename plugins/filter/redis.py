# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters about Redis: the processes of a cluster, the list that applications get, the users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.uptier.platform.plugins.plugin_utils import application, ports, quoting, redis_layout

MANAGED = sorted(redis_layout.managed({"host": "any"}))


def redis_users(applications: list[dict[str, Any]], passwords: dict[str, str]) -> list[dict[str, Any]]:
    """Return one cache user for each application that has a cache; each sees its own keys only."""
    try:
        return redis_layout.users(application.completed(applications), passwords)
    except redis_layout.LayoutError as error:
        raise AnsibleFilterError(str(error)) from error


def redis_rules(account: dict[str, Any], commands: list[str]) -> str:
    """Return the rules of one ACL user; without own commands it gets the usual ones of an application."""
    try:
        return redis_layout.rules(account, commands)
    except quoting.QuotingError as error:
        raise AnsibleFilterError(f"redis_users: {error}") from error


def redis_nodes(members: list[dict[str, Any]], port: int | None = None, domain: str = "internal") -> str:
    """Return the addresses from which a client learns the cluster: redis-1.internal:6379,redis-2.internal:6379,...

    Without `port` it is the platform's default.
    """
    return redis_layout.endpoints(members, ports.default("redis") if port is None else port, domain)


def managed_redis(managed: Mapping[str, Any], key: str, otherwise: Any = "") -> Any:
    """Return one property of the Redis that a provider runs, or `otherwise` where the platform has its own."""
    if key not in MANAGED:
        raise AnsibleFilterError(f"A managed Redis has no {key!r}: it has {', '.join(MANAGED)}.")
    return redis_layout.managed(managed).get(key, otherwise)


class FilterModule:
    """Filters of uptier.platform about Redis."""

    def filters(self) -> dict[str, Any]:
        return {
            "managed_redis": managed_redis,
            "redis_layout": redis_layout.layout,
            "redis_nodes": redis_nodes,
            "redis_problems": redis_layout.problems,
            "redis_rules": redis_rules,
            "redis_users": redis_users,
        }
