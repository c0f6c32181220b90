# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may lead next: every branch of the decision, on answers as Patroni 4.1 gives them, and every refusal by its words."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import failover_patroni as f
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import picture as p
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Refusal
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover import Request
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.probe import longest_gap
from hypothesis import given
from hypothesis import strategies as st

LSN = 5_000_000
LEADER = {
    "state": "running",
    "role": "primary",
    "server_version": 150019,
    "xlog": {"location": LSN},
    "timeline": 3,
    "replication": [{"usename": "replicator", "application_name": "db2", "state": "streaming", "sync_state": "sync", "sync_priority": 1}],
    "dcs_last_seen": 1790000000,
    "patroni": {"version": "4.1.5", "scope": "main", "name": "db1"},
}
STANDBY = {
    "state": "running",
    "role": "replica",
    "server_version": 150019,
    "xlog": {"received_location": LSN, "replayed_location": LSN, "replayed_timestamp": None, "paused": False},
    "timeline": 3,
    "replication_state": "streaming",
    "dcs_last_seen": 1790000000,
    "patroni": {"version": "4.1.5", "scope": "main", "name": "db2"},
}
KEYS = {
    "leader": "db1",
    "status": {"optime": LSN, "slots": {"db2": LSN}},
    "sync": {"leader": "db1", "sync_standby": "db2"},
    "config": {"ttl": 20, "loop_wait": 3, "synchronous_mode": True, "maximum_lag_on_failover": 1048576},
}


def answers(third: Any = None) -> dict[str, Any]:
    found = {"db1": copy.deepcopy(LEADER), "db2": copy.deepcopy(STANDBY)}
    if third is not None:
        found["db3"] = third
    return found


def keys(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(KEYS), **changes}


def cluster(said: dict[str, Any] | None = None, stored: dict[str, Any] | None = None, **more: Any) -> p.Cluster:
    return p.view("main", said or answers(), p.stored_state(stored or keys(), **more))


def gone(stored: dict[str, Any] | None = None, standby: dict[str, Any] | None = None, **more: Any) -> p.Cluster:
    """The leader's host is dead and its lease has run out."""
    said = {"db1": "Connection refused", "db2": {**copy.deepcopy(STANDBY), **(standby or {})}}
    return cluster(said, stored or keys(leader=None), **more)


def refusal(seen: p.Cluster, wish: Request) -> tuple[str, str]:
    with pytest.raises(Refusal) as caught:
        f.plan(seen, wish)
    return caught.value.reason, str(caught.value)


def asynchronous(**changes: Any) -> dict[str, Any]:
    return keys(config={**KEYS["config"], "synchronous_mode": False}, sync={}, **changes)


# Plans --------------------------------------------------------------------------------------------------------------------


def test_switchover_to_the_synchronous_standby():
    plan = f.plan(cluster(), Request("switchover", leader="db1"))
    assert (plan.action, plan.leader, plan.candidate, plan.data_loss_bytes) == ("switchover", "db1", "db2", 0)
    assert plan.steps[1] == "switch over from db1 to db2"


@pytest.mark.parametrize(
    "wish", [Request("switchover", leader="db2"), Request("switchover", candidate="db1"), Request("failover", leader="db2")]
)
def test_a_second_run_does_nothing(wish):
    assert f.plan(cluster(), wish).action == "none"


def test_a_standby_ahead_of_a_dead_leader_may_lead():
    """It may have replayed from the archive what the leader did not send it any more."""
    seen = gone(standby={"xlog": {"received_location": LSN, "replayed_location": LSN + 1}})
    assert f.plan(seen, Request("failover", leader="db1")).action == "failover"


@pytest.mark.parametrize(
    ("standby", "soon"),
    [
        ({"xlog": {"received_location": LSN, "replayed_location": LSN + 1}}, True),
        ({"state": "starting"}, False),
        ({"xlog": {"received_location": LSN, "replayed_location": 1, "paused": True}}, False),
    ],
)
def test_what_passes_by_itself_is_waited_for(standby, soon):
    seen = cluster({"db1": LEADER, "db2": {**copy.deepcopy(STANDBY), **standby}})
    with pytest.raises(Refusal) as caught:
        f.plan(seen, Request("switchover", candidate="db2"))
    assert f.passes_soon(seen, caught.value) is soon


def test_failover_once_the_lease_has_run_out():
    plan = f.plan(gone(), Request("failover", leader="db1"))
    assert (plan.action, plan.candidate, plan.data_loss_bytes) == ("failover", "db2", 0)


def test_a_lease_that_has_not_run_out_is_waited_for():
    plan = f.plan(gone(keys(), lease_seconds=14.0), Request("failover"))
    assert (plan.action, plan.message) == ("wait", "wait until the lease of db1 runs out (Connection refused)")


def test_a_leader_whose_server_is_dead_is_no_leader():
    said = answers()
    said["db1"] = {"state": "crashed", "role": "primary", "patroni": {"version": "4.1.5"}}
    plan = f.plan(cluster(said), Request("failover"))
    assert (plan.action, plan.message) == ("wait", "wait until the lease of db1 runs out (it is crashed)")


def test_a_leader_without_the_lease_is_waited_for():
    plan = f.plan(cluster(stored=keys(leader=None)), Request("failover"))
    assert (plan.action, plan.message) == ("wait", "wait until db1, which claims to lead, has the lease or steps down")


def test_promotion_of_a_standby_cluster():
    said = answers()
    said["db1"]["role"] = "standby_leader"
    stored = keys(config={**KEYS["config"], "standby_cluster": {"host": "10.1.0.1"}})
    plan = f.plan(cluster(said, stored), Request("promoted", allow_data_loss=True))
    assert (plan.action, plan.candidate, plan.data_loss_bytes) == ("promote", "db1", None)
    assert f.plan(cluster(), Request("promoted")).action == "none"
    said["db1"]["role"] = "standby_leader"
    assert f.plan(cluster(said), Request("promoted")).action == "wait"


def test_most_received_is_first_and_all_are_judged():
    behind = {**copy.deepcopy(STANDBY), "xlog": {"received_location": LSN - 10, "replayed_location": LSN - 10}}
    seen = p.view("main", {"db1": "timed out", "db2": behind, "db3": copy.deepcopy(STANDBY)}, p.stored_state(asynchronous(leader=None)))
    plan = f.plan(seen, Request("failover", allow_data_loss=True))
    assert [(entry["name"], entry["eligible"]) for entry in plan.candidates] == [("db3", True), ("db2", True), ("db1", False)]
    assert plan.candidates[2]["reason"] == "does not answer: timed out"


def test_priority_decides_between_equals():
    said = {"db1": "timed out"} | {
        name: {**copy.deepcopy(STANDBY), "tags": {"failover_priority": priority}} for name, priority in (("db2", 1), ("db3", 5))
    }
    plan = f.plan(p.view("main", said, p.stored_state(asynchronous(leader=None))), Request("failover", allow_data_loss=True))
    assert plan.candidate == "db3"


# Refusals, by their words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "wish", "reason", "message"),
    [
        pytest.param(
            cluster(),
            Request("failover"),
            "leader_healthy",
            "db1 leads main, runs and renews its lease. Nothing has failed: use state: switchover for a planned change.",
            id="healthy leader",
        ),
        pytest.param(
            cluster(),
            Request("failover", leader="db1"),
            "leader_healthy",
            "db1 leads main, runs and renews its lease. Nothing has failed: use state: switchover for a planned change.",
            id="healthy leader that is named",
        ),
        pytest.param(
            cluster(),
            Request("switchover"),
            "no_direction",
            "db1 leads main. Name the leader to be replaced or the candidate: without one, every further run would switch again.",
            id="switchover without a direction",
        ),
        pytest.param(
            cluster(),
            Request("switchover", candidate="db9"),
            "unknown_member",
            "candidate is db9, which is not a member of main. Members: db1, db2.",
            id="unknown candidate",
        ),
        pytest.param(
            cluster(),
            Request("switchover", leader="db9"),
            "unknown_member",
            "leader is db9, which is not a member of main. Members: db1, db2.",
            id="unknown leader",
        ),
        pytest.param(
            cluster(),
            Request("switchover", leader="db1", candidate="db1"),
            "same_member",
            "leader and candidate are both db1. Name two members, or only one of them.",
            id="same member",
        ),
        pytest.param(
            cluster({"db1": "timed out", "db2": "Connection refused"}),
            Request("failover"),
            "nothing_known",
            "No member of main answers (db1: timed out; db2: Connection refused). Start Patroni on one of them, or check the network.",
            id="nobody answers",
        ),
        pytest.param(
            cluster({"db1": LEADER, "db2": LEADER}),
            Request("switchover", leader="db1"),
            "two_leaders",
            "db1 and db2 both claim to lead main. Nothing was done: stop Patroni on the one without the lease (db1 holds it), then examine "
            "its data before it rejoins.",
            id="two leaders",
        ),
        pytest.param(
            cluster(quorum_seen="https://10.0.0.21:2379: timed out"),
            Request("switchover", leader="db1"),
            "no_quorum",
            "etcd has no quorum (https://10.0.0.21:2379: timed out); db1 keeps leading. Without it nobody can be promoted safely: bring members "
            "of etcd back first.",
            id="no quorum, leader in failsafe mode",
        ),
        pytest.param(
            gone(quorum_seen="no endpoint answers"),
            Request("failover"),
            "no_quorum",
            "etcd has no quorum (no endpoint answers); nobody leads. Without it nobody can be promoted safely: bring members of etcd back first.",
            id="no quorum, no leader",
        ),
        pytest.param(
            gone(),
            Request("switchover", leader="db1"),
            "no_leader",
            "Nobody leads main (db1: Connection refused; db2: replica, running). A switchover needs a leader; use state: failover.",
            id="switchover without a leader",
        ),
        pytest.param(
            gone(standby={"timeline": 2, "xlog": {"received_location": None}}),
            Request("failover"),
            "no_candidate",
            "No member of main can take over: db2 does not report what it has received; db1 does not answer: Connection refused.",
            id="no candidate",
        ),
        pytest.param(
            cluster({"db1": LEADER, "db2": {**STANDBY, "timeline": 2}}),
            Request("switchover", candidate="db2"),
            "candidate_unfit",
            "db2 cannot lead main: it is on timeline 2, the cluster on 3.",
            id="another timeline",
        ),
        pytest.param(
            cluster({"db1": LEADER, "db2": {**STANDBY, "tags": {"nofailover": True}}}),
            Request("switchover", candidate="db2"),
            "candidate_unfit",
            "db2 cannot lead main: it must not lead: it is tagged nofailover.",
            id="nofailover",
        ),
        pytest.param(
            cluster({"db1": {**LEADER, "replication": []}, "db2": STANDBY}),
            Request("switchover", candidate="db2"),
            "candidate_unfit",
            "db2 cannot lead main: it says that it runs, but the leader does not stream to it: its history may differ.",
            id="diverged replica",
        ),
        pytest.param(
            cluster({"db1": LEADER, "db2": {**STANDBY, "state": "starting"}}),
            Request("switchover", candidate="db2"),
            "candidate_unfit",
            "db2 cannot lead main: it is starting.",
            id="starting",
        ),
        pytest.param(
            cluster({"db1": LEADER, "db2": {**STANDBY, "xlog": {"received_location": LSN - 2_000_000, "replayed_location": 1}}}),
            Request("switchover", candidate="db2"),
            "candidate_unfit",
            "db2 cannot lead main: it lacks 2,000,000 bytes, the limit is 1,048,576.",
            id="lag",
        ),
        pytest.param(
            cluster({"db1": LEADER, "db2": {**STANDBY, "xlog": {"received_location": LSN, "replayed_location": LSN + 1}}}),
            Request("switchover", candidate="db2"),
            "candidate_unfit",
            f"db2 cannot lead main: it has replayed more than the leader sent it ({LSN + 1:,} bytes, {LSN:,} received): its history may differ.",
            id="ahead of the leader",
        ),
        pytest.param(
            cluster({"db1": LEADER, "db2": {**STANDBY, "xlog": {"received_location": LSN, "replayed_location": 1, "paused": True}}}),
            Request("switchover", candidate="db2"),
            "candidate_unfit",
            "db2 cannot lead main: it has its replay paused.",
            id="replay paused",
        ),
        pytest.param(
            cluster(stored=keys(sync={"leader": "db1", "sync_standby": None})),
            Request("switchover", candidate="db2"),
            "candidate_unfit",
            "db2 cannot lead main: it is not the synchronous standby.",
            id="not synchronous",
        ),
        pytest.param(
            gone(asynchronous(leader=None, status={"optime": LSN + 4096})),
            Request("failover", leader="db1"),
            "data_loss",
            "Promoting db2 could lose up to 4,096 bytes of acknowledged writes: commits did not wait for it, and db1 is gone. Bring that host "
            "back, or accept the loss with allow_data_loss: true.",
            id="data loss",
        ),
        pytest.param(
            cluster(stored=keys(config={**KEYS["config"], "standby_cluster": {"host": "10.1.0.1"}})),
            Request("switchover", leader="db1"),
            "standby_cluster",
            "main follows another cluster, nobody in it accepts writes. Use state: promoted to make it independent.",
            id="switchover in a standby cluster",
        ),
        pytest.param(
            cluster(
                {"db1": {**LEADER, "role": "standby_leader"}, "db2": STANDBY},
                keys(config={**KEYS["config"], "standby_cluster": {"port": 1}}),
            ),
            Request("promoted"),
            "data_loss",
            "main is a standby cluster: what its source acknowledged and db1 has not received would be lost, and how much that is cannot be seen "
            "from here. Stop the source first, then accept it with allow_data_loss: true.",
            id="promotion of a standby cluster",
        ),
        pytest.param(
            gone(keys(leader=None, config={**KEYS["config"], "standby_cluster": {"port": 1}})),
            Request("promoted", allow_data_loss=True),
            "no_leader",
            "The standby cluster main has no leader (db1: Connection refused; db2: replica, running). It needs one that runs before it is promoted.",
            id="promotion without a leader",
        ),
        pytest.param(
            gone(),
            Request("promoted"),
            "no_leader",
            "Nobody leads main (db1: Connection refused; db2: replica, running). Use state: failover.",
            id="promotion of nothing",
        ),
    ],
)
def test_refusal(seen, wish, reason, message):
    assert refusal(seen, wish) == (reason, message)


def test_a_refusal_carries_the_candidates():
    with pytest.raises(Refusal) as caught:
        f.plan(cluster(), Request("failover"))
    assert [entry["name"] for entry in caught.value.candidates] == ["db2"]


# What may be lost ---------------------------------------------------------------------------------------------------------


def test_nothing_is_lost_where_commits_waited():
    assert f.possible_loss(gone(keys(leader=None, status={"optime": LSN + 9999})), gone().member("db2")) == 0


def test_a_synchronous_cluster_that_went_on_alone_may_lose():
    seen = gone(keys(leader=None, sync={"leader": "db1", "sync_standby": ""}, status={"optime": LSN + 100}))
    assert f.possible_loss(seen, seen.member("db2")) == 100


def test_growth_after_the_last_report_is_counted():
    history = [{"optime": LSN - 300}, {"optime": LSN - 250}, {"optime": LSN - 50}]
    seen = gone(asynchronous(leader=None), history=history)
    assert seen.growth == 200
    assert f.possible_loss(seen, seen.member("db2")) == 400


def test_a_standby_that_did_not_stream_from_the_late_leader_is_left_out():
    seen = gone(asynchronous(leader=None, status={"optime": LSN, "slots": {"db2": 1}}), {"xlog": {"received_location": 200 * 2**20}})
    assert f.judge(seen, Request("failover"))[0]["reason"] == "did not stream from the lost leader: its history may differ"


@given(
    optime=st.integers(0, 10**9), received=st.integers(1, 10**9), steps=st.lists(st.integers(0, 10**6), max_size=6), tail=st.floats(0, 1)
)
def test_what_is_really_lost_is_never_more_than_was_said(optime, received, steps, tail):
    """The leader writes on at most as fast as it was seen to, for at most two reports."""
    history = [{"optime": optime - sum(steps[at:])} for at in range(len(steps))]
    seen = p.view(
        "main",
        {"db1": "timed out", "db2": {**STANDBY, "xlog": {"received_location": received}}},
        p.stored_state(asynchronous(leader=None, status={"optime": optime}), history),
    )
    written = optime + int(2 * max(steps, default=0) * tail)
    assert f.possible_loss(seen, seen.member("db2")) >= written - received


def any_of(received: dict[str, int | None], needed: int, optime: int = 0) -> p.Cluster:
    """The leader is gone; commits waited for this many of the standbys, of which those without a position do not answer."""
    said: dict[str, Any] = {"db1": "timed out"}
    for name, position in received.items():
        said[name] = {**copy.deepcopy(STANDBY), "xlog": {"received_location": position}} if position is not None else "timed out"
    sync = {"leader": "db1", "sync_standby": ",".join(received), "quorum": len(received) - needed}
    config = {**KEYS["config"], "synchronous_mode": "quorum"}
    return p.view("main", said, p.stored_state(keys(leader=None, sync=sync, config=config, status={"optime": optime}), [{"optime": 0}]))


@given(data=st.data(), received=st.lists(st.integers(1, 10**6), min_size=1, max_size=5))
def test_whoever_may_lead_after_quorum_commits_has_every_acknowledged_one(data, received):
    """Acknowledged is what so many standbys have as commits waited for. Any of them may be silent."""
    needed = data.draw(st.integers(1, len(received)))
    silent = data.draw(st.sets(st.integers(0, len(received) - 1), max_size=len(received) - 1))
    acknowledged = sorted(received, reverse=True)[needed - 1]
    names = {f"db{number + 2}": None if number in silent else position for number, position in enumerate(received)}
    seen = any_of(names, needed, optime=acknowledged)
    for name, position in names.items():
        if position is not None:
            assert f.possible_loss(seen, seen.member(name)) >= acknowledged - position
    best = f.judge(seen, Request("failover", max_lag_bytes=10**9))[0]
    assert best["received"] == max(position for position in names.values() if position is not None)
    if len(silent) < needed:
        # Somebody has each commit among those that answer: with the most of them, nothing is lost, and a promotion is not refused.
        assert best["data_loss_bytes"] == 0
        assert f.plan(seen, Request("failover", max_lag_bytes=10**9)).action == "failover"


@pytest.mark.parametrize(
    ("received", "wish", "message"),
    [
        (
            {"db2": LSN, "db3": None},
            Request("failover"),
            "Promoting db2 could lose up to 10,000,150 bytes of acknowledged writes: commits waited for any of db2, db3, and db3 cannot be asked. "
            "Bring that host back, or accept the loss with allow_data_loss: true.",
        ),
        (
            {"db2": LSN - 50, "db3": LSN},
            Request("failover", candidate="db2"),
            "Promoting db2 could lose up to 50 bytes of acknowledged writes: another one of db2, db3, which commits waited for, has more. "
            "Let that one lead, or accept the loss with allow_data_loss: true.",
        ),
    ],
    ids=["another one is silent", "another one has more"],
)
def test_who_may_lack_a_quorum_commit_does_not_lead(received, wish, message):
    assert refusal(any_of(received, 1, optime=LSN + 50), wish) == ("data_loss", message)


# Dangers and ends ---------------------------------------------------------------------------------------------------------


def test_dangers_are_named():
    said = {
        "db1": {**LEADER, "replication": [], "patroni": {"version": "3.0.2"}, "failsafe_mode_is_active": True},
        "db2": {**STANDBY, "timeline": 2},
    }
    assert cluster(said, quorum_seen="timed out").dangers() == [
        "db1 runs Patroni 3.0.2: before 3.0.3 a leader that was cut off can take its lock back and lose acknowledged rows. Run the platform's "
        "playbook, which installs 4.1.",
        "db1 leads in failsafe mode: etcd does not answer it, the other members do. Bring etcd back.",
        "etcd has no quorum (timed out): nobody can take over while that lasts.",
        "db2 says that it runs, but db1 does not stream to it. Its history may differ: rebuild it with playbooks/reinit_postgresql_member.yml.",
        "db2 is on timeline 2, the cluster on 3.",
    ]
    assert cluster().dangers() == []


def test_unfinished():
    assert f.unfinished(cluster(), "db1") == []
    assert f.unfinished(cluster(), "db2") == ["db1 leads instead of db2"]
    assert f.unfinished(gone(), "db2") == ["nobody leads (db1: Connection refused; db2: replica, running)"]
    said = {"db1": {**LEADER, "replication": []}, "db2": STANDBY, "db3": "timed out"}
    assert f.unfinished(cluster(said), "db1") == ["db2 does not stream (replica, running, timeline 3)", "db3 does not answer"]
    assert f.unfinished(cluster(said), "db1", ["db3"]) == ["db2 does not stream (replica, running, timeline 3)"]


def test_longest_gap():
    assert longest_gap([1.0, 1.1, 3.0, 3.1], 1.2) == pytest.approx(1.9)
    assert longest_gap([1.0], 1.2) is None
    assert longest_gap([2.0, 2.1], 1.5) == pytest.approx(0.5)
