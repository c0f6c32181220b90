# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner of redis_cluster: from any state that a cut-short run, a failover or a lost host leaves, to the declared shape."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import permutations, takewhile

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.redis import failover
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster import (
    SLOTS,
    Flow,
    Node,
    Peer,
    Refusal,
    Shape,
    Step,
    View,
    absences,
    describe,
    faults,
    members,
    parse_nodes,
    plan,
    predict,
    show_ranges,
    split_slots,
    survey,
    to_ranges,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

ranges = lru_cache(maxsize=4096)(to_ranges)


class World:
    """Nodes that do what Redis does with the planner's steps."""

    def __init__(self, shape: Shape, prefix: str = "id") -> None:
        self.shape = shape
        self.ids = {node.label: f"{prefix}-{node.label}" for node in shape.everyone}
        self.known = {node.label: {node.label} for node in shape.everyone}
        self.slots: dict[str, set[int]] = {node.label: set() for node in shape.everyone}
        self.master: dict[str, str] = {}
        self.keys = {node.label: 0 for node in shape.everyone}
        self.down: set[str] = set()
        self.moving: dict[int, tuple[str, str, str]] = {}  # slot -> source, destination, who is marked: "source", "destination", "both"
        self.ghosts: dict[str, Peer] = {}
        self.remembered: set[tuple[str, str]] = set()  # who has not forgotten which ghost

    def do(self, step: Step) -> None:
        if step.action == "meet":
            together = self.known[step.node] | self.known[step.target]
            for one in together:
                self.known[one] = together
        elif step.action == "addslots":
            assert not any(members(step.slots) & owned for owned in self.slots.values()), "a slot is given away twice"
            self.slots[step.node] |= members(step.slots)
        elif step.action == "replicate":
            assert step.target in self.known[step.node], "CLUSTER REPLICATE of a node it does not know"
            assert not self.slots[step.node], "a node with slots cannot become a replica"
            self.master[step.node] = step.target
        elif step.action == "failover":
            assert self.master[step.node] == step.target
            self.fail_over(step.node)
        elif step.action == "move":
            self.move(step, len(members(step.slots)), "")
        elif step.action == "close":
            for slot in members(step.slots):
                del self.moving[slot]
        elif step.action == "remove":
            assert not self.slots[step.node], "a node with slots leaves"
            assert step.node not in self.master.values(), "a node that others follow leaves"
            self.known = {one: known - {step.node} for one, known in self.known.items()}
            self.known[step.node] = {step.node}
            self.master.pop(step.node, None)
        else:
            self.remembered.discard((step.node, step.target))

    def move(self, step: Step, count: int, marked: str) -> None:
        """Move slots until the controller is killed after `count` of them, in the middle of the next one where somebody is marked."""
        assert step.node not in self.master, "a replica cannot hold slots"
        wanted = sorted(members(step.slots))
        assert set(wanted) <= self.slots[step.target], "a slot is moved that its source does not hold"
        self.slots[step.target] -= set(wanted[:count])
        self.slots[step.node] |= set(wanted[:count])
        self.moving = {slot: ends for slot, ends in self.moving.items() if slot not in wanted[:count]}
        if marked and count < len(wanted):
            self.moving[wanted[count]] = (step.target, step.node, marked)
        assert set().union(*self.slots.values()) == set(range(SLOTS)), "a slot has no owner"

    def marks(self, label: str) -> tuple[str, ...]:
        """The slots under way as a node shows them of itself."""
        found = []
        for slot, (source, target, marked) in self.moving.items():
            if label == source and marked in ("source", "both"):
                found.append(f"[{slot}->-{self.ids[target]}]")
            if label == target and marked in ("destination", "both"):
                found.append(f"[{slot}-<-{self.ids[source]}]")
        return tuple(found)

    def fail_over(self, replica: str) -> None:
        leader = self.master.pop(replica)
        self.slots[replica], self.slots[leader] = self.slots[leader], set()
        self.master = {one: replica if whom == leader else whom for one, whom in self.master.items()}
        self.master[leader] = replica

    def haunt(self, ghost: Peer, among: set[str] | None = None) -> None:
        self.ghosts[ghost.id] = ghost
        self.remembered |= {(one, ghost.id) for one in (self.ids if among is None else among)}

    def reinstall(self, label: str, noticed: bool = True) -> None:
        """The host comes back empty: a new id at the old address. Once Redis notices it takes the address from the old id."""
        node, old = self.shape.node(label), self.ids[label]
        address, port, flag = ("", 0, "noaddr") if noticed else (node.address, node.port, "fail")
        master = self.ids[self.master[label]] if label in self.master else ""
        self.haunt(Peer(old, address, port, frozenset({"slave", flag}), master), self.known[label] - {label})
        self.ids[label] = old + "+"
        self.master.pop(label, None)
        for one in self.known[label] - {label}:
            self.known[one] = self.known[one] - {label}
        self.known[label] = {label}

    def views(self) -> dict[str, View]:
        owned = {one: ranges(frozenset(slots)) for one, slots in self.slots.items()}
        return {node.label: self.view(node, owned) for node in self.shape.everyone}

    def view(self, node: Node, owned: dict[str, tuple[tuple[int, int], ...]]) -> View:
        if node.label in self.down:
            return View(problem="nothing listens", trouble="refused")
        peers = {}
        for one in self.known[node.label]:
            other = self.shape.node(one)
            flags = {"myself"} if one == node.label else set()
            flags.add("slave" if one in self.master else "master")
            if one in self.down:
                flags.add("fail")
            leader = self.master.get(one, "")
            peers[self.ids[one]] = Peer(
                self.ids[one], other.address, other.port, frozenset(flags), self.ids[leader] if leader else "", one not in self.down,
                owned[one], self.marks(one) if one == node.label else (),
            )  # fmt: skip
        peers.update({ghost: self.ghosts[ghost] for one, ghost in self.remembered if one == node.label})
        state = "ok" if sum(map(len, self.slots.values())) == SLOTS else "fail"
        return View(id=self.ids[node.label], peers=peers, keys=self.keys[node.label], version="8.0.2", state=state)


def cluster(hosts: int, masters: int, replicas: int, zones: int = 0) -> Shape:
    nodes = [
        Node(f"h{number % hosts}", f"10.0.0.{number % hosts + 1}", 6379 + number // hosts, f"z{number % hosts % zones}" if zones else "")
        for number in range(masters * (1 + replicas))
    ]
    return Shape(tuple(nodes), masters, replicas)


SHAPES = st.builds(
    lambda masters, replicas, extra, zones: cluster(max(1 + replicas, 3 if masters > 1 else 1) + extra, masters, replicas, zones),
    st.integers(1, 6), st.integers(0, 2), st.integers(0, 4), st.integers(0, 3),
)  # fmt: skip


def form(world: World) -> list[Step]:
    steps = plan(world.shape, world.views())
    for step in steps:
        world.do(step)
    return steps


def check_formed(world: World) -> None:
    shape = world.shape
    owners = [one for one, slots in world.slots.items() if slots]
    assert len(owners) == shape.masters
    assert set().union(*world.slots.values()) == set(range(SLOTS))
    for one in owners:
        followers = [other for other, master in world.master.items() if master == one]
        assert len(followers) == shape.replicas
        assert len({shape.node(other).name for other in [one, *followers]}) == 1 + shape.replicas, "two of one shard on one host"
    assert faults(shape, world.views()) == []
    assert plan(shape, world.views()) == []


@given(SHAPES)
@settings(max_examples=40, deadline=None)
def test_any_shape_is_formed_and_then_left_alone(shape: Shape) -> None:
    world = World(shape)
    before = world.views()
    steps = form(world)
    check_formed(world)
    assert describe(shape, world.views()) == predict(shape, before, steps)


@given(SHAPES, st.data())
@settings(max_examples=40, deadline=None)
def test_a_run_killed_at_any_step_is_continued(shape: Shape, data: st.DataObject) -> None:
    world = World(shape)
    for dummy in range(3):
        steps = plan(shape, world.views())
        for step in steps[: data.draw(st.integers(0, len(steps)))]:
            world.do(step)
    form(world)
    check_formed(world)


@given(SHAPES.filter(lambda shape: shape.replicas > 0), st.data())
@settings(max_examples=40, deadline=None)
def test_after_failovers_and_with_a_host_down_nothing_changes(shape: Shape, data: st.DataObject) -> None:
    world = World(shape)
    form(world)
    for dummy in range(data.draw(st.integers(1, 4))):
        world.fail_over(data.draw(st.sampled_from(sorted(world.master))))
    assert plan(shape, world.views()) == []
    host = data.draw(st.sampled_from(sorted({node.name for node in shape.nodes})))
    for node in shape.nodes:
        if node.name == host and not world.slots[node.label]:
            world.down.add(node.label)
    assert plan(shape, world.views()) == []
    world.down.clear()
    assert plan(shape, world.views()) == []


@given(SHAPES.filter(lambda shape: shape.replicas > 0), st.data())
@settings(max_examples=40, deadline=None)
def test_a_host_that_was_installed_anew_gets_its_part_back(shape: Shape, data: st.DataObject) -> None:
    world = World(shape)
    form(world)
    lost = data.draw(st.sampled_from(sorted(world.master)))
    world.reinstall(lost, data.draw(st.booleans()))
    steps = plan(shape, world.views())
    for step in [step for step in steps if step.action != "forget" or data.draw(st.booleans())]:
        world.do(step)  # cut short among the forgetting: what knows the ghost and what does not still agree
    assert survey(shape, world.views()).agreed
    form(world)
    check_formed(world)
    assert {step.action for step in steps} == {"forget", "meet", "replicate"}


def test_growth_is_three_masters_each_with_its_replica_on_the_next_host() -> None:
    shape = cluster(3, 3, 1)
    assert [str(step) for step in plan(shape, World(shape).views())] == [
        "h1:6379 joins the cluster of h0:6379",
        "h2:6379 joins the cluster of h0:6379",
        "h0:6380 joins the cluster of h0:6379",
        "h1:6380 joins the cluster of h0:6379",
        "h2:6380 joins the cluster of h0:6379",
        "h0:6379 takes the slots 0-5460",
        "h1:6379 takes the slots 5461-10922",
        "h2:6379 takes the slots 10923-16383",
        "h0:6380 becomes a replica of h2:6379",
        "h1:6380 becomes a replica of h0:6379",
        "h2:6380 becomes a replica of h1:6379",
    ]


def test_startup_is_one_master_with_all_slots() -> None:
    shape = cluster(1, 1, 0)
    assert [str(step) for step in plan(shape, World(shape).views())] == ["h0:6379 takes the slots 0-16383"]


def test_zones_are_kept_apart_where_that_can_be() -> None:
    shape = cluster(4, 4, 1, zones=2)
    world = World(shape)
    form(world)
    assert all(shape.node(one).zone != shape.node(master).zone for one, master in world.master.items())


def test_a_replica_on_its_masters_host_is_moved() -> None:
    shape = cluster(3, 3, 1)
    world = World(shape)
    form(world)
    world.master["h0:6380"], world.master["h1:6380"] = "h0:6379", "h2:6379"
    form(world)
    check_formed(world)


def refusal(world: World, reason: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        plan(world.shape, world.views())
    assert caught.value.reason == reason, str(caught.value)
    return caught.value


def test_keys_that_are_not_ours_are_never_joined() -> None:
    world = World(cluster(3, 3, 1))
    world.keys["h1:6379"] = 17
    error = refusal(world, "node_not_empty")
    assert error.node == "h1:6379"
    assert "17 keys" in str(error)
    assert "FLUSHALL" in str(error)


def test_keys_from_before_the_cluster_are_not_taken_for_ours() -> None:
    world = World(cluster(3, 3, 1))
    world.slots["h1:6379"], world.keys["h1:6379"] = {1, 99}, 2  # Redis claims the slots of keys that it finds
    assert refusal(world, "node_not_empty").node == "h1:6379"


def test_keys_written_while_forming_was_cut_short_do_no_harm() -> None:
    world = World(cluster(3, 3, 1))
    for step in plan(world.shape, world.views())[:6]:
        world.do(step)
    world.keys["h0:6379"] = 5
    form(world)
    check_formed(world)


def test_a_node_of_another_cluster_is_refused() -> None:
    ours, theirs = World(cluster(3, 3, 1)), World(cluster(3, 3, 1), "their")
    form(theirs)
    for step in plan(ours.shape, ours.views())[:4]:
        ours.do(step)
    # h2:6380 would be ours, but it knows others and follows one of them.
    views = {**ours.views(), "h2:6380": theirs.views()["h2:6380"]}
    with pytest.raises(Refusal) as caught:
        plan(ours.shape, views)
    assert (caught.value.reason, caught.value.node) == ("other_cluster", "h2:6380")
    assert "knows 5 other nodes" in str(caught.value)


def test_an_undeclared_member_is_refused_unless_it_is_dead_and_empty() -> None:
    world = World(cluster(3, 3, 1))
    form(world)
    world.haunt(Peer("g", "10.9.9.9", 6379, frozenset({"master"})))
    assert refusal(world, "foreign_member").node == "10.9.9.9:6379"
    world.ghosts["g"] = replace(world.ghosts["g"], flags=frozenset({"master", "fail"}))
    assert plan(world.shape, world.views()) == []


@pytest.mark.parametrize("noticed", [True, False])
def test_lost_slots_are_not_given_away(noticed: bool) -> None:
    world = World(cluster(3, 3, 1))
    form(world)
    slots = to_ranges(world.slots["h0:6379"])
    world.slots["h0:6379"] = set()
    world.reinstall("h0:6379", noticed)
    world.ghosts["id-h0:6379"] = replace(world.ghosts["id-h0:6379"], slots=slots)
    assert "0-5460" in str(refusal(world, "slots_lost"))


def reshaped(old: World, shape: Shape) -> World:
    """The same nodes, with another declaration: new hosts are there, and what is not declared any more is to leave."""
    labels = {node.label for node in shape.nodes}
    world = World(replace(shape, leaving=tuple(node for node in old.shape.nodes if node.label not in labels)))
    for name in ("ids", "known", "slots", "keys"):
        getattr(world, name).update(getattr(old, name))
    world.master.update(old.master)
    return world


def bring_about(world: World, data: st.DataObject | None = None, kills: int = 0) -> list[Step]:
    """Do as the module does: the first steps of one kind, and plan anew; with `data` the controller is killed here and there."""
    done = []
    for dummy in range(30):
        steps = plan(world.shape, world.views())
        if not steps:
            return done
        kind = steps[0].action
        for step in list(takewhile(lambda step, kind=kind: step.action == kind, steps)):
            if data and kills and data.draw(st.booleans()):
                kills -= 1
                if step.action == "move":
                    count = data.draw(st.integers(0, len(members(step.slots))))
                    world.move(step, count, data.draw(st.sampled_from(["", "source", "destination", "both"])))
                break
            world.do(step)
            done.append(step)
    raise AssertionError(f"no end of it: {steps}")


def possible(old: World, shape: Shape) -> bool:
    """Whether there are new nodes enough for the new masters: a replica does not become one with other slots."""
    labels = {node.label for node in shape.nodes}
    staying = [one for one, slots in old.slots.items() if slots and one in labels]
    fresh = labels - {node.label for node in old.shape.nodes}
    return shape.masters - len(staying) <= len(fresh)


def check_reshaped(world: World) -> None:
    for node in world.shape.leaving:
        assert world.known[node.label] == {node.label}, "a node that is not declared is still a member"
    left = World(replace(world.shape, leaving=()))
    for name in ("ids", "known", "slots", "keys", "master"):
        setattr(left, name, {one: value for one, value in getattr(world, name).items() if one in left.ids})
    check_formed(left)


@given(SHAPES, SHAPES, st.data())
@settings(max_examples=25, deadline=None)
def test_any_shape_is_reached_from_any_other_with_every_slot_served(before: Shape, after: Shape, data: st.DataObject) -> None:
    old = World(before)
    form(old)
    for dummy in range(data.draw(st.integers(0, 2)) if old.master else 0):
        old.fail_over(data.draw(st.sampled_from(sorted(old.master))))
    assume(possible(old, after))
    world = reshaped(old, after)
    steps = bring_about(world, data, kills=data.draw(st.integers(0, 4)))
    check_reshaped(world)
    if [step for step in steps if step.action == "move"]:
        sizes = [len(slots) for slots in world.slots.values() if slots]
        assert max(sizes) - min(sizes) <= SLOTS / len(sizes) * 0.04, sizes


@given(SHAPES, SHAPES)
@settings(max_examples=15, deadline=None)
def test_no_slot_is_moved_that_need_not_be(before: Shape, after: Shape) -> None:
    old = World(before)
    form(old)
    assume(possible(old, after))
    world = reshaped(old, after)
    owners = {one: set(slots) for one, slots in world.slots.items() if slots}
    moved = sum(len(members(step.slots)) for step in bring_about(world) if step.action == "move")
    stay = [len(slots) for one, slots in owners.items() if world.slots[one]]
    share = SLOTS // after.masters
    least = SLOTS - sum(min(size, share + 1) for size in stay)
    assert least <= moved <= least + after.masters or not moved


def test_replicas_that_stand_well_make_room_where_two_of_one_master_would_share_a_host() -> None:
    before = World(cluster(7, 6, 2))
    form(before)
    world = reshaped(before, cluster(4, 4, 2))
    bring_about(world)
    check_reshaped(world)
    assert plan(world.shape, world.views()) == []


def test_startup_grows_to_three_masters_and_their_replicas_stand_before_a_key_moves() -> None:
    old = World(cluster(1, 1, 0))
    form(old)
    world = reshaped(old, cluster(3, 3, 1))
    assert [str(step) for step in plan(world.shape, world.views())] == [
        "h1:6379 joins the cluster of h0:6379",
        "h2:6379 joins the cluster of h0:6379",
        "h0:6380 joins the cluster of h0:6379",
        "h1:6380 joins the cluster of h0:6379",
        "h2:6380 joins the cluster of h0:6379",
        "h0:6380 becomes a replica of h2:6379",
        "h1:6380 becomes a replica of h0:6379",
        "h2:6380 becomes a replica of h1:6379",
        "h1:6379 gets 5461 slots from h0:6379 (10923-16383)",
        "h2:6379 gets 5461 slots from h0:6379 (5462-10922)",
    ]


def test_a_failover_in_the_middle_of_a_slot_leads_to_the_new_leaders() -> None:
    old = World(cluster(3, 3, 1))
    form(old)
    world = reshaped(old, cluster(4, 4, 1))
    for step in plan(world.shape, world.views()):
        if step.action == "move":
            break
        world.do(step)
    world.move(step, 10, "both")
    source = next(one for one, master in world.master.items() if master == step.target)
    target = next(one for one, master in world.master.items() if master == step.node)
    slot = next(iter(world.moving))
    world.fail_over(source)
    assert [(one.action, one.node, one.target, one.slots) for one in plan(world.shape, world.views())] == [
        ("move", step.node, source, ((slot, slot),))
    ]
    world.fail_over(target)
    assert plan(world.shape, world.views())[0].action == "move"


def test_a_move_to_a_node_that_is_down_waits_for_it() -> None:
    old = World(cluster(4, 4, 0))
    form(old)
    world = reshaped(old, cluster(5, 5, 0))
    for step in plan(world.shape, world.views()):
        if step.action == "move":
            break
        world.do(step)
    world.move(step, 3, "both")
    world.down.add(step.node)
    error = refusal(world, "open_slots")
    assert error.node == step.node
    assert "goes on from there" in str(error)


def test_more_masters_than_free_nodes_is_refused_with_what_is_missing() -> None:
    old = World(cluster(6, 3, 1))
    form(old)
    world = reshaped(old, cluster(6, 6, 0))
    assert "3 more masters are needed, and only these nodes are neither master nor replica: none." in str(refusal(world, "reshape_needed"))


def test_what_does_not_fit_is_refused_before_a_slot_is_moved() -> None:
    old = World(cluster(4, 4, 0))
    form(old)
    world = reshaped(old, cluster(3, 3, 0))
    full = {"used_memory": 80 << 20, "maxmemory": 100 << 20}
    views = {one: replace(view, facts=full) for one, view in world.views().items()}
    with pytest.raises(Refusal, match="would hold 106 MiB of at most 100 MiB") as caught:
        plan(world.shape, views)
    assert caught.value.reason == "no_memory"


def test_unevenness_is_mended_beyond_the_threshold_only() -> None:
    world = World(cluster(3, 3, 0))
    form(world)
    give = set(sorted(world.slots["h0:6379"])[:100])
    world.slots["h0:6379"] -= give
    world.slots["h1:6379"] |= give
    assert plan(world.shape, world.views()) == []
    assert {step.action for step in plan(world.shape, world.views(), threshold=0.01)} == {"move"}
    assert plan(world.shape, world.views(), threshold=0) == []


def test_replicas_are_added_to_a_cluster_that_had_none() -> None:
    world = World(cluster(3, 3, 0))
    form(world)
    grown = World(cluster(3, 3, 1))
    grown.slots.update(world.slots)
    grown.known.update(world.known)
    assert {step.action for step in form(grown)} == {"meet", "replicate"}
    check_formed(grown)


def test_a_missing_node_stops_the_forming_only() -> None:
    world = World(cluster(3, 3, 1))
    world.down.add("h2:6379")
    error = refusal(world, "node_unreachable")
    assert error.node == "h2:6379"
    assert "nothing listens" in str(error)
    world.down.clear()
    form(world)
    world.down = {"h2:6380"}
    assert plan(world.shape, world.views()) == []
    assert absences(world.shape, world.views()) == ["h2:6380 cannot be queried: nothing listens.", "h1:6379 has 0 of 1 replicas."]


def test_check_mode_takes_silent_nodes_for_new_ones() -> None:
    world = World(cluster(3, 3, 1))
    expected = plan(world.shape, world.views())
    world.down = set(world.ids)
    assert plan(world.shape, world.views(), presume=True) == expected
    refusal(world, "node_unreachable")


def test_a_wrong_password_is_no_absence() -> None:
    world = World(cluster(3, 3, 1))
    views = world.views()
    views["h1:6379"] = View(problem="it answers: WRONGPASS", trouble="denied")
    for presume in (False, True):
        with pytest.raises(Refusal) as caught:
            plan(world.shape, views, presume)
        assert caught.value.reason == "access_denied"


def test_other_refusals() -> None:
    shape = cluster(3, 3, 1)
    world = World(shape)
    with pytest.raises(Refusal, match="make 8") as caught:
        plan(replace(shape, replicas=1, masters=4), world.views())
    assert caught.value.reason == "bad_shape"
    with pytest.raises(Refusal, match="declared twice"):
        plan(replace(shape, nodes=(*shape.nodes[:5], shape.nodes[0])), world.views())
    lonely = Shape(tuple(Node("h0", "10.0.0.1", 6379 + number) for number in range(6)), 3, 1)
    with pytest.raises(Refusal) as caught:
        plan(lonely, World(lonely).views())
    assert caught.value.reason == "no_anti_affinity"
    views = world.views()
    views["h1:6380"] = replace(views["h1:6380"], version="7.0.15")
    with pytest.raises(Refusal, match=r"7\.0\.15"):
        plan(shape, views)
    views["h1:6380"] = View(id="x", clustered=False)
    with pytest.raises(Refusal, match="cluster-enabled no"):
        plan(shape, views)


def test_a_move_to_a_node_that_is_gone_is_closed() -> None:
    world = World(cluster(3, 3, 1))
    form(world)
    views = world.views()
    me = views["h0:6379"].me
    views["h0:6379"] = replace(views["h0:6379"], peers={**views["h0:6379"].peers, me.id: replace(me, open_slots=("[5->-x]",))})
    assert plan(world.shape, views) == [Step("close", "h0:6379", slots=((5, 5),))]


def test_faults_say_what_is_wrong() -> None:
    world = World(cluster(3, 3, 1))
    assert any("belong to no node" in text for text in faults(world.shape, world.views()))
    form(world)
    views = world.views()
    views["h1:6380"] = replace(views["h1:6380"], link_up=False)
    assert faults(world.shape, views) == ["h1:6380 has no link to its master h0:6379."]
    world.down = {"h0:6379", "h1:6380"}
    assert any("0-5460 belong to h0:6379, which is down" in text for text in faults(world.shape, world.views()))
    world.down = set(world.ids)
    assert faults(world.shape, world.views()) == ["No declared node can be reached."]


def test_a_host_that_leads_most_masters_is_told() -> None:
    world = World(cluster(3, 3, 1))
    form(world)
    world.fail_over("h1:6380")
    assert faults(world.shape, world.views()) == []
    assert any("h1 leads 2 of 3 masters" in text for text in absences(world.shape, world.views()))


@given(SHAPES.filter(lambda shape: shape.replicas > 0), st.data())
@settings(max_examples=40, deadline=None)
def test_masters_are_spread_again_only_when_asked(shape: Shape, data: st.DataObject) -> None:
    world = World(shape)
    form(world)
    for dummy in range(data.draw(st.integers(1, 4))):
        world.fail_over(data.draw(st.sampled_from(sorted(world.master))))
    before = world.views()
    assert plan(shape, before) == []
    steps = plan(shape, before, spread=True)
    for step in steps:
        world.do(step)
    assert describe(shape, world.views()) == predict(shape, before, steps)
    assert plan(shape, world.views(), spread=True) == []
    check_formed(world)


def test_after_one_lost_host_spreading_gives_its_masters_back() -> None:
    world = World(cluster(3, 3, 1))
    form(world)
    world.fail_over("h1:6380")
    assert [str(step) for step in plan(world.shape, world.views(), spread=True)] == ["h0:6379 takes over from h1:6380"]
    world.down = {"h0:6379"}
    assert plan(world.shape, world.views(), spread=True) == []


def test_views_in_motion_are_seen() -> None:
    world = World(cluster(3, 3, 1))
    form(world)
    before = world.views()
    world.fail_over("h1:6380")
    after = world.views()
    assert survey(world.shape, after).agreed
    assert not survey(world.shape, {**after, "h0:6379": before["h0:6379"]}).agreed


NODES = """\
27eb 10.93.0.12:6379@16379,rd-2.internal myself,master - 0 0 3 connected 5461-10922 16000 [16001->-194a]
d017 10.93.0.11:6380@16380,rd-1.internal slave 27eb 0 1795216833012 3 connected
194a 10.93.0.13:6380@16380 slave,fail? 59bb 0 1795216833516 1 disconnected
0000 10.93.0.14:6379@16379 handshake - 0 0 0 connected
a914 :0@0 master,noaddr - 1 1 5 disconnected
"""


def test_cluster_nodes_are_read() -> None:
    peers = parse_nodes(NODES)
    assert set(peers) == {"27eb", "d017", "194a", "a914"}
    assert peers["27eb"] == Peer(
        "27eb", "10.93.0.12", 6379, frozenset({"myself", "master"}), "", True, ((5461, 10922), (16000, 16000)), ("[16001->-194a]",)
    )
    assert peers["d017"].master == "27eb"
    assert peers["194a"].flags == {"slave", "pfail"}
    assert not peers["194a"].failed
    assert not peers["194a"].linked
    assert peers["a914"].failed


@given(st.integers(1, 200))
def test_slots_are_divided_evenly_and_completely(masters: int) -> None:
    parts = split_slots(masters)
    sizes = [last - first + 1 for first, last in parts]
    assert sum(sizes) == SLOTS
    assert max(sizes) - min(sizes) <= 1
    assert to_ranges(members(parts)) == ((0, SLOTS - 1),)


@given(st.sets(st.integers(0, 300)))
def test_ranges_hold_the_same_slots(slots: set[int]) -> None:
    assert members(to_ranges(slots)) == slots


def test_ranges_are_shown_as_redis_does() -> None:
    assert show_ranges(((0, 5), (7, 7))) == "0-5 7"


@given(st.integers(1, 5).flatmap(lambda size: st.lists(st.lists(st.integers(0, 50), min_size=5, max_size=5), min_size=size, max_size=size)))
@settings(deadline=None)
def test_the_flow_is_a_cheapest_one(cost: list[list[int]]) -> None:
    flow = Flow()
    for row, prices in enumerate(cost):
        flow.edge("source", row, 1, 0)
        for column, price in enumerate(prices):
            flow.edge(row, f"c{column}", 1, price)
    for column in range(5):
        flow.edge(f"c{column}", "sink", 1, 0)
    used = flow.run("source", "sink")
    picks = [int(used[row][0][1:]) for row in range(len(cost))]
    assert len(set(picks)) == len(cost)
    best = min(sum(cost[row][column] for row, column in enumerate(order)) for order in permutations(range(5), len(cost)))
    assert sum(cost[row][column] for row, column in enumerate(picks)) == best


# --- weights, addresses and failovers by hand ----------------------------------------------------------------------


@given(SHAPES.filter(lambda shape: shape.masters > 1), st.data())
@settings(max_examples=25, deadline=None)
def test_weights_are_held_whoever_leads(shape: Shape, data: st.DataObject) -> None:
    world = World(shape)
    form(world)
    labels = sorted(world.ids)
    weights = data.draw(st.dictionaries(st.sampled_from(labels), st.floats(0.1, 10).map(lambda number: round(number, 1)), max_size=4))
    for step in plan(shape, world.views(), weights=weights):
        world.do(step)
    assert plan(shape, world.views(), weights=weights) == []
    owners = {one: slots for one, slots in world.slots.items() if slots}
    weight = {
        one: max(
            [weights[label] for label in [one, *(other for other in labels if world.master.get(other) == one)] if label in weights] or [1.0]
        )
        for one in owners
    }
    for one, slots in owners.items():
        share = SLOTS * weight[one] / sum(weight.values())
        assert abs(len(slots) - share) <= max(1.0, share * 0.02), (weights, one, len(slots), share)
    for replica in sorted(world.master)[:2]:
        if replica in world.master:
            world.fail_over(replica)
    assert plan(shape, world.views(), weights=weights) == [], "a failover moved slots"


@pytest.mark.parametrize(("weights", "words"), [({"h9:1": 2.0}, "which is not declared"), ({"h0:6379": 0.0}, "from 0.1 to 10")])
def test_a_weight_that_cannot_be_is_refused(weights: dict[str, float], words: str) -> None:
    world = World(cluster(3, 3, 1))
    with pytest.raises(Refusal, match=words) as caught:
        plan(world.shape, world.views(), weights=weights)
    assert caught.value.reason == "bad_weight"


def test_members_at_new_addresses_are_told_by_one_and_replicas_look_for_their_master_anew() -> None:
    world = World(cluster(3, 3, 1))
    form(world)
    old = world.views()
    moved = replace(world.shape, nodes=tuple(replace(node, address=node.address.replace("10.", "11.")) for node in world.shape.nodes))
    steps = plan(moved, old)
    assert [str(step) for step in steps] == [f"h0:6379 learns the new address of {node.label}" for node in moved.nodes[1:]]
    world.shape = moved
    views = world.views()
    facts = {"master_host": "10.0.0.1", "master_port": "6379"}
    views["h1:6380"] = replace(views["h1:6380"], link_up=False, facts=facts)
    assert [str(step) for step in plan(moved, views)] == ["h1:6380 becomes a replica of h0:6379"]
    views["h1:6380"] = replace(views["h1:6380"], facts={**facts, "master_host": "11.0.0.1"})
    assert plan(moved, views) == [], "a link that is down for another reason is left alone"


@given(SHAPES.filter(lambda shape: shape.replicas > 0), st.data())
@settings(max_examples=30, deadline=None)
def test_who_is_relieved_leads_nothing_and_gets_it_back(shape: Shape, data: st.DataObject) -> None:
    world = World(shape)
    form(world)
    for dummy in range(data.draw(st.integers(0, 2))):
        world.fail_over(data.draw(st.sampled_from(sorted(world.master))))
    before = {one for one, slots in world.slots.items() if slots}
    host = data.draw(st.sampled_from(sorted({node.name for node in shape.nodes})))
    steps = failover.plan(shape, world.views(), [host])
    for step in steps:
        world.do(step)
    assert not [one for one, slots in world.slots.items() if slots and shape.node(one).name == host]
    assert failover.plan(shape, world.views(), [host]) == []
    for step in failover.plan(shape, world.views(), [], [step.target for step in steps]):
        world.do(step)
    assert {one for one, slots in world.slots.items() if slots} == before


def test_hand_overs_that_cannot_be_are_refused() -> None:
    world = World(cluster(3, 3, 1))
    form(world)
    for relieve, promote, reason in (
        (["h9"], [], "bad_target"),
        ([], ["h0"], "bad_target"),
        (["h0"], ["h0:6379"], "bad_target"),
        (["h0", "h1"], [], "no_replica"),
    ):
        with pytest.raises(Refusal) as caught:
            failover.plan(world.shape, world.views(), relieve, promote)
        assert caught.value.reason == reason
    views = world.views()
    for name, view, words in (
        ("h1:6379", {"served": 10922}, "sees 10922 of 16384 slots served"),
        ("h1:6380", {"link_up": False}, "0 of 1 replicas in sync"),
        ("h0:6379", {"facts": {"master_repl_offset": str(1 << 30)}}, "0 of 1 replicas in sync"),
        ("h2:6380", {"problem": "nothing listens"}, "cannot be queried"),
    ):
        with pytest.raises(Refusal, match=words) as caught:
            failover.plan(world.shape, {**views, name: replace(views[name], **view)}, ["h0"])
        assert caught.value.reason == "not_whole"
