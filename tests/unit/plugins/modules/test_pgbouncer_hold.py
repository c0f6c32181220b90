# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""pgbouncer_hold as a task sees it; systemd and PgBouncer's console answer what the test says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.modules import pgbouncer_hold as module

MEMBERS = [{"name": "db1", "url": "https://10.0.0.31:8008"}, {"name": "db2", "url": "https://10.0.0.32:8008"}]
HEAD = "name,host,paused\n"


class Host:
    """A host's systemd and console; `states` are what the unit is, one after the other, the last one for ever."""

    def __init__(self) -> None:
        self.states = ["inactive"]
        self.databases = HEAD + "shop,10.0.0.1,0\n"
        self.fails = ""
        self.did: list[str] = []

    def run_command(self, command: list[str], **_given: Any) -> tuple[int, str, str]:
        if command[:2] == ["systemctl", "is-active"]:
            return 3, self.states.pop(0) if len(self.states) > 1 else self.states[0], ""
        if command[0] == "systemctl":
            self.did.append(command[1])
            self.states = ["inactive"] if command[1] == "stop" else self.states
            return (5, "", self.fails) if self.fails else (0, "", "")
        return (2, "", self.fails) if self.fails else (0, self.databases, "")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    found = Host()
    monkeypatch.setattr(module.AnsibleModule, "run_command", found.run_command)
    monkeypatch.setattr(module, "REQUEST", tmp_path / "run" / "request.json")
    monkeypatch.setattr(module, "REPORT", tmp_path / "report.json")
    return found


@pytest.fixture
def run(host: Host, run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def call(state: str, check: bool = False, **arguments: Any) -> dict[str, Any]:
        return run_module(module.main, {"_ansible_check_mode": check, "state": state, **arguments})

    return call


def test_armed_hands_the_request_to_the_unit(run: Callable[..., dict[str, Any]], host: Host) -> None:
    module.REPORT.write_text("{}", encoding="utf-8")
    at = time.time() + 15
    assert run("armed", at=at, leader="db1", members=MEMBERS)["changed"]
    request = json.loads(module.REQUEST.read_text(encoding="utf-8"))
    assert (request["at"], request["leader"], request["members"], request["drain"], request["limit"]) == (at, "db1", MEMBERS, 3.0, 12.0)
    assert host.did == ["start"]
    assert not module.REPORT.exists(), "the report of the time before would be taken for this one's"


def test_check_mode_arms_nothing(run: Callable[..., dict[str, Any]], host: Host) -> None:
    assert run("armed", check=True, at=time.time() + 15, leader="db1", members=MEMBERS)["changed"]
    assert host.did == []
    assert not module.REQUEST.exists()


def test_a_moment_that_cannot_be_kept(run: Callable[..., dict[str, Any]], host: Host) -> None:
    result = run("armed", at=time.time() - 2, leader="db1", members=MEMBERS)
    assert result["reason"] == "too_late"
    assert "Nothing was paused. Run it again, with a longer lead (pg_switchover_lead_seconds)" in result["msg"]
    assert host.did == []


def test_one_switchover_at_a_time(run: Callable[..., dict[str, Any]], host: Host) -> None:
    host.states = ["activating"]
    result = run("armed", at=time.time() + 15, leader="db1", members=MEMBERS)
    assert result["reason"] == "busy"
    assert host.did == []


def test_a_host_without_the_unit(run: Callable[..., dict[str, Any]], host: Host) -> None:
    host.fails = "Unit pgbouncer-hold.service not found."
    result = run("armed", at=time.time() + 15, leader="db1", members=MEMBERS)
    assert result["msg"] == (
        "systemctl start --no-block pgbouncer-hold.service ended with 5: Unit pgbouncer-hold.service not found. Run the tier's playbook, "
        "which installs it."
    )


def test_finished_waits_and_says_how_it_went(run: Callable[..., dict[str, Any]], host: Host) -> None:
    host.states = ["active", "deactivating", "inactive"]
    module.REPORT.write_text(json.dumps({"state": "switched", "paused_seconds": 1.618}), encoding="utf-8")
    result = run("finished")
    assert (result["result"], result["paused_seconds"], result["message"]) == ("switched", 1.62, "")
    assert host.did == []


def test_finished_stops_what_takes_too_long(run: Callable[..., dict[str, Any]], host: Host) -> None:
    host.states = ["active"]
    result = run("finished", timeout=0)
    assert host.did == ["stop"]
    assert (result["result"], result["message"]) == ("interrupted", "it left no report")


def test_released_stops_it_at_once(run: Callable[..., dict[str, Any]], host: Host) -> None:
    host.states = ["active"]
    assert run("released")["result"] == "interrupted"
    assert host.did == ["stop"]


def test_a_pool_that_is_still_paused_fails(run: Callable[..., dict[str, Any]], host: Host) -> None:
    host.databases = HEAD + "shop,10.0.0.1,1\nshop_ro,10.0.0.1,0\n"
    result = run("finished")
    assert result["reason"] == "still_paused"
    assert result["msg"] == (
        "Still paused: shop. Resume by hand: runuser -u postgres -- psql -h /run/postgresql -p 6432 -U pgbouncer pgbouncer -c RESUME"
    )


def test_a_console_that_is_silent(run: Callable[..., dict[str, Any]], host: Host) -> None:
    host.fails = "connection refused"
    assert run("finished")["msg"] == "PgBouncer's console does not answer: connection refused. Look at `journalctl -u pgbouncer`."
