# SPDX-License-Identifier: GPL-3.0-or-later
"""The database host that joined in test_members.py leaves again. Behind test_rerun.py, so that no whole run has to follow."""

from __future__ import annotations

from harness.patroni import change
from harness.platform import Platform, wait

NEW = "db3"


def test_a_member_leaves(wider: Platform) -> None:
    unconfirmed = wider.playbook("remove_postgresql_member", "-e", f"pg_member={NEW}")
    assert unconfirmed.status != 0
    assert f"pg_member is {NEW}, pg_confirm is not set; both must be the name of a standby" in " ".join(unconfirmed.output.split())
    leader = wider.leader()
    if leader == NEW:
        moved = wider.playbook("switchover_postgresql", "-e", f"pg_leader={NEW}")
        assert moved.status == 0, moved.output[-3000:]
        leader = wider.leader()
    refused = wider.playbook("remove_postgresql_member", "-e", f"pg_member={leader}", "-e", f"pg_confirm={leader}")
    assert refused.status != 0
    assert f"{leader} leads. Move the leadership away with switchover_postgresql.yml first." in " ".join(refused.output.split())
    assert wider.database_healthy()
    run = wider.playbook("remove_postgresql_member", "-e", f"pg_member={NEW}", "-e", f"pg_confirm={NEW}")
    assert run.status == 0, run.output[-3000:]
    wider.undeclare(NEW)
    wait("two members", wider.database_healthy, 60)
    # The layers in which somebody asks for the members of the database.
    after = wider.playbook(None, "--tags", "state,application")
    assert after.status == 0, after.output[-3000:]
    wait("two members", wider.database_healthy, 60)
    assert wider.leader() == leader
    assert NEW not in wider.output("app1", "cat /etc/haproxy/haproxy.cfg")
    # Patroni keeps the slot for half an hour, unless told otherwise, in case the member comes back.
    leader = str(leader)
    change(wider, leader, {"member_slots_ttl": 5})
    slots = f"select count(*) from pg_replication_slots where slot_name = '{NEW}'"
    wait("the slot to go", lambda: wider.sql(leader, slots) == "0", 60)
    change(wider, leader, {"member_slots_ttl": None})
