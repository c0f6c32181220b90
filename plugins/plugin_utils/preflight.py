# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with an inventory, all of it, before anything is touched. Pure functions over plain data.

Each check returns problems; a problem says where it is, what was seen and how it is put right.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.etcd.members import CLIENT_PORT, PEER_PORT
from ansible_collections.uptier.platform.plugins.plugin_utils import (
    application,
    application_check,
    calendars,
    edge_check,
    firewall,
    gateway,
    inventory_check,
    layers,
    login,
    moves,
    redis_layout,
    secrets,
    specification,
    strangers,
)
from ansible_collections.uptier.platform.plugins.plugin_utils import found as on_hosts
from ansible_collections.uptier.platform.plugins.plugin_utils.databases import database_users, databases
from ansible_collections.uptier.platform.plugins.plugin_utils.ports import (
    LAST,
    UNPRIVILEGED,
    Numbers,
    PortError,
    default,
    differing,
    named,
    table,
    valid,
)
from ansible_collections.uptier.platform.plugins.plugin_utils.postgresql_tuning import (
    RESERVED_CONNECTIONS,
    TuningError,
    postgresql_settings,
)
from ansible_collections.uptier.platform.plugins.plugin_utils.problems import Problem, listed, nearest
from ansible_collections.uptier.platform.plugins.plugin_utils.topology import TopologyError, address_of

ETCD_PORTS = {"etcd_peer": PEER_PORT, "etcd_client": CLIENT_PORT}
KNOWN_GROUPS = ("gateway", "app", "postgresql", "etcd", "redis", "monitoring", "backup")
BUILT_IN_GROUPS = ("all", "ungrouped")
# Key in the tier profile, by group.
LEAST = {
    "gateway": "gateway_min",
    "app": "app_min",
    "postgresql": "postgresql_min",
    "etcd": "etcd_min",
    "redis": "redis_hosts_min",
    "monitoring": "monitoring_min",
    "backup": "backup_min",
}
# What a platform need not have where a provider runs PostgreSQL.
PROVIDED = ("postgresql", "etcd", "backup")
MANAGED_PASSWORD = "vault_postgresql_managed_password"
MANAGED_REDIS_PASSWORD = "vault_redis_managed_password"
MOST = {"app": "app_max", "postgresql": "postgresql_max"}
# Whose memory share counts on hosts of which group.
SHARES = {"postgresql": "postgresql", "redis": "redis", "app": "app", "prometheus": "monitoring", "loki": "monitoring"}
# Stores whose members must run one release: the groups that hold them, the reason, and the program whose version differs.
STORES = (
    (("postgresql",), "PostgreSQL {versions} cannot replicate with each other", "postgresql"),
    (("redis",), "Redis {versions} cannot replicate with each other", "redis"),
    (("etcd",), "etcd {versions} in one cluster is meant for the duration of an upgrade only", "etcd"),
    (("backup", "postgresql"), "pgBackRest {versions} refuse each other", "pgbackrest"),
)
# Variables that name files and directories on the controller; a test compares with what specifications say.
ON_CONTROLLER = (
    "acme_sites",
    "acme_extra_sites",
    "alloy_file",
    "grafana_extra_dashboards",
    "grafana_file",
    "loki_file",
    "postgresql_patroni_wheels",
)
# Variables that have checks of their own, which say more than their specification does.
CHECKED_ELSEWHERE = frozenset(
    {"platform_applications", "app_applications"}
    | {port.variable for port in table().values()}
    | {f"{component}_memory_share" for component in SHARES}
)


@dataclass
class Context:
    """All that the checks look at; plain dictionaries and lists."""

    tier: str
    tiers: Mapping[str, Mapping[str, Any]]
    releases: Mapping[str, Mapping[str, str]]
    groups: Mapping[str, Sequence[str]]
    hostvars: Mapping[str, Mapping[str, Any]]
    applications: Any = ()  # as the user wrote them
    archives: Mapping[str, Any] = field(default_factory=dict)  # what is in the releases; application_check.release_problems() has the shape
    expected_users: int | None = None
    structural_groups: frozenset[str] = frozenset()  # groups that only hold other groups
    other_groups: frozenset[str] = frozenset()
    known_variables: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    ignored_variables: frozenset[str] = frozenset()
    secrets: Sequence[Mapping[str, Any]] = ()
    probes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # what was set of the roles' variables, by host
    unreadable: Mapping[tuple[str, str], Sequence[str]] = field(
        default_factory=dict
    )  # hosts by (variable, what Ansible says of its template)
    words: frozenset[str] = frozenset()  # that templates of the inventory contain
    variables: frozenset[str] = frozenset()  # of any host or of the run
    refused: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)  # by (role, what does not hold): messages by host
    exists: Callable[[str], bool] = lambda path: True  # whether there is such a file or directory on the controller
    sources: Sequence[str] = ()  # what was given behind -i
    managed: Mapping[str, Any] = field(default_factory=dict)  # a provider's PostgreSQL
    managed_redis: Mapping[str, Any] = field(default_factory=dict)  # a provider's Redis
    minima: Sequence[Mapping[str, Any]] = ()  # numbers of hosts that the user wants below the tier's, with the reason
    extra_flows: Sequence[Mapping[str, Any]] = ()
    managed_ca: str | None = None  # what its file on the controller holds; None where it cannot be read
    managed_redis_ca: str | None = None  # the same for Redis

    @property
    def completed(self) -> list[application.Application]:
        """Return the applications with every key, as far as they can be read; check_applications() says what is wrong."""
        return application.completed(self.applications)

    @property
    def profile(self) -> Mapping[str, Any]:
        return self.tiers.get(self.tier, {})

    def hosts(self, group: str) -> list[str]:
        return list(self.groups.get(group, ()))


def check_hosts(context: Context) -> list[Problem]:
    return inventory_check.no_hosts(context.groups, context.sources, KNOWN_GROUPS)


def check_specification(context: Context) -> list[Problem]:
    """Look at every variable of every role on every host, by name and type."""
    return [
        *specification.over_all_hosts(layers.specifications(), context.values, CHECKED_ELSEWHERE),
        *strangers.unreadable_problems(context.unreadable, len(context.hosts("all")), context.known_variables | context.variables),
    ]


def check_tier(context: Context) -> list[Problem]:
    if context.tier in context.tiers:
        return []
    if not context.tier:
        playbooks = listed(f"playbooks/{tier}.yml" for tier in context.tiers)
        return [
            Problem(
                "platform_tier",
                "is not set, so it is not known which numbers hold",
                f"Run the playbook of a tier ({playbooks}), or set it.",
            )
        ]
    fix = f"{nearest(context.tier, context.tiers)}Use one of {listed(context.tiers)}."
    return [Problem("platform_tier", f"is {context.tier!r}, which is not a tier", fix)]


def check_groups(context: Context) -> list[Problem]:
    problems = []
    accepted = {*KNOWN_GROUPS, *BUILT_IN_GROUPS, *context.structural_groups, *context.other_groups}
    for group in sorted(set(context.groups) - accepted):
        if group.startswith(("region_", "zone_")):
            continue
        fix = f"{nearest(group, KNOWN_GROUPS)}The platform's groups are {listed(KNOWN_GROUPS)}; name a group of your own in platform_other_groups."
        problems.append(Problem(f"group {group}", f"is unknown, its hosts ({listed(context.hosts(group))}) get nothing from it", fix))
    for host in context.hosts("ungrouped"):
        fix = f"Put it into one of {listed(KNOWN_GROUPS)}, or take it out of the inventory."
        problems.append(Problem(f"host {host}", "is in no group, so nothing would run on it", fix))
    return problems


def strange_variables(context: Context) -> tuple[list[Problem], list[str]]:
    """Return the variables that look like ours and are not, and those that nothing reads."""
    found: dict[str, list[str]] = {}
    for host in context.hosts("all"):
        for name in context.hostvars[host]:
            found.setdefault(name, []).append(host)
    own = tuple(context.ignored_variables)
    return strangers.problems_of(found, len(context.hosts("all")), context.known_variables, context.prefixes, context.words, own)


def check_variables(context: Context) -> list[Problem]:
    """A role would silently go on with its default."""
    return strange_variables(context)[0]


def notices_of(context: Context) -> list[str]:
    """Return what is worth a word and stops nobody."""
    unused = strange_variables(context)[1]
    return (
        ([strangers.notice(unused)] if unused else [])
        + moves.notices(context.groups, keeps(context))
        + [
            f"Group {group}: {hosts} hosts are enough, in place of the {context.profile.get(LEAST[group], 0)} of the tier {context.tier}: {reason}"
            for group, (hosts, reason) in lowered(context).items()
        ]
    )


def lowered(context: Context) -> dict[str, tuple[int, str]]:
    """Return the minima of the tier that the user has lowered, with the reason; what cannot be is left to check_minima."""
    found = {}
    for entry in context.minima:
        group, hosts, reason = entry.get("group"), entry.get("hosts"), str(entry.get("reason") or "").strip()
        if group in LEAST and isinstance(hosts, int) and reason and (hosts > 0 or (group == "redis" and hosts == 0)):
            found[str(group)] = (hosts, reason)
    return found


def check_minima(context: Context) -> list[Problem]:
    """Look at what the user has lowered: with a reason, and never to a platform without what all the others lean on."""
    problems = []
    for entry in context.minima:
        group, hosts = str(entry.get("group")), entry.get("hosts")
        where = f"variable platform_minima, group {group}"
        if not str(entry.get("reason") or "").strip():
            problems.append(
                Problem(where, "has no reason", "Say why fewer hosts than the tier's are enough; preflight prints it in each run.")
            )
        if isinstance(hosts, int) and hosts < 1 and (group != "redis" or hosts < 0):
            fix = (
                "Use 1 or more. Only Redis can be left out (0); PostgreSQL and Redis can be a provider's "
                "(platform_managed_postgresql, platform_managed_redis)."
            )
            problems.append(Problem(where, f"is {hosts} hosts, and the platform cannot do without", fix))
    return problems


def check_sizes(context: Context) -> list[Problem]:
    problems = []
    for group, key in LEAST.items():
        if (context.managed and group in PROVIDED) or (context.managed_redis and group == "redis"):
            continue
        least, count = context.profile.get(key, 0), len(context.hosts(group))
        if group in lowered(context):
            least = min(least, lowered(context)[group][0])
        if count < least:
            seen = f"has {count} {'host' if count == 1 else 'hosts'}, the tier {context.tier} needs at least {least}"
            problems.append(Problem(f"group {group}", seen, "Add hosts to the group, or run the playbook of a smaller tier."))
    for group, key in MOST.items():
        most, count = context.profile.get(key), len(context.hosts(group))
        if most is not None and count > most:
            seen = f"has {count} hosts, the tier {context.tier} is made for at most {most}"
            problems.append(Problem(f"group {group}", seen, "Run the playbook of a larger tier, or take hosts out."))
    return problems


def check_users(context: Context) -> list[Problem]:
    users = context.expected_users
    if users is None or not context.profile:
        return []
    least, most = context.profile["users_min"], context.profile["users_max"]
    if least <= users <= most:
        return []
    fitting = [tier for tier, profile in context.tiers.items() if profile["users_min"] <= users <= profile["users_max"]]
    fix = f"Run playbooks/{fitting[0]}.yml" if fitting else "Correct the number"
    also = f" (or {listed(fitting[1:])})" if fitting[1:] else ""
    return [
        Problem("platform_expected_users", f"is {users:,}, the tier {context.tier} is made for {least:,} to {most:,}", f"{fix}{also}."),
    ]


def check_etcd(context: Context) -> list[Problem]:
    members = context.hosts("etcd")
    if not members or len(members) % 2:
        return []
    seen = f"has {len(members)} members ({listed(members)}), an even number, which survives no more failures than {len(members) - 1} would"
    return [Problem("group etcd", seen, f"Make it {len(members) - 1} or {len(members) + 1}.")]


def check_addresses(context: Context) -> list[Problem]:
    problems: list[Problem] = []
    owners: dict[str, list[str]] = {}
    for host in context.hosts("all"):
        try:
            owners.setdefault(address_of(host, context.hostvars[host]), []).append(host)
        except TopologyError as error:
            what = str(error).removeprefix(f"{host}: ").split(". ")[0].rstrip(".")
            seen = "has no address" if what == "no address" else f"has no usable address: {what}"
            problems.append(Problem(f"host {host}", seen, "Set platform_address (or ansible_host) to its internal IP address."))
    for address, hosts in owners.items():
        if len(hosts) > 1:
            fix = "Give each its own platform_address (or ansible_host)."
            problems.append(Problem(f"hosts {listed(hosts)}", f"share one address, {address}", fix))
    return problems


def check_moved(context: Context) -> list[Problem]:
    """Refuse what would cut a living member off from the others, who know it under its address and port."""
    problems: list[Problem] = []
    ports: dict[tuple[str, str, str], list[str]] = {}
    for host in context.hosts("all"):
        lives = (context.probes.get(host, {}).get("found") or {}).get("lives") or {}
        try:
            address = address_of(host, context.hostvars[host])
        except TopologyError:
            continue  # check_addresses() says that
        former: dict[str, set[str]] = {}
        for what in (what for what in lives if host in context.hosts(what.partition("_")[0])):
            place, dummy, port = str(lives[what]).rpartition(":") if what != "redis" else (str(lives[what]), "", "")
            role = what.partition("_")[0]
            if place != address and f"{role}_address" not in context.hostvars[host]:
                former.setdefault(place, set()).add({"etcd": "its member of etcd", "redis": "its nodes of Redis"}[role])
            declared = str(context.hostvars[host].get(f"{what}_port", ETCD_PORTS.get(what, "")))
            if port and declared.isdigit() and declared != port:
                ports.setdefault((f"{what}_port", declared, port), []).append(host)
        for place, members in former.items():
            seen = f"has the address {address} in the inventory, and the others know {' and '.join(sorted(members))} under {place}"
            clear = {"its member of etcd": ("etcd", "/var/lib/etcd/default"), "its nodes of Redis": ("'redis-node@*'", "/var/lib/redis/*")}
            units, data = (" ".join(clear[member][part] for member in sorted(members)) for part in (0, 1))
            fix = (
                f"Give it {place} again. Or, where the others are healthy and hold all data, have it join anew, one host at a time: on "
                f"{host} `systemctl stop {units} && rm -r {data}`, then run this again."
            )
            problems.append(Problem(f"host {host}", seen, fix))
    for (name, declared, port), hosts in ports.items():
        seen = f"is {declared}, and the members of etcd on {listed(hosts)} are known to the others under {port}"
        fix = f"Set it back to {port}: a living cluster keeps its ports, since its members and Patroni would not find each other during the change."
        problems.append(Problem(f"variable {name}", seen, fix))
    return problems


def keeps(context: Context) -> dict[str, Sequence[str]]:
    """Return what the platform keeps on each host that was asked."""
    seen = {host: context.probes.get(host, {}).get("found") or {} for host in context.hosts("all")}
    return {host: found["keeps"] for host, found in seen.items() if "keeps" in found}


def check_stores(context: Context) -> list[Problem]:
    """Refuse a move that would leave behind what must not be lost."""
    return moves.problems(context.groups, keeps(context))


def check_memory(context: Context) -> list[Problem]:
    problems: list[Problem] = []
    unread: dict[tuple[str, str], list[str]] = {}
    full: dict[str, list[str]] = {}
    for host in context.hosts("all"):
        shares = {}
        for component, group in SHARES.items():
            if host in context.hosts(group):
                key = f"{component}_memory_share"
                value = context.hostvars[host].get(key, context.profile.get(key))
                share = fraction(value)
                if share is not None:
                    shares[key] = share
                elif value is not None:
                    unread.setdefault((key, repr(value)), []).append(host)
        total = sum(shares.values())
        if total > 1.0001:
            parts = listed(f"{key} {share:.2f}" for key, share in shares.items())
            full.setdefault(f"{total:.0%} of its memory ({parts})", []).append(host)
    for what, hosts in full.items():
        fix = "Lower some of them in host_vars or group_vars, or move a component to another host."
        seen = f"allocates {what}" if len(hosts) == 1 else f"allocate {what.replace('its', 'their', 1)}"
        problems.append(Problem(f"host{'' if len(hosts) == 1 else 's'} {listed(hosts)}", seen, fix))
    for (key, value), hosts in unread.items():
        seen = f"is {value} on {listed(hosts)}, which is not a fraction of the memory"
        problems.append(Problem(f"variable {key}", seen, "Write a number from 0 to 1, for example 0.25."))
    return problems


def size(context: Context, host: str, name: str, seen: str) -> int:
    """Return what the user says of a host's size, else what was seen there; 0 where nobody knows."""
    return number(context, host, name, 0) or int((context.probes.get(host, {}).get("found") or {}).get(seen) or 0)


def share_of(context: Context, host: str, component: str) -> float:
    """Return the part of a host's memory that a component gets; check_memory() says what is none."""
    key = f"{component}_memory_share"
    return fraction(context.hostvars[host].get(key, context.profile.get(key))) or 0.0


def check_parts(context: Context) -> list[Problem]:
    """Divide the memory of each host as its roles will, which refuse what does not fit."""
    refused: dict[str, list[str]] = {}
    for host in context.hosts("all") if context.profile else ():
        memory = size(context, host, "platform_memory_mb", "memory_mb")
        try:
            if host in context.hosts("app") and memory:
                application.units(context.completed, number(context, host, "app_memory_mb", memory), share_of(context, host, "app"))
            if host in context.hosts("postgresql") and memory and not context.managed:
                part = number(context, host, "postgresql_memory_mb", int(memory * share_of(context, host, "postgresql")))
                connections, workers = (number(context, host, f"postgresql_max_{what}", 0) for what in ("connections", "worker_processes"))
                postgresql_settings(part, size(context, host, "platform_cpus", "cpus"), connections, workers=workers)
        except (application.ApplicationError, TuningError) as error:
            refused.setdefault(str(error), []).append(host)
    problems = []
    for text, hosts in refused.items():
        seen, dummy, fix = text.partition(". ")
        problems.append(Problem(f"host{'' if len(hosts) == 1 else 's'} {listed(hosts)}:", seen, fix))
    return problems


def fraction(value: Any) -> float | None:
    """Return a share of the memory, also where it is written as a text; None for what is none."""
    try:
        share = float(value)
    except (TypeError, ValueError):
        return None
    return share if 0 <= share <= 1 and not isinstance(value, bool) else None


def number(context: Context, host: str, name: str, default: int) -> int:
    """Return what the user set for a host, else the tier's number, else the role's; what is no number is for the role to refuse."""
    value = context.hostvars[host].get(name, context.profile.get(name, default))
    try:
        return int(value)
    except (TypeError, ValueError):
        return default


def pool_sizes(context: Context, host: str) -> list[int]:
    """Return the sizes of the pools of one application host: the user's own ones, else those that follow from the applications."""
    own = context.hostvars[host].get("pgbouncer_databases")
    if isinstance(own, Sequence) and all(isinstance(pool, Mapping) for pool in own):
        return [pool["size"] for pool in own if isinstance(pool.get("size"), int)]
    budget = number(context, host, "pgbouncer_connection_budget", 0)
    return [pool["size"] for pool in application.pools(context.completed, len(context.hosts("app")), budget)]


def check_jobs(context: Context) -> list[Problem]:
    """Look for jobs that every application host would run."""
    hosts = context.hosts("app")
    return [
        Problem(
            f"job {unit}",
            f"would be run by each of {len(hosts)} application hosts: its application has no cache, where they agree on who runs it",
            "Set cache: true for the application.",
        )
        for unit in application.unclaimed(context.completed, len(hosts))
    ]


def check_connections(context: Context) -> list[Problem]:
    """Follow the connections from the processes through the pools to the server; at each step there must be enough."""
    hosts, servers = context.hosts("app"), context.hosts("postgresql")
    applications = [item for item in context.completed if item["database"]]
    if not hosts or not (servers or context.managed) or not applications or not context.profile:
        return []
    try:
        taken = {host: sum(pool_sizes(context, host)) for host in hosts}
    except application.ApplicationError as error:
        seen, dummy, fix = str(error).partition(". ")
        return [Problem("variable pgbouncer_connection_budget:", seen, fix)]
    problems = []
    clients = sum(application.processes(service) * service["database_connections"] for item in applications for service in item["services"])
    accepted = min(number(context, host, "pgbouncer_max_client_conn", 2000) for host in hosts)
    if clients > accepted:
        seen = f"may open {clients} connections to the pools of their host, which accept {accepted}"
        fix = f"Set pgbouncer_max_client_conn to {clients} or more, or lower instances or database_connections of the services."
        problems.append(Problem(f"the processes of {listed(item['name'] for item in applications)}", seen, fix))
    total = sum(taken.values())
    short: dict[tuple[str, str], list[str]] = {}
    for server in servers:
        maximum = number(context, server, "postgresql_max_connections", 0)
        reserved = number(context, server, "postgresql_reserved_connections", RESERVED_CONNECTIONS)
        if total + reserved > maximum:
            parts = listed(f"{host} {count}" for host, count in taken.items())
            seen = (
                f"accepts {maximum} connections, but the pools of {len(hosts)} application hosts may take {total} ({parts}) "
                f"and {reserved} are reserved: {total + reserved}"
            )
            fix = (
                f"Set postgresql_max_connections to {total + reserved} or more, or pgbouncer_connection_budget "
                f"to {max(0, maximum - reserved)} or less."
            )
            short.setdefault((seen, fix), []).append(server)
    return problems + [Problem(f"PostgreSQL on {listed(where)}", seen, fix) for (seen, fix), where in short.items()]


def check_secrets(context: Context) -> list[Problem]:
    problems, missing = [], []
    strangers: set[str] = set()
    unreadable = {name for name, dummy in context.unreadable}  # check_specification() says why
    for secret in secrets.wanted(context.secrets, context.completed):
        hosts = context.hosts(secret.needed_by) or (context.hosts("app") if context.managed and secret.managed else [])
        if not hosts or secret.name in unreadable:
            continue
        variables = context.hostvars[hosts[0]]
        defect = secrets.defect(secret, variables)
        if defect == secrets.MISSING:
            missing.append(secret)
            strangers.update(name for name in variables if name.startswith("vault_"))
        elif defect:
            fix = "Remove it from the vault file and run playbooks/create_secrets.yml, which makes a strong one."
            problems.append(Problem(f"secret {secret.label}", defect, fix))
    if missing:
        strangers -= {MANAGED_PASSWORD, MANAGED_REDIS_PASSWORD, *(entry["name"] for entry in context.secrets)}
        matches = {name: difflib.get_close_matches(name, sorted(strangers), n=1, cutoff=0.8) for name in {item.name for item in missing}}
        meant = "".join(f"{found[0]} is set: did you mean {name}? " for name, found in sorted(matches.items()) if found)
        where = f"{'secret' if len(missing) == 1 else 'secrets'} {listed(secret.label for secret in missing)}"
        seen = "is missing" if len(missing) == 1 else "are missing"
        problems.append(Problem(where, seen, f"{meant}Run playbooks/create_secrets.yml, which makes what is missing."))
    return problems


def check_managed(context: Context) -> list[Problem]:
    """Look at the description of a server that a provider runs, as far as that can be done without asking it."""
    given, problems = context.managed, []
    if not given:
        return []
    name = "platform_managed_postgresql"
    for group, why in (("postgresql", "and a platform has one PostgreSQL only"), ("backup", "and the provider makes its backups")):
        hosts = context.hosts(group)
        if hosts:
            seen = f"has {'a host' if len(hosts) == 1 else 'hosts'} ({listed(hosts)}) while {name} is set, {why}"
            problems.append(Problem(f"group {group}", seen, f"Take the hosts out of the group, or remove {name}."))
    for key, what in (
        ("host", "Set it to the name of the provider's server, as in its certificate."),
        ("admin_user", "Set it to the user with CREATEROLE and CREATEDB that the provider gave you."),
    ):
        if not given.get(key):
            problems.append(Problem(f"variable {name}.{key}", "is not set", what))
    problems += check_managed_place(name, given, "postgresql")
    problems += check_managed_authority(name, given, context.managed_ca)
    user = given.get("admin_user")
    if user and user in [*database_users(databases(context.completed)), "monitor"]:
        seen = f"is {user}, which is the name of a user that the platform creates for itself"
        problems.append(Problem(f"variable {name}.admin_user", seen, "Use another user as the administrator, or rename the application."))
    hosts = context.hosts("app") or context.hosts("all")
    password = str(context.hostvars[hosts[0]].get(MANAGED_PASSWORD) or "").strip() if hosts else ""
    if not password:
        fix = f"Put the password of {user or 'the administrator'} at the provider into the vault file (ansible-vault edit) under this name."
        problems.append(Problem(f"secret {MANAGED_PASSWORD}", "is missing, and cannot be generated", fix))
    return problems


def check_managed_redis(context: Context) -> list[Problem]:
    """Look at the description of a Redis that a provider runs, as far as that can be done without asking it."""
    given, problems = context.managed_redis, []
    if not given:
        return []
    name, own = "platform_managed_redis", context.hosts("redis")
    if own:
        seen = f"has {'a host' if len(own) == 1 else 'hosts'} ({listed(own)}) while {name} is set, and a platform has one Redis only"
        problems.append(Problem("group redis", seen, f"Take the hosts out of the group, or remove {name}."))
    if not given.get("host"):
        fix = "Set it to the name of the provider's server, as in its certificate."
        problems.append(Problem(f"variable {name}.host", "is not set", fix))
    problems += check_managed_place(name, given, "redis")
    if given.get("ca") and not redis_layout.managed(given)["tls"]:
        fix = f"Remove {name}.ca, or let tls be true."
        problems.append(Problem(f"variable {name}.ca", "names an authority while tls is false, so that nothing would be verified", fix))
    problems += check_managed_authority(name, given, context.managed_redis_ca)
    hosts = context.hosts("app") or context.hosts("all")
    if hosts and not str(context.hostvars[hosts[0]].get(MANAGED_REDIS_PASSWORD) or "").strip():
        fix = "Put the password at the provider into the vault file (ansible-vault edit) under this name."
        problems.append(Problem(f"secret {MANAGED_REDIS_PASSWORD}", "is missing, and cannot be generated", fix))
    return problems


def check_managed_place(name: str, given: Mapping[str, Any], port_name: str) -> list[Problem]:
    """Look at names and ports of a provider's server."""
    problems = []
    for key in ("host", "replica_host"):
        text = str(given.get(key) or "")
        if re.search(r"[/@:\s]", text):
            # It may hold the password, so it is not shown.
            fix = "Give the name of the host alone; port, user and database have keys of their own, the password is in the vault file."
            problems.append(Problem(f"variable {name}.{key}", "is a URL or a connection string, not the name of a host", fix))
    for key in ("port", "replica_port"):
        port = given.get(key)
        if isinstance(port, int) and not 1 <= port <= LAST:
            fix = f"Correct it; {default(port_name)} is the usual one."
            problems.append(Problem(f"variable {name}.{key}", f"is {port}, which is not a port", fix))
    return problems


def check_managed_authority(name: str, given: Mapping[str, Any], text: str | None) -> list[Problem]:
    path, where = given.get("ca"), f"variable {name}.ca"
    if not path:
        return []
    if not str(path).startswith("/"):
        fix = 'Write it with its directory, for example "{{ inventory_dir }}/files/provider-ca.crt".'
        return [Problem(where, f"is {path}, which is not an absolute path", fix)]
    if text is None:
        return [Problem(where, f"names {path}, which cannot be read on the controller", "Put the file there that the provider offers.")]
    if "-----BEGIN CERTIFICATE-----" not in text:
        return [
            Problem(where, f"names {path}, which contains no certificate in PEM format", "Put the file there that the provider offers.")
        ]
    return []


def check_applications(context: Context) -> list[Problem]:
    """Look at the applications as they were written, at their releases, and at what is said about them elsewhere."""
    hosts = context.hosts("app")
    problems = application_check.problems(context.applications)
    if hosts:
        problems += application_check.release_problems(context.applications, context.archives)
        problems += application_check.secret_environment_problems(context.applications, context.hostvars[hosts[0]].get("app_secret_env"))
    return problems


def check_port_variables(context: Context) -> list[Problem]:
    """Look at every variable that moves a port."""
    problems, numbers = [], Numbers(context.hostvars, context.groups, context.profile)
    for port in table().values():
        found: dict[Any, list[str]] = {}
        for host in context.hosts("all"):
            if port.variable and port.runs_on(host, context.groups):
                found.setdefault(context.hostvars[host].get(port.variable, port.port), []).append(host)
        where, right = f"variable {port.variable}", {}
        for value, hosts in found.items():
            number = valid(value)
            if number is None:
                problems.append(Problem(where, f"is {value!r} on {listed(hosts)}, which is not a port", f"Use a number from 1 to {LAST}."))
            elif number < UNPRIVILEGED and not port.root:
                seen = f"is {number} on {listed(hosts)}, and {port.who} does not run as root, which alone may use it"
                problems.append(Problem(where, seen, f"Use {UNPRIVILEGED} to {LAST}."))
            elif above := [name for name in table().values() if name.of == port.name and max(numbers.all_on(hosts[0], name.name)) > LAST]:
                seen = f"is {number} on {listed(hosts)}, and {above[0].who} is {above[0].plus} above it"
                problems.append(Problem(where, seen, f"Use {UNPRIVILEGED} to {LAST - above[0].plus - 10}."))
            else:
                right.setdefault(number, []).extend(hosts)
        if port.alike and len(right) > 1:
            fix = f"All hosts of {' and '.join(port.groups)} have one; set it in group_vars."
            problems.append(Problem(where, f"is {differing(right)}", fix))
    return problems


@dataclass(frozen=True)
class Listener:
    """Who wants a port of a host."""

    port: int
    who: str
    service: bool = False
    spare: bool = False  # kept for the instance that starts with a new release
    beside_services: bool = False

    def clashes(self, other: Listener) -> bool:
        # Of two services check_applications() says it, with their places in the list.
        apart = (self.service and (other.service or other.beside_services)) or (self.beside_services and other.service)
        return self.port == other.port and not apart


def listeners(context: Context, host: str) -> list[Listener]:
    """Return all that listens on a host."""
    found, numbers = [], Numbers(context.hostvars, context.groups, context.profile)
    names = [port.name for port in table().values() if port.runs_on(host, context.groups)]
    if context.managed and host in context.hosts("monitoring")[:1]:
        names.append("postgres-exporter")
    for port in map(named, dict.fromkeys(names)):
        try:
            found.extend(Listener(number, port.who, beside_services=port.beside_services) for number in numbers.all_on(host, port.name))
        except PortError:  # check_port_variables says it
            continue
    if host in context.hosts("app"):
        for unit in application.services(context.completed):
            who = f"service {unit['application']}.{unit['service']}"
            found.extend(Listener(port, who, service=True, spare=0 < unit["spare"] <= port) for port in application.ports(unit))
    return found


def check_ports(context: Context) -> list[Problem]:
    """Find ports that two listeners want. The clashes of the same two, also on several hosts, are one problem."""
    clashes: dict[tuple[str, str], list[tuple[int, str, bool]]] = {}
    for host in context.hosts("all"):
        there = listeners(context, host)
        for place, one in enumerate(there):
            for other in there[:place]:
                if one.clashes(other):
                    clashes.setdefault((other.who, one.who), []).append((one.port, host, one.spare or other.spare))
    problems = []
    for (first, second), seen_on in clashes.items():
        ports = sorted({port for port, dummy, spare in seen_on})
        hosts = dict.fromkeys(host for dummy, host, spare in seen_on)
        where, verb = (f"port {ports[0]}", "is") if len(ports) == 1 else (f"ports {listed(ports)}", "are")
        spare = " A web service takes one more than it has instances, for releases." if any(spare for *dummy, spare in seen_on) else ""
        seen = f"{verb} wanted by {first} and by {second} on {listed(hosts)}"
        problems.append(Problem(where, seen, f"Give one of them another port.{spare}"))
    return sorted(problems, key=lambda problem: problem.where)


def check_flows(context: Context) -> list[Problem]:
    """Look at the flows that the user adds."""
    return [
        Problem(f"flow {flow.get('name')} of platform_flows_extra", seen, fix)
        for flow in context.extra_flows
        for seen, fix in firewall.complaints(flow, context.groups)
    ]


def check_probes(context: Context) -> list[Problem]:
    return [
        Problem(f"host {host}", problem["seen"], problem["fix"])
        for host in context.hosts("all")
        for problem in context.probes.get(host, {}).get("problems", ())
    ]


def check_found(context: Context) -> list[Problem]:
    """Look at what hosts had before the platform came."""
    numbers = Numbers(context.hostvars, context.groups, context.profile)
    return on_hosts.problems(context.probes, context.groups, numbers, context.completed, context.extra_flows, context.releases)


def check_login(context: Context) -> list[Problem]:
    """Look at how Ansible got in, and whether it still will."""
    return login.problems(context.probes, context.groups, context.hostvars)


def check_releases(context: Context) -> list[Problem]:
    problems = []
    for groups, reason, program in STORES:
        seen: dict[str, list[str]] = {}
        for host in dict.fromkeys(host for group in groups for host in context.hosts(group)):
            release = context.probes.get(host, {}).get("release")
            if release in context.releases:
                seen.setdefault(release, []).append(host)
        if len(groups) > 1 and not all(context.hosts(group) for group in groups):
            continue
        if len(seen) > 1:
            parts = listed(f"Debian {release} on {listed(hosts)}" for release, hosts in sorted(seen.items()))
            why = reason.format(versions=" and ".join(context.releases[release][program] for release in sorted(seen)))
            name = " and ".join(groups)
            problems.append(
                Problem(
                    f"group{'s' if len(groups) > 1 else ''} {name}",
                    f"mix releases ({parts}); {why}",
                    "Put all of them on one Debian release.",
                )
            )
    return problems


# -- what roles would refuse, each in its turn -------------------------------------------------------------------------


def effective(context: Context, host: str, name: str) -> Any:
    """Return the value of a role's variable on a host: what was set, else the tier's number, else the role's own literal."""
    role = next((role for role in layers.groups_of_roles() if name in layers.defaults(role)), "")
    literal = layers.defaults(role).get(name) if role else None
    literal = None if isinstance(literal, str) and "{{" in literal else literal
    return context.values.get(host, {}).get(name, context.profile.get(name, literal))


def check_inventory(context: Context) -> list[Problem]:
    """Look at names, addresses and the page."""
    hosts, tiers = context.hosts("all"), list(context.tiers)
    domain = next((str(found) for host in hosts if (found := context.hostvars[host].get("platform_internal_domain"))), "internal")
    return [
        *inventory_check.host_names(context.groups, domain),
        *inventory_check.addresses(hosts, context.hostvars),
        *inventory_check.domain_names(hosts, context.hostvars),
        *inventory_check.several(hosts, context.hostvars),
        *inventory_check.contradicted_tier(context.tier, tiers, hosts, context.hostvars),
        *inventory_check.empty_page(hosts, context.hostvars),
        *inventory_check.virtual_address(context.tier, context.profile, context.groups, context.hostvars),
    ]


def check_networks(context: Context) -> list[Problem]:
    found: dict[Problem, list[str]] = {}
    for host, values in context.values.items():
        for problem in inventory_check.networks(values):
            found.setdefault(problem, []).append(host)
    return [specification.named(problem, hosts, len(context.values)) for problem, hosts in found.items()]


def check_backups(context: Context) -> list[Problem]:
    return [] if context.managed else inventory_check.backups(context.hosts("postgresql"), context.hosts("backup"))


def check_calendars(context: Context) -> list[Problem]:
    found: dict[Problem, list[str]] = {}
    for host, values in context.values.items():
        for name in calendars.VARIABLES:
            for problem in calendars.problems_of(name, values.get(name)):
                found.setdefault(problem, []).append(host)
    return [specification.named(problem, hosts, len(context.values)) for problem, hosts in found.items()]


def check_redis(context: Context) -> list[Problem]:
    """Look at the shape of the cluster that the hosts of its group shall carry."""
    hosts = context.hosts("redis")
    if not context.profile or len(hosts) < context.profile.get("redis_hosts_min", 1):  # check_sizes() says that
        return []
    masters, replicas = (number(context, hosts[0], name, 0) for name in ("redis_masters", "redis_replicas_per_master"))
    running = {host: int((context.probes.get(host, {}).get("found") or {}).get("redis_masters") or 0) for host in hosts}
    if reshaped := redis_layout.reshaped(masters, running):
        return [Problem("group redis", *reshaped)]
    # The platform's own passwords are looked at elsewhere, and so is memory that is not set as a number.
    parts = [size(context, host, "platform_memory_mb", "memory_mb") * share_of(context, host, "redis") for host in hosts]
    each = [part // (redis_layout.processes(hosts, host, masters, replicas) or 1) for host, part in zip(hosts, parts, strict=True)]
    memory = min(number(context, host, "redis_maxmemory_mb", int(part) or LAST) for host, part in zip(hosts, each, strict=True))
    own = edge_check.entries(context.values.get(hosts[0], {}).get("redis_users"))
    accounts = [user for user in own if isinstance(user.get("name"), str) and isinstance(user.get("password"), (str, int))]
    said = redis_layout.problems([{"name": host} for host in hosts], masters, replicas, hosts[0], memory, accounts, {})
    problems = []
    for text in said:
        seen, dummy, fix = text.partition(": ")
        problems.append(Problem("group redis:", seen.rstrip("."), fix[:1].upper() + fix[1:]))
    return problems


def check_gateway(context: Context) -> list[Problem]:
    """Look at sites, limits and certificates that were written by hand."""
    hosts = context.hosts("gateway")
    if not hosts:
        return []
    host = hosts[0]
    values = context.values.get(host, {})
    derived = gateway.sites_of(context.completed, grafana_domain(context, host))
    given = effective(context, host, "nginx_upstreams")
    upstreams: dict[str, Any] = {}
    for item in edge_check.entries(given):
        addresses = item.get("addresses")
        # A default is a template here; whether its group has hosts is said by check_sizes().
        upstreams[str(item.get("name"))] = list(addresses) if isinstance(addresses, (list, tuple)) else None
    names = [str(limit.get("name")) for limit in edge_check.entries(effective(context, host, "nginx_rate_limits"))]
    own = [site for name in edge_check.SITE_LISTS for site in edge_check.entries(values.get(name))]
    certified = [*([] if "nginx_sites" in values else derived), *own]
    wanted = [str(domain) for site in certified if isinstance(site.get("domains"), (list, tuple)) for domain in site["domains"]]
    files = [(name, site) for name in ("acme_sites", "acme_extra_sites") for site in edge_check.entries(values.get(name))]
    keys = values.get("nginx_api_keys", context.hostvars[host].get("vault_nginx_api_keys") or [])
    releases = {name: context.probes.get(name, {}).get("release") for name in hosts}
    shape = edge_check.sites(values, derived, upstreams, names)
    return [
        *shape,
        *(edge_check.offered(values, derived, edge_check.entries(keys), context.exists, releases) if not shape else ()),
        *edge_check.limits(values),
        *edge_check.certificates(values, wanted, files),
    ]


def grafana_domain(context: Context, host: str) -> str:
    """Return the domain under which the gateways serve Grafana, as the roles' defaults derive it."""
    variables = context.hostvars[host]
    if "platform_grafana_domain" in variables:
        return str(variables["platform_grafana_domain"] or "")
    domain = variables.get("platform_domain")
    enabled = str(variables.get("platform_grafana_enabled", True)).lower() not in application.FALSE
    return f"grafana.{domain}" if domain and enabled and context.hosts("monitoring") else ""


def check_pools(context: Context) -> list[Problem]:
    hosts = context.hosts("app")
    if not hosts or "pgbouncer_databases" not in context.values.get(hosts[0], {}):
        return []
    passwords = context.hostvars[hosts[0]].get("vault_postgresql_user_passwords")
    budget = number(context, hosts[0], "pgbouncer_connection_budget", 0)
    passwords = passwords if isinstance(passwords, Mapping) else None
    administrator = effective(context, hosts[0], "pgbouncer_admin_user")
    return edge_check.pools(context.values[hosts[0]]["pgbouncer_databases"], len(hosts), budget, passwords, administrator)


def check_objects(context: Context) -> list[Problem]:
    """Look at what is to be made in databases."""
    role, hosts = ("postgresql_managed", context.hosts("app")) if context.managed else ("postgresql", context.hosts("postgresql"))
    if not hosts:
        return []
    values = context.values.get(hosts[0], {})
    own = [str(entry.get("name")) for entry in edge_check.entries(values.get(f"{role}_databases"))]
    known = own or [entry["name"] for entry in databases(context.completed)]
    variables = [f"{role}_{kind}" for kind in ("indexes", "partitions", "init_sql")]
    return edge_check.objects(values, variables, [*known, "postgres"])


def check_channels(context: Context) -> list[Problem]:
    hosts = context.hosts("monitoring")
    if not hosts:
        return []
    needs = layers.internals("alertmanager")["__alertmanager_needs"]
    return edge_check.channels(
        context.values.get(hosts[0], {}).get("alertmanager_channels"), effective(context, hosts[0], "alertmanager_smtp_smarthost"), needs
    )


def check_files(context: Context) -> list[Problem]:
    """Look for what roles will read on the controller. A relative path is looked for in several places, when its turn comes."""
    found: dict[tuple[str, str], list[str]] = {}
    for host, values in context.values.items():
        for name, path in files_of(values):
            if path.startswith("/") and not context.exists(path):
                found.setdefault((name, path), []).append(host)
    problems = []
    for (name, path), hosts in found.items():
        problem = Problem(f"variable {name}", f"names {path}, which is not on the controller", "Put it there, or correct the path.")
        problems.append(specification.named(problem, hosts, len(context.values)))
    return problems


def files_of(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the paths on the controller that the variables of a host name, as (variable, path)."""
    for name in ON_CONTROLLER:
        value = values.get(name)
        component, dummy, kind = name.partition("_")
        if kind == "file" and values.get(f"{component}_source", "repository") == "repository":
            continue
        for path in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(path, Mapping):
                yield from ((f"{name}: {key}", path[key]) for key in ("certificate", "key") if isinstance(path.get(key), str))
            elif isinstance(path, str):
                yield name, path


def check_roles(context: Context) -> list[Problem]:
    """Say what the preflight of a role would refuse and no check above knows; the message is that of the first host."""
    problems = []
    for (role, what), said in context.refused.items():
        seen = f"would refuse this: {what}"
        problems.append(Problem(f"role {role} on {listed(said)}", seen, squeeze(next(iter(said.values())), 900)))
    return problems


CHECKS = (
    check_probes,
    check_found,
    check_login,
    check_specification,
    check_tier,
    check_groups,
    check_variables,
    check_inventory,
    check_addresses,
    check_networks,
    check_minima,
    check_moved,
    check_stores,
    check_sizes,
    check_backups,
    check_managed,
    check_managed_redis,
    check_users,
    check_etcd,
    check_releases,
    check_memory,
    check_parts,
    check_redis,
    check_connections,
    check_jobs,
    check_pools,
    check_objects,
    check_applications,
    check_gateway,
    check_channels,
    check_calendars,
    check_files,
    check_port_variables,
    check_ports,
    check_flows,
    check_secrets,
    check_roles,
)


def problems_of(context: Context) -> list[Problem]:
    """Return all that is wrong. A value of a wrong type is said by the specification, and may be more than another check can read."""
    found = check_hosts(context)
    if found:
        return found
    mistyped = bool(check_specification(context))
    for check in CHECKS:
        try:
            found += check(context)
        except (TypeError, ValueError, KeyError, AttributeError):
            if not mistyped:
                raise
    return found


def message(problems: Sequence[Problem]) -> str:
    """Return one text for all problems."""
    head = "1 problem has" if len(problems) == 1 else f"{len(problems)} problems have"
    lines = [f"{head} to be solved first. Nothing was changed on any host."]
    for number, problem in enumerate(problems, 1):
        lines.append(f"  {number}. {problem.where} {problem.seen}.")
        lines.append(f"     {problem.fix}")
    return "\n".join(lines)


def judge_probe(answer: Mapping[str, Any], releases: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Turn what a host answered into {release, python, unpacked, problems}; `releases` are those that are supported, by number.

    `answer` holds: error (text or None), uid, user, from (address of SSH's client; empty without SSH), os ("debian|12"),
    python ("3.11" or ""), interpreter, become (bool), become_uid, become_error, unpacked (list of APPLICATION/VERSION),
    look_error (what a look at the host ended with).
    """
    result: dict[str, Any] = {"release": None, "python": None, "unpacked": list(answer.get("unpacked") or ()), "problems": []}
    result["login"] = {"user": answer["user"], "from": answer.get("from", "")} if answer.get("user") else {}

    def report(seen: str, fix: str) -> None:
        result["problems"].append({"seen": seen, "fix": fix})

    if answer.get("error"):
        report(*explain(str(answer["error"])))
        return result
    name, dummy, release = str(answer.get("os") or "").partition("|")
    result["release"] = release or None
    if name != "debian" or release not in releases:
        found = f"{name or 'an unknown system'} {release}".strip()
        report(f"runs {found.replace('debian', 'Debian')}", f"Install Debian {' or '.join(releases)}; nothing else is supported.")
    result["python"] = answer.get("python") or None
    if not result["python"]:
        report(f"has no Python at {answer.get('interpreter')}", "Install it: apt-get install python3.")
    elif tuple(int(part) for part in result["python"].split(".")) < (3, 11):
        report(f"has Python {result['python']} at {answer.get('interpreter')}", "Set ansible_python_interpreter to a Python 3.11 or newer.")
    if answer.get("become"):
        if answer.get("become_uid") != "0":
            detail = squeeze(str(answer.get("become_error") or "no answer"))
            report(
                f"does not let the user become root ({detail})",
                "Install sudo and permit the user all commands, or give the password (--ask-become-pass).",
            )
    elif answer.get("uid") != "0":
        report(
            f"is reached as uid {answer.get('uid')}, which is not root, and nothing says how to become root",
            "Set ansible_become: true in group_vars/all.",
        )
    if answer.get("look_error") and not result["problems"]:
        report(
            f"could not be looked at for what it has already ({squeeze(str(answer['look_error']))})",
            f"Correct what {answer.get('interpreter')} says there; without that nobody knows what a run would take from the host.",
        )
    return result


def squeeze(text: str, width: int = 200) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= width else f"{joined[: width - 3]}..."


# What a failed connection says, what it means, what helps.
FAILURES = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "has a different host key than before",
        "Compare the key; remove the old one with ssh-keygen -R if the change was yours.",
    ),
    (
        "Host key verification failed",
        "has a host key that the controller does not know",
        "Add it to known_hosts (ssh-keyscan), after comparing it.",
    ),
    ("Permission denied", "refuses the login", "Check ansible_user and the SSH key."),
    ("Could not resolve hostname", "has a name that the controller cannot resolve", "Set ansible_host to its address."),
    ("Connection refused", "refuses the connection", "Check that sshd runs and listens on ansible_port."),
    ("timed out", "does not answer", "Check its address, that it runs, and that the network lets SSH through."),
    ("No route to host", "cannot be reached (no route)", "Check its address and the network."),
    ("No such container", "is a container that does not exist", "Start it, or correct ansible_host."),
    ("is not running", "is a container that is not running", "Start it."),
)


def explain(error: str) -> tuple[str, str]:
    """Turn the text of a failed connection into what it means and what helps."""
    for needle, seen, fix in FAILURES:
        if needle.lower() in error.lower():
            return seen, fix
    return f"cannot be reached ({squeeze(error)})", "Check ansible_host, ansible_user and ansible_connection."
