# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From the table of flows to the nftables rules of one host. Pure functions."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

from ansible_collections.uptier.platform.plugins.plugin_utils.ports import LAST, valid
from ansible_collections.uptier.platform.plugins.plugin_utils.topology import address_of

Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

TABLE = "platform"
ANY, ALL, ADMIN = "any", "all", "admin"
# By number: the names in /etc/protocols are not on every host.
ICMP, ICMPV6, VRRP = 1, 58, 112
PROTOCOLS = ("tcp", "udp", "icmp", "vrrp")
# It becomes the comment of a rule.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")


class FirewallError(ValueError):
    """A flow cannot become a rule; the message names flow, value and fix."""


def network(value: str, where: str) -> Network:
    try:
        return ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise FirewallError(f"{where}: {value!r} is neither an IP address nor a network. Write 192.0.2.7 or 192.0.2.0/24.") from None


def is_network(value: str) -> bool:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        return False
    return True


def complaints(flow: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """Return what is wrong with a flow that a user adds, as (what was seen, what to do).

    A group that is not there is not "nobody" here, as it is in the platform's own flows: the user meant somebody.
    """
    found = []
    if not NAME.fullmatch(str(flow.get("name", ""))):
        found.append((f"has the name {flow.get('name')!r}", "Use letters, digits, spaces, dots, - and _, 64 at most."))
    for side, accepted in (("from", (ANY, ALL, ADMIN)), ("to", (ALL,))):
        value = str(flow.get(side) or "")
        if value in accepted or (side == "from" and is_network(value)):
            continue
        there = ", ".join([*accepted, *sorted(set(groups) - {ALL, "ungrouped"}), *(["an address or a network"] if side == "from" else [])])
        if value not in groups:
            found.append((f"goes {side} {value!r}, which is not a group of the inventory", f"Use one of {there}."))
        elif not groups[value]:
            found.append(
                (f"goes {side} {value}, a group without hosts, so nothing would match it", "Put hosts into the group, or remove the flow.")
            )
    protocol, numbers = flow.get("protocol"), flow.get("ports") or []
    if protocol not in PROTOCOLS:
        found.append((f"has the protocol {protocol!r}", f"Use one of {', '.join(PROTOCOLS)}."))
    elif protocol in ("tcp", "udp") and not numbers:
        found.append(("has no ports", "Name at least one; a flow without any would open all of them."))
    elif protocol not in ("tcp", "udp") and numbers:
        found.append((f"has ports, and {protocol} knows none", "Write ports: []."))
    wrong = [number for number in numbers if valid(number) is None]
    if wrong:
        found.append((f"has the port {', '.join(map(repr, wrong))}", f"Use numbers from 1 to {LAST}."))
    return found


def refuse(flows: Iterable[Mapping[str, Any]], groups: Mapping[str, Sequence[str]]) -> None:
    """Raise for flows of a user that can match nothing or become no rule, with all that is wrong."""
    wrong = [f"Flow {flow.get('name')} {seen}. {fix}" for flow in flows for seen, fix in complaints(flow, groups)]
    if wrong:
        raise FirewallError(" ".join(wrong))


def rules_of(
    flows: Iterable[Mapping[str, Any]], host: str, groups: Mapping[str, Sequence[str]], hostvars: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return what `host` accepts, as {name, protocol, ports, sources}; sources are addresses, or any, or admin.

    A flow whose sources are no hosts of this inventory is left out. A flow may also come from a network.
    """

    @cache
    def address(other: str) -> str:
        # Ansible gathers and templates the variables of a host anew each time it is asked.
        return address_of(other, hostvars[other])

    rules = []
    for flow in flows:
        name, source, target = flow["name"], str(flow["from"]), flow["to"]
        if flow["protocol"] not in PROTOCOLS:
            raise FirewallError(f"Flow {name}: protocol is {flow['protocol']!r}. Use one of {', '.join(PROTOCOLS)}.")
        if flow["protocol"] in ("tcp", "udp") and not flow["ports"]:
            raise FirewallError(f"Flow {name}: no ports. Name at least one; a flow without any would open all of them.")
        if target != ALL and host not in groups.get(target, ()):
            continue
        if source in (ANY, ADMIN):
            sources = [source]
        elif is_network(source):
            sources = [str(network(source, name))]
        else:
            hosts = groups[ALL] if source == ALL else groups.get(source, ())
            sources = sorted({address(other) for other in hosts if other != host})
        if sources:
            rules.append(
                {"name": name, "protocol": flow["protocol"], "ports": sorted({int(port) for port in flow["ports"]}), "sources": sources}
            )
    return rules


def matches(sources: Iterable[str], where: str) -> list[str]:
    """Return one nftables match for each address family; overlapping networks are joined."""
    families: dict[int, list[Network]] = {4: [], 6: []}
    for source in sources:
        item = network(source, where)
        families[item.version].append(item)
    found = []
    for version, keyword in ((4, "ip"), (6, "ip6")):
        if families[version]:
            joined = [
                short(item) for item in ipaddress.collapse_addresses(sorted(families[version], key=lambda item: item.network_address))
            ]  # type: ignore[type-var]
            found.append(f"{keyword} saddr {{ {', '.join(joined)} }} ")
    return found


def short(item: Network) -> str:
    return str(item.network_address) if item.prefixlen == item.max_prefixlen else str(item)


def verdicts(rule: Mapping[str, Any], admin: Sequence[str]) -> list[str]:
    """Return the nftables rules for one permitted flow."""
    sources = list(admin) if rule["sources"] == [ADMIN] else list(rule["sources"])
    heads = [""] if sources == [ANY] else matches(sources, f"Flow {rule['name']}")
    ports = ", ".join(str(port) for port in rule["ports"])
    tail = f'accept comment "{rule["name"]}"'
    if rule["protocol"] == "icmp":
        return [f"{head}meta l4proto {ICMPV6 if head.startswith('ip6') else ICMP} {tail}" for head in heads]
    if rule["protocol"] == "vrrp":
        return [f"{head}meta l4proto {VRRP} {tail}" for head in heads]
    return [f"{head}{rule['protocol']} dport {{ {ports} }} {tail}" for head in heads]


def render(rules: Iterable[Mapping[str, Any]], admin: Sequence[str], forward: Sequence[str] = (), log: bool = True) -> str:
    """Return a file for `nft -f` that replaces our table in one transaction and leaves every other table alone."""
    logging = ['limit rate 10/minute burst 20 packets log prefix "platform drop: "'] if log else []
    arrivals = [
        'iif "lo" accept',
        "ct state vmap { established : accept, related : accept, invalid : drop }",
        "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert, mld-listener-query } accept",
        'ip6 saddr fe80::/10 udp dport 546 accept comment "dhcpv6"',
        *(line for rule in rules for line in verdicts(rule, admin)),
        *logging,
    ]
    passages = [
        "ct state vmap { established : accept, related : accept, invalid : drop }",
        *(f'iifname "{name}" accept comment "from containers"' for name in forward),
        *logging,
    ]
    chains = []
    for hook, lines in (("input", arrivals), ("forward", passages)):
        body = "".join(f"\t\t{line}\n" for line in lines)
        chains.append(f"\tchain {hook} {{\n\t\ttype filter hook {hook} priority filter; policy drop;\n{body}\t}}\n")
    table = f"table inet {TABLE}"
    return f"{table} {{}}\ndelete {table}\n{table} {{\n{''.join(chains)}}}\n"
