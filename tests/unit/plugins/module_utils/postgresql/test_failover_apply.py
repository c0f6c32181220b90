# SPDX-License-Identifier: GPL-3.0-or-later
"""A change of leaders from the first look to the last, on a cluster that answers what the test says."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import failover_apply
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import OperationError, Refusal
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.failover_patroni_apply import PatroniDriver
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.patroni_client import PatroniError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.picture import Cluster, Member

GIVEN = {
    "state": "switchover",
    "leader": "db1",
    "candidate": None,
    "max_lag_bytes": None,
    "allow_data_loss": False,
    "members": [
        {"name": "db1", "url": "https://1", "host": "a", "port": 5432},
        {"name": "db2", "url": "https://2", "host": "b", "port": 5432},
    ],
    "scope": "main",
    "namespace": "/uptier/",
    "etcd": ["https://3"],
    "ca": None,
    "cert": None,
    "key": None,
    "timeout": 5,
    "rejoin_timeout": 5,
    "at": None,
    "probe": None,
    "drained": None,
}


def leads(name: str, *standbys: str) -> Member:
    return Member(name, role="primary", state="running", timeline=2, location=100, streaming_to=standbys)


def follows(name: str) -> Member:
    return Member(name, role="replica", state="running", timeline=2, received=100, replayed=100)


def seen(*members: Member, **more: Any) -> Cluster:
    return Cluster("main", members, **{"lease": "db1", "maximum_lag": 1000, **more})


BEFORE = seen(leads("db1", "db2"), follows("db2"))
BETWEEN = seen(Member("db1", role="replica", state="stopping"), follows("db2"), lease=None, requested={"leader": "db1"})
AFTER = seen(follows("db1"), leads("db2", "db1"), lease="db2")
ALONE = seen(Member("db1", error="Connection refused"), leads("db2"), lease="db2")
DEAD = seen(
    Member("db1", error="Connection refused"), follows("db2"), lease=None, synchronous=True, sync_leader="db1", sync_standbys=("db2",)
)


class Stage:
    """Shows one picture after the other, the last one for ever, and keeps what Patroni is asked."""

    def __init__(self, *pictures: Cluster, answer: PatroniError | None = None) -> None:
        self.pictures, self.answer = list(pictures), answer
        self.asked: list[tuple[str, str, str, Any]] = []

    def look(self) -> Cluster:
        return self.pictures.pop(0) if len(self.pictures) > 1 else self.pictures[0]

    def client(self, name: str) -> Any:
        stage = self

        class Client:
            def call(self, path: str, method: str = "GET", body: Any = None, timeout: int = 10) -> None:
                stage.asked.append((name, method, path, body))
                if stage.answer:
                    raise stage.answer

        return Client()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes by itself: every look costs a second, none is slept."""
    now = [0.0]

    def monotonic() -> float:
        now[0] += 1
        return now[0]

    monkeypatch.setattr(failover_apply.time, "monotonic", monotonic)
    monkeypatch.setattr(failover_apply.time, "sleep", lambda seconds: None)


def operate(stage: Stage, check: bool = False, **changes: Any) -> dict[str, Any]:
    driver = PatroniDriver({**GIVEN, **changes})
    driver.look, driver.client = stage.look, stage.client  # type: ignore[method-assign]
    return failover_apply.Operation({**GIVEN, **changes}, check, driver).run()


def test_switchover():
    stage = Stage(BEFORE, BETWEEN, AFTER)
    result = operate(stage)
    assert stage.asked == [("db1", "POST", "/switchover", {"leader": "db1", "candidate": "db2"})]
    assert (result["changed"], result["old_leader"], result["leader"], result["not_back"]) == (True, "db1", "db2", [])
    assert result["message"] == "db2 leads on timeline 2"


def test_check_mode_has_the_same_plan_and_asks_nobody():
    stage = Stage(BEFORE)
    result = operate(stage, check=True)
    assert stage.asked == []
    assert (result["changed"], result["leader"], result["message"]) == (True, "db2", "db2 would lead")
    assert result["steps"] == operate(Stage(BEFORE, AFTER))["steps"]


def test_a_second_run_changes_nothing():
    stage = Stage(AFTER)
    result = operate(stage)
    assert (result["changed"], stage.asked, result["message"]) == (False, [], "db1 does not lead, db2 does.")


def test_a_change_under_way_is_waited_for():
    """A run that was killed after its request: the next one finds nobody leading, and then the new leader."""
    result = operate(Stage(BETWEEN, BETWEEN, AFTER))
    assert (result["changed"], result["leader"]) == (False, "db2")


UNNAMED = seen(leads("db1", "db2"), follows("db2"), synchronous=True, sync_leader="db1")
NAMED = seen(leads("db1", "db2"), follows("db2"), synchronous=True, sync_leader="db1", sync_standbys=("db2",))


@pytest.mark.parametrize("candidate", [None, "db2"])
@pytest.mark.parametrize("check", [True, False])
def test_a_standby_that_is_about_to_be_synchronous_is_waited_for(clock, check, candidate):
    """A switchover right after the standby was restarted: it streams, and Patroni makes it synchronous some seconds later."""
    result = operate(Stage(UNNAMED, UNNAMED, NAMED, AFTER), check, timeout=60, candidate=candidate)
    assert (result["changed"], result["leader"]) == (True, "db2")


@pytest.mark.usefixtures("clock")
def test_a_standby_that_never_gets_synchronous_is_not_waited_for_long():
    stage = Stage(*[UNNAMED] * 200, NAMED)
    with pytest.raises(Refusal, match=r"No member of main can take over: db2 is not the synchronous standby\.") as caught:
        operate(stage, timeout=600)
    assert caught.value.reason == "no_candidate"
    assert len(stage.pictures) > 150


@pytest.mark.usefixtures("clock")
def test_a_standby_beside_the_synchronous_one_is_refused_at_once():
    stage = Stage(
        seen(leads("db1", "db2", "db3"), follows("db2"), follows("db3"), synchronous=True, sync_leader="db1", sync_standbys=("db2",)), AFTER
    )
    with pytest.raises(Refusal, match="db3 cannot lead main: it is not the synchronous standby"):
        operate(stage, members=[*GIVEN["members"], {"name": "db3", "url": "https://4", "host": "c", "port": 5432}], candidate="db3")
    assert len(stage.pictures) == 1


@pytest.mark.usefixtures("clock")
def test_a_former_leader_that_is_not_back_is_reported():
    result = operate(Stage(BEFORE, seen(Member("db1", error="Connection refused"), leads("db2"), lease="db2")))
    assert result["not_back"] == ["db1 does not answer"]
    assert result["message"] == "db2 leads on timeline 2; not back: db1 does not answer"


@pytest.mark.usefixtures("clock")
def test_patronis_refusal_is_passed_on():
    stage = Stage(BEFORE, answer=PatroniError("refused", "Patroni answered POST /switchover with 412: no good candidates."))
    with pytest.raises(Refusal, match=r"412: no good candidates\. Still db1 leads\.") as caught:
        operate(stage, timeout=60)
    assert caught.value.reason == "patroni_refused"


@pytest.mark.usefixtures("clock")
def test_a_candidate_that_never_leads():
    with pytest.raises(OperationError, match="db2 does not lead after 5 s. Seen: db1: replica, stopping; db2: replica, running") as caught:
        operate(Stage(BEFORE, BETWEEN))
    assert caught.value.reason == "not_promoted"


def test_failover():
    stage = Stage(DEAD, ALONE)
    result = operate(stage, state="failover")
    assert stage.asked == [("db2", "POST", "/failover", {"candidate": "db2"})]
    assert (result["leader"], result["data_loss_bytes"], result["not_back"]) == ("db2", 0, ["db1 does not answer"])


def test_failover_that_patroni_made_itself():
    waiting = seen(Member("db1", error="Connection refused"), follows("db2"), lease_seconds=9.0)
    stage = Stage(waiting, ALONE)
    result = operate(stage, state="failover")
    assert (result["changed"], result["leader"], stage.asked) == (False, "db2", [])
    assert result["steps"] == ["wait until the lease of db1 runs out (Connection refused)"]


@pytest.mark.usefixtures("clock")
def test_a_leader_that_cannot_be_reached_but_renews_its_lease():
    waiting = seen(Member("db1", error="timed out"), follows("db2"), lease_seconds=9.0)
    with pytest.raises(Refusal, match="It does not answer this host, yet somebody renews its lease, so it may well lead") as caught:
        operate(Stage(waiting), state="failover")
    assert caught.value.reason == "leader_unsure"


def test_promotion_of_a_standby_cluster():
    standby = seen(
        Member("db1", role="standby_leader", state="running", timeline=2, streaming_to=("db2",)), follows("db2"), standby_cluster=True
    )
    stage = Stage(standby, seen(leads("db1", "db2"), follows("db2")))
    result = operate(stage, state="promoted", leader=None, allow_data_loss=True)
    assert stage.asked == [("db1", "PATCH", "/config", {"standby_cluster": None})]
    assert (result["changed"], result["leader"], result["data_loss_bytes"]) == (True, "db1", None)


def test_a_moment_that_has_passed():
    stage = Stage(BEFORE)
    with pytest.raises(Refusal, match="The moment given for the switchover passed") as caught:
        operate(stage, at=1.0)
    assert (caught.value.reason, stage.asked) == ("too_late", [])


class SpyProbe:
    """Answers what the test says; a write always succeeds."""

    sessions = ""

    def __init__(self, *given: Any) -> None:
        self.last_error = ""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def first(self, seconds: float, since: float = 0.0) -> bool:
        return True

    def ask(self, statement: str, seconds: float = 2) -> tuple[str, str]:
        return "", f"ERROR:  {self.sessions}" if self.sessions and "pg_stat_activity" in statement else ""

    def outage(self, since: float) -> float:
        return 1.234


PROBE = {"probe": {"user": "monitor", "password": "x"}, "drained": {"addresses": ["10.0.0.1"], "timeout": 0.2}}


def test_outage_is_reported(monkeypatch):
    monkeypatch.setattr(failover_apply, "Probe", SpyProbe)
    assert operate(Stage(BEFORE, AFTER), **PROBE)["message"] == "db2 leads on timeline 2; no write succeeded for 1.2 s"


def test_clients_that_do_not_let_go_stop_it(monkeypatch):
    monkeypatch.setattr(SpyProbe, "sessions", "shop@shop from 10.0.0.1, active for 40 s")
    monkeypatch.setattr(failover_apply, "Probe", SpyProbe)
    stage = Stage(BEFORE)
    with pytest.raises(
        Refusal, match=r"After 0\.2 s there are still sessions .*: shop@shop from 10\.0\.0\.1, active for 40 s\. Nothing was switched"
    ):
        operate(stage, **PROBE)
    assert stage.asked == []
