# SPDX-License-Identifier: GPL-3.0-or-later
"""The running halves: redis_reload and redis_cluster against processes that answer as Redis does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster import Node, Refusal, Shape
from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster_apply import Cluster, ask, summary
from ansible_collections.uptier.platform.plugins.module_utils.redis.reload_apply import Files, Instance
from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import RespError, Unreachable, parse_info

IMMUTABLE = {"databases", "io-threads"}


class Fleet:
    """Redis processes in memory; time passes only by sleeping."""

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.nodes = {(node.address, node.port): node for node in nodes}
        self.now = 1000.0
        self.started = dict.fromkeys(self.nodes, 0.0)
        self.config = {place: {"maxmemory": "100", "databases": "16", "masterauth": "old"} for place in self.nodes}
        self.users = {place: {"default": "off", "gone": "on"} for place in self.nodes}
        self.known = {place: {place} for place in self.nodes}
        self.slots: dict[Any, list[tuple[int, int]]] = {place: [] for place in self.nodes}
        self.master: dict[Any, Any] = {}
        self.keys = dict.fromkeys(self.nodes, 0)
        self.password = dict.fromkeys(self.nodes, "new")
        self.down: set[Any] = set()
        self.expired: set[Any] = set()
        self.stubborn: set[Any] = set()  # ignore CLUSTER FAILOVER and REPLICATE
        self.ghosts: set[tuple[Any, str]] = set()
        self.log: list[str] = []
        self.build = "b1"

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def dial(self, password: str = "new") -> Any:
        @contextmanager
        def connection(place: tuple[str, int]) -> Iterator[Any]:
            yield type("Connection", (), {"call": staticmethod(lambda *words: self.answer(place, [str(word) for word in words]))})

        def dial(address: str, port: int) -> Any:
            place = (address, port)
            if place in self.down:
                raise Unreachable("refused", f"nothing listens on {address}:{port}")
            if place in self.expired:
                raise Unreachable("tls", "the certificate is not accepted: certificate has expired")
            if self.password[place] != password:
                raise RespError("WRONGPASS invalid username-password pair")
            return connection(place)

        return dial

    def id(self, place: Any) -> str:
        return f"id{place[0]}:{place[1]}"

    def line(self, asked: Any, place: Any) -> str:
        flags = ("myself," if asked == place else "") + ("slave" if place in self.master else "master")
        leader = self.id(self.master[place]) if place in self.master else "-"
        slots = " ".join(f"{first}-{last}" for first, last in self.slots[place])
        link = "disconnected" if place in self.down else "connected"
        return f"{self.id(place)} {place[0]}:{place[1]}@1 {flags} {leader} 0 0 1 {link} {slots}"

    def answer(self, place: Any, words: list[str]) -> Any:
        name = " ".join(words[:2])
        covered = sum(last - first + 1 for parts in self.slots.values() for first, last in parts)
        if words[0] == "INFO":
            up = int(self.now - self.started[place])
            server = f"# Server\r\nredis_version:8.0.2\r\nredis_build_id:{self.build}\r\ncluster_enabled:1\r\nuptime_in_seconds:{up}\r\n"
            return server + f"db0:keys={self.keys[place]},expires=0\r\n"
        if words[0] == "TIME":
            return [str(int(self.now)), "0"]
        if name == "CLUSTER NODES":
            ghosts = [f"{ghost} :0@0 slave,fail,noaddr - 0 0 0 disconnected" for one, ghost in sorted(self.ghosts) if one == place]
            return "\n".join([self.line(place, other) for other in sorted(self.known[place])] + ghosts)
        if name == "CLUSTER INFO":
            return f"cluster_state:{'ok' if covered == 16384 else 'fail'}\r\n"
        if name == "CLUSTER MYID":
            return self.id(place)
        if name == "CONFIG GET":
            return [word for pair in self.config[place].items() for word in pair]
        if name == "ACL LIST":
            return [f"user {user} {rule}" for user, rule in self.users[place].items()]
        if name == "ACL USERS":
            return list(self.users[place])
        self.log.append(f"{self.nodes[place].label} {' '.join(words)}")
        self.change(place, words, name)
        return "OK"

    def change(self, place: Any, words: list[str], name: str) -> None:
        if name == "CONFIG SET":
            if words[2] in IMMUTABLE:
                raise RespError(f"ERR CONFIG SET failed (possibly related to argument '{words[2]}') - can't set immutable config")
            if words[3] == "wrong":
                raise RespError("ERR CONFIG SET failed - argument is wrong")
            self.config[place].update(zip(words[2::2], words[3::2], strict=True))
        elif name == "ACL SETUSER":
            self.users[place][words[2]] = " ".join(words[4:])
        elif name == "ACL DELUSER":
            self.users[place] = {user: rule for user, rule in self.users[place].items() if user not in words[2:]}
        elif name == "CLUSTER FORGET":
            self.ghosts.discard((place, words[2]))
        elif name == "CLUSTER MEET":
            together = self.known[place] | self.known[(words[2], int(words[3]))]
            for one in together:
                self.known[one] = together
        elif name == "CLUSTER ADDSLOTSRANGE":
            edges = [int(word) for word in words[2:]]
            self.slots[place] += list(zip(edges[::2], edges[1::2], strict=True))
        elif name == "CLUSTER REPLICATE" and place not in self.stubborn:
            self.master[place] = next(other for other in self.nodes if self.id(other) == words[2])
        elif name == "CLUSTER FAILOVER" and place not in self.stubborn:
            leader = self.master.pop(place)
            self.slots[place], self.slots[leader] = self.slots[leader], []
            self.master[leader] = place


NODES = tuple(Node(f"h{number % 3}", f"10.0.0.{number % 3}", 6379 + number // 3) for number in range(6))
SHAPE = Shape(NODES, 3, 1)


def formed() -> Fleet:
    fleet = Fleet(NODES)
    cluster = Cluster(SHAPE, fleet.dial(), clock=fleet.clock, sleep=fleet.sleep)
    dummy, steps = cluster.plan()
    cluster.converge(steps)
    fleet.log.clear()
    return fleet


def instance(fleet: Fleet, number: int, files: Files, check: bool = False, old: str = "") -> Instance:
    def restart(port: int) -> None:
        place = (NODES[number].address, port)
        fleet.log.append(f"{fleet.nodes[place].label} restart")
        fleet.started[place] = fleet.now
        fleet.password[place] = "new"
        fleet.expired.discard(place)
        fleet.config[place].update(files.settings)

    dials = [fleet.dial(), *([fleet.dial(old)] if old else [])]
    return Instance(NODES[number], files, dials, restart, 30, check, fleet.clock, fleet.sleep)


def test_a_cluster_is_formed_once() -> None:
    fleet = formed()
    cluster = Cluster(SHAPE, fleet.dial(), clock=fleet.clock, sleep=fleet.sleep)
    views, steps = cluster.plan()
    assert steps == []
    data = summary(SHAPE, cluster.converge(steps))
    assert (data["state"], data["masters"], data["replicas"], data["slots_covered"], data["warnings"]) == ("ok", 3, 3, 16384, [])
    assert fleet.log == []
    assert data["nodes"][3]["role"] == "replica"
    assert len(views) == 6


def test_check_mode_on_bare_hosts_tells_the_whole_plan() -> None:
    fleet = Fleet(NODES)
    fleet.down = set(fleet.nodes)
    cluster = Cluster(SHAPE, fleet.dial(), clock=fleet.clock, sleep=fleet.sleep)
    views, steps = cluster.plan(check=True)
    assert len(steps) == 11
    assert summary(SHAPE, views)["state"] == "absent"
    with pytest.raises(Refusal, match="nothing listens"):
        cluster.plan()


def test_steps_without_effect_end_in_a_refusal() -> None:
    fleet = Fleet(NODES)
    fleet.stubborn = {("10.0.0.1", 6380)}
    cluster = Cluster(SHAPE, fleet.dial(), timeout=2, clock=fleet.clock, sleep=fleet.sleep)
    dummy, steps = cluster.plan()
    with pytest.raises(Refusal) as caught:
        cluster.converge(steps)
    assert caught.value.reason == "no_progress"


def test_a_refused_step_is_told_with_the_answer() -> None:
    fleet = Fleet(NODES)
    cluster = Cluster(SHAPE, fleet.dial(), clock=fleet.clock, sleep=fleet.sleep)
    dummy, steps = cluster.plan()
    fleet.down.add(("10.0.0.0", 6379))
    with pytest.raises(Refusal, match=r"h1:6379 joins the cluster of h0:6379 failed: nothing listens") as caught:
        cluster.converge(steps)
    assert caught.value.reason == "node_unreachable"


@pytest.mark.parametrize(
    ("answer", "times", "tried"),
    [("CLUSTERDOWN The cluster is down", 2, 3), ("CLUSTERDOWN The cluster is down", 99, 3), ("NOPERM no permission", 99, 1)],
)
def test_a_refused_step_is_tried_again_where_that_may_help(answer: str, times: int, tried: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(NODES)
    change, asked = fleet.change, []

    def refuse(place: Any, words: list[str], name: str) -> None:
        if name == "CLUSTER ADDSLOTSRANGE" and place == ("10.0.0.0", 6379):
            asked.append(name)
            if len(asked) <= times:
                raise RespError(answer)
        change(place, words, name)

    monkeypatch.setattr(fleet, "change", refuse)
    cluster = Cluster(SHAPE, fleet.dial(), clock=fleet.clock, sleep=fleet.sleep)
    expected = pytest.raises(Refusal, match=answer) if times > tried else nullcontext()
    with expected:
        cluster.converge(cluster.plan()[1])
        assert len(cluster.interruptions) == times
    assert len(asked) == tried


def test_an_unhealthy_cluster_is_told_after_the_time_given() -> None:
    fleet = formed()
    fleet.down = {("10.0.0.0", 6379)}
    cluster = Cluster(SHAPE, fleet.dial(), timeout=5, clock=fleet.clock, sleep=fleet.sleep)
    began = fleet.now
    with pytest.raises(Refusal, match="no replica took over") as caught:
        cluster.healthy()
    assert caught.value.reason == "not_healthy"
    assert 5 <= fleet.now - began < 6


def test_who_cannot_be_asked_is_part_of_the_answer() -> None:
    fleet = Fleet(NODES)
    fleet.password[("10.0.0.0", 6379)] = "other"
    assert ask(NODES[0], fleet.dial()).trouble == "denied"
    assert parse_info("# Keyspace\r\na:1:2\r\n\r\n") == {"a": "1:2"}


def test_a_handshake_under_way_is_waited_for() -> None:
    fleet = formed()
    fleet.ghosts = {(("10.0.0.0", 6379), "handshake")}
    cluster = Cluster(SHAPE, fleet.dial(), clock=fleet.clock, sleep=fleet.sleep)
    assert "h0:6379: a handshake" in cluster.unsettled(cluster.look())
    fleet.ghosts.clear()
    assert cluster.unsettled(cluster.look()) == ""


def test_a_master_that_comes_back_is_waited_for_until_it_follows_who_replaced_it() -> None:
    """It has its keys, its slots are another's by now, and it has not heard of that yet: no stranger."""
    fleet = formed()
    late = next(place for place in fleet.nodes if place in fleet.master)
    leader = fleet.master.pop(late)
    fleet.keys[late] = 13
    ends = fleet.now + 3

    def sleep(seconds: float) -> None:
        fleet.sleep(seconds)
        if fleet.now >= ends:
            fleet.master[late] = leader

    cluster = Cluster(SHAPE, fleet.dial(), clock=fleet.clock, sleep=sleep)
    assert "has keys, but neither slots nor a master yet" in cluster.unsettled(cluster.look())
    assert cluster.plan()[1] == []
    fleet.master.pop(late)
    ends = fleet.now + 1000
    with pytest.raises(Refusal) as caught:
        cluster.plan()
    assert caught.value.reason == "node_not_empty"


def test_what_redis_can_take_over_is_set_while_it_runs() -> None:
    fleet = formed()
    files = Files(
        {"maxmemory": "200", "databases": "32", "masterauth": "secret", "tls-cert-file": "/x"}, {"default": ["off"], "app": ["on"]}
    )
    one = instance(fleet, 0, files)
    one.apply()
    assert one.report.applied == ["h0:6379 maxmemory: 100 -> 200", "h0:6379 masterauth", "h0:6379 users"]
    assert fleet.users[("10.0.0.0", 6379)] == {"default": "off", "app": "on"}
    assert "h0:6379 CONFIG SET tls-cert-file /x" in fleet.log
    again = instance(fleet, 0, files)
    again.apply()
    assert again.report.applied == []


def test_check_mode_sets_nothing() -> None:
    fleet = formed()
    one = instance(fleet, 0, Files({"maxmemory": "200", "databases": "32"}, {}), check=True)
    one.apply()
    one.roll("all")
    assert one.report.applied == ["h0:6379 databases: 16 -> 32", "h0:6379 maxmemory: 100 -> 200"]
    assert one.report.restarted == ["h0:6379 (databases: 16 -> 32; maxmemory: 100 -> 200)"]
    assert fleet.log == []


def test_a_refused_setting_is_an_error() -> None:
    fleet = formed()
    with pytest.raises(Refusal, match="argument is wrong") as caught:
        instance(fleet, 0, Files({"maxmemory": "wrong"}, {})).apply()
    assert caught.value.reason == "setting_refused"


def test_a_new_password_is_brought_in_with_the_old_one() -> None:
    fleet = formed()
    fleet.password[("10.0.0.0", 6379)] = "old"
    one = instance(fleet, 0, Files({"maxmemory": "200"}, {}), old="old")
    one.apply()
    assert one.report.applied[0] == "h0:6379 maxmemory: 100 -> 200"


def test_a_former_password_is_kept_until_it_is_retired() -> None:
    fleet = formed()
    place = next(iter(fleet.nodes))
    fleet.users[place]["sample"] = "on #former ~sample:* +@all"
    files = Files({"maxmemory": "100"}, {"default": ["off"], "sample": ["on", "#new", "~sample:*", "+@all"]})
    one = instance(fleet, 0, files)
    one.keep = True
    one.apply()
    assert fleet.users[place]["sample"] == "on #new ~sample:* +@all #former"
    again = instance(fleet, 0, files, check=True)
    again.retire()
    assert again.report.applied
    assert "#former" in fleet.users[place]["sample"]
    last = instance(fleet, 0, files)
    last.retire()
    assert fleet.users[place]["sample"] == "on #new ~sample:* +@all"
    assert [text.partition(" ")[2] for text in last.report.applied] == ["former passwords of sample"]
    nothing = instance(fleet, 0, files)
    nothing.retire()
    assert nothing.report.applied == []


@pytest.mark.parametrize("trouble", ["password", "certificate"])
def test_a_process_that_cannot_be_told_anything_is_restarted_at_once(trouble: str) -> None:
    fleet = formed()
    place = ("10.0.0.0", 6379)
    if trouble == "password":
        fleet.password[place] = "forgotten"
    else:
        fleet.expired.add(place)
    checked = instance(fleet, 0, Files({"maxmemory": "200"}, {}), check=True)
    checked.apply()
    assert fleet.log == []
    one = instance(fleet, 0, Files({"maxmemory": "200"}, {}))
    one.apply()
    assert fleet.log[0] == "h0:6379 restart"
    assert len(one.report.restarted) == 1
    assert fleet.config[place]["maxmemory"] == "200"


def test_a_process_that_does_not_run_is_told_in_time() -> None:
    fleet = formed()
    fleet.down.add(("10.0.0.0", 6379))
    with pytest.raises(Refusal, match="nothing listens") as caught:
        instance(fleet, 0, Files({}, {})).apply()
    assert caught.value.reason == "not_running"


def test_replicas_are_restarted_before_masters_and_masters_after_a_failover() -> None:
    fleet = formed()
    files = Files({"databases": "32"}, {})
    instance(fleet, 0, files).roll("replicas")
    assert fleet.log == []
    for number in (3, 4, 5):
        instance(fleet, number, files).roll("replicas")
    assert fleet.log == ["h0:6380 restart", "h1:6380 restart", "h2:6380 restart"]
    fleet.log.clear()
    for number in range(6):
        instance(fleet, number, files).roll("all")
    assert fleet.log[:3] == ["h1:6380 CLUSTER FAILOVER", "h0:6379 restart", "h0:6379 CLUSTER FAILOVER"]
    assert len(fleet.log) == 9
    assert all(fleet.slots[(node.address, node.port)] for node in NODES[:3]), "every master leads again"


def test_nothing_to_do_restarts_nothing() -> None:
    fleet = formed()
    files = Files({"databases": "16"}, {}, [500.0])
    fleet.started = dict.fromkeys(fleet.nodes, 600.0)
    for number in range(6):
        instance(fleet, number, files).roll("all")
    assert fleet.log == []


def test_a_process_older_than_its_unit_is_restarted() -> None:
    fleet = formed()
    one = instance(fleet, 3, Files({}, {}, [500.0]))
    one.roll("replicas")
    assert one.report.restarted == ["h0:6380 (its unit is newer than the process)"]


def test_a_master_without_a_healthy_replica_is_not_restarted() -> None:
    fleet = formed()
    fleet.down.add(("10.0.0.1", 6380))
    with pytest.raises(Refusal, match="none of its replicas is up") as caught:
        instance(fleet, 0, Files({"databases": "32"}, {})).roll("all")
    assert caught.value.reason == "no_healthy_replica"
    assert "h0:6379 restart" not in fleet.log
    fleet.down.clear()
    fleet.stubborn.add(("10.0.0.1", 6380))
    with pytest.raises(Refusal, match="does not take over|no failover"):
        instance(fleet, 0, Files({"databases": "32"}, {})).roll("all")
    assert "h0:6379 restart" not in fleet.log


def test_the_only_master_is_restarted_as_it_is() -> None:
    node = Node("h0", "10.0.0.0")
    fleet = Fleet((node,))
    shape = Shape((node,), 1)
    cluster = Cluster(shape, fleet.dial(), clock=fleet.clock, sleep=fleet.sleep)
    cluster.converge(cluster.plan()[1])
    fleet.log.clear()
    instance(fleet, 0, Files({"databases": "32"}, {})).roll("all")
    assert fleet.log == ["h0:6379 restart"]


def test_a_node_that_came_back_empty_is_taken_in_without_waiting_for_what_is_not_done_yet() -> None:
    fleet = formed()
    lost = ("10.0.0.1", 6380)
    others = set(fleet.nodes) - {lost}
    fleet.known = {**dict.fromkeys(others, others), lost: {lost}}
    fleet.ghosts = {(one, "ghost") for one in others}
    del fleet.master[lost]
    began = fleet.now
    cluster = Cluster(SHAPE, fleet.dial(), clock=fleet.clock, sleep=fleet.sleep)
    cluster.converge(cluster.plan()[1])
    assert (fleet.ghosts, fleet.master[lost]) == (set(), ("10.0.0.0", 6379))
    assert fleet.now - began < 5


def test_masters_are_spread_on_request() -> None:
    fleet = formed()
    fleet.change(("10.0.0.1", 6380), ["CLUSTER", "FAILOVER"], "CLUSTER FAILOVER")
    cluster = Cluster(SHAPE, fleet.dial(), clock=fleet.clock, sleep=fleet.sleep, spread=True)
    dummy, steps = cluster.plan()
    cluster.converge(steps)
    assert fleet.log == ["h0:6379 CLUSTER FAILOVER"]
    assert cluster.plan()[1] == []


def test_who_runs_another_build_or_is_older_than_the_moment_is_restarted() -> None:
    fleet = formed()
    other = instance(fleet, 3, Files({}, {}, version="8.0.3", build="b2"))
    fleet.build = "b1"
    other.roll("replicas")
    assert other.report.restarted == ["h0:6380 (it runs 8.0.2, and 8.0.3 of another build is installed)"]
    same = instance(fleet, 4, Files({}, {}, version="8.0.2", build="b1"))
    same.roll("replicas")
    assert same.report.restarted == []
    same.before = fleet.now + 5
    same.roll("replicas")
    assert same.report.restarted == ["h1:6380 (asked for)"]


def test_an_older_program_is_not_started_on_newer_data() -> None:
    fleet = formed()
    with pytest.raises(Refusal, match="runs 8.0.2, and 7.0.15 is installed") as caught:
        instance(fleet, 3, Files({}, {}, version="7.0.15", build="b0")).roll("all")
    assert caught.value.reason == "downgrade"
    assert fleet.log == []


@pytest.mark.parametrize("check", [True, False])
def test_a_node_is_restarted_only_while_the_cluster_is_whole(check: bool) -> None:
    fleet = formed()
    one = instance(fleet, 3, Files({"databases": "32"}, {}), check=check)
    wrong = ["h2:6379 has 0 of 1 replicas in sync.", "still"]
    one.whole = lambda: wrong.pop(0) if wrong else ""
    if check:
        with pytest.raises(Refusal, match="0 of 1 replicas") as caught:
            one.roll("replicas")
        assert caught.value.reason == "not_whole"
    else:
        one.roll("replicas")
        assert wrong == []
    assert fleet.log == ([] if check else ["h0:6380 restart"])
