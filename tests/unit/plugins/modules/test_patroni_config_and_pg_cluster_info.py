# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""patroni_config and pg_cluster_info as a task sees them; a member's answers come from a small stand-in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import patroni_client
from ansible_collections.uptier.platform.plugins.modules import patroni_config, pg_cluster_info

URL = "https://10.0.0.31:8008"
LEADER = {"name": "db1", "role": "leader", "state": "running", "timeline": 1}
FOLLOWER = {"name": "db2", "role": "replica", "state": "streaming", "timeline": 1, "lag": 0}


class Member:
    """Keeps a configuration; refuses the first changes when told so, as if another run came first."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {"ttl": 30, "loop_wait": 3}
        self.cluster: dict[str, Any] = {"scope": "main", "members": [LEADER, FOLLOWER]}
        self.conflicts: list[dict[str, Any]] = []
        self.patches: list[dict[str, Any]] = []

    def call(self, client: Any, path: str, method: str = "GET", body: Any = None, timeout: int = 10) -> Any:
        if path == "/cluster":
            return self.cluster
        if method == "PATCH":
            if self.conflicts:
                self.config.update(self.conflicts.pop(0))
                raise patroni_client.PatroniError("conflict", "409")
            self.patches.append(body)
            self.config.update(body)
        return dict(self.config)


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> Member:
    found = Member()

    def call(client: patroni_client.Client, *words: Any, **more: Any) -> Any:
        return found.call(client, *words, **more)

    monkeypatch.setattr(patroni_client.Client, "call", call)
    monkeypatch.setattr(patroni_config.time, "sleep", lambda seconds: None)
    return found


@pytest.fixture
def run(run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def call(main: Callable[[], None], check: bool = False, **arguments: Any) -> dict[str, Any]:
        return run_module(main, {"url": URL, "_ansible_check_mode": check, **arguments})

    return call


def test_what_differs_is_sent_once(member: Member, run: Callable[..., dict[str, Any]]) -> None:
    wanted = {"ttl": 20, "loop_wait": 3}
    result = run(patroni_config.main, config=wanted, member="db2")
    assert result["changed"]
    assert result["leader"] == "db1"
    assert member.patches == [{"ttl": 20}]
    assert '"ttl": 30' in result["diff"]["before"]
    assert not run(patroni_config.main, config=wanted)["changed"]


def test_check_mode_reports_the_same_and_sends_nothing(member: Member, run: Callable[..., dict[str, Any]]) -> None:
    result = run(patroni_config.main, check=True, config={"ttl": 20})
    assert result["changed"]
    assert result["patch"] == {"ttl": 20}
    assert member.patches == []


def test_two_members_that_send_the_same_agree(member: Member, run: Callable[..., dict[str, Any]]) -> None:
    member.conflicts = [{"ttl": 20}]
    assert not run(patroni_config.main, config={"ttl": 20})["changed"]


def test_a_lasting_conflict_is_an_error(member: Member, run: Callable[..., dict[str, Any]]) -> None:
    member.conflicts = [{} for dummy in range(9)]
    assert run(patroni_config.main, config={"ttl": 20})["reason"] == "conflict"


def test_what_waits_for_a_restart_is_a_warning(member: Member, run: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(patroni_config.AnsibleModule, "warn", lambda self, text: warnings.append(text))
    waiting = {"pending_restart": True, "pending_restart_reason": {"max_connections": {"old_value": "80", "new_value": "90"}}}
    member.cluster["members"] = [LEADER, {**FOLLOWER, **waiting}]
    result = run(patroni_config.main, config={})
    assert "db2: PostgreSQL must be restarted before max_connections" in warnings[0]
    assert "playbooks/restart_postgresql.yml does it" in warnings[0]
    assert list(result["pending_restart"]) == ["db2"]


def test_sent_settings_are_given_the_time_to_ask_for_a_restart(member: Member, run: Callable[..., dict[str, Any]]) -> None:
    later = {**member.cluster, "members": [LEADER, {**FOLLOWER, "pending_restart": True}]}
    looks = [member.cluster, member.cluster, member.cluster, later]
    plain = member.call

    def call(client: Any, path: str, *words: Any, **more: Any) -> Any:
        return looks.pop(0) if path == "/cluster" else plain(client, path, *words, **more)

    member.call = call  # type: ignore[method-assign]
    assert list(run(patroni_config.main, config={"postgresql": {"use_slots": True}})["pending_restart"]) == ["db2"]


def test_a_member_that_does_not_serve_is_an_error_with_what_was_seen(member: Member, run: Callable[..., dict[str, Any]]) -> None:
    member.cluster["members"] = [LEADER, {**FOLLOWER, "state": "starting"}]
    result = run(patroni_config.main, config={}, member="db2", timeout=1)
    assert result["failed"]
    assert result["reason"] == "not_serving"
    assert "db2: replica, starting" in result["msg"]


def test_the_cluster_is_returned_as_data(member: Member, run: Callable[..., dict[str, Any]]) -> None:
    result = run(pg_cluster_info.main, timeout=0)
    assert not result["changed"]
    assert (result["leader"], result["scope"], len(result["members"])) == ("db1", "main", 2)


def test_a_cluster_without_leader_is_data_or_an_error_as_asked(member: Member, run: Callable[..., dict[str, Any]]) -> None:
    member.cluster["members"] = [FOLLOWER]
    assert run(pg_cluster_info.main, timeout=0)["leader"] is None
    assert run(pg_cluster_info.main, timeout=1)["reason"] == "not_serving"
