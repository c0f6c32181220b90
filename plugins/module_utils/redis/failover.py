# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who hands its slots over to whom, for maintenance of a node or a host, and whether that may be done now. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster import (
    SLOTS,
    Refusal,
    Shape,
    Step,
    Survey,
    View,
    check_shape,
    faults,
    survey,
)

# How many bytes a replica may be behind its master to count as in sync: it catches up while a graceful failover holds the writes.
MOST_BEHIND = 16 << 20


def unwhole(shape: Shape, views: Mapping[str, View]) -> list[str]:
    """Return why no node may be taken out of service now: what is down, what not everybody sees served, who lacks a replica in sync."""
    found = [f"{node.label} cannot be queried: {views[node.label].problem}." for node in shape.nodes if not views[node.label].reachable]
    found += faults(shape, views)
    now = survey(shape, views)
    for one in now.group:
        view = views[one]
        if view.served < SLOTS:
            found.append(f"{one} sees {view.served} of {SLOTS} slots served.")
        if view.me.open_slots and one in now.owners:
            found.append(f"{one} has slots under way ({' '.join(view.me.open_slots[:3])}): the tier's playbook finishes their move.")
    for one in now.owners:
        following = [other for other, master in now.master_of.items() if master == one and _in_sync(now, other)]
        if len(following) < shape.replicas:
            found.append(f"{one} has {len(following)} of {shape.replicas} replicas in sync.")
    return found


def plan(shape: Shape, views: Mapping[str, View], relieve: Collection[str] = (), promote: Collection[str] = ()) -> list[Step]:
    """Return the graceful failovers after which nobody of `relieve` leads and everybody of `promote` does.

    Args:
        relieve: names of hosts, or labels of nodes (host:port).
        promote: labels of nodes. One that leads already stays as it is.

    Raises:
        Refusal: bad_target, not_whole, no_replica
    """
    check_shape(shape)
    _check_targets(shape, relieve, promote)
    wrong = unwhole(shape, views)
    if wrong:
        raise Refusal("not_whole", f"No master hands over while the cluster is not whole: {' '.join(wrong)}")
    now = survey(shape, views)
    leads = Counter(shape.node(one).name for one in now.owners)
    followers, steps = dict(now.master_of), []

    def hand_over(one: str, master: str) -> None:
        steps.append(Step("failover", one, master))
        leads[shape.node(master).name] -= 1
        leads[shape.node(one).name] += 1
        followers.update({other: one for other, whom in followers.items() if whom == master})
        followers[master] = followers.pop(one)

    for one in promote:
        if one in followers:
            hand_over(one, followers[one])
    for master in sorted(set(now.owners) | set(followers.values())):
        if master in followers or not _named(shape, master, relieve):
            continue
        free = [other for other, whom in followers.items() if whom == master and not _named(shape, other, relieve)]
        if not free:
            raise Refusal(
                "no_replica",
                f"{master} has no replica outside of {', '.join(sorted(relieve))} that could take over its slots. Relieve fewer hosts at a "
                "time, or declare replicas (redis_replicas_per_master); a master without any is out of service while it restarts.",
                master,
            )
        # Of several the one whose host leads fewest: a host that leads most masters must not die.
        hand_over(
            min(free, key=lambda other: (leads[shape.node(other).name], -int(views[other].facts.get("slave_repl_offset", 0)), other)),
            master,
        )
    return steps


def _named(shape: Shape, label: str, names: Collection[str]) -> bool:
    return label in names or shape.node(label).name in names


def _check_targets(shape: Shape, relieve: Collection[str], promote: Collection[str]) -> None:
    labels, hosts = [node.label for node in shape.nodes], sorted({node.name for node in shape.nodes})
    for name in relieve:
        if name not in labels and name not in hosts:
            told = f"Hosts are: {', '.join(hosts)}; nodes are these with a port, as {labels[0]}."
            raise Refusal("bad_target", f"{name} is neither a host nor a node of the cluster. {told}", name)
    for name in promote:
        if name not in labels:
            raise Refusal("bad_target", f"{name} is no node of the cluster. Nodes are: {', '.join(labels)}.", name)
        if _named(shape, name, relieve):
            raise Refusal("bad_target", f"{name} is to lead and to be relieved at once. Name it for one of both.", name)


def _in_sync(now: Survey, replica: str) -> bool:
    """Say whether a replica could take over from its master without a loss, and soon."""
    view, leader = now.views[replica], now.views[now.master_of[replica]]
    behind = int(leader.facts.get("master_repl_offset", 0)) - int(view.facts.get("slave_repl_offset", 0))
    return view.reachable and view.link_up and behind <= MOST_BEHIND
