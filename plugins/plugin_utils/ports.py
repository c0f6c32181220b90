# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which port each part of the platform listens on, and who may connect: the tables in roles/platform/vars/flows.yml, read together
with what the user set for each host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from ansible_collections.uptier.platform.plugins.plugin_utils.data import read
from ansible_collections.uptier.platform.plugins.plugin_utils.redis_layout import processes

LAST = 65535
# Below it a process needs root to listen.
UNPRIVILEGED = 1024
# What protects a flow, the weakest first.
PROTECTION = ("none", "tls", "mutual", "ssh")


class PortError(ValueError):
    """A port is no port, or not one that can be agreed on; the message names variable, value, host and fix."""


@dataclass(frozen=True)
class Port:
    """One row of the table; its head explains the fields."""

    name: str
    who: str
    groups: tuple[str, ...]
    bind: str
    protocol: str
    tls: str
    variable: str = ""
    port: int = 0
    fixed: str = ""
    job: str = ""
    of: str = ""
    plus: int = 0
    alike: bool = False
    root: bool = False
    processes: bool = False
    keeps_default: bool = False
    beside_services: bool = False

    def runs_on(self, host: str, groups: Mapping[str, Sequence[str]]) -> bool:
        return any(host in groups.get(group, ()) for group in self.groups)


@cache
def tables() -> tuple[dict[str, Port], list[dict[str, Any]]]:
    """Return the ports by name, and the flows as they are written."""
    written = read("flows.yml")
    ports = [Port(**{**row, "groups": tuple(row["groups"])}) for row in written["platform_ports"]]
    return {port.name: port for port in ports}, written["platform_flows"]


def table() -> dict[str, Port]:
    return tables()[0]


def named(name: str) -> Port:
    if name not in table():
        raise PortError(f"There is no port {name!r}: there are {', '.join(table())}.")
    return table()[name]


def default(name: str) -> int:
    port = named(name)
    return default(port.of) + port.plus if port.of else port.port


def valid(value: Any) -> int | None:
    """Return a port as a number, also where it is written as text; None where it is no port."""
    if isinstance(value, bool) or not str(value).strip().isdecimal():
        return None
    number = int(str(value))
    return number if 0 < number <= LAST else None


class Numbers:
    """The ports of the hosts of one inventory.

    `hostvars` are the variables by host, `groups` the hosts by group, and `profile` the numbers of the tier.
    """

    def __init__(
        self,
        hostvars: Mapping[str, Mapping[str, Any]],
        groups: Mapping[str, Sequence[str]] | None = None,
        profile: Mapping[str, Any] | None = None,
    ) -> None:
        self.hostvars, self.groups, self.profile = hostvars, groups or {}, profile or {}
        self._known: dict[str, Mapping[str, Any]] = {}

    def variables(self, host: str) -> Mapping[str, Any]:
        """Ansible gathers the variables of a host anew each time it is asked."""
        if host not in self._known:
            self._known[host] = self.hostvars[host]
        return self._known[host]

    def on(self, host: str, name: str) -> int:
        """Return the number on a host: what the user set, else the default."""
        port = named(name)
        if port.of:
            return self.on(host, port.of) + port.plus
        if not port.variable:
            return port.port
        value = self.variables(host).get(port.variable, port.port)
        number = valid(value)
        if number is None:
            raise PortError(f"{port.variable} is {value!r} on {host}, which is no port. Use a number from 1 to {LAST}.")
        return number

    def all_on(self, host: str, name: str) -> list[int]:
        """Return every number that one row means on a host: one for each process of Redis, and the default beside a port that was set."""
        port, first = named(name), self.on(host, name)
        if port.processes:
            return list(range(first, first + max(self.redis_processes(host), 1)))
        return sorted({first, port.port}) if port.keeps_default else [first]

    def redis_processes(self, host: str) -> int:
        """Return how many processes of Redis run on a host of that group."""
        shape = [self._count(host, key) for key in ("redis_masters", "redis_replicas_per_master")]
        return processes(list(self.groups.get("redis", ())), host, *shape)

    def _count(self, host: str, key: str) -> int:
        """What is no number is for the role to refuse."""
        value = self.variables(host).get(key, self.profile.get(key, 0))
        return int(value) if str(value).isdecimal() else 0

    def shared(self, hosts: Iterable[str], name: str) -> int:
        """Return the one number that all of `hosts` have; without hosts, the default."""
        found: dict[int, list[str]] = {}
        for host in hosts:
            found.setdefault(self.on(host, name), []).append(host)
        if len(found) > 1:
            raise PortError(f"{named(name).variable} is {differing(found)}. One setting leads to all of them: set it once for their group.")
        return next(iter(found), default(name))


def differing(found: Mapping[int, Iterable[str]]) -> str:
    return " and ".join(f"{number} on {', '.join(hosts)}" for number, hosts in found.items())


def weakest(protections: Iterable[str]) -> str:
    return min(protections, key=PROTECTION.index)


def whole(row: Mapping[str, Any], numbers_of: Callable[[str], Iterable[int]]) -> dict[str, Any]:
    """Return a flow as {name, from, to, protocol, ports, tls, why}, with the numbers of the ports that it names."""
    ports = [named(name) for name in row.get("ports", ())]
    return {
        "name": row["name"],
        "from": row["from"],
        "to": row["to"],
        "protocol": ports[0].protocol if ports else row["protocol"],
        "ports": sorted({number for port in ports for number in numbers_of(port.name)}),
        "tls": weakest(port.tls for port in ports) if ports else row["tls"],
        "why": row["why"],
    }


def flows_to(host: str, numbers: Numbers) -> list[dict[str, Any]]:
    """Return the platform's flows that end at a host, with its ports."""
    rows = [row for row in tables()[1] if row["to"] == "all" or host in numbers.groups.get(row["to"], ())]
    return [whole(row, lambda name: numbers.all_on(host, name)) for row in rows]


def default_flows() -> list[dict[str, Any]]:
    """Return the platform's flows as they are where nobody sets a port."""
    return [whole(row, lambda name: [default(name)]) for row in tables()[1]]
