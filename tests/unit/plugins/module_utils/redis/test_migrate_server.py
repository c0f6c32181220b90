# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters of real Redis servers are grown and shrunk while a client writes, and the run is killed, or a server."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.redis import migrate
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster import Node, Refusal, Shape, absences, describe
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster_apply import Cluster
from ansible_collections.uptier.platform.plugins.module_utils.redis.migrate import Mover, Patience
from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import Connection
from harness.redis import PASSWORD, Client, Servers, dial

FULL = bool(os.environ.get("UPTIER_FULL"))
# Seconds between two writes of a client: at its own pace it would use half of a processor for as long as slots move.
PACE = 0.02
# And between two looks of a run at the cluster, each of which asks every node.
INTERVAL = 0.2


def converge(shape: Shape, **options: Any) -> Cluster:
    cluster = Cluster(
        shape, dial, timeout=30, interval=INTERVAL, mover=Mover(dial, ("default", PASSWORD), **options.pop("mover", {})), **options
    )
    cluster.converge(cluster.plan()[1])
    return cluster


def shape_of(nodes: list[Node], masters: int, replicas: int = 0) -> Shape:
    return Shape(tuple(nodes), masters, replicas)


def fill(nodes: list[Node], count: int) -> None:
    client = Client(nodes)
    for number in range(count):
        client.ask("SET", f"k:{number}", "x" * (number % 200))


def held(nodes: list[Node]) -> list[int]:
    found = []
    for node in nodes:
        with dial(node.address, node.port) as connection:
            found.append(int(connection.call("DBSIZE")))
    return found


def test_one_master_grows_to_three_with_replicas_and_shrinks_back(servers: Servers) -> None:
    first = servers.node("h0")
    converge(shape_of([first], 1))
    fill([first], 1500)
    nodes = [first, *(servers.node(f"h{number % 3}") for number in range(1, 6))]
    client = Client(nodes, PACE)
    client.start()
    grown = converge(shape_of(nodes, 3, 1))
    client.finish()
    print(f"measured: 1 master to 3: {grown.moved[-1]}; longest command {grown.moved[-1].slowest * 1000:.1f} ms")
    assert client.errors == []
    assert client.missing() == []
    assert sum(held(nodes[:3])) == 1500 + len(client.acknowledged)
    assert Cluster(shape_of(nodes, 3, 1), dial).plan()[1] == []
    client = Client([nodes[0]], PACE)
    client.start()
    shrunk = converge(shape_of([first], 1), remove=True)
    client.finish()
    assert client.errors == []
    assert client.missing() == []
    assert "master of 0-16383" in describe(shrunk.shape, shrunk.look())[first.label]
    with dial(first.address, first.port) as connection:
        assert len(connection.call("CLUSTER", "NODES").splitlines()) == 1
    with dial(nodes[4].address, nodes[4].port) as connection:
        assert "cluster_known_nodes:1" in connection.call("CLUSTER", "INFO"), "a node that left still knows the others"


class Killed(BaseException):
    """The controller dies: nothing is tidied up."""


class Dying:
    """A connection after whose n-th command the run is over, without a word to anybody."""

    left = 0

    def __init__(self, inner: Connection) -> None:
        self.inner = inner

    def __enter__(self) -> Dying:
        return self

    def __exit__(self, *dummy: object) -> None:
        self.inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def _count(self) -> None:
        type(self).left -= 1
        if type(self).left < 0:
            raise Killed

    def call(self, *words: Any) -> Any:
        self._count()
        return self.inner.call(*words)

    def pipeline(self, commands: Any) -> list[Any]:
        answers = []
        for command in commands:
            self._count()
            answers += self.inner.pipeline([command])
        return answers


def test_killed_between_any_two_commands_and_run_again(servers: Servers) -> None:
    nodes = [servers.node(f"h{number}") for number in range(3)]
    converge(shape_of(nodes[:1], 1))
    fill(nodes[:1], 600)
    cluster = Cluster(shape_of(nodes, 3), dial, timeout=30, interval=INTERVAL)
    for step in [step for step in cluster.plan()[1] if step.action == "meet"]:
        cluster.act(step)
    cluster.wait(cluster._unjoined)
    client = Client(nodes, PACE)
    client.start()
    killed = 0
    # Any, and every run the same: where they stand in what is repeated while slots move is left to chance.
    some = sorted(random.Random(2).sample(range(5, 130), 60))
    for commands in itertools.chain(range(5, 130) if FULL else some, itertools.count(200, 211)):
        Dying.left = commands
        mover = Mover(lambda address, port: Dying(dial(address, port)), ("default", PASSWORD))
        run = Cluster(shape_of(nodes, 3), dial, timeout=30, interval=INTERVAL, mover=mover)
        try:
            run.converge(run.plan()[1])
            break
        except Killed:
            killed += 1
    client.finish()
    assert killed > 50
    assert client.errors == []
    assert client.missing() == []
    asker = Client(nodes)
    assert [number for number in range(600) if asker.ask("GET", f"k:{number}") != "x" * (number % 200)] == []
    assert Cluster(shape_of(nodes, 3), dial).plan()[1] == []


def test_a_large_key_goes_last_and_nobody_is_taken_for_dead(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "BIG", 1 << 20)
    nodes = [servers.node(f"h{number}") for number in range(3)]
    converge(shape_of(nodes[:1], 1))
    fill(nodes[:1], 50)
    writer = Client(nodes[:1])
    for number in range(3000):
        writer.ask("HSET", "large", f"field:{number}", "x" * 1000)
    with dial(nodes[0].address, nodes[0].port) as connection:
        slot = connection.call("CLUSTER", "KEYSLOT", "large")
    asked: list[list[str]] = []
    enter = Patience.__enter__

    def seen(patience: Patience) -> Patience:
        found = enter(patience)
        asked.append([dial(node.address, node.port).call("CONFIG", "GET", "cluster-node-timeout")[1] for node in nodes])
        return found

    monkeypatch.setattr(Patience, "__enter__", seen)
    (moved,) = converge(shape_of(nodes, 3)).moved
    assert slot >= 16384 // 3, "the key was to move"
    assert len(moved.big) == 1
    assert moved.big[0].startswith("large (")
    assert f"slot {slot})" in moved.big[0]
    assert all(int(value) > 60000 for value in asked[0])
    assert [dial(node.address, node.port).call("CONFIG", "GET", "cluster-node-timeout")[1] for node in nodes] == ["2000"] * 3
    assert Client(nodes).ask("HLEN", "large") == 3000


class Disturbing(Mover):
    """Does something to one end of a move, once, when some keys have gone over."""

    def __init__(self, who: str, disturb: Callable[[Node], None]) -> None:
        super().__init__(dial, ("default", PASSWORD), timeout=5)
        self.who, self.disturb = who, disturb
        self.victims: list[Node] = []

    def moved(self, keys: int, size: int, seconds: float) -> None:
        super().moved(keys, size, seconds)
        if not self.victims and self.progress.keys > 150:
            self.victims.append(getattr(self.step, self.who))
            self.disturb(self.victims[0])

    def _one(self, move: Any, *rest: Any, **more: Any) -> Any:
        self.step = move
        return super()._one(move, *rest, **more)


@pytest.mark.parametrize(
    ("who", "fault"), [("source", "hangs"), ("target", "is started again"), ("source", "stays dead"), ("target", "stays dead")]
)
def test_a_move_goes_on_by_itself_after_a_server(servers: Servers, who: str, fault: str) -> None:
    """One that hangs for longer than the others have patience, one that is started again as systemd does it, one that a replica replaces."""
    nodes = [servers.node(f"h{number % 4}") for number in range(8)]
    converge(shape_of([nodes[0], nodes[1], nodes[2], nodes[4], nodes[5], nodes[6]], 3, 1))
    fill(nodes[:3], 2000)
    client = Client(nodes, pace=PACE)
    client.wait_for_replica = True
    client.start()

    def disturb(node: Node) -> None:
        if fault == "hangs":
            process = servers.running[node.label]
            process.send_signal(signal.SIGSTOP)
            threading.Timer(8, process.send_signal, (signal.SIGCONT,)).start()
            return
        servers.kill(node)
        if fault == "is started again":
            threading.Timer(1, servers.start, (node,)).start()

    after, mover = shape_of(nodes, 4, 1), Disturbing(who, disturb)
    run = Cluster(after, dial, timeout=60, interval=INTERVAL, mover=mover)
    # A new master has no replica yet: what it was being given is known at its source, and waits for it.
    with pytest.raises(Refusal, match="Start that node") if (who, fault) == ("target", "stays dead") else contextlib.nullcontext():
        run.converge(run.plan()[1])
        # One that hangs may be back before anybody has missed it.
        assert fault == "hangs" or "It was gone on with after" in run.interruptions[0]
    if fault == "stays dead":
        assert mover.victims[0].label in " ".join(absences(after, run.look()))
        servers.start(mover.victims[0])
        run.wait(lambda views: "".join(view.problem for view in views.values()), 60)
        run.converge(run.plan()[1])
    client.finish()
    assert client.missing() == []
    asker = Client(nodes)
    assert [number for number in range(2000) if asker.ask("GET", f"k:{number}") != "x" * (number % 200)] == []
    assert Cluster(after, dial).plan()[1] == []


def test_what_no_waiting_mends_stops_at_once(servers: Servers) -> None:
    nodes = [servers.node(f"h{number}") for number in range(2)]
    converge(shape_of(nodes[:1], 1))
    fill(nodes[:1], 50)
    run = Cluster(shape_of(nodes, 2), dial, timeout=30, interval=INTERVAL, mover=Mover(dial, ("default", "another password")))
    with pytest.raises(Refusal, match="WRONGPASS"):
        run.converge(run.plan()[1])
    assert run.interruptions == []
