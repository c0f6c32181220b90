# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Internal names: what hosts are called among themselves, in /etc/hosts and in certificates. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.uptier.platform.plugins.plugin_utils.topology import address_of

# Groups whose members can be asked for under one name, <group>.<domain>. Other groups of an inventory
# (releases, regions, sites) must not change a certificate.
COMPONENT_GROUPS = ("gateway", "app", "postgresql", "etcd", "redis", "monitoring", "backup")
CLUSTER_NAME = "postgres-cluster"
LOOPBACK = "127.0.0.1"


def numbered(host: str, groups: Mapping[str, Sequence[str]], domain: str) -> list[str]:
    """Return redis-N.<domain> for the N-th host of the group redis."""
    hosts = list(groups.get("redis", ()))
    return [f"redis-{hosts.index(host) + 1}.{domain}"] if host in hosts else []


def certificate_names(host: str, address: str, groups: Mapping[str, Sequence[str]], domain: str) -> list[str]:
    """Return every name and address under which this host is verified; the first is its common name."""
    names = [f"{host}.{domain}", host]
    names += [f"{group}.{domain}" for group in COMPONENT_GROUPS if host in groups.get(group, ())]
    names += numbered(host, groups, domain)
    if host in groups.get("postgresql", ()):
        names.append(f"{CLUSTER_NAME}.{domain}")
    names += ["localhost", address, LOOPBACK]
    return list(dict.fromkeys(names))


def hosts_entries(
    host: str, hostvars: Mapping[str, Mapping[str, Any]], groups: Mapping[str, Sequence[str]], domain: str
) -> list[dict[str, Any]]:
    """Return the lines of /etc/hosts on `host` as {address, names}: every host, then the cluster's name.

    On application hosts the database cluster is reached through the router beside the application.
    """
    entries = []
    for other in groups["all"]:
        names = [f"{other}.{domain}", other, *numbered(other, groups, domain)]
        entries.append({"address": address_of(other, hostvars[other]), "names": names})
    databases = list(groups.get("postgresql", ()))
    if databases:
        local = host in groups.get("app", ())
        addresses = [LOOPBACK] if local else [address_of(name, hostvars[name]) for name in databases]
        entries.extend({"address": address, "names": [f"{CLUSTER_NAME}.{domain}"]} for address in addresses)
    return entries
