# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lock of a release and its record, as tasks see them: files in a directory of the test, and two runs of Ansible."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.uptier.platform.plugins.module_utils.application import deploy_apply, release_apply
from ansible_collections.uptier.platform.plugins.modules import app_deploy as module
from ansible_collections.uptier.platform.plugins.plugin_utils import controller
from ansible_collections.uptier.platform.plugins.plugin_utils.tolerance import tolerated

ANNA = {"id": "boot/pid ci-7 123 456", "who": "anna", "controller": "ci-7", "process": 123}
BEN = {"id": "boot/pid ci-8 9 10", "who": "ben", "controller": "ci-8", "process": 9}


class Place:
    """An application's directories below the test's, and the clock."""

    def __init__(self, root: Path) -> None:
        self.now = 1_000_000_000.0
        self.root = root
        self.base, self.state = root / "opt/uptier/apps/shop", root / "var/lib/uptier/apps/shop"

    def path(self, *parts: str) -> Path:
        return self.root.joinpath(*(part.lstrip("/") for part in parts))

    def run(self, name: str) -> None:
        """Make a release the current one."""
        (self.base / "releases" / name).mkdir(parents=True, exist_ok=True)
        release_apply.link(self.base / "current", f"releases/{name}")

    def read(self, name: str) -> Any:
        return json.loads((self.state / name).read_text(encoding="utf-8"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    found = Place(tmp_path)
    monkeypatch.setattr(release_apply, "Path", found.path)
    monkeypatch.setattr(deploy_apply, "time", SimpleNamespace(time=lambda: found.now))
    monkeypatch.setattr(deploy_apply, "syslog", SimpleNamespace(openlog=lambda dummy: None, syslog=lambda dummy: None))
    monkeypatch.setattr(module.AnsibleModule, "run_command", lambda *dummy, **given: (0, "", ""))
    return found


@pytest.fixture
def call(place: Place, run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def ask(holder: dict[str, Any], state: str, check: bool = False, **given: Any) -> dict[str, Any]:
        arguments = {"application": "shop", "state": state, "holder": holder, **given}
        return run_module(module.main, {"_ansible_check_mode": check, **arguments})

    return ask


def test_the_second_one_hears_who_is_at_work_since_when_and_until_when(call: Callable[..., dict[str, Any]]) -> None:
    assert call(ANNA, "locked", what="shop 1.5, rolling", seconds=600)["lock"] == "free"
    refused = call(BEN, "locked", what="shop 1.6, rolling")
    assert refused["reason"] == "locked"
    assert refused["holder"] == ANNA
    assert refused["msg"] == (
        "shop is being released by anna on ci-7 (process 123) since 2001-09-09 01:46:40 UTC: shop 1.5, rolling. Wait until that has ended. "
        "Should that run be dead, the lock ends at 2001-09-09 01:56:40 UTC, and at once for a run on ci-7."
    )


def test_a_plan_that_was_made_before_another_release_ended_is_not_carried_out(call: Callable[..., dict[str, Any]], place: Place) -> None:
    """It would lead back to what the other one had found, and not to what it has left."""
    call(ANNA, "locked", seen="")
    call(ANNA, "ended", result="failed", version="2")
    refused = call(BEN, "locked", seen="")
    assert (refused["reason"], refused["failed"]) == ("outdated", True)
    assert "Another release of shop has ended since this one was planned. Nothing was done" in refused["msg"]
    assert call(BEN, "locked", seen=ANNA["id"])["lock"] == "free"


def test_the_lock_is_free_although_nothing_can_be_written_down(
    call: Callable[..., dict[str, Any]], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(ANNA, "locked")

    def full(*dummy: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(deploy_apply, "write_json", full)
        ended = call(ANNA, "ended", result="failed", version="2")
    assert (ended["reason"], "No space left on device" in ended["msg"]) == ("host_error", True)
    assert call(BEN, "locked")["lock"] == "free"


def test_a_lock_that_is_renewed_does_not_end(call: Callable[..., dict[str, Any]], place: Place) -> None:
    call(ANNA, "locked", seconds=600)
    place.now += 500
    assert not call(ANNA, "renewed", seconds=600).get("failed")
    place.now += 500
    assert call(BEN, "locked")["reason"] == "locked"


def test_a_lock_whose_time_is_over_goes_to_the_next_and_stops_the_first(call: Callable[..., dict[str, Any]], place: Place) -> None:
    call(ANNA, "locked", what="shop 1.5", seconds=600)
    place.now += 600
    assert call(BEN, "locked")["lock"] == "expired"
    lost = call(ANNA, "renewed")
    assert lost["reason"] == "lost"
    assert "taken over by ben on ci-8" in lost["msg"]
    assert [(entry["who"], entry["result"]) for entry in place.read("history.json")] == [("anna", "interrupted")]
    # What the first one says at its end does not free the lock of the second.
    call(ANNA, "ended", result="failed", version="1.5")
    assert place.read("deploy.lock.json")["holder"] == BEN


def test_a_dead_holder_is_taken_over_at_once_but_only_that_one(call: Callable[..., dict[str, Any]]) -> None:
    call(ANNA, "locked")
    assert call(BEN, "locked", dead="somebody else")["reason"] == "locked"
    assert call(BEN, "locked", dead=ANNA["id"])["lock"] == "dead"


def test_check_mode_looks_and_writes_nothing(call: Callable[..., dict[str, Any]], place: Place) -> None:
    assert call(ANNA, "locked", check=True)["lock"] == "free"
    assert not place.state.exists()
    call(ANNA, "locked")
    assert call(BEN, "locked", check=True)["reason"] == "locked"
    call(ANNA, "ended", check=True)
    assert place.read("deploy.lock.json")["holder"] == ANNA


def test_a_release_that_succeeded_is_remembered_with_the_one_before(call: Callable[..., dict[str, Any]], place: Place) -> None:
    place.run("1.4")
    call(ANNA, "locked")
    release_apply.write_json(place.state / release_apply.UNFINISHED, {"from": "1.4"})
    place.run("1.5")
    call(ANNA, "ended", version="1.5", before="1.4", strategy="rolling", declared="1.4")
    assert os.readlink(place.base / "previous") == "releases/1.4"
    assert place.read("deployed.json") == {"declared": "1.4", "release": "1.5"}
    assert not (place.state / "deploy.lock.json").exists()
    assert not (place.state / release_apply.UNFINISHED).exists()
    entry = place.read("history.json")[0]
    assert (entry["who"], entry["before"], entry["version"], entry["result"]) == ("anna", "1.4", "1.5", "succeeded")


def test_what_the_inventory_says_itself_needs_no_memory(call: Callable[..., dict[str, Any]], place: Place) -> None:
    place.run("1.5")
    release_apply.write_json(place.state / "deployed.json", {"declared": "1.4", "release": "1.5"})
    call(ANNA, "ended", version="1.5", declared="1.5")
    assert not (place.state / "deployed.json").exists()


def test_after_a_failure_the_release_before_stays_what_it_was(call: Callable[..., dict[str, Any]], place: Place) -> None:
    place.run("1.3")
    release_apply.link(place.base / "previous", "releases/1.3")
    place.run("1.4")
    release_apply.write_json(place.state / release_apply.UNFINISHED, {"from": "1.4"})
    call(ANNA, "ended", result="failed", version="1.5", before="1.4", said="unhealthy", declared="1.4")
    assert os.readlink(place.base / "previous") == "releases/1.3"
    assert not (place.state / release_apply.UNFINISHED).exists()
    assert not (place.state / "deployed.json").exists()


def test_a_host_that_is_not_back_remembers_where_it_has_to_go(call: Callable[..., dict[str, Any]], place: Place) -> None:
    place.run("1.5")
    release_apply.write_json(place.state / release_apply.UNFINISHED, {"from": "1.4"})
    call(ANNA, "ended", result="failed", version="1.5", before="1.4", declared="1.4")
    assert place.read(release_apply.UNFINISHED) == {"from": "1.4"}


def test_the_record_has_an_end_and_an_entry_for_each_run() -> None:
    history: list[dict[str, Any]] = []
    for number in range(60):
        history = deploy_apply.recorded(history, {"id": str(number), "result": "failed"})
    history = deploy_apply.recorded(history, {"id": "59", "result": "succeeded"})
    assert len(history) == 50
    assert history[-1] == {"id": "59", "result": "succeeded"}
    assert history[0]["id"] == "10"


# -- which run it is, and whether another one lives ------------------------------------------------------------------


def test_a_run_is_known_by_its_process_and_by_when_that_was_born() -> None:
    mine = controller.holder()
    assert mine == controller.holder()
    assert not controller.is_dead(mine)
    assert controller.is_dead({**mine, "id": mine["id"] + "0"}), "another process has the number now"


def test_a_process_that_has_ended_is_dead_also_while_nobody_has_asked_for_its_end() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = f"{controller.machine()} {controller.socket.gethostname()} {child.pid} {controller.born(child.pid)}"
    assert not controller.is_dead({"id": identity})
    assert child.stdin
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie from here on
    assert controller.is_dead({"id": identity})
    child.wait()
    assert controller.is_dead({"id": identity})


@pytest.mark.parametrize("identity", ["other/boot HOST 1 2", " HOST 1 2"])
def test_of_a_run_elsewhere_nothing_is_known(identity: str) -> None:
    assert not controller.is_dead({"id": identity.replace("HOST", controller.socket.gethostname())})


# -- failures as results ---------------------------------------------------------------------------------------------


def test_a_failure_is_a_result_where_it_is_tolerated() -> None:
    failed = {"failed": True, "msg": "bad", "reason": "unhealthy", "steps": ["try"], "changed": True}
    assert tolerated({}, lambda: failed) is failed
    assert tolerated({"tolerate": True}, lambda: failed) == {
        "changed": True,
        "steps": ["try"],
        "reason": "unhealthy",
        "failure": {"reason": "unhealthy", "said": "bad"},
    }
    assert tolerated({"tolerate": "yes"}, lambda: {"failed": True, "msg": "MODULE FAILURE"})["failure"]["reason"] == "failed"
    assert tolerated({"tolerate": True}, lambda: {"changed": True}) == {"changed": True}


def test_a_host_that_is_gone_stays_in_the_run() -> None:
    def gone() -> dict[str, Any]:
        raise AnsibleConnectionFailure("no route")

    assert "no route" in tolerated({"tolerate": True}, gone)["failure"]["said"]
    with pytest.raises(AnsibleConnectionFailure):
        tolerated({"tolerate": False}, gone)
