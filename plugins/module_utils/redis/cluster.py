# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a Redis Cluster is, what it shall be, and the steps between. Pure: nothing here opens a connection.

Every node is asked for its own view (`View`). `plan` compares the views with the declared `Shape` and returns all
steps at once; a run that is cut short between any two of them leaves a state from which `plan` continues.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.redis import slots as slot_sets
from ansible_collections.uptier.platform.plugins.module_utils.redis.slots import (
    SLOTS,
    Range,
    members,
    show_ranges,
    split_slots,
    to_ranges,
)


class Refusal(Exception):
    """The declared shape cannot be reached safely; the message names the node, what was seen and the fix."""

    def __init__(self, reason: str, message: str, node: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.node = node


class Interruption(Refusal):
    """A node did not do what it was sent; `passing` where it may do it once the cluster has come to rest and was planned for anew."""

    # No waiting gives a permission or memory.
    LASTING = ("NOAUTH", "WRONGPASS", "NOPERM", "OOM")

    def __init__(self, seen: str, node: str, cause: Exception) -> None:
        """Take what was seen, the label of the node, and the RespError, Unreachable or TimeoutError behind it."""
        super().__init__("step_failed", f"{seen} Run again: it continues from what was reached.", node)
        self.seen = seen  # for a run that goes on by itself
        self.passing = not any(word in str(cause).split() for word in self.LASTING)


@dataclass(frozen=True)
class Node:
    """One declared Redis process."""

    name: str
    address: str
    port: int = 6379
    zone: str = ""

    @property
    def label(self) -> str:
        return f"{self.name}:{self.port}"


@dataclass(frozen=True)
class Shape:
    """What is declared, and which members of the cluster are not and shall leave."""

    nodes: tuple[Node, ...]
    masters: int
    replicas: int = 0
    leaving: tuple[Node, ...] = ()

    @property
    def everyone(self) -> tuple[Node, ...]:
        return self.nodes + self.leaving

    @property
    def outgoing(self) -> set[str]:
        return {node.label for node in self.leaving}

    def node(self, label: str) -> Node:
        return next(node for node in self.everyone if node.label == label)


@dataclass(frozen=True)
class Peer:
    """One line of CLUSTER NODES."""

    id: str
    address: str = ""
    port: int = 0
    flags: frozenset[str] = frozenset()
    master: str = ""
    linked: bool = True
    slots: tuple[Range, ...] = ()
    open_slots: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        return bool(self.flags & {"fail", "noaddr"})


@dataclass(frozen=True)
class View:
    """What one declared node says of itself and of the others; `problem` says why it could not be asked.

    `trouble` is the same for programs: refused, timeout, network, tls, closed, loading or denied.
    """

    problem: str = ""
    trouble: str = ""
    id: str = ""
    peers: Mapping[str, Peer] = field(default_factory=dict)
    keys: int = 0
    version: str = ""
    state: str = ""
    served: int = SLOTS  # slots that, as far as this node knows, a node that is not failing serves
    link_up: bool = True
    clustered: bool = True
    joining: bool = False  # a handshake is under way
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reachable(self) -> bool:
        return not self.problem

    @property
    def me(self) -> Peer:
        return self.peers.get(self.id, Peer(self.id))


@dataclass(frozen=True)
class Step:
    """One action: meet, reach, addslots, move, close, replicate, failover, forget or remove.

    `node` acts: with move it is the one that gets the slots, with remove the one that leaves. `target` is a label (forget: a node id).
    """

    action: str
    node: str
    target: str = ""
    slots: tuple[Range, ...] = ()

    def __str__(self) -> str:
        return {
            "meet": f"{self.target} joins the cluster of {self.node}",
            "reach": f"{self.node} learns the new address of {self.target}",
            "addslots": f"{self.node} takes the slots {show_ranges(self.slots)}",
            "move": f"{self.node} gets {len(members(self.slots))} slots from {self.target} ({show_ranges(self.slots)})",
            "close": f"{self.node} ends a move of the slots {show_ranges(self.slots)}",
            "remove": f"{self.node} leaves the cluster",
            "replicate": f"{self.node} becomes a replica of {self.target}",
            "failover": f"{self.node} takes over from {self.target}",
            "forget": f"{self.node} forgets the vanished node {self.target}",
        }[self.action]

    def as_dict(self) -> dict[str, Any]:
        return {"action": self.action, "node": self.node, "target": self.target, "slots": show_ranges(self.slots), "text": str(self)}


# From where on slots are evened out: a part of a master's even share. The same as redis-cli's.
THRESHOLD = 0.02
# How full a master may get by a move: a part of maxmemory.
ROOM = 0.9
# What a weight may be. Beyond that a master would get no slot at all.
LEAST_WEIGHT, MOST_WEIGHT = 0.1, 10.0


# --- reading -----------------------------------------------------------------------------------------------------


def parse_nodes(text: str) -> dict[str, Peer]:
    """Read the answer of CLUSTER NODES. Peers in handshake are left out: their ids are not real yet."""
    peers = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 8 or "handshake" in words[2].split(","):
            continue
        endpoint = words[1].split(",")[0].split("@")[0]
        address, dummy, port = endpoint.rpartition(":")
        ranges, open_slots = [], []
        for word in words[8:]:
            if word.startswith("["):
                open_slots.append(word)
                continue
            first, dummy, last = word.partition("-")
            ranges.append((int(first), int(last or first)))
        peers[words[0]] = Peer(
            id=words[0],
            address=address,
            port=int(port or 0),
            flags=frozenset(flag.rstrip("?") if flag != "fail?" else "pfail" for flag in words[2].split(",")),
            master="" if words[3] == "-" else words[3],
            linked=words[7] == "connected",
            slots=tuple(ranges),
            open_slots=tuple(open_slots),
        )
    return peers


# --- who belongs together ----------------------------------------------------------------------------------------


@dataclass
class Survey:
    """The views put together. Nodes are named by label; ids appear only where a node is not declared."""

    shape: Shape
    views: Mapping[str, View]
    group: list[str] = field(default_factory=list)  # declared nodes that already form one cluster
    newcomers: list[str] = field(default_factory=list)
    table: Mapping[str, Peer] = field(default_factory=dict)  # the cluster as most of its members see it
    label: dict[str, str] = field(default_factory=dict)  # id -> label
    stale: list[Peer] = field(default_factory=list)  # former selves of declared nodes that came back empty
    foreign: list[Peer] = field(default_factory=list)
    agreed: bool = True

    @cached_property
    def owners(self) -> dict[str, set[int]]:
        return {self.label[peer.id]: members(peer.slots) for peer in self.table.values() if peer.slots and peer.id in self.label}

    @cached_property
    def master_of(self) -> dict[str, str]:
        """Replica -> master, for declared nodes (also such that are down at the moment)."""
        return {
            self.label[peer.id]: self.label[peer.master]
            for peer in self.table.values()
            if peer.id in self.label and peer.master in self.label
        }


def digest(view: View) -> tuple[Any, ...]:
    """What views must agree on: who holds which slots and who follows whom. Not the dead, of whom a new node is not told."""
    peers = [peer for peer in view.peers.values() if peer.slots or (peer.master and not peer.failed)]
    return tuple(sorted((peer.id, peer.slots, peer.master) for peer in peers))


def survey(shape: Shape, views: Mapping[str, View]) -> Survey:
    found = Survey(shape, views)
    up = [node.label for node in shape.everyone if views[node.label].reachable]
    groups = _groups(up, views)
    if not groups:
        return found
    # The cluster is the group that holds slots; without any it is the largest, then the first.
    groups.sort(key=lambda group: (-max(sum(last - first + 1 for first, last in views[one].me.slots) for one in group), -len(group)))
    found.group = groups[0]
    found.newcomers = [one for group in groups[1:] for one in group if one not in shape.outgoing]
    opinions = Counter(digest(views[one]) for one in found.group)
    best = opinions.most_common(1)[0][0]
    ids = {views[one].id for one in found.group}
    found.agreed = len(opinions) == 1 and all(ids <= set(views[one].peers) for one in found.group)
    # Of those who agree, the one who knows most: the dead too.
    found.table = max((views[one].peers for one in found.group if digest(views[one]) == best), key=len)
    found.label = {views[one].id: one for one in up}
    by_endpoint = {(node.address, node.port): node.label for node in shape.everyone}
    for peer in found.table.values():
        if peer.id in found.label:
            continue
        owner = by_endpoint.get((peer.address, peer.port))
        # Redis takes the address from a node when another id answers there.
        if "noaddr" in peer.flags or (owner and views[owner].reachable):
            found.stale.append(peer)
        elif owner is None:
            found.foreign.append(peer)
        else:
            found.label[peer.id] = owner
    return found


def _groups(up: list[str], views: Mapping[str, View]) -> list[list[str]]:
    """Nodes that know each other, in declared order."""
    root = {one: one for one in up}

    def find(one: str) -> str:
        while root[one] != one:
            one = root[one]
        return one

    by_id = {views[one].id: one for one in up}
    for one in up:
        for peer in views[one].peers:
            if peer in by_id:
                first, second = sorted((find(one), find(by_id[peer])), key=up.index)
                root[second] = first
    groups = defaultdict(list)
    for one in up:
        groups[find(one)].append(one)
    return list(groups.values())


# --- the plan ----------------------------------------------------------------------------------------------------


def plan(
    shape: Shape,
    views: Mapping[str, View],
    presume: bool = False,
    spread: bool = False,
    threshold: float = THRESHOLD,
    weights: Mapping[str, float] | None = None,
) -> list[Step]:
    """Return the steps to the declared shape, in order; raise Refusal where that is not safe.

    With `presume` (check mode) nodes that cannot be asked and that nobody knows are taken for new, empty ones.
    With `spread` replicas take over from masters that failovers have gathered on few hosts.
    Slots are evened out where a master differs from its share by more than `threshold` (a part of that share; 0: never). Shares are
    even; `weights` (label -> number) gives more or less to the master and replicas to which a node belongs, whoever of them leads.
    """
    check_shape(shape, weights)
    if presume:
        views = _presumed(shape, views)
    _check_access(shape, views)
    now = survey(shape, views)
    down = [node.label for node in shape.nodes if not views[node.label].reachable]
    if not now.group:
        raise Refusal("node_unreachable", _tell_down(down, views), down[0])
    _check_membership(now)
    gaps = set(range(SLOTS)) - members(slots for peer in now.table.values() for slots in peer.slots)
    if gaps and down:
        raise Refusal("node_unreachable", "The cluster is not complete yet and needs every node. " + _tell_down(down, views), down[0])
    steps = [Step("forget", one, peer.id) for peer in now.stale for one in now.group if peer.id in views[one].peers]
    steps += [Step("meet", now.group[0], one) for one in now.newcomers]
    steps += [Step("reach", one, other) for one, other in unreached(now)]
    steps += [Step("replicate", one, now.master_of[one]) for one in _astray(now)]
    unfinished = _unfinished(now)
    if unfinished:
        return steps + unfinished  # the rest is planned from what comes of them
    additions = _cover(now, gaps)
    steps += [Step("addslots", one, slots=to_ranges(slots)) for one, slots in additions.items()]
    masters = list(now.owners | additions) if gaps else _masters(now)
    masters.sort(key=[node.label for node in shape.everyone].index)
    moved = [] if gaps else _moves(now, masters, threshold, _shares_of(now, masters, weights or {}))
    drained = set(now.owners) - set(masters)
    followers = _followers(now, [one for one in masters if one not in shape.outgoing])
    # Whoever follows a master that is being emptied stays with it until it is.
    late = {one for one in followers if one in now.owners or now.master_of.get(one) in drained}
    steps += [Step("replicate", one, master) for one, master in followers.items() if one not in late]
    steps += moved
    steps += [Step("replicate", one, master) for one, master in followers.items() if one in late]
    # Replicas first: a master that others follow cannot be reset.
    steps += [Step("remove", one) for one in sorted(shape.outgoing & set(now.group), key=lambda one: (one not in now.master_of, one))]
    if now.newcomers or additions or moved:
        _check_versions(now)
    if spread and not steps:
        steps = _spread(now)
    return steps


def _unfinished(now: Survey) -> list[Step]:
    """Return how moves end that were cut short: each slot goes on to where it was going, whoever leads on either side now."""
    if not any(now.views[one].me.open_slots for one in now.group):
        return []
    owner_of = {slot: one for one, slots in now.owners.items() for slot in slots}
    going: dict[tuple[str, str], set[int]] = defaultdict(set)
    closing: dict[str, set[int]] = defaultdict(set)
    for one in now.group:
        for slot, direction, peer in map(_open_slot, now.views[one].me.open_slots):
            other = now.label.get(peer, "")
            other = now.master_of.get(other, other)
            source, target = (one, other) if direction == ">" else (owner_of.get(slot, ""), one)
            if one in now.master_of:
                continue  # a replica has the marks of its time as a master, and nobody heeds them
            if owner_of.get(slot) != source or not target or source == target:
                closing[one].add(slot)
                continue
            for end in (source, target):
                if not now.views[end].reachable:
                    raise Refusal(
                        "open_slots",
                        f"The slot {slot} is on its way from {source} to {target}, and {end} cannot be queried: "
                        f"{now.views[end].problem}. Start that node and run this again: it goes on from there.",
                        end,
                    )
            going[target, source].add(slot)
    steps = [Step("move", target, source, to_ranges(slots)) for (target, source), slots in going.items()]
    return steps + [Step("close", one, slots=to_ranges(slots)) for one, slots in closing.items()]


def _open_slot(word: str) -> tuple[int, str, str]:
    """Read one mark of a slot under way: `[slot->-node]` at its source, `[slot-<-node]` at its destination."""
    slot, direction, peer = word.strip("[]").split("-", 2)
    return int(slot), direction, peer


def unreached(now: Survey) -> list[tuple[str, str]]:
    """Return (who, whom): members that know another one at an address at which it is not any more.

    A node at a new address tells it to those whose address it knows. Where all have new ones, nobody knows any; then one
    node is told all of them, and the others hear them from it.
    """
    found = []
    for one in now.group:
        for other in now.group:
            seen, node = now.views[one].peers.get(now.views[other].id), now.shape.node(other)
            if one != other and seen is not None and (seen.address, seen.port) != (node.address, node.port):
                found.append((one, other))
    teller = next((one for one, dummy in found), "")
    return [pair for pair in found if pair[0] == teller]


def _astray(now: Survey) -> list[str]:
    """Return replicas that look for their master at an address where it is not any more, though they know the new one.

    A node that hears of an address from a third one does not tell its own replication.
    """
    if unreached(now):
        return []
    found = []
    for one, master in now.master_of.items():
        facts, node = now.views[one].facts, now.shape.node(master)
        looks_at = (facts.get("master_host", node.address), int(facts.get("master_port", node.port)))
        if not now.views[one].link_up and looks_at != (node.address, node.port) and one in now.group:
            found.append(one)
    return found


def _masters(now: Survey) -> list[str]:
    """Choose who holds slots in the declared shape: those who do now, as far as they stay, and no more changes than needed."""
    shape, owners = now.shape, now.owners
    staying = [one for one in owners if one not in shape.outgoing]
    missing = shape.masters - len(staying)
    if missing > 0:
        free = [
            one
            for one in [*now.group, *now.newcomers]
            if one not in owners and one not in now.master_of and one not in shape.outgoing and now.views[one].reachable
        ]
        return staying + _choose_masters(shape, staying, free, missing)
    for dummy in range(-missing):
        hosts = Counter(shape.node(one).name for one in staying)
        # Of a host that leads several first; then the one with the least to move; then the last declared.
        order = {node.label: number for number, node in enumerate(shape.nodes)}
        staying.remove(min(staying, key=lambda one: (-hosts[shape.node(one).name], len(owners[one]), -order[one])))
    return staying


def _shares_of(now: Survey, masters: list[str], weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weight of each master: the largest that it or one of its replicas was given, else 1."""
    shards = {one: [one, *(other for other, master in now.master_of.items() if master == one)] for one in masters}
    return {one: max([weights[node] for node in nodes if node in weights], default=1.0) for one, nodes in shards.items()}


def _moves(now: Survey, masters: list[str], threshold: float, weights: Mapping[str, float]) -> list[Step]:
    """Return what evens out the slots over `masters`, after making sure that it can be done and fits."""
    owners = now.owners
    even = set(owners) == set(masters)
    if even and (not threshold or slot_sets.deviation(owners, masters, weights) <= threshold):
        return []
    found = slot_sets.moves(owners, masters, weights)
    dead = sorted({end for source, target, dummy in found for end in (source, target) if not now.views[end].reachable})
    if dead and even:
        return []  # no hurry: the next run does it
    if dead:
        raise Refusal("node_unreachable", "Slots can only be moved between nodes that run. " + _tell_down(dead, now.views), dead[0])
    _check_room(now, found)
    return [Step("move", target, source, to_ranges(slots)) for source, target, slots in found]


def _check_room(now: Survey, found: Iterable[tuple[str, str, set[int]]]) -> None:
    """Refuse where a master would get more than its memory holds: it would evict keys, or refuse writes."""
    used = {one: int(view.facts.get("used_memory", 0)) for one, view in now.views.items()}
    after = dict(used)
    for source, target, slots in found:
        part = used[source] * len(slots) // len(now.owners[source])
        after[source] -= part
        after[target] += part
    for one, amount in after.items():
        limit = int(now.views[one].facts.get("maxmemory", 0))
        if limit and amount > used[one] and amount > limit * ROOM:
            raise Refusal(
                "no_memory",
                f"{one} would hold {amount >> 20} MiB of at most {limit >> 20} MiB (limit for a move: {ROOM:.0%}). Raise "
                "redis_memory_share, or declare more masters.",
                one,
            )


def _spread(now: Survey) -> list[Step]:
    """Even out how many masters each host leads, as far as one failover at a time brings it closer."""
    host = {node.label: node.name for node in now.shape.nodes}
    followers = {one: master for one, master in now.master_of.items() if now.views[one].reachable and now.views[one].link_up}
    leads = Counter(host[one] for one in now.owners)
    steps: list[Step] = []
    while True:
        gain = [(leads[host[master]] - leads[host[one]], one, master) for one, master in sorted(followers.items())]
        if not gain or max(gain)[0] < 2:
            return steps
        dummy, one, master = max(gain)
        steps.append(Step("failover", one, master))
        leads[host[master]] -= 1
        leads[host[one]] += 1
        followers = {other: whom for other, whom in followers.items() if whom != master}


def check_shape(shape: Shape, weights: Mapping[str, float] | None = None) -> None:
    """Refuse what no cluster can be: before any node is asked."""
    wanted = shape.masters * (1 + shape.replicas)
    if shape.masters < 1 or shape.replicas < 0 or len(shape.nodes) != wanted:
        raise Refusal(
            "bad_shape",
            f"{len(shape.nodes)} nodes are declared, but {shape.masters} masters with {shape.replicas} replicas each "
            f"make {wanted}. Change nodes, masters or replicas_per_master.",
        )
    labels, endpoints = Counter(node.label for node in shape.nodes), Counter((node.address, node.port) for node in shape.nodes)
    for node in shape.nodes:
        if labels[node.label] > 1 or endpoints[(node.address, node.port)] > 1:
            raise Refusal("bad_shape", f"{node.label} ({node.address}:{node.port}) is declared twice. Name each node once.", node.label)
    for label, weight in (weights or {}).items():
        if label not in labels:
            raise Refusal("bad_weight", f"A weight is given for {label}, which is not declared. Nodes are: {', '.join(labels)}.", label)
        if not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
            raise Refusal(
                "bad_weight",
                f"The weight of {label} is {weight:g}; weights are from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}. A node without slots is "
                "none that is declared as a master: declare fewer.",
                label,
            )
    if shape.replicas:
        hosts = Counter(node.name for node in shape.nodes)
        name, count = hosts.most_common(1)[0]
        # A host can hold at most one node of each shard (a master with its replicas) for a full anti-affine layout.
        if count > shape.masters:
            raise Refusal(
                "no_anti_affinity",
                f"{name} has {count} of the {wanted} nodes; with {shape.masters} masters one of them would be a replica on its "
                f"master's host. Spread the nodes over at least {1 + shape.replicas} hosts.",
                name,
            )


def _presumed(shape: Shape, views: Mapping[str, View]) -> dict[str, View]:
    known = {(peer.address, peer.port) for view in views.values() for peer in view.peers.values()}
    result = dict(views)
    for node in shape.nodes:
        if views[node.label].trouble not in ("", "denied") and (node.address, node.port) not in known:
            fresh = f"new:{node.label}"
            peer = Peer(fresh, node.address, node.port, frozenset({"myself", "master"}))
            version = next((view.version for view in views.values() if view.version), "")
            result[node.label] = View(id=fresh, peers={fresh: peer}, version=version)
    return result


def _tell_down(down: list[str], views: Mapping[str, View]) -> str:
    told = "; ".join(f"{one}: {views[one].problem}" for one in down)
    return f"{told}. See `systemctl status redis-node@PORT` there, and that the firewall lets the Redis hosts reach each other."


def _check_access(shape: Shape, views: Mapping[str, View]) -> None:
    for node in shape.nodes:
        if views[node.label].trouble == "denied":
            raise Refusal(
                "access_denied",
                f"{node.label}: {views[node.label].problem}. The running node has another password or user than this run; if the "
                "password was changed, let the role apply it to the running nodes first.",
                node.label,
            )


def _check_membership(now: Survey) -> None:
    for node in now.shape.nodes:
        view = now.views[node.label]
        if view.reachable and not view.clustered:
            raise Refusal(
                "not_cluster_mode",
                f"{node.label} runs with cluster-enabled no. Set it to yes and restart that node; its keys must be moved away first.",
                node.label,
            )
    for one in now.newcomers:
        view = now.views[one]
        strangers = [peer for peer in view.peers.values() if peer.id not in now.label and not peer.failed]
        if strangers or view.me.slots or view.me.master:
            seen = f"holds the slots {show_ranges(view.me.slots)}" if view.me.slots else f"knows {len(view.peers) - 1} other nodes"
            raise Refusal(
                "other_cluster",
                f"{one} belongs to another cluster: it {seen}, and the cluster of {now.group[0]} does not know it. Take it out of "
                "the inventory, or empty it (FLUSHALL, CLUSTER RESET HARD) if that cluster is given up.",
                one,
            )
    for peer in now.foreign:
        if peer.slots or not peer.failed:
            raise Refusal(
                "foreign_member",
                f"{peer.address}:{peer.port} is a member of the cluster ({len(members(peer.slots))} slots) but is not declared. Add its "
                "host to the inventory, or let it leave: redis_remove_members: true moves its slots to the others first.",
                f"{peer.address}:{peer.port}",
            )
    for peer in now.stale:
        if peer.slots:
            raise Refusal(
                "slots_lost",
                f"The node {peer.id} vanished, another answers at its address, and no replica had taken over: nobody has the data of "
                f"the slots {show_ranges(peer.slots)}. Restore its directory from a backup, or accept the loss with "
                "`redis-cli --cluster fix` and run this again.",
                peer.id,
            )
    for one in strays(now):
        _refuse_keys(now, one)


def strays(now: Survey) -> list[str]:
    """Nodes with keys, but neither slots nor a master: a stranger, or a master who comes back and has not heard yet who replaced it."""
    return [
        one
        for one in (*now.group, *now.newcomers)
        # Between two steps of a move the destination has keys of a slot that is not its own yet.
        if now.views[one].keys and one not in now.owners and one not in now.master_of and not now.views[one].me.open_slots
    ]


def _refuse_keys(now: Survey, one: str) -> None:
    raise Refusal(
        "node_not_empty",
        f"{one} holds {now.views[one].keys} keys that belong to no slots of this cluster. Joining it would lose them: "
        "save them elsewhere, then empty the node with FLUSHALL and CLUSTER RESET HARD.",
        one,
    )


def _cover(now: Survey, gaps: set[int]) -> dict[str, set[int]]:
    """Decide who takes the slots that nobody holds."""
    if not gaps:
        return {}
    owners, shape = now.owners, now.shape
    whole = split_slots(shape.masters)
    free_ranges = [one for one in whole if members([one]) <= gaps]
    # What does not come out even here is evened out once every slot has an owner.
    missing = min(max(0, shape.masters - len(owners)), len(free_ranges))
    if missing:
        for one, slots in owners.items():
            if now.views[one].keys and to_ranges(slots) not in [(part,) for part in whole]:
                _refuse_keys(now, one)  # keys from before the cluster: Redis claims their slots by itself when it starts
    taken: dict[str, set[int]] = defaultdict(set)
    followers = now.master_of
    free = [one for one in [*now.group, *now.newcomers] if one not in owners and not (one in followers and followers[one] in owners)]
    chosen = _choose_masters(shape, list(owners), free, missing)
    for one, part in zip(chosen, free_ranges, strict=False):
        taken[one] |= members([part])
        gaps = gaps - taken[one]
    for first, last in to_ranges(gaps):
        load = {one: len(owners.get(one, set()) | taken.get(one, set())) for one in [*owners, *chosen]}
        taken[min(load, key=lambda one: load[one])] |= members([(first, last)])
    return dict(taken)


def _choose_masters(shape: Shape, owners: list[str], free: list[str], count: int) -> list[str]:
    """Spread masters over hosts, then over zones; otherwise keep to the declared order."""
    order = [node.label for node in shape.nodes]
    free = sorted(free, key=order.index)
    if len(free) < count:
        told = ", ".join(free) or "none"
        raise Refusal(
            "reshape_needed",
            f"{count} more masters are needed, and only these nodes are neither master nor replica: {told}. A replica does not become a "
            "master with other slots; declare more nodes (hosts of the group, or redis_masters and redis_replicas_per_master).",
        )
    chosen: list[str] = []
    for dummy in range(count):
        used = [shape.node(one) for one in [*owners, *chosen]]
        hosts, zones = Counter(node.name for node in used), Counter(node.zone for node in used)
        left = [one for one in free if one not in chosen]
        chosen.append(min(left, key=lambda one: (hosts[shape.node(one).name], zones[shape.node(one).zone], order.index(one))))
    return chosen


# What a seat costs, from what must hardly be to what merely decides among equals (the distance between hosts, below 10**2).
STAY, HUDDLED, SAME_ZONE, MOVE = 10**9, 10**6, 10**4, 10**2


def _followers(now: Survey, masters: list[str]) -> dict[str, str]:
    """Return replica -> master for every node that must follow another one than it does."""
    shape, current = now.shape, now.master_of
    nodes = [one.label for one in shape.nodes if one.label not in masters and now.views[one.label].reachable]
    declared = {node.label for node in shape.nodes}
    down = {one: master for one, master in current.items() if one in declared and not now.views[one].reachable}

    def apart(one: str) -> bool:
        return current.get(one) in masters and shape.node(one).name != shape.node(current[one]).name

    # First leave alone whoever stands well; every replica may be moved only if that seats more of them, or puts fewer of one master's on one host.
    well, seats = [], Counter(down.values())
    for one in nodes:
        if apart(one) and seats[current[one]] < shape.replicas:
            well.append(one)
            seats[current[one]] += 1
    kept = {**down, **{one: current[one] for one in well}}
    result, unseated = _assign(shape, masters, kept, [one for one in nodes if one not in well], current)
    crowd = _huddled(shape, {**kept, **result})
    if well and (unseated or crowd):
        other, left = _assign(shape, masters, down, nodes, current)
        if (len(left), _huddled(shape, {**down, **other})) < (len(unseated), crowd):
            result, unseated = other, left
    for one in unseated:
        if one not in current:
            raise Refusal(
                "no_anti_affinity",
                f"{one} could only be a replica of a master on its own host. Move a master with CLUSTER FAILOVER, or declare the "
                "nodes over more hosts.",
                one,
            )
    return {one: master for one, master in result.items() if current.get(one) != master}


def _huddled(shape: Shape, followers: dict[str, str]) -> int:
    """How many replicas share a host with another one of their master."""
    return sum(count - 1 for count in Counter((shape.node(one).name, master) for one, master in followers.items()).values())


def _assign(
    shape: Shape, masters: list[str], fixed: dict[str, str], movable: list[str], current: dict[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Seat the movable nodes; also return those for whom only seats on their own host were left.

    A flow: each node goes to a pair (its host, a master), each pair takes one node, each master as many as it lacks. So
    the replicas of one master stand on different hosts whenever that can be.
    """
    hosts = list(dict.fromkeys(node.name for node in shape.nodes))
    load = Counter(fixed.values())
    taken = Counter((shape.node(one).name, master) for one, master in fixed.items())
    flow = Flow()
    for one in movable:
        node = shape.node(one)
        flow.edge("source", one, 1, 0)
        flow.edge(one, "sink", 1, STAY)
        for master in masters:
            leader = shape.node(master)
            if leader.name != node.name:
                cost = MOVE * (current.get(one) != master) + SAME_ZONE * (bool(node.zone) and node.zone == leader.zone)
                # Among equals the replica stands on the host after its master's: a lost host then loads the others evenly.
                distance = (hosts.index(node.name) - hosts.index(leader.name) - 1) % len(hosts)
                flow.edge(one, (node.name, master), 1, cost + distance)
    for host in hosts:
        for master in masters:
            flow.edge((host, master), master, 1, HUDDLED if taken[(host, master)] else 0)
            flow.edge((host, master), master, len(movable), HUDDLED)
    for master in masters:
        flow.edge(master, "sink", max(0, shape.replicas - load[master]), 0)
    used = flow.run("source", "sink")
    result = {one: pair[1] for one in movable for pair in used.get(one, []) if isinstance(pair, tuple)}
    full = all(list({**fixed, **result}.values()).count(master) >= shape.replicas for master in masters)
    return result, [] if full else [one for one in movable if one not in result]


class Flow:
    """A flow of least cost: one unit after the other along the cheapest way that is left. The graphs here are small."""

    def __init__(self) -> None:
        self.edges: list[list[Any]] = []  # [from, to, capacity left, cost]; each is followed by its reverse
        self.out: dict[Any, list[int]] = defaultdict(list)

    def edge(self, start: Any, end: Any, capacity: int, cost: int) -> None:
        for one in ([start, end, capacity, cost], [end, start, 0, -cost]):
            self.out[one[0]].append(len(self.edges))
            self.edges.append(one)

    def run(self, source: Any, sink: Any) -> dict[Any, list[Any]]:
        """Return where the flow goes: place -> places."""
        while way := self._cheapest(source, sink):
            for number in way:
                self.edges[number][2] -= 1
                self.edges[number ^ 1][2] += 1
        used = defaultdict(list)
        for start, end, dummy, dummy2 in (self.edges[number] for number in range(0, len(self.edges), 2) if self.edges[number + 1][2]):
            used[start].append(end)
        return used

    def _cheapest(self, source: Any, sink: Any) -> list[int]:
        price, came, queue = {source: 0}, {}, [source]
        while queue:
            here = queue.pop(0)
            for number in self.out[here]:
                dummy, end, left, cost = self.edges[number]
                if left > 0 and price[here] + cost < price.get(end, STAY * STAY):
                    price[end], came[end] = price[here] + cost, number
                    if end not in queue:
                        queue.append(end)
        way: list[int] = []
        here = sink
        while here in came:
            way.append(came[here])
            here = self.edges[came[here]][0]
        return way[::-1]


def _check_versions(now: Survey) -> None:
    """A replica cannot read what a newer master writes, and every replica may lead one day."""
    majors = {one: now.views[one].version.split(".")[0] for one in [*now.group, *now.newcomers] if now.views[one].version}
    if len(set(majors.values())) > 1:
        told = ", ".join(f"{one} {now.views[one].version}" for one in majors)
        raise Refusal(
            "version_mix", f"The nodes run different releases of Redis: {told}. Put the hosts of one cluster on one Debian release."
        )


# --- the outcome -------------------------------------------------------------------------------------------------


def describe(shape: Shape, views: Mapping[str, View]) -> dict[str, str]:
    """Return one line a node: what it is now. Used for diffs."""
    now = survey(shape, views)
    owners, followers = now.owners, now.master_of
    lines = {}
    for node in shape.everyone:
        one = node.label
        if one in owners:
            lines[one] = f"master of {show_ranges(to_ranges(owners[one]))}"
        elif one in followers:
            lines[one] = f"replica of {followers[one]}"
        else:
            lines[one] = "no part of the cluster" if views[one].reachable else "not running"
    return lines


def predict(shape: Shape, views: Mapping[str, View], steps: Iterable[Step]) -> dict[str, str]:
    """Return what `describe` will say after the steps."""
    lines = describe(shape, views)
    slots = {one: set(owned) for one, owned in survey(shape, views).owners.items()}
    for step in steps:
        if step.action == "addslots":
            slots[step.node] = slots.get(step.node, set()) | members(step.slots)
            lines[step.node] = f"master of {show_ranges(to_ranges(slots[step.node]))}"
        elif step.action == "move":
            slots[step.node] = slots.get(step.node, set()) | members(step.slots)
            slots[step.target] = slots[step.target] - members(step.slots)
            for one in (step.node, step.target):
                lines[one] = f"master of {show_ranges(to_ranges(slots[one]))}" if slots[one] else "no part of the cluster"
        elif step.action == "remove":
            lines[step.node] = "no part of the cluster"
        elif step.action == "replicate":
            lines[step.node] = f"replica of {step.target}"
        elif step.action == "failover":
            lines = {one: f"replica of {step.node}" if line == f"replica of {step.target}" else line for one, line in lines.items()}
            lines[step.node], lines[step.target] = lines[step.target], f"replica of {step.node}"
    return lines


def faults(shape: Shape, views: Mapping[str, View]) -> list[str]:
    """Return why the cluster does not serve as it should; declared nodes that are down are told by `absences`."""
    now = survey(shape, views)
    if not now.group:
        return ["No declared node can be reached."]
    found = []
    owners = now.owners
    missing = set(range(SLOTS)) - members(slots for peer in now.table.values() for slots in peer.slots)
    if missing:
        found.append(f"The slots {show_ranges(to_ranges(missing))} belong to no node.")
    for one, slots in owners.items():
        if not views[one].reachable:
            found.append(f"The slots {show_ranges(to_ranges(slots))} belong to {one}, which is down, and no replica took over.")
    if now.newcomers:
        found.append(f"{', '.join(now.newcomers)}: not in the cluster.")
    if not now.agreed:
        found.append("The nodes do not agree on who holds which slots.")
    for one in now.group:
        view = views[one]
        if view.state != "ok":
            found.append(f"{one} says cluster_state:{view.state}.")
        if view.me.master and not view.link_up:
            found.append(f"{one} has no link to its master {now.label.get(view.me.master, view.me.master)}.")
        if one not in owners and one not in now.master_of:
            found.append(f"{one} is neither master nor replica.")
    return found


def absences(shape: Shape, views: Mapping[str, View]) -> list[str]:
    """Return what weakens a cluster that still serves."""
    found = [f"{node.label} cannot be queried: {views[node.label].problem}." for node in shape.nodes if not views[node.label].reachable]
    now = survey(shape, views)
    followers = Counter(master for one, master in now.master_of.items() if views[one].reachable)
    for one in now.owners:
        if followers[one] < shape.replicas:
            found.append(f"{one} has {followers[one]} of {shape.replicas} replicas.")
    for one, master in now.master_of.items():
        if shape.node(one).name == shape.node(master).name:
            found.append(f"{one} is a replica on its master's host ({master}).")
    hosts = Counter(shape.node(one).name for one in now.owners)
    if shape.masters > 1 and hosts:
        name, count = hosts.most_common(1)[0]
        if count * 2 >= len(now.owners):
            found.append(
                f"{name} leads {count} of {len(now.owners)} masters: if it dies, no failover can be elected. Run with redis_spread_masters: true."
            )
    return found
