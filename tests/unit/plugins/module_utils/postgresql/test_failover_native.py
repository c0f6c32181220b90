# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may lead a pair without Patroni: every branch of the decision, and every refusal by its words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import failover_native as n
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import picture as p
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Refusal
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover import Plan, Request
from hypothesis import given
from hypothesis import strategies as st

END = 5_000_000
START = END - p.CLOSING
REFUSED = 'psql: error: connection to server at "10.0.0.31", port 5432 failed: Connection refused\n\tIs the server running on that host?'
TURNED_AWAY = 'psql: error: connection to server at "10.0.0.31", port 5432 failed: FATAL:  password authentication failed for user "x"'
STARTING = 'psql: error: connection to server at "10.0.0.31", port 5432 failed: FATAL:  the database system is starting up'
COMMAND, SAID, NOTHING = n.Fencing(command=True), n.Fencing(fenced=True), n.Fencing()

DB1 = p.Server("db1", recovering=False, location=END, timeline=3, feeds=1, system=7)
DB2 = p.Server("db2", received=END, replayed=END, timeline=3, streaming=True, heard=0.2, system=7)
DB3 = replace(DB2, name="db3")
DEAD = p.Server("db1", error=REFUSED)
LEFT = replace(DB2, streaming=False, heard=None)
CLOSED = replace(LEFT, checkpoint=START, redo=START)


def pair(*members: p.Server) -> p.Pair:
    return p.Pair("shop", members)


def plan(seen: p.Pair, state: str, fencing: n.Fencing = COMMAND, **wish: Any) -> Plan:
    return n.plan(seen, Request(state, **wish), fencing)


def refusal(seen: p.Pair, wish: Request, fencing: n.Fencing) -> tuple[str, str]:
    with pytest.raises(Refusal) as caught:
        n.plan(seen, wish, fencing)
    return caught.value.reason, str(caught.value)


# Plans --------------------------------------------------------------------------------------------------------------------


def test_switchover():
    found = plan(pair(DB1, DB2), "switchover", leader="db1")
    assert (found.action, found.leader, found.candidate, found.data_loss_bytes) == ("switchover", "db1", "db2", 0)
    assert found.steps == [
        "checkpoint on db1",
        "stop db1 by the fencing command, and see that it stays away",
        "wait until db2 has all that db1 wrote",
        "promote db2",
        "wait until db2 accepts writes",
    ]


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Request("switchover", leader="db2"), "db2 does not lead, db1 does."),
        (Request("switchover", candidate="db1"), "db1 leads already."),
        (Request("failover", leader="db2"), "db2 does not lead, db1 does."),
        (Request("failover", leader="db2", candidate="db1"), "db1 leads already."),
    ],
)
def test_a_second_run_does_nothing(wish, message):
    found = n.plan(pair(DB1, DB2), wish, NOTHING)
    assert (found.action, found.leader, found.message) == ("none", "db1", message)


@pytest.mark.parametrize(
    ("fencing", "step"), [(COMMAND, "fence db1 by the command, and see that it stays away"), (SAID, "take it as said that db1 is fenced")]
)
def test_failover(fencing, step):
    found = plan(pair(DEAD, LEFT), "failover", fencing, allow_data_loss=True)
    assert (found.action, found.leader, found.candidate, found.data_loss_bytes) == ("failover", "db1", "db2", None)
    assert found.steps[0] == step


def test_a_switchover_that_was_killed_is_finished():
    found = plan(pair(DEAD, CLOSED), "switchover", leader="db1")
    assert (found.action, found.leader, found.candidate, found.data_loss_bytes) == ("finish", "db1", "db2", 0)


def test_the_end_of_a_log_is_no_proof_for_a_failover():
    """The primary may have been started again, and have written more."""
    assert plan(pair(DEAD, CLOSED), "failover", allow_data_loss=True).data_loss_bytes is None


def test_a_former_primary_that_runs_as_standby_is_not_promoted_again():
    found = plan(pair(replace(LEFT, name="db1", received=END + 9), LEFT), "failover", SAID, leader="db1", allow_data_loss=True)
    assert (found.leader, found.candidate) == ("db1", "db2")
    assert found.candidates[1]["reason"] == "is to lead no longer"


def test_all_are_standbys_and_nobody_is_named():
    found = plan(pair(LEFT, replace(LEFT, name="db3")), "failover", SAID, allow_data_loss=True)
    assert (found.leader, found.steps[0]) == (None, "take it as said that the old primary is fenced")


def test_most_received_then_most_replayed_is_first_and_all_are_judged():
    members = [
        replace(LEFT, name=name, received=END - lacks, replayed=END - more)
        for name, lacks, more in (("db2", 9, 9), ("db3", 0, 5), ("db4", 0, 1))
    ]
    found = plan(pair(DEAD, *members), "failover", allow_data_loss=True, max_lag_bytes=1)
    assert [(entry["name"], entry["eligible"]) for entry in found.candidates] == [
        ("db4", True),
        ("db3", True),
        ("db2", True),
        ("db1", False),
    ]
    assert found.candidates[3] == {
        "name": "db1",
        "eligible": False,
        "reason": "does not answer: Connection refused",
        "received": None,
        "replayed": None,
        "timeline": None,
        "data_loss_bytes": None,
    }


def test_a_server_on_its_way_is_waited_for():
    found = plan(pair(p.Server("db1", error=STARTING), LEFT), "failover")
    assert (found.action, found.message) == ("wait", "wait until db1 serves or is silent (FATAL:  the database system is starting up)")
    away = pair(DEAD, LEFT, p.Server("db3", error=STARTING))
    assert plan(away, "failover", leader="db1", allow_data_loss=True).action == "failover"


def test_a_standby_that_hears_its_primary_is_waited_for():
    found = plan(pair(DEAD, DB2), "failover", allow_data_loss=True)
    assert (found.action, found.leader, found.message) == ("wait", "db1", "wait until db2 hears nothing from db1 for 10 s")
    assert plan(pair(DB2, DB3), "failover").message == "wait until db2 hears nothing from a primary that is no member for 10 s"
    assert plan(pair(DEAD, replace(DB2, heard=10.5)), "failover", allow_data_loss=True).action == "failover"
    # db3 streams from db2, which streams from nobody.
    assert plan(pair(DEAD, replace(LEFT, feeds=1), DB3), "failover", allow_data_loss=True).action == "failover"


# Refusals, by their words -------------------------------------------------------------------------------------------------

SWITCH = Request("switchover", leader="db1")
FAIL = Request("failover", leader="db1")
LOSE = Request("failover", leader="db1", allow_data_loss=True)


@pytest.mark.parametrize(
    ("seen", "wish", "fencing", "reason", "message"),
    [
        pytest.param(
            pair(DB1, DB2), Request("promoted"), COMMAND, "wrong_state",
            "state: promoted is for standby clusters of Patroni. In shop, use state: switchover while the primary runs and state: failover when "
            "it is gone.", id="promoted",
        ),
        pytest.param(
            pair(DB1, DB2), FAIL, COMMAND, "leader_healthy",
            "db1 leads shop and answers. Nothing has failed: use state: switchover for a planned change.", id="healthy leader",
        ),
        pytest.param(
            pair(DB1, DB2), Request("switchover"), COMMAND, "no_direction",
            "db1 leads shop. Name the leader to be relieved or the candidate: without one, every further run would switch again.",
            id="switchover without a direction",
        ),
        pytest.param(
            pair(DB1, DB2), Request("switchover", leader="db9"), COMMAND, "unknown_member", "leader is db9, which is no member of shop. Members: db1, db2.",
            id="unknown leader",
        ),
        pytest.param(
            pair(DB1, DB2), Request("switchover", leader="db1", candidate="db1"), COMMAND, "same_member",
            "leader and candidate are both db1. Name two members, or only one of them.", id="same member",
        ),
        pytest.param(
            pair(DB1, DB2), SWITCH, SAID, "not_fenced",
            "db1 runs, and nothing is given that stops it. Give fencing.command, such as [ssh, db1, systemctl, stop, postgresql].",
            id="switchover without a command",
        ),
        pytest.param(
            pair(DEAD, LEFT), LOSE, NOTHING, "not_fenced",
            "db1 does not answer, which does not prove that it takes no writes. Give fencing.command, which stops it for certain, or make sure "
            "yourself that it is off and stays off, and say so with fencing.fenced: true.", id="failover without a fence",
        ),
        pytest.param(
            pair(DEAD, LEFT), FAIL, SAID, "data_loss",
            "What db1 acknowledged last is not known: db2 has its log up to 0/4C4B40, and db1 may have written more. Bring db1 back, or accept "
            "the loss with allow_data_loss: true.", id="unknown loss",
        ),
        pytest.param(
            pair(DEAD, replace(LEFT, heard_of=END + 4096)), FAIL, SAID, "data_loss",
            "What db1 acknowledged last is not known: db2 has its log up to 0/4C4B40, and at least 4,096 bytes after that were seen elsewhere. "
            "Bring db1 back, or accept the loss with allow_data_loss: true.", id="known loss",
        ),
        pytest.param(
            pair(DEAD, CLOSED), FAIL, SAID, "data_loss",
            "What db1 acknowledged last is not known: db2 has its log up to 0/4C4B40, where it was stopped cleanly. If you know that it was not "
            "started again after that, use state: switchover, which loses nothing then. Otherwise bring db1 back, or accept the loss with "
            "allow_data_loss: true.", id="clean stop before a failover",
        ),
        pytest.param(
            pair(DEAD, LEFT), SWITCH, COMMAND, "no_leader",
            "Nobody leads shop (db1: Connection refused; db2: standby, timeline 3), and the log of db2 does not end with a clean stop of its "
            "primary. Start db1 again for a switchover, or use state: failover.", id="switchover without a leader",
        ),
        pytest.param(
            pair(DEAD, CLOSED), SWITCH, NOTHING, "not_fenced",
            "db1 does not answer, which does not prove that it takes no writes. Give fencing.command, which stops it for certain, or make sure "
            "yourself that it is off and stays off, and say so with fencing.fenced: true.", id="finishing without a fence",
        ),
        pytest.param(
            pair(DEAD, p.Server("db2", error="no answer within 6 s")), FAIL, SAID, "nothing_known",
            "No member of shop answers (db1: Connection refused; db2: no answer within 6 s). Start one of them, or check the network and the "
            "login.", id="nobody answers",
        ),
        pytest.param(
            pair(replace(DB1, timeline=1), replace(DB1, name="db2", timeline=2, location=END + 1)), FAIL, SAID, "two_leaders",
            "db1 (timeline 1, at 0/4C4B40) and db2 (timeline 2, at 0/4C4B41) take writes, each without the other. Nothing is done: stop the one "
            "that clients should not use, as a rule the one on the lower timeline. Save from it what only it has, then copy it anew from the "
            "other.", id="two leaders",
        ),
        pytest.param(
            pair(DB1, replace(DB2, system=8)), SWITCH, COMMAND, "not_one_cluster",
            "The members of shop are no copies of each other (system identifiers: db1: 7; db2: 8). Check hosts and ports.", id="two clusters",
        ),
        pytest.param(
            pair(DEAD, LEFT, p.Server("db3", error=REFUSED)), Request("failover"), SAID, "leader_unknown",
            "db1 and db3 do not answer, and any of them may have led shop (db1: Connection refused; db2: standby, timeline 3; db3: Connection "
            "refused). Name the one that did: leader.", id="unknown old leader",
        ),
        pytest.param(
            pair(p.Server("db1", error=TURNED_AWAY), LEFT), LOSE, COMMAND, "leader_unsure",
            'db1 runs but cannot be looked at: FATAL:  password authentication failed for user "x". It may be the primary, so nobody is '
            "promoted. Mend the login (user, password, pg_hba.conf, certificates), or stop that server.", id="wrong password",
        ),
        pytest.param(
            pair(DB1, replace(DB2, timeline=2)), Request("switchover", candidate="db2"), COMMAND, "candidate_unfit",
            "db2 cannot lead shop: it is on timeline 2, shop on 3.", id="another timeline",
        ),
        pytest.param(
            pair(DB1, LEFT), SWITCH, COMMAND, "no_candidate",
            "No member of shop can take over: db2 does not stream from db1: its history may differ.", id="does not stream",
        ),
        pytest.param(
            pair(replace(DB1, feeds=0), DB2), SWITCH, COMMAND, "no_candidate",
            "No member of shop can take over: db2 does not stream from db1: its history may differ.", id="streams from somebody else",
        ),
        pytest.param(
            pair(DB1, replace(DB2, replayed=END - 2_000)), Request("switchover", leader="db1", max_lag_bytes=1_000), COMMAND, "no_candidate",
            "No member of shop can take over: db2 lacks 2,000 bytes, the limit is 1,000.", id="lag of replay",
        ),
        pytest.param(
            pair(DEAD, replace(LEFT, received=1), replace(DB3, received=30_000_000, streaming=False, paused=True)),
            Request("failover", leader="db1"), SAID, "no_candidate",
            "No member of shop can take over: db3 has its replay paused, and whoever paused it may need that. If it may lead: SELECT "
            "pg_wal_replay_resume() on it; db2 lacks 29,999,999 bytes, the limit is 16,777,216; db1 does not answer: Connection refused.",
            id="lag behind another standby",
        ),
        pytest.param(
            pair(DB1, replace(DB2, delay=3_600_000)), SWITCH, COMMAND, "no_candidate",
            "No member of shop can take over: db2 is kept behind on purpose (recovery_min_apply_delay is 3,600,000 ms).", id="delayed",
        ),
        pytest.param(
            pair(DB1, replace(DB2, lacks=("the role pg_checkpoint", "EXECUTE on pg_promote"))), SWITCH, COMMAND, "no_candidate",
            "No member of shop can take over: db2 cannot be promoted: the user has not the role pg_checkpoint and EXECUTE on pg_promote there. "
            "Grant it on the primary.", id="rights",
        ),
        pytest.param(
            pair(DEAD, replace(LEFT, received=None)), LOSE, SAID, "no_candidate",
            "No member of shop can take over: db2 does not say what it has received; db1 does not answer: Connection refused.", id="no position",
        ),
        pytest.param(
            pair(DB1, p.Server("db2", error=TURNED_AWAY)), SWITCH, COMMAND, "no_candidate",
            'No member of shop can take over: db2 cannot be looked at: FATAL:  password authentication failed for user "x".', id="standby without login",
        ),
    ],
)  # fmt: skip
def test_refusal(seen, wish, fencing, reason, message):
    assert refusal(seen, wish, fencing) == (reason, message)


def test_a_refusal_carries_the_candidates():
    with pytest.raises(Refusal) as caught:
        n.plan(pair(DEAD, LEFT), FAIL, SAID)
    assert [(entry["name"], entry["data_loss_bytes"]) for entry in caught.value.candidates] == [("db2", None), ("db1", None)]


@given(
    recovering=st.booleans(), error=st.sampled_from(["", REFUSED, TURNED_AWAY, STARTING]), heard=st.none() | st.floats(0, 100),
    state=st.sampled_from(["switchover", "failover"]), leader=st.sampled_from([None, "db1", "db2"]), candidate=st.sampled_from([None, "db1", "db2"]),
    allow=st.booleans(), fencing=st.sampled_from([COMMAND, SAID, NOTHING]), closed=st.booleans(),
)  # fmt: skip
def test_nobody_is_promoted_without_a_fence_beside_a_server_that_may_write(
    recovering, error, heard, state, leader, candidate, allow, fencing, closed
):
    standby = replace(CLOSED if closed else LEFT, streaming=heard is not None, heard=heard)
    seen = pair(replace(DB1, recovering=recovering, error=error, received=END, replayed=END), standby)
    try:
        found = n.plan(seen, Request(state, leader, candidate, allow_data_loss=allow), fencing)
    except Refusal:
        return
    if found.action in ("none", "wait"):
        return
    assert fencing.command or fencing.fenced
    if found.action == "switchover":
        assert fencing.command
        assert seen.members[0].leads
    else:
        assert not seen.members[0].leads
        assert seen.members[0].answers or seen.members[0].silent
        assert found.data_loss_bytes == 0 or allow
        assert found.data_loss_bytes is None or (closed and state == "switchover")


# What servers say ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "silent", "passing"),
    [
        (REFUSED, True, False),
        ("no answer within 6 s", True, False),
        (f"{REFUSED}\nconnection to server at \"::1\", port 5432 failed: No route to host", True, False),
        (f"{REFUSED}\nconnection to server at \"::1\", port 5432 failed: FATAL:  sorry, too many clients already", False, False),
        (TURNED_AWAY, False, False),
        (STARTING, False, True),
        ("connection failed: FATAL:  the database system is shutting down", False, True),
        ("connection failed: server closed the connection unexpectedly\n\tThis probably means", False, True),
        ('could not translate host name "db1" to address: Name or service not known', False, False),
        ("connection failed: SSL error: certificate verify failed", False, False),
        ("psql cannot be run: no such file", False, False),
    ],
)  # fmt: skip
def test_only_silence_is_silence(error, silent, passing):
    seen = p.server("db1", "", error)
    assert (seen.silent, seen.passing, seen.answers) == (silent, passing, False)


def test_what_a_server_says_is_read():
    said = {
        "recovering": True,
        "received": 5,
        "replayed": 4,
        "timeline": 2,
        "streaming": False,
        "heard": None,
        "lacks": ["EXECUTE on pg_promote"],
    }
    seen = p.server("db2", json.dumps(said), "")
    assert (seen.received, seen.timeline, seen.heard, seen.lacks, seen.leads) == (5, 2, None, ("EXECUTE on pg_promote",), False)
    assert p.server("db2", "t", "").error == "answered 't' instead of its state"
    assert p.server("db2", "[]", "").error == "answered '[]' instead of its state"


def test_where_a_shutdown_checkpoint_ends():
    assert p.closing_end(0x30267E0, 2**24) == 0x3026858
    assert p.closing_end(8192 - 120, 2**24) == 8192
    assert p.closing_end(8192 - 112, 2**24) == 8192 + 24 + 8
    assert p.closing_end(2**24 - 8, 2**24) == 2**24 + 40 + 112


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"received": END + 40, "replayed": END + 40}, "its log ends at 0/4C4B68 without the record of a clean stop"),
        ({"redo": START - 80}, "its log ends at 0/4C4B40 without the record of a clean stop"),
        ({"replayed": END - 120}, "it has not replayed 120 bytes yet"),
        ({"received": None}, "it does not say what it has received"),
        ({"error": REFUSED}, "it does not answer (Connection refused)"),
        ({"checkpoint": None}, "its log ends at 0/4C4B40 without the record of a clean stop"),
    ],
)
def test_a_standby_has_everything_or_it_is_said_why_not(changes, said):
    assert n.missing(replace(CLOSED, **changes), END - 500) == said


def test_what_was_seen_and_is_not_there_is_counted():
    assert n.missing(CLOSED, END + 7) == "it lacks 7 bytes that were seen on the primary"


# Dangers and ends ---------------------------------------------------------------------------------------------------------


def test_dangers_are_named():
    assert pair(DB1, replace(DB2, waits_for="db1"), p.Server("db3", error=TURNED_AWAY)).dangers() == [
        "db2 has synchronous_standby_names = 'db1': when it leads, commits wait until such a standby streams from it. Without one, empty the "
        "setting on it and reload.",
        'db3 runs but cannot be looked at (FATAL:  password authentication failed for user "x"): whether it takes writes is not known.',
    ]
    assert pair(DB1, DB2).dangers() == []


def test_who_is_not_back():
    leader = replace(DB1, name="db2", timeline=4)
    silent = p.Server("db4", error=REFUSED)
    behind = replace(DB3, timeline=3)
    assert n.not_back(pair(DEAD, leader, behind, silent), leader, "db1", 0) == {
        "db1": "db1 is fenced (Connection refused) and must not start as a primary; it wrote nothing that the others have not, so "
        "standby.signal and primary_conninfo make it a standby",
        "db3": "db3 does not stream from db2: let its primary_conninfo point at db2 and reload it; where its log says that the histories differ, "
        "pg_rewind it or copy it anew",
        "db4": "db4 does not answer (Connection refused)",
    }
    assert n.not_back(pair(leader, replace(DB3, timeline=4)), leader, "db1", 0) == {}
    assert n.not_back(pair(DEAD, leader), leader, "db1", None)["db1"].endswith(
        "run pg_rewind against the new primary or copy it anew, then add standby.signal and primary_conninfo"
    )
