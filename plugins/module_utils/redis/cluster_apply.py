# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The running half of redis_cluster: asks the nodes, carries out the planner's steps, waits for what they bring about."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import takewhile
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.redis import cluster as core
from ansible_collections.uptier.platform.plugins.module_utils.redis import failover
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster import Interruption, Node, Refusal, Shape, Step, View
from ansible_collections.uptier.platform.plugins.module_utils.redis.migrate import Move, Mover, Progress
from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import Connection, RespError, Tls, Unreachable, parse_info

Dial = Callable[[str, int], Any]
DENIED = ("NOAUTH", "WRONGPASS", "NOPERM")
# So often in a row may a step be interrupted before anything was reached.
ATTEMPTS = 3


def redis_common_argument_spec() -> dict[str, Any]:
    """Options of the documentation fragment uptier.platform.redis."""
    return {
        "username": {"type": "str", "default": "admin"},
        "password": {"type": "str", "required": True, "no_log": True},
        "tls_ca": {"type": "path", "default": "/etc/uptier/pki/ca.crt"},
        "tls_cert": {"type": "path", "default": "/etc/uptier/pki/host.crt"},
        "tls_key": {"type": "path", "default": "/etc/uptier/pki/host.key", "no_log": False},
        "connect_timeout": {"type": "float", "default": 3},
    }


def redis_shape_argument_spec() -> dict[str, Any]:
    """Options of the documentation fragment uptier.platform.redis.shape."""
    return {
        "nodes": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "address": {"type": "str", "required": True},
                "port": {"type": "int", "default": 6379},
                "zone": {"type": "str", "default": ""},
            },
        },
        "masters": {"type": "int", "required": True},
        "replicas_per_master": {"type": "int", "default": 0},
    }


def shape_of(params: Mapping[str, Any]) -> Shape:
    return Shape(tuple(Node(**entry) for entry in params["nodes"]), params["masters"], params["replicas_per_master"])


def dialler(params: Mapping[str, Any], password: str | None = None) -> Dial:
    """Return what opens a connection with the module's options. The TLS files are read at the first call."""
    contexts: list[Any] = []

    def dial(address: str, port: int) -> Connection:
        if not contexts:
            contexts.append(Tls(params["tls_ca"], params["tls_cert"], params["tls_key"]).context())
        secret = params["password"] if password is None else password
        return Connection(address, port, contexts[0], params["username"], secret, params["connect_timeout"])

    return dial


def ask(node: Node, dial: Dial) -> View:
    """Return one node's view; what keeps it from answering becomes part of the view."""
    try:
        with dial(node.address, node.port) as connection:
            info = parse_info(connection.call("INFO"))
            keys = int(dict(part.split("=") for part in info.get("db0", "keys=0").split(","))["keys"])
            if info.get("loading") == "1":
                return View(problem="it is loading its data", trouble="loading")
            if info.get("cluster_enabled") != "1":
                return View(id=node.label, clustered=False, keys=keys, facts=info)
            lines = connection.call("CLUSTER", "NODES")
            seen = parse_info(connection.call("CLUSTER", "INFO"))
    except Unreachable as error:
        return View(problem=str(error), trouble=error.reason)
    except RespError as error:
        return View(problem=f"it answers: {error}", trouble="denied" if error.code in DENIED else "loading")
    peers = core.parse_nodes(lines)
    me = next((peer.id for peer in peers.values() if "myself" in peer.flags), "")
    return View(
        id=me,
        peers=peers,
        keys=keys,
        version=info.get("redis_version", ""),
        state=seen.get("cluster_state", ""),
        served=int(seen.get("cluster_slots_ok", core.SLOTS)),
        joining="handshake" in lines,
        link_up=info.get("master_link_status", "up") == "up",
        facts=info,
    )


class Cluster:
    """A declared cluster and the means to look at it and to act on it."""

    def __init__(
        self,
        shape: Shape,
        dial: Dial,
        timeout: float = 60,
        interval: float = 0.25,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        spread: bool = False,
        threshold: float = core.THRESHOLD,
        remove: bool = False,
        mover: Mover | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.spread, self.threshold, self.remove = spread, threshold, remove
        self.weights = weights or {}
        self.mover = mover or Mover(dial)
        self.moved: list[Progress] = []
        self.interruptions: list[str] = []  # what stopped for a moment and was gone on with
        self.shape, self.dial, self.timeout, self.interval = shape, dial, timeout, interval
        self.clock, self.sleep = clock, sleep

    def look(self) -> dict[str, View]:
        """Ask all nodes at once; where members that are not declared shall leave, those too."""
        views = self._ask(self.shape.everyone)
        if self.remove:
            names = {node.address: node.name for node in self.shape.nodes}
            found = [
                Node(names.get(peer.address, peer.address), peer.address, peer.port)
                for peer in core.survey(self.shape, views).foreign
                if peer.address and (peer.slots or not peer.failed)
            ]
            if found:
                self.shape = replace(self.shape, leaving=(*self.shape.leaving, *found))
                views.update(self._ask(tuple(found)))
        return views

    def _ask(self, nodes: Sequence[Node]) -> dict[str, View]:
        with ThreadPoolExecutor(max_workers=min(16, len(nodes) or 1)) as pool:
            found = pool.map(lambda node: ask(node, self.dial), nodes)
            return {node.label: view for node, view in zip(nodes, found, strict=True)}

    def wait(self, complaint: Callable[[Mapping[str, View]], str], limit: float | None = None) -> tuple[dict[str, View], str]:
        """Look until there is no complaint or the time is up; return the last views and what was still wrong.

        A look is a login at every node, so what takes long is looked at more rarely.
        """
        end = self.clock() + (self.timeout if limit is None else limit)
        pause = self.interval
        while True:
            views = self.look()
            wrong = complaint(views)
            if not wrong or self.clock() >= end:
                return views, wrong
            self.sleep(pause)
            pause = min(pause * 1.25, 4 * self.interval)

    def unsettled(self, views: Mapping[str, View]) -> str:
        """Say what is still in motion: a node that starts or returns, a failover, gossip under way."""
        now = core.survey(self.shape, views)
        starting = [one for one, view in views.items() if view.trouble == "loading"]
        if starting:
            return f"{', '.join(starting)}: still loading"
        joining = [one for one, view in views.items() if view.joining]
        if joining:
            return f"{', '.join(joining)}: a handshake with another node is under way"
        back = [one for one in core.strays(now) if one in now.group and len(now.group) > 1]
        if back:
            return f"{', '.join(back)}: has keys, but neither slots nor a master yet"
        # Of slots under way the destination does not hear who leads now, until the move is finished.
        under_way = any(view.me.open_slots for view in views.values())
        return "" if now.agreed or under_way else "the nodes do not agree yet on who is a member, holds which slots and follows whom"

    def _unjoined(self, views: Mapping[str, View]) -> str:
        now = core.survey(self.shape, views)
        if now.newcomers:
            return f"{', '.join(now.newcomers)} did not join {now.group[0]}"
        unreached = core.unreached(now)
        if unreached:
            return "; ".join(f"{one} does not know the new address of {other}" for one, other in unreached)
        loose = [one for one in now.group if any(not peer.linked and not peer.failed for peer in views[one].peers.values())]
        return self.unsettled(views) or (f"{', '.join(loose)}: bus links are missing" if loose else "")

    def plan(self, check: bool = False) -> tuple[dict[str, View], list[Step]]:
        core.check_shape(self.shape, self.weights)
        if check:
            views = self.look()
        else:
            views, dummy = self.wait(self.unsettled, min(self.timeout, 20))
        return views, self._plan(views, check)

    def _plan(self, views: Mapping[str, View], check: bool = False) -> list[Step]:
        return core.plan(self.shape, views, check, self.spread, self.threshold, self.weights)

    def converge(self, steps: list[Step]) -> dict[str, View]:
        """Carry out the plan, one kind of step at a time, planning anew from what is really there after each.

        A node that hangs or dies on the way stops it only until the others have come to rest: what is left is planned anew.
        """
        in_vain = 0
        for dummy in range(40):
            if not steps:
                break
            kind = steps[0].action
            group = list(takewhile(lambda step, kind=kind: step.action == kind, steps))
            try:
                if kind == "move":
                    self._move(group)
                else:
                    for step in group:
                        self.act(step)
                in_vain = 0
            except Interruption as error:
                in_vain = 0 if kind == "move" and self.moved[-1].slots else in_vain + 1
                if not error.passing or in_vain >= ATTEMPTS:
                    raise
                steps = self._again(error)
                continue
            views, wrong = self.wait(self._unjoined if kind in ("meet", "reach") else self.unsettled)
            if wrong:
                raise Refusal(
                    "timeout",
                    f"After {self.timeout:g} s: {wrong}. The nodes reach each other on their port plus 10000 (cluster bus, mutual TLS): "
                    "check the firewall and that all certificates come from one authority.",
                )
            steps = self._plan(views)
        if steps:
            raise Refusal("no_progress", f"The cluster does not take the steps that were sent; still to do: {'; '.join(map(str, steps))}.")
        return self.healthy()

    def _move(self, group: list[Step]) -> None:
        self.wait(lambda seen: _not_serving(seen, group))
        moves = [Move(self.shape.node(step.target), self.shape.node(step.node), step.slots) for step in group]
        try:
            self.mover.run(moves, self.shape.everyone)
        finally:
            self.moved.append(self.mover.progress)

    def _again(self, error: Interruption) -> list[Step]:
        """Wait until the cluster has come to rest after an interruption; return what is left to do."""
        began = self.clock()
        views, wrong = self.wait(self._shaken)
        if wrong:
            raise Refusal(error.reason, f"{error.seen} {self.timeout:g} s later: {wrong}. Mend that and run again.", error.node) from error
        try:
            steps = self._plan(views)
        except Refusal as refusal:
            raise Refusal(refusal.reason, f"{refusal} It was found after this: {error}", refusal.node) from error
        self.interruptions.append(f"{error.seen} It was gone on with after {self.clock() - began:.1f} s.")
        return steps

    def _shaken(self, views: Mapping[str, View]) -> str:
        """Say what a node that hung or died has left behind: before a replica took over, or it is back, nothing is planned."""
        owners = core.survey(self.shape, views).owners
        silent = [one for one in owners if not views[one].reachable]
        if silent:
            return f"{', '.join(silent)}: holds slots and does not answer"
        down = [f"{one} says cluster_state:{views[one].state}" for one in owners if views[one].state != "ok"]
        return ", ".join(down) or self.unsettled(views)

    def healthy(self) -> dict[str, View]:
        """Wait until every node that is up serves, agrees with the others and follows its master."""
        views, wrong = self.wait(lambda seen: " ".join(core.faults(self.shape, seen)))
        if wrong:
            weak = " ".join(core.absences(self.shape, views))
            raise Refusal("not_healthy", f"The cluster is not healthy after {self.timeout:g} s. {wrong} {weak}".strip())
        return views

    def whole(self, views: Mapping[str, View]) -> str:
        """Say why no node may be taken out of service."""
        return self.unsettled(views) or " ".join(failover.unwhole(self.shape, views))

    def hand_over(self, relieve: Collection[str], promote: Collection[str], check: bool = False) -> tuple[dict[str, View], list[Step]]:
        """Have masters hand over to replicas, one at a time and only while the cluster is whole; return what was done, or would be.

        Raises:
            Refusal: as failover.plan, and no_progress where replicas do not take over
        """
        done: list[Step] = []
        in_vain = 0
        for dummy in range(2 * len(self.shape.nodes)):
            views, dummy2 = self.wait(self.whole, 0 if check else None)
            steps = failover.plan(self.shape, views, relieve, promote)
            if check or not steps:
                return views, done or steps
            try:
                self.act(steps[0])
            except Interruption as error:
                in_vain += 1
                if not error.passing or in_vain >= ATTEMPTS:
                    raise
                self.interruptions.append(f"{error.seen} It was tried again.")
                continue
            if steps[0] not in done:
                done.append(steps[0])
        raise Refusal(
            "no_progress", f"Replicas do not take over; still to do: {'; '.join(map(str, steps))}. See their journals.", steps[0].node
        )

    def act(self, step: Step) -> None:
        node = self.shape.node(step.node)
        try:
            with self.dial(node.address, node.port) as connection:
                if step.action in ("meet", "reach"):
                    target = self.shape.node(step.target)
                    connection.call("CLUSTER", "MEET", target.address, target.port)
                elif step.action == "addslots":
                    connection.call("CLUSTER", "ADDSLOTSRANGE", *(edge for part in step.slots for edge in part))
                elif step.action == "replicate":
                    target = self.shape.node(step.target)
                    with self.dial(target.address, target.port) as other:
                        leader = other.call("CLUSTER", "MYID")
                    connection.call("CLUSTER", "REPLICATE", leader)
                elif step.action == "failover":
                    connection.call("CLUSTER", "FAILOVER")
                elif step.action == "close":
                    for slot in core.members(step.slots):
                        connection.call("CLUSTER", "SETSLOT", slot, "STABLE")
                elif step.action == "remove":
                    self.remove_member(step.node, connection)
                else:
                    connection.call("CLUSTER", "FORGET", step.target)
        except (RespError, Unreachable) as error:
            raise Interruption(f"{step} failed: {error}.", step.node, error) from error
        if step.action == "failover":
            self.wait(lambda views: "" if views[step.node].me.slots else "no failover yet", 10)

    def remove_member(self, label: str, connection: Connection) -> None:
        """Let all others forget a node, and the node all others. It must be done within the minute for which they remember to."""
        leaver = connection.call("CLUSTER", "MYID")
        for node in self.shape.everyone:
            if node.label != label:
                with contextlib.suppress(Unreachable), self.dial(node.address, node.port) as other:
                    if leaver in core.parse_nodes(other.call("CLUSTER", "NODES")):
                        other.call("CLUSTER", "FORGET", leaver)
        # A copy of what its former master still has; a master is empty by now, or Redis refuses.
        connection.call("CLUSTER", "RESET", "HARD")


def _not_serving(views: Mapping[str, View], moves: list[Step]) -> str:
    """Say who takes no keys yet: a node that has just joined needs two seconds to believe in the cluster."""
    ends = {end for step in moves for end in (step.node, step.target)}
    return ", ".join(f"{one} says cluster_state:{views[one].state}" for one in sorted(ends) if views[one].state != "ok")


def summary(shape: Shape, views: Mapping[str, View]) -> dict[str, Any]:
    """Return the cluster as data, for redis_cluster_info and for the result of redis_cluster."""
    now = core.survey(shape, views)
    owners, followers = now.owners, now.master_of
    covered = core.members(part for peer in now.table.values() for part in peer.slots)
    nodes = []
    for node in shape.nodes:
        view, one = views[node.label], node.label
        slots = owners.get(one, set())
        nodes.append(
            {
                "name": node.name,
                "address": node.address,
                "port": node.port,
                "zone": node.zone,
                "id": view.id,
                "up": view.reachable,
                "problem": view.problem,
                "role": "master" if slots else "replica" if one in followers else "none",
                "master": followers.get(one, ""),
                "slots": core.show_ranges(core.to_ranges(slots)),
                "slots_count": len(slots),
                "link": ("up" if view.link_up else "down") if view.reachable and one in followers else "",
                "keys": view.keys,
                "version": view.version,
                "memory_used_bytes": int(view.facts.get("used_memory", 0)),
                "memory_max_bytes": int(view.facts.get("maxmemory", 0)),
                "clients": int(view.facts.get("connected_clients", 0)),
                "offset": int(view.facts.get("slave_repl_offset") or view.facts.get("master_repl_offset", 0)),
            }
        )
    faults = core.faults(shape, views)
    state = "absent" if not now.group else "fail" if faults else "ok"
    return {
        "state": state,
        "nodes": nodes,
        "slots_covered": len(covered),
        "slots_missing": core.show_ranges(core.to_ranges(set(range(core.SLOTS)) - covered)),
        "masters": len(owners),
        "replicas": len(followers),
        "foreign": [f"{peer.address}:{peer.port}" for peer in now.foreign],
        "faults": faults,
        "warnings": core.absences(shape, views) if now.group else [],
    }
