# SPDX-License-Identifier: GPL-3.0-or-later
"""When one member may be restarted or rebuilt."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import patroni_client
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Refusal
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.member import newer_program, plan
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni import info, lacking
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni_client import PatroniError, wait_until_well


def cluster(
    first: str = "running", second: str = "streaming", pending: tuple[str, ...] = ("db1", "db2"), leader: str | None = "db1"
) -> dict[str, Any]:
    return {
        "scope": "main",
        "leader": leader,
        "pending_restart": {name: {} for name in pending},
        "members": [
            {"name": "db1", "role": "leader" if leader else "replica", "state": first},
            {"name": "db2", "role": "sync_standby", "state": second},
        ],
    }


ALONE = {
    "scope": "main",
    "leader": "db1",
    "pending_restart": {"db1": {}},
    "members": [{"name": "db1", "role": "leader", "state": "running"}],
}


@pytest.mark.parametrize(
    ("seen", "name", "state", "pending", "action", "message"),
    [
        (cluster(), "db2", "restarted", True, "restart", "db2 was restarted and streams"),
        (cluster(pending=()), "db2", "restarted", True, "", "nothing of db2 waits for a restart"),
        (cluster(pending=()), "db2", "restarted", False, "restart", "db2 was restarted and streams"),
        (cluster(), "db1", "restarted", True, "", "db1 leads: a switchover comes first"),
        (ALONE, "db1", "restarted", True, "restart", "db1 was restarted and leads"),
        (cluster(second="stopped"), "db2", "reinitialized", True, "reinitialize", "db2 was rebuilt and streams"),
    ],
)
def test_plan(seen, name, state, pending, action, message):
    found = plan(seen, name, state, pending)
    assert (found.action, found.message) == (action, message)


@pytest.mark.parametrize(
    ("seen", "name", "state", "reason", "message"),
    [
        (cluster(), "db9", "restarted", "unknown_member", "db9 is no member of main. Members: db1, db2."),
        (cluster(), "db1", "restarted", "leads", "db1 leads main. Relieve it first: playbooks/switchover_postgresql.yml -e pg_leader=db1."),
        (
            cluster(),
            "db1",
            "reinitialized",
            "leads",
            "db1 leads main. Relieve it first: playbooks/switchover_postgresql.yml -e pg_leader=db1.",
        ),
        (ALONE, "db1", "reinitialized", "leads", "db1 is the only member of main: there is nothing to copy its data from."),
        (
            cluster(leader=None),
            "db2",
            "reinitialized",
            "no_leader",
            "Nobody leads main, so db2 may hold the only good copy. Get a leader first.",
        ),
        (
            cluster(first="stopped"),
            "db2",
            "restarted",
            "others_unwell",
            "db2 is not restarted while db1 is stopped. Bring that back first.",
        ),
        (
            cluster(second="starting"),
            "db2",
            "restarted",
            "unwell",
            "db2 is starting, a restart does not mend that. Look at `journalctl -u patroni` there.",
        ),
    ],
)
def test_refusals(seen, name, state, reason, message):
    with pytest.raises(Refusal) as caught:
        plan(seen, name, state, False)
    assert (caught.value.reason, str(caught.value)) == (reason, message)


@pytest.mark.parametrize(
    ("running", "said", "newer"),
    [
        (150018, "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)", "15.20"),
        (150020, "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)", ""),
        (150020, "postgres (PostgreSQL) 15.18", ""),
        (150018, "postgres (PostgreSQL) 17.6", ""),
        (170000, "postgres (PostgreSQL) 17rc1", ""),
        (150018, "", ""),
    ],
)
def test_a_newer_minor_release_waits_for_a_restart(running, said, newer):
    assert newer_program(running, said) == newer


def said(*standbys: tuple[str, str, str], leader: str = "running", **tags: Any) -> dict[str, Any]:
    """Return what Patroni says: the leader db1, and of each standby name, role and state."""
    members = [{"name": "db1", "role": "leader", "state": leader}]
    members += [{"name": name, "role": role, "state": state, "tags": tags.get(name, {})} for name, role, state in standbys]
    return {"scope": "main", "members": members}


SYNCHRONOUS = said(("db2", "sync_standby", "streaming"))
UNNAMED = said(("db2", "replica", "streaming"))


@pytest.mark.parametrize(
    ("seen", "name", "synchronous", "missing"),
    [
        (SYNCHRONOUS, "db2", True, ""),
        (SYNCHRONOUS, "db1", True, ""),
        (UNNAMED, "db2", False, ""),
        (UNNAMED, "db2", True, "none of db2 is the synchronous standby"),
        (UNNAMED, "db1", True, "none of db2 is the synchronous standby"),
        (said(("db2", "quorum_standby", "streaming")), "db2", True, ""),
        (said(("db2", "sync_standby", "streaming"), ("db3", "replica", "streaming")), "db3", True, ""),
        (
            said(("db2", "replica", "streaming"), ("db3", "replica", "streaming")),
            "db3",
            True,
            "none of db2, db3 is the synchronous standby",
        ),
        (said(("db2", "replica", "streaming"), db2={"nosync": True}), "db2", True, ""),
        (said(("db2", "replica", "streaming"), db2={"replicatefrom": "db3"}), "db2", True, ""),
        (said(), "db1", True, ""),
        (said(("db2", "replica", "starting")), "db2", True, "db2 is starting"),
        (said(), "db2", True, "db2 is gone"),
        ({"members": [{"name": "db2", "role": "replica", "state": "streaming"}]}, "db2", True, "nobody leads"),
    ],
)
def test_what_a_member_lacks_after_work_on_it(seen, name, synchronous, missing):
    assert lacking(info(seen), name, synchronous) == missing


class Patroni:
    """Shows one picture after the other, the last one for ever."""

    def __init__(self, *pictures: dict[str, Any], **config: Any) -> None:
        self.pictures = list(pictures)
        self.config = {"synchronous_mode": True, **config}

    def call(self, path: str) -> dict[str, Any]:
        if path == "/config":
            return self.config
        return self.pictures.pop(0) if len(self.pictures) > 1 else self.pictures[0]


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(patroni_client.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(patroni_client.time, "sleep", sleep)


@pytest.mark.usefixtures("clock")
def test_a_member_is_well_when_there_is_a_synchronous_standby_again():
    patroni = Patroni(said(("db2", "replica", "starting")), UNNAMED, UNNAMED, SYNCHRONOUS)
    wait_until_well(patroni, "db2", 30)
    assert patroni.pictures == [SYNCHRONOUS]


@pytest.mark.usefixtures("clock")
def test_a_standby_cluster_has_no_synchronous_standby():
    """Patroni ignores the setting there, so nothing is waited for."""
    wait_until_well(Patroni(UNNAMED, standby_cluster={"host": "10.0.0.31"}), "db2", 30)


@pytest.mark.usefixtures("clock")
def test_the_time_counts_from_when_the_work_began():
    patroni_client.time.sleep(29)
    with pytest.raises(PatroniError, match="30 s after work on db2 began, none of db2"):
        wait_until_well(Patroni(*[UNNAMED] * 4, SYNCHRONOUS), "db2", 30, began=0.0)


@pytest.mark.usefixtures("clock")
def test_a_member_that_does_not_get_well_is_named():
    with pytest.raises(PatroniError) as caught:
        wait_until_well(Patroni(UNNAMED), "db2", 30)
    assert (
        str(caught.value) == "30 s after work on db2 began, none of db2 is the synchronous standby. Look at `journalctl -u patroni` there."
    )
