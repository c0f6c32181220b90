# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a run would move: hosts that join a living store, and what leaves the host on which it was. Pure.

`keeps` has what the platform keeps on each host that was asked, as module_utils/host/found.py saw it: etcd, postgresql, redis, repository,
metrics. Of a group with a host that was not asked, as in a run with --limit, nothing is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.uptier.platform.plugins.plugin_utils.problems import Problem, listed

Groups = Mapping[str, Sequence[str]]
Keeps = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Store:
    """What is kept on the hosts of a group, and must not begin anew beside what there is."""

    keeps: str
    group: str
    name: str
    path: str
    anew: str  # what hosts without a living member would do
    joins: str


STORES = (
    Store(
        "etcd",
        "etcd",
        "etcd",
        "/var/lib/etcd/default",
        "they would form a cluster that knows nothing of PostgreSQL",
        "one at a time; Patroni reads the new list and PostgreSQL goes on",
    ),
    Store(
        "postgresql",
        "postgresql",
        "PostgreSQL",
        "/var/lib/postgresql",
        "nobody in the group could lead, and the firewall would close the way to who does",
        "it copies the data while clients write; the leader stays where it is",
    ),
    Store(
        "redis",
        "redis",
        "Redis",
        "/var/lib/redis",
        "they would form an empty cluster",
        "slots move to new masters with their keys while clients go on",
    ),
)


def having(keeps: Keeps, what: str) -> list[str]:
    return [host for host, kept in keeps.items() if what in kept]


def asked(keeps: Keeps, hosts: Sequence[str]) -> bool:
    return bool(hosts) and all(host in keeps for host in hosts)


def problems(groups: Groups, keeps: Keeps) -> list[Problem]:
    """Find stores whose group has lost every host with data, while another host of the inventory has it."""
    found = []
    for store in STORES:
        hosts, living = list(groups.get(store.group, ())), having(keeps, store.keeps)
        if asked(keeps, hosts) and living and not set(living) & set(hosts):
            seen = f"has no host on which {store.name} lives ({listed(hosts)}), and it lives on {listed(living)}: {store.anew}"
            fix = (
                f"Leave {living[0]} in the group until the others have joined (docs/how-to/move-up-a-tier.md). Or, if its data is of no use "
                f"any more, remove {store.path} there."
            )
            found.append(Problem(f"group {store.group}", seen, fix))
    return [*found, *_repository(groups, keeps)]


def _repository(groups: Groups, keeps: Keeps) -> list[Problem]:
    former = former_repository(groups, keeps)
    if not former or former in groups.get("postgresql", ()):
        return []
    seen = f"begins with {groups['backup'][0]}, which has no backups, and they are on {former}, which is no database host, so they cannot be fetched"
    fix = (
        f"Put {former} first again. Or copy its repository (/var/lib/pgbackrest, with owner and modes) to {groups['backup'][0]} while its "
        "timers pgbackrest-backup@*.timer are stopped, then run this again."
    )
    return [Problem("group backup", seen, fix)]


def former_repository(groups: Groups, keeps: Keeps) -> str:
    """Return the host with the backups, where that is not the one that shall have them; empty where none has to move."""
    hosts, there = list(groups.get("backup", ())), having(keeps, "repository")
    return there[0] if asked(keeps, hosts[:1]) and there and hosts[0] not in there else ""


def notices(groups: Groups, keeps: Keeps) -> list[str]:
    """Return what a run would move, in the order in which it does."""
    found = []
    for store in (STORES[0], "repository", *STORES[1:]):
        if isinstance(store, str):
            former = former_repository(groups, keeps)
            if former:
                found.append(
                    f"Backups move from {former} to {groups['backup'][0]}, all of them and their WAL; PostgreSQL keeps its WAL until they are "
                    f"there. The directory on {former} stays until you remove it."
                )
            continue
        hosts, living = list(groups.get(store.group, ())), having(keeps, store.keeps)
        new = [host for host in hosts if host in keeps and host not in living]
        if new and set(living) & set(hosts):
            found.append(f"{store.name} of {listed(host for host in hosts if host in living)} gains {listed(new)}: {store.joins}.")
    watching, metrics = list(groups.get("monitoring", ())), having(keeps, "metrics")
    if asked(keeps, watching) and metrics and not set(metrics) & set(watching):
        found.append(
            f"Monitoring moves from {listed(metrics)} to {listed(watching)} and begins there without a past; that stays on {listed(metrics)} in "
            "/var/lib/prometheus/metrics2."
        )
    return found
