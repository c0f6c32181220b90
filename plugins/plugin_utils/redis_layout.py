# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which Redis processes run on which host, and who may use them. Pure functions over the inventory."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.uptier.platform.plugins.plugin_utils.application import Application
from ansible_collections.uptier.platform.plugins.plugin_utils.providers import described
from ansible_collections.uptier.platform.plugins.plugin_utils.quoting import redis_acl, text_of
from ansible_collections.uptier.platform.plugins.plugin_utils.reserved import CACHE_USERS

PASSWORD_LENGTH = 16
# The authority of a provider's server on a host.
AUTHORITY = "/etc/uptier/managed-redis/ca.crt"
DEFAULTS = {"host": "", "port": 6379, "tls": True, "ca": "", "username": "default", "cluster": False}


class LayoutError(ValueError):
    """The declaration lacks something; the message names value and fix."""


def managed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all about the Redis that a provider runs, with what was left out filled in; nothing where there is none.

    `nodes` is what a client begins with; `environment` is what applications are told besides nodes, user, password and authority.
    """
    found = described(given, DEFAULTS, AUTHORITY)
    if not found:
        return {}
    environment = {"REDIS_HOST": found["host"], "REDIS_PORT": found["port"], "REDIS_CLUSTER": int(found["cluster"])}
    return {
        **found,
        "nodes": [f"{found['host']}:{found['port']}"],
        "ca_file": found["ca_file"] if found["tls"] else "",
        # A provider may have nothing newer.
        "environment": {**environment, **({"REDIS_TLS_MIN_VERSION": "TLSv1.2"} if found["tls"] else {})},
    }


def processes(hosts: Sequence[str], host: str, masters: int, replicas: int) -> int:
    """Return how many processes `layout` deals to one of `hosts`."""
    return len(range(hosts.index(host), masters * (1 + replicas), len(hosts))) if host in hosts else 0


def layout(members: Sequence[Mapping[str, str]], masters: int, replicas: int, port: int) -> list[dict[str, Any]]:
    """Deal the processes out over the hosts like cards: every host gets its first before any gets its second."""
    return [
        {
            "name": members[number % len(members)]["name"],
            "address": members[number % len(members)]["address"],
            "zone": members[number % len(members)].get("zone", ""),
            "port": port + number // len(members),
        }
        for number in range(masters * (1 + replicas) if members else 0)
    ]


def reshaped(declared: int, running: Mapping[str, int]) -> tuple[str, str] | None:
    """Return why a running cluster cannot take the declared number of masters: (what was seen, what to do).

    `running` has the masters that share the slots, by the host that remembers them; 0 where none do.
    """
    host, masters = next(((host, count) for host, count in running.items() if count), ("", 0))
    if masters <= declared:
        return None  # more masters: slots are moved to them while the cluster serves
    seen = f"carries a cluster of {masters} masters, as {host} remembers it, and {declared} are declared"
    fix = (
        f"Run playbooks/scale_redis.yml -e redis_masters={declared} first: it moves the slots of those that leave, for which this run would "
        f"already close the firewall. Or set redis_masters: {masters} (docs/how-to/scale-redis.md)."
    )
    return seen, fix


def endpoints(members: Sequence[Mapping[str, str]], port: int, domain: str = "internal") -> str:
    """Return the addresses from which a client learns the cluster: redis-1.internal:6379,redis-2.internal:6379,..."""
    return ",".join(f"redis-{number}.{domain}:{port}" for number, dummy in enumerate(members, 1))


def users(applications: Sequence[Application], passwords: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the ACL user of each application that has a cache: its own keys and channels, no commands that harm others."""
    found = []
    for application in applications:
        if not application["cache"]:
            continue
        name = application["name"]
        if not passwords.get(name):
            raise LayoutError(
                f"The application {name} has a cache but vault_redis_user_passwords has no password for it. Add {name} there; "
                "playbooks/create_secrets.yml does it."
            )
        found.append({"name": name, "password": text_of(passwords[name]), "keys": [f"{name}:*"], "channels": [f"{name}:*"]})
    return found


def rules(account: Mapping[str, Any], commands: Sequence[str]) -> str:
    """Return the rules of one ACL user; without own commands it gets the usual ones of an application."""
    words = [f"on sanitize-payload #{hashlib.sha256(text_of(account['password']).encode()).hexdigest()}"]
    words += [redis_acl(f"~{key}") for key in account.get("keys", [])]
    words += [redis_acl(f"&{channel}") for channel in account.get("channels", [])]
    return " ".join([*words, *(account.get("commands") or commands)])


def problems(
    members: Sequence[Mapping[str, str]],
    masters: int,
    replicas: int,
    host: str,
    maxmemory_mb: int,
    accounts: Sequence[Mapping[str, Any]],
    passwords: Mapping[str, str],
) -> list[str]:
    """Return all that is wrong with a declaration, one sentence with value and fix each. Passwords are not shown."""
    found, hosts = [], len(members)
    if masters != 1 and masters < 3:
        found.append(f"redis_masters is {masters}: use 1, or 3 and more, because a failover needs the votes of most masters.")
    if masters == 1 and replicas:
        found.append("redis_masters is 1 with replicas: one master cannot elect a failover. Use 3 masters, or no replicas.")
    if masters > 1 and not replicas:
        found.append(f"redis_replicas_per_master is 0 with {masters} masters: losing one host loses its slots. Use 1 or more.")
    if masters > 1 and hosts < max(3, 1 + replicas):
        found.append(
            f"{hosts} hosts in the group for {masters} masters with {replicas} replicas each: at least {max(3, 1 + replicas)} are "
            "needed, so that no host holds most masters and no replica is on its master's host."
        )
    needed = masters * (1 + replicas)
    if hosts > needed:
        idle = ", ".join(member["name"] for member in members[needed:])
        found.append(
            f"{hosts} hosts in the group but only {needed} processes: {idle} would run none. Take them out or raise redis_masters."
        )
    if host not in [member["name"] for member in members]:
        found.append(f"redis_members does not name this host ({host}). Add it, or take the host out of the group.")
    if maxmemory_mb < 32:
        found.append(f"redis_maxmemory_mb is {maxmemory_mb}: at least 32 MiB for each process. Raise redis_memory_share.")
    for name, count in Counter(account["name"] for account in accounts).items():
        if count > 1 or name in CACHE_USERS:
            found.append(f"redis_users: the name {name} is {'reserved' if name in CACHE_USERS else 'used twice'}. Choose another.")
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name):
            found.append(f"redis_users: {name!r} is not a user name. Use lower-case letters, digits, _ and -.")
    secrets = {**passwords, **{f"redis_users[{account['name']}].password": account["password"] for account in accounts}}
    secrets = {name: text_of(secret) for name, secret in secrets.items()}
    for name, secret in secrets.items():
        if len(secret) < PASSWORD_LENGTH or not secret.isascii() or not secret.isprintable():
            found.append(f"{name} has {len(secret)} characters: at least {PASSWORD_LENGTH} printable ASCII characters.")
    if len(set(secrets.values())) < len(secrets):
        found.append(f"Two of {', '.join(secrets)} are equal: every user has a password of its own.")
    return found
