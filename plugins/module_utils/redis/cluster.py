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

SLOTS = 16384
Range = tuple[int, int]


class Refusal(Exception):
    """The declared shape cannot be reached safely; the message names the node, what was seen and the fix."""

    def __init__(self, reason: str, message: str, node: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.node = node


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
    """What is declared."""

    nodes: tuple[Node, ...]
    masters: int
    replicas: int = 0

    def node(self, label: str) -> Node:
        return next(node for node in self.nodes if node.label == label)


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
    """One action: meet, addslots, replicate, failover or forget. `node` acts; `target` is a label (forget: a node id)."""

    action: str
    node: str
    target: str = ""
    slots: tuple[Range, ...] = ()

    def __str__(self) -> str:
        return {
            "meet": f"{self.target} joins the cluster of {self.node}",
            "addslots": f"{self.node} takes the slots {show_ranges(self.slots)}",
            "replicate": f"{self.node} becomes a replica of {self.target}",
            "failover": f"{self.node} takes over from {self.target}",
            "forget": f"{self.node} forgets the vanished node {self.target}",
        }[self.action]

    def as_dict(self) -> dict[str, Any]:
        return {"action": self.action, "node": self.node, "target": self.target, "slots": show_ranges(self.slots), "text": str(self)}


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


def members(ranges: Iterable[Range]) -> set[int]:
    return set().union(*(range(first, last + 1) for first, last in ranges))


def to_ranges(slots: Iterable[int]) -> tuple[Range, ...]:
    found: list[list[int]] = []
    for slot in sorted(slots):
        if found and slot == found[-1][1] + 1:
            found[-1][1] = slot
        else:
            found.append([slot, slot])
    return tuple((first, last) for first, last in found)


def show_ranges(ranges: Iterable[Range]) -> str:
    return " ".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)


def split_slots(masters: int) -> list[Range]:
    """Divide all slots evenly."""
    edges = [round(number * SLOTS / masters) for number in range(masters + 1)]
    return [(edges[number], edges[number + 1] - 1) for number in range(masters)]


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
    up = [node.label for node in shape.nodes if views[node.label].reachable]
    groups = _groups(up, views)
    if not groups:
        return found
    # The cluster is the group that holds slots; without any it is the largest, then the first.
    groups.sort(key=lambda group: (-max(sum(last - first + 1 for first, last in views[one].me.slots) for one in group), -len(group)))
    found.group = groups[0]
    found.newcomers = [one for group in groups[1:] for one in group]
    opinions = Counter(digest(views[one]) for one in found.group)
    best = opinions.most_common(1)[0][0]
    ids = {views[one].id for one in found.group}
    found.agreed = len(opinions) == 1 and all(ids <= set(views[one].peers) for one in found.group)
    # Of those who agree, the one who knows most: the dead too.
    found.table = max((views[one].peers for one in found.group if digest(views[one]) == best), key=len)
    found.label = {views[one].id: one for one in up}
    by_endpoint = {(node.address, node.port): node.label for node in shape.nodes}
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


def plan(shape: Shape, views: Mapping[str, View], presume: bool = False, spread: bool = False) -> list[Step]:
    """Return the steps to the declared shape, in order; raise Refusal where that is not safe.

    With `presume` (check mode) nodes that cannot be asked and that nobody knows are taken for new, empty ones.
    With `spread` replicas take over from masters that failovers have gathered on few hosts.
    """
    check_shape(shape)
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
    additions = _cover(now, gaps)
    steps += [Step("addslots", one, slots=to_ranges(slots)) for one, slots in additions.items()]
    masters = list(dict.fromkeys([*now.owners, *additions]))
    masters.sort(key=[node.label for node in shape.nodes].index)
    steps += [Step("replicate", one, master) for one, master in _followers(now, masters).items()]
    if now.newcomers or additions:
        _check_versions(now)
    if spread and not steps:
        steps = _spread(now)
    return steps


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


def check_shape(shape: Shape) -> None:
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
                "host to the inventory, or move its slots away and remove it with CLUSTER FORGET.",
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
    open_slots = [(peer, peer.open_slots) for one in now.group for peer in [now.views[one].me] if peer.open_slots]
    if open_slots:
        peer, slots = open_slots[0]
        raise Refusal(
            "open_slots",
            f"{now.label[peer.id]} is in the middle of moving slots ({' '.join(slots)}). Let that finish, or end it with "
            "`redis-cli --cluster fix`, and run this again.",
            now.label[peer.id],
        )
    owners, followers = now.owners, now.master_of
    for one in [*now.group, *now.newcomers]:
        if now.views[one].keys and one not in owners and one not in followers:
            _refuse_keys(now, one)


def _refuse_keys(now: Survey, one: str) -> None:
    raise Refusal(
        "node_not_empty",
        f"{one} holds {now.views[one].keys} keys that belong to no slots of this cluster. Joining it would lose them: "
        "save them elsewhere, then empty the node with FLUSHALL and CLUSTER RESET HARD.",
        one,
    )


def _cover(now: Survey, gaps: set[int]) -> dict[str, set[int]]:
    """Decide who takes the slots that nobody holds; refuse when the number of masters would have to change."""
    owners, shape = now.owners, now.shape
    missing = shape.masters - len(owners)
    whole = split_slots(shape.masters)
    free_ranges = [one for one in whole if members([one]) <= gaps]
    if missing < 0 or missing > len(free_ranges):
        verb = "merged" if missing < 0 else "moved to new masters"
        raise Refusal(
            "reshape_needed",
            f"The cluster has {len(owners)} masters with slots ({', '.join(owners)}), {shape.masters} are declared. Slots with live "
            f"keys would have to be {verb}, which this module does not do. Declare {len(owners)} masters, or reshape the "
            "cluster with `redis-cli --cluster reshard` first.",
        )
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
        raise Refusal("reshape_needed", f"{count} more masters are needed, but only {len(free)} nodes are free ({', '.join(free)}).")
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
    down = {one: master for one, master in current.items() if not now.views[one].reachable}

    def apart(one: str) -> bool:
        return current.get(one) in masters and shape.node(one).name != shape.node(current[one]).name

    # First leave alone whoever stands well; every replica may be moved only if that seats more of them.
    well = [one for one in nodes if apart(one)]
    result, unseated = _assign(
        shape, masters, {**down, **{one: current[one] for one in well}}, [one for one in nodes if one not in well], current
    )
    if unseated and well:
        other, left = _assign(shape, masters, down, nodes, current)
        if len(left) < len(unseated):
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
    for node in shape.nodes:
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
