# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Names, addresses and places of the hosts of an inventory, and what its page must say. Pure functions.

`hostvars` are the variables by host, as they were set; what a role would put in their place is not among them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.uptier.platform.plugins.plugin_utils import domains
from ansible_collections.uptier.platform.plugins.plugin_utils.names import CLUSTER_NAME, COMPONENT_GROUPS
from ansible_collections.uptier.platform.plugins.plugin_utils.problems import Problem, listed

Hostvars = Mapping[str, Mapping[str, Any]]
Groups = Mapping[str, Sequence[str]]
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
LABEL_MOST = 63
# A certificate's common name has no more, and Linux gives a hostname no more either.
NAME_MOST = 64
NUMBERED = re.compile(r"redis-(\d+)")
VIRTUAL = "platform_virtual_address"
# Lists of addresses and networks that daemons would refuse, or take for something else, in the middle of a run.
# Those of nginx are looked at with its sites.
NETWORKS = ("firewall_admin_addresses", "platform_admin_addresses", "postgresql_client_networks")
# What PostgreSQL takes beside them.
WORDS = {"postgresql_client_networks": ("all", "samehost", "samenet")}
PAGE = "group_vars/all/platform.yml"


def no_hosts(groups: Groups, sources: Sequence[str], known: Sequence[str]) -> list[Problem]:
    """Return the one problem of an inventory without hosts, or without any in a group of the platform (`known`)."""
    where = f"inventory {listed(sources)}" if sources else "inventory"
    example = "inventories/prod is the example to copy."
    if not groups.get("all"):
        fix = f"Correct the path behind -i; a warning of Ansible above says what could not be read. {example}"
        return [Problem(where, "has no hosts", fix)]
    if not any(groups.get(group) for group in known) and not set(groups) - {"all", "ungrouped"}:
        seen = f"has hosts ({listed(groups['all'])}), and no groups"
        fix = f"Put them into {listed(known)}. If groups are in the file, a warning of Ansible above says why they could not be read. {example}"
        return [Problem(where, seen, fix)]
    return []


# -- names -----------------------------------------------------------------------------------------------------------


def host_names(groups: Groups, domain: str = "internal") -> list[Problem]:
    """Return the hosts whose names are no hostnames, or lead to somebody else. A host is <name>.<domain> inside."""
    problems = []
    for host in groups.get("all", ()):
        where, fix = f"host {host}", "Rename it in the inventory; ansible_host keeps its address."
        better = _better(host)
        if _is_address(host):
            problems.append(Problem(where, "has an address for a name", f"Give it a name: db1: {{ansible_host: {host}}}."))
        elif not all(LABEL.fullmatch(label) for label in host.split(".")):
            seen = "has a name that is no hostname: those are of a to z, 0 to 9 and -, and neither begin nor end with -"
            problems.append(Problem(where, seen, f"Call it {better} in the inventory; ansible_host keeps its address." if better else fix))
        elif len(host) + 1 + len(domain) > NAME_MOST or any(len(label) > LABEL_MOST for label in host.split(".")):
            seen = f"is {host}.{domain} inside, which is {len(host) + 1 + len(domain)} characters, and a certificate takes {NAME_MOST}"
            problems.append(Problem(where, seen, f"Give it a name of {NAME_MOST - 1 - len(domain)} characters or fewer."))
        else:
            problems += _taken(host, groups, domain)
    return problems


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _better(host: str) -> str:
    """Return a hostname near to a name; nothing where that would be guessing."""
    plain = host.lower().replace("ä", "ae").replace("ö", "oe").replace("ü", "ue").replace("ß", "ss")
    plain = ".".join(re.sub(r"[^a-z0-9]+", "-", label).strip("-") for label in plain.split("."))
    return plain if all(LABEL.fullmatch(label) for label in plain.split(".")) else ""


def _taken(host: str, groups: Groups, domain: str) -> list[Problem]:
    """Return why a name belongs to somebody else already."""
    where, fix = f"host {host}", "Rename it in the inventory."
    if host in ("localhost", CLUSTER_NAME):
        whose = "every host itself" if host == "localhost" else "the leader of the database"
        return [Problem(where, f"has a name that means {whose}", fix)]
    if host in COMPONENT_GROUPS and list(groups.get(host, ())) not in ([host], []):
        others = listed(groups[host])
        return [Problem(where, f"has the name of a group: {host}.{domain} is in the certificates of {others}", fix)]
    match, members = NUMBERED.fullmatch(host), list(groups.get("redis", ()))
    if match and match[0] == f"redis-{int(match[1])}" and 0 < int(match[1]) <= len(members):
        other = members[int(match[1]) - 1]
        if other != host:
            seen = f"is not the only {host}.{domain}: that is host {match[1]} of the group redis, {other}"
            return [Problem(where, seen, "Name the hosts of the group redis in the order of their numbers from redis-1 on, or otherwise.")]
    return []


# -- addresses -------------------------------------------------------------------------------------------------------


def addresses(hosts: Sequence[str], hostvars: Hostvars) -> list[Problem]:
    """Return the hosts whose address is one that other hosts cannot be given. Those without any are said elsewhere."""
    problems = []
    for host in hosts:
        for name in ("platform_address", "ansible_host"):
            try:
                address = ipaddress.ip_address(str(hostvars[host].get(name)))
            except ValueError:
                continue
            where = f"host {host}"
            if address.version == 6:
                seen = f"has the IPv6 address {address} in {name}, and the platform's hosts speak IPv4 with each other"
                fix = "Set platform_address to an IPv4 address of it; ansible_host may stay. Users may come over IPv6 (nginx_ipv6)."
                problems.append(Problem(where, seen, fix))
            elif address.is_loopback or address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255":
                seen = f"has {address} in {name}, under which no other host reaches it"
                problems.append(Problem(where, seen, "Set platform_address to its internal IP address."))
            break
    return problems


def networks(values: Mapping[str, Any]) -> list[Problem]:
    """Return what is neither an address nor a network in lists of these, of the variables that were set on a host."""
    problems = []
    for name in NETWORKS:
        given = values.get(name)
        for entry in given if isinstance(given, (list, tuple)) else ():
            text, where = str(entry), f"variable {name}"
            try:
                network = ipaddress.ip_network(text, strict=False)
            except ValueError:
                if text not in WORDS.get(name, ()):
                    fix = "Write 192.0.2.7 or 192.0.2.0/24." if name != "postgresql_client_networks" else "Write 192.0.2.0/24."
                    problems.append(Problem(where, f"has {text!r}, which is neither an address nor a network", fix))
                continue
            if name == "postgresql_client_networks" and "/" not in text:
                seen = f"has {text!r}, an address without the prefix length that PostgreSQL wants"
                problems.append(Problem(where, seen, f"Write {network}."))
    return problems


def domain_names(hosts: Sequence[str], hostvars: Hostvars) -> list[Problem]:
    """Look at the domains of the page itself; those of applications are looked at with them."""
    problems = []
    for name in ("platform_domain", "platform_grafana_domain"):
        for text in dict.fromkeys(str(found) for host in hosts if (found := hostvars[host].get(name))):
            try:
                domains.normal(text)
            except domains.DomainError as error:
                problems.append(Problem(f"variable {name}", str(error), error.fix))
    return problems


def virtual_address(tier: str, profile: Mapping[str, Any], groups: Groups, hostvars: Hostvars) -> list[Problem]:
    """Look at the address that the gateways share."""
    gateways = list(groups.get("gateway", ()))
    given = {host: hostvars[host][VIRTUAL] for host in gateways if hostvars[host].get(VIRTUAL) is not None}
    where = f"variable {VIRTUAL}"
    if not given:
        if not profile.get("virtual_address") or len(gateways) < 2:
            return []
        fix = "Set it to a free address of their network with its prefix length, for example 10.0.0.10/24; or to '' where your provider moves one."
        return [Problem(where, f"is not set, and the {len(gateways)} gateways of the tier {tier} share an address", fix)]
    values = list(dict.fromkeys(str(value) for value in given.values()))
    if len(values) > 1:
        seen = f"is {' and '.join(f'{value!r}' for value in values)} on different gateways, which share one"
        return [Problem(where, seen, f"Set it once, in {PAGE}.")]
    text = values[0]
    if not text:
        return []
    found = _virtual(text, groups, hostvars)
    if len(gateways) < 2 and profile.get("gateway_min", 1) < 2:  # else the tier asks for more gateways
        fix = "Add a gateway, or set it to '': users reach the gateway under its own address."
        found.append((f"is {text!r}, and there is {len(gateways) or 'no'} gateway to share it", fix))
    return [Problem(where, *wrong) for wrong in found]


def _virtual(text: str, groups: Groups, hostvars: Hostvars) -> list[tuple[str, str]]:
    address, slash, prefix = text.partition("/")
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        return [(f"is {text!r}, which is not an address with its prefix length", "Write it like 10.0.0.10/24.")]
    if interface.version == 6:
        return [(f"is {text!r}, an IPv6 address, and the gateways share IPv4 ones", "Write an IPv4 address with its prefix length.")]
    if not slash or not prefix.isdecimal():
        return [(f"is {text!r}, without its prefix length", f"Write {address}/24 if its network has 256 addresses.")]
    found = []
    network = interface.network
    if network.prefixlen < 31 and interface.ip in (network.network_address, network.broadcast_address):
        what = "the network" if interface.ip == network.network_address else "everybody in the network"
        found.append((f"is {text!r}, which is the address of {what} {network}", "Use a free address in it."))
    owners = [
        host
        for host in groups.get("all", ())
        if str(interface.ip) in (hostvars[host].get("platform_address"), hostvars[host].get("ansible_host"))
    ]
    if owners:
        found.append((f"is {text!r}, which is the address of {listed(owners)}", "Use one that belongs to no host."))
    return found


# -- the inventory as a whole ----------------------------------------------------------------------------------------


def several(hosts: Sequence[str], hostvars: Hostvars) -> list[Problem]:
    """Find hosts that would get certificates from different authorities, since each inventory has its own."""
    problems = []
    for name in ("pki_authority_directory", "acme_authority_directory"):
        found: dict[str, list[str]] = {}
        for host in hosts:
            where = hostvars[host].get(name) or f"{hostvars[host].get('inventory_dir')}/pki"
            found.setdefault(str(where), []).append(host)
        if len(found) > 1:
            parts = " and ".join(f"{directory} ({_some(members)})" for directory, members in found.items())
            fix = (
                "Keep one platform in one inventory; or set pki_authority_directory and acme_authority_directory for all hosts to "
                "one absolute path."
            )
            problems.append(
                Problem(
                    "hosts of several inventories", f"have different authorities, so that they would not trust each other: {parts}", fix
                )
            )
            break
    return problems


def _some(hosts: Sequence[str], most: int = 4) -> str:
    return listed(hosts) if len(hosts) <= most else f"{listed(hosts[:most])} and {len(hosts) - most} more"


def contradicted_tier(tier: str, tiers: Sequence[str], hosts: Sequence[str], hostvars: Hostvars) -> list[Problem]:
    """Find a tier on the page that the playbook's overrules, which whoever wrote it does not expect."""
    found = list(dict.fromkeys(str(value) for host in hosts if (value := hostvars[host].get("platform_tier")) not in (None, "", tier)))
    if not found or tier not in tiers:
        return []
    also = f", or run playbooks/{found[0]}.yml" if found[0] in tiers else ""
    seen = f"is {listed(found)} on the page, and the playbook that was started is of the tier {tier}"
    return [Problem("platform_tier", seen, f"Remove it from the page: the playbook says it{also}.")]


def empty_page(hosts: Sequence[str], hostvars: Hostvars) -> list[Problem]:
    """Find a page that says nothing, or that was not read: a platform without a domain and without applications."""
    if not hosts or any(hostvars[host].get(name) for host in hosts for name in ("platform_domain", "platform_applications")):
        return []
    seen = "says neither platform_domain nor platform_applications: it is empty, or in a place that Ansible does not read"
    fix = "Write it beside hosts.yml; inventories/prod has one to copy."
    return [Problem(f"page {PAGE}", seen, fix)]


def backups(databases: Sequence[str], repositories: Sequence[str]) -> list[Problem]:
    """Find a repository that would be lost, or split, together with a database host."""
    problems = []
    if len(databases) > 1 and repositories and repositories[0] in databases:
        seen = f"begins with {repositories[0]}, one of {len(databases)} database hosts ({listed(databases)}): a failover would split the archive"
        fix = "Put a host without a database into the group, a monitoring host for example."
        problems.append(Problem("group backup", seen, fix))
    idle = [host for host in repositories[1:] if host not in databases]
    if idle:
        seen = f"has {len(repositories)} hosts, and there is one repository, on {repositories[0]}: {listed(idle)} would keep nothing"
        problems.append(Problem("group backup", seen, "Leave one host in the group."))
    return problems
