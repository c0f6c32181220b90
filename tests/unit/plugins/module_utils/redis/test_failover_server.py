# SPDX-License-Identifier: GPL-3.0-or-later
"""Real Redis servers hand over, restart and get new addresses while a client writes; nobody acts on a cluster that is not whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster import Interruption, Refusal, Shape, Step, describe, faults
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster_apply import Cluster
from ansible_collections.uptier.platform.plugins.module_utils.redis.migrate import Mover
from ansible_collections.uptier.platform.plugins.module_utils.redis.reload_apply import Files, Instance
from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import RespError
from harness.redis import PASSWORD, Client, Servers, dial

PATIENCE = 120  # seconds; what is waited for takes one or two on an idle machine


def cluster(shape: Shape, timeout: float = PATIENCE) -> Cluster:
    return Cluster(shape, dial, timeout=timeout, interval=0.05, mover=Mover(dial, ("default", PASSWORD)))


def formed(servers: Servers) -> Shape:
    shape = Shape(tuple(servers.node(f"h{number % 3}") for number in range(6)), 3, 1)
    run = cluster(shape)
    run.converge(run.plan()[1])
    return shape


def leaders(shape: Shape) -> set[str]:
    run = cluster(shape)
    views, dummy = run.wait(run.unsettled)  # who was not told yet would outvote the others
    return {label for label, part in describe(shape, views).items() if part.startswith("master")}


def test_masters_hand_over_come_back_and_are_restarted_while_a_client_writes(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = formed(servers)
    before = leaders(shape)
    victim = shape.nodes[0]
    client = Client(list(shape.nodes), pace=0.005)
    client.start()
    planned = cluster(shape)
    planned.wait(planned.whole)
    views, checked = planned.hand_over(["h0"], [], check=True)
    assert leaders(shape) == before, "check mode handed over"
    views, steps = cluster(shape).hand_over(["h0"], [])
    assert [str(step) for step in steps] == [str(step) for step in checked] == [f"{steps[0].node} takes over from {victim.label}"]
    assert not [label for label in leaders(shape) if label.startswith("h0:")]
    assert cluster(shape).hand_over(["h0"], [])[1] == [], "a second run does something"
    back, down = cluster(shape), iter([RespError("CLUSTERDOWN The cluster is down")] * 2)
    act = back.act

    def stumble(step: Step) -> None:
        for error in down:
            raise Interruption(f"{step} failed: {error}.", step.node, error)
        act(step)

    monkeypatch.setattr(back, "act", stumble)
    back.hand_over([], [victim.label])
    assert leaders(shape) == before
    assert len(back.interruptions) == 2

    def restart(port: int) -> None:
        node = next(node for node in shape.nodes if node.port == port)
        with dial(node.address, port) as connection:
            restarted.append((node.label, "master" if connection.call("ROLE")[0] == "master" else "replica"))
        servers.kill(node)
        servers.start(node)

    def roll(roles: str, moment: float) -> None:
        look = cluster(shape)
        for node in shape.nodes:
            files = Files({}, {})
            Instance(node, files, [dial], restart, PATIENCE, before=moment, whole=lambda: look.whole(look.look())).roll(roles)

    restarted: list[tuple[str, str]] = []
    with dial(victim.address, victim.port) as connection:
        moment = int(connection.call("TIME")[0]) + 2
    while True:  # a process that starts within the second in which the roll begins would count as older than it
        with dial(victim.address, victim.port) as connection:
            if int(connection.call("TIME")[0]) > moment:
                break
    roll("replicas", moment)
    assert len(restarted) == 3
    roll("all", moment)
    client.finish()
    assert len(restarted) == 6, "somebody was restarted twice, or not at all"
    assert {role for dummy, role in restarted} == {"replica"}, "a master was restarted before it had handed over"
    assert {label for label, dummy in restarted[3:]} == before, "the masters came last"
    assert leaders(shape) == before
    asker = Client(list(shape.nodes))  # its connections are to servers that run
    asker.acknowledged = client.acknowledged
    assert asker.missing() == []
    print(f"measured: graceful failovers and restarts of 3+3: longest write {client.worst:.2f} s, {len(client.errors)} errors")


def test_nobody_hands_over_or_restarts_while_a_replica_is_down(servers: Servers) -> None:
    shape = formed(servers)
    before = leaders(shape)
    servers.kill(shape.nodes[4])
    with pytest.raises(Refusal, match="cannot be queried") as caught:
        cluster(shape, timeout=1).hand_over(["h0"], [])
    assert caught.value.reason == "not_whole"
    look, asked = cluster(shape), []
    with pytest.raises(Refusal, match="not whole") as caught:
        Instance(shape.nodes[0], Files({}, {}), [dial], asked.append, 1, before=1e12, whole=lambda: look.whole(look.look())).roll("all")
    assert caught.value.reason == "not_whole"
    assert (asked, leaders(shape)) == ([], before)


def test_all_nodes_get_new_addresses_and_a_run_heals_the_cluster(servers: Servers) -> None:
    shape = formed(servers)
    client = Client(list(shape.nodes))
    for number in range(200):
        client.ask("SET", f"k:{number}", number)
    for node in shape.nodes:
        servers.stop(node)
    moved = replace(shape, nodes=tuple(replace(node, address=f"127.0.1.{number + 1}") for number, node in enumerate(shape.nodes)))
    for node in moved.nodes:
        servers.start(node)
    run = cluster(moved)
    views, steps = run.plan()
    assert {step.action for step in steps} == {"reach"}, steps
    assert len(steps) == 5
    views = run.converge(steps)
    assert faults(moved, views) == []
    assert cluster(moved).plan()[1] == []
    for view in views.values():
        assert {peer.address for peer in view.peers.values()} == {node.address for node in moved.nodes}
    asker = Client(list(moved.nodes))
    assert [number for number in range(200) if asker.ask("GET", f"k:{number}") != str(number)] == []
