# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host had before the platform came, and whether a run would harm it. Pure; module_utils/host/found.py is what looks.

A host that the platform has converged, or began to, is never refused for what the platform itself put there: see
roles/platform/vars/found.yml.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.uptier.platform.plugins.plugin_utils import application, data
from ansible_collections.uptier.platform.plugins.plugin_utils.ports import Numbers, Port, PortError, default, table
from ansible_collections.uptier.platform.plugins.plugin_utils.problems import Problem, listed

TOLERATED = "platform_tolerated"


def parts() -> list[dict[str, Any]]:
    return data.read("found.yml")["platform_found"]


def question(groups: Iterable[str], applications: Iterable[application.Application], zone: str = "UTC") -> dict[str, Any]:
    """Return what a host is asked; `groups` are those in which it is, `zone` is its time zone."""
    written, known = data.read("found.yml"), list(applications)
    return {
        "found": written["platform_found"],
        "claims": written["platform_claims"],
        "marks": written["platform_marks"],
        "groups": list(groups),
        "zone": zone,
        "port": default("postgresql"),
        "applications": [item["name"] for item in known],
        "units": [f"{unit['unit']}@.service" for unit in application.services(known)],
    }


@dataclass(frozen=True)
class Finding:
    """Something on a host. With a `name` it may stay where the user says so; without one, the run could not leave it as it is."""

    seen: str
    fix: str
    name: str = ""


@dataclass(frozen=True)
class Plan:
    """What the platform wants of one host."""

    host: str
    groups: frozenset[str]
    port: int  # of its PostgreSQL
    version: str  # likewise
    wanted: Mapping[int, Port | str]  # ports, with their row in the table, or who wants it
    opened: frozenset[int]  # ports that a flow of the user opens
    adopt: bool = False  # the PostgreSQL that is there


def plan(
    host: str,
    groups: Mapping[str, Sequence[str]],
    numbers: Numbers,
    applications: Sequence[application.Application],
    flows: Iterable[Mapping[str, Any]],
    version: str,
    adopt: bool,
) -> Plan:
    wanted: dict[int, Port | str] = {}
    for port in table().values():
        if port.name != "ssh" and port.runs_on(host, groups):
            try:
                wanted.update((number, port) for number in numbers.all_on(host, port.name))
            except PortError:  # check_port_variables says it
                continue
    if host in groups.get("app", ()):
        for unit in application.services(applications):
            wanted.update((port, f"the service {unit['application']}.{unit['service']}") for port in application.ports(unit))
    try:
        database = numbers.on(host, "postgresql")
    except PortError:
        database = 0
    opened = {
        port
        for flow in flows
        if flow.get("to") == "all" or host in groups.get(str(flow.get("to")), ())
        for port in flow.get("ports") or ()
        if isinstance(port, int)
    }
    inside = frozenset(group for group, hosts in groups.items() if host in hosts)
    return Plan(host, inside, database, version, wanted, frozenset(opened), adopt)


def findings(facts: Mapping[str, Any], wanted: Plan) -> Iterator[Finding]:
    """Say what `facts` (module_utils/host/found.py) mean for a host of which this is `wanted`."""
    strange = facts.get("strange_zone")
    if strange:
        yield Finding(
            f"has no time zone {strange['name']} (base_timezone, or platform_timezone)",
            f"{'Did you mean ' + strange['near'] + '? ' if strange['near'] else ''}The names are those of timedatectl list-timezones.",
        )
    if facts.get("platform") and not facts.get("listeners") and not facts.get("parts") and not facts.get("clusters"):
        return
    named: set[str] = set()
    for part in parts():
        planned = part["group"] == "all" or part["group"] in wanted.groups
        if part["name"] in facts.get("ours", ()):
            continue
        here = list(of_part(part, facts, wanted, planned))
        if here:
            named.update(part["programs"])
        yield from here
    yield from of_ports(facts, wanted, named)
    for engine in facts.get("engines", ()):
        count = f" with {engine['containers']} container{'s' if engine['containers'] != 1 else ''}" if engine["containers"] else ""
        name = engine["name"].lower()
        yield Finding(
            f"runs {engine['name']}{count}, and the platform's firewall forwards nothing: containers would lose their network, and the "
            "ports that they publish would be closed",
            f"Give the platform another host. Or let their interfaces through (firewall_forward_interfaces, for example docker0 and "
            f"br-*) and {stays(name)}.",
            name,
        )
    for firewall in facts.get("firewalls", ()):
        yield of_firewall(firewall)
    for user in facts.get("users", ()):
        yield Finding(
            f"has a user {user['name']} (uid {user['uid']}, home {user['home']}), and the application of that name would run as it",
            "Rename the application, or remove the user.",
        )
    for path in facts.get("units", ()):
        yield Finding(
            f"has a unit of its own at {path}, and an application would replace it", "Rename the application, or remove the unit."
        )


def stays(name: str) -> str:
    return f'add "{name}" to {TOLERATED}'


def of_part(part: Mapping[str, Any], facts: Mapping[str, Any], wanted: Plan, planned: bool) -> Iterator[Finding]:
    if part["name"] == "PostgreSQL":
        yield from of_postgresql(facts, wanted, planned)
        return
    if part["name"] == "Redis":
        yield from of_redis(facts, planned)
        return
    seen = facts.get("parts", {}).get(part["name"])
    if not seen or not planned:
        return
    traces = [
        *([f"runs as {listed(sorted({one['exe'] or one['program'] for one in seen['programs']}))}"] if seen["programs"] else []),
        *([f"has the settings {listed(seen['settings'])}"] if seen["settings"] else []),
        *([f"has {listed(seen['data'])}"] if seen["data"] else []),
        *([f"has the unit {listed(seen['units'])}"] if seen["units"] else []),
    ]
    yield Finding(
        f"has {article(part['name'])} that is not the platform's: it {' and '.join(traces)}. The run would {part['would']}",
        "Give the platform another host, or move this one away: stop it, keep what you need of these files elsewhere, and remove them.",
    )


def article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOUaeion' else 'a'} {name}"


def of_postgresql(facts: Mapping[str, Any], wanted: Plan, planned: bool) -> Iterator[Finding]:
    ours = f"/var/lib/postgresql/{wanted.version}/main"
    for cluster in facts.get("clusters", ()):
        if not planned and not cluster["running"]:
            continue
        where = cluster["name"] if cluster["config"] else f"in {cluster['data']}"
        state = "running" if cluster["running"] else "not running"
        seen = (
            f"has a PostgreSQL cluster that is not the platform's: {where}, version {cluster['version']}, data in {cluster['data']}, "
            f"port {cluster['port']}, {state}"
        )
        name = f"postgresql {cluster['name']}"
        remove = (
            f"remove it (pg_dropcluster --stop {cluster['name'].replace('/', ' ')})" if cluster["config"] else "move its directory away"
        )
        if not planned:
            yield Finding(seen, f"Give the platform another host; or, if it may stay beside the platform, {stays(name)}.", name)
        elif wanted.adopt and cluster["data"] == ours and cluster["config"]:
            # What is in it the role looks at, before it stops it.
            if not cluster["running"]:
                start = f"pg_ctlcluster {cluster['name'].replace('/', ' ')} start"
                yield Finding(f"{seen}; to be adopted it has to run, so that it can be looked at", f"Start it ({start}) and run again.")
        elif cluster["data"] == ours or cluster["port"] == wanted.port:
            lost = f"and the platform would take its {'directory' if cluster['data'] == ours else 'port'}"
            adopt = "Or set postgresql_adopt: true, and Patroni leads it with its rows and roles. "
            adopted = adopt if cluster["data"] == ours and cluster["config"] else ""
            yield Finding(
                f"{seen}; {lost}",
                f"Give the platform another host. {adopted}Or dump it (pg_dumpall), {remove}, and load the dump into the platform's "
                "cluster after the run.",
            )
        else:
            yield Finding(
                seen,
                f"Give the platform another host, or dump it (pg_dumpall) and {remove}; or, since it takes neither the directory "
                f"nor the port of the platform's cluster, {stays(name)}.",
                name,
            )


def of_redis(facts: Mapping[str, Any], planned: bool) -> Iterator[Finding]:
    part = facts.get("parts", {}).get("Redis") or {"programs": [], "units": []}
    servers = listed(sorted({one["program"] for one in part["programs"]}))
    traces = []
    for one in facts.get("redis", ()):
        known = "that does not tell its number of keys" if one["keys"] is None else f"with {one['keys']} keys"
        traces.append(f"data in {one['where']}" if one["where"].endswith((".rdb", ".aof")) else f"{servers} on {one['where']} {known}")
    traces += [f"the unit {path}" for path in part["units"]]
    if not traces or (not planned and not part["programs"]):
        return
    seen = f"has a Redis that is not the platform's: {listed(traces)}"
    if planned:
        yield Finding(
            seen,
            "Give the platform another host. Or keep what you need of its keys, stop it (systemctl disable --now redis-server) and "
            "move its files out of the data directory; the platform's cluster begins empty.",
        )
    else:
        yield Finding(seen, f"Give the platform another host; or, if it may stay beside the platform, {stays('redis')}.", "redis")


def of_ports(facts: Mapping[str, Any], wanted: Plan, named: set[str]) -> Iterator[Finding]:
    """Look at listeners that no part has named: whether the platform needs their port, or the firewall would close it."""
    # What an older version converged has no claims, and its programs.
    claimed = {*facts.get("claims", ()), *(part["group"] for part in parts() if part["name"] in facts.get("ours", ()))}
    first = not facts.get("platform")
    own = {program for part in parts() for program in part["programs"]}
    for listener in facts.get("listeners", ()):
        port, program = listener["port"], listener["program"]
        if program in named:
            continue
        row = wanted.wanted.get(port)
        if row is not None and (program not in own or not expected(program, wanted)):
            groups = {"app"} if isinstance(row, str) else set(row.groups)
            taken = listener["everywhere"] or isinstance(row, str) or row.bind != "address"
            begins = (groups & wanted.groups) - claimed - (set() if first else {"all"})
            if taken and (begins or (first and "all" in groups)):
                who = row if isinstance(row, str) else row.who
                variable = "" if isinstance(row, str) or not row.variable else f", or set {row.variable} for the host"
                yield Finding(f"has port {port} in use by {program}, and {who} needs it", f"Move {program} away{variable}.")
                continue
        if first and row is None and listener["everywhere"] and port not in wanted.opened:
            name = f"port {port}"
            yield Finding(
                f"has {program} listening on port {port}, which the platform's firewall would close",
                f"Open it with a flow in platform_flows_extra; or, if nobody needs to reach it, {stays(name)}.",
                name,
            )


def expected(program: str, wanted: Plan) -> bool:
    """Tell whether the platform itself runs such a program on the host, so that it takes over what the package started."""
    return any(program in part["programs"] and (part["group"] == "all" or part["group"] in wanted.groups) for part in parts())


def of_firewall(firewall: Mapping[str, str]) -> Finding:
    name, off = firewall["name"], {"ufw": "ufw disable", "firewalld": "systemctl disable --now firewalld"}
    how = off.get(name, "iptables -P INPUT ACCEPT, iptables -F" if name == "iptables" else f"nft delete table {name}")
    return Finding(
        f"has a firewall of its own, {name} ({firewall['detail']}). It would stay in force beside the platform's table: what either of them "
        "drops is dropped, so ports that the platform opens would stay closed",
        f"Write what it permits into platform_flows_extra and switch it off ({how}); or open the platform's ports in it too, and {stays(name)}.",
        name,
    )


def is_ours(name: str, probe: Mapping[str, Any]) -> bool:
    return name in (probe.get("found") or {}).get("ours", ())


def to_be_adopted(facts: Mapping[str, Any], wanted: Plan) -> bool:
    """Tell whether the role would take over a cluster here; what it has begun to take over is the platform's."""
    ours = f"/var/lib/postgresql/{wanted.version}/main"
    here = any(cluster["data"] == ours and cluster["config"] for cluster in facts.get("clusters", ()))
    return here and "PostgreSQL" not in facts.get("ours", ()) and "postgresql" in wanted.groups


def several(adopters: Sequence[str], led: Sequence[str]) -> list[Problem]:
    """Refuse what could not be one cluster: Patroni would stop a server whose data is of another one."""
    where = f"host{'s' if len(adopters) > 1 else ''} {listed(adopters)}{':' if len(adopters) > 1 else ''}"
    verb = "are" if len(adopters) > 1 else "is"
    if adopters and led:
        seen = f"{verb} to be adopted, and the platform's own cluster is on {listed(led)} already"
        return [Problem(where, seen, "Move the data into that one (pg_dumpall), or give the platform another host.")]
    if len(adopters) > 1:
        seen = "are to be adopted, each with a PostgreSQL cluster of its own, and a platform has one"
        fix = "Set postgresql_adopt: true for one of them; move the data of the others into it, or give the platform other hosts."
        return [Problem(where, seen, fix)]
    return []


def problems(
    probes: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    numbers: Numbers,
    applications: Sequence[application.Application],
    flows: Sequence[Mapping[str, Any]],
    releases: Mapping[str, Mapping[str, str]],
) -> list[Problem]:
    """Return what is wrong with all hosts. The same finding on several hosts is one problem."""
    found: dict[Finding, list[str]] = {}
    adopters: list[str] = []
    for host in groups.get("all", ()):
        probe = probes.get(host, {})
        version = releases.get(str(probe.get("release")), {}).get("postgresql", "")
        tolerated = numbers.variables(host).get(TOLERATED) or ()
        adopt = str(numbers.variables(host).get("postgresql_adopt", False)).lower() in ("true", "yes", "on", "1")
        wanted = plan(host, groups, numbers, applications, flows, version, adopt)
        if adopt and to_be_adopted(probe.get("found") or {}, wanted):
            adopters.append(host)
        for finding in findings(probe.get("found") or {}, wanted):
            if not finding.name or finding.name not in tolerated:
                found.setdefault(finding, []).append(host)
    led = [host for host in groups.get("postgresql", ()) if is_ours("PostgreSQL", probes.get(host, {}))]
    return several(adopters, led) + [
        Problem(f"host {hosts[0]}" if len(hosts) == 1 else f"each of the hosts {listed(hosts)}", finding.seen, finding.fix)
        for finding, hosts in found.items()
    ]
