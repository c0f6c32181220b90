# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a release leaves on a host: a directory of the test, a systemd and a router that remember what they were told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.application import release_apply as module

SERVICE = {
    "unit": "shop-web", "instances": [3000], "kind": "web", "spare": 3001, "spares": 1, "port": 3000, "health": "/up", "backend": "shop-web",
}  # fmt: skip


class Systemd:
    """Units by name, with whether they are active; all are enabled."""

    def __init__(self) -> None:
        self.active: dict[str, bool] = {}
        self.did: list[str] = []

    def run(self, command: list[str], **_given: Any) -> tuple[int, str, str]:
        if command[:2] == ["systemctl", "show"]:
            state = "active" if self.active.get(command[2]) else "inactive"
            return 0, f"ActiveState={state}\nSubState=running\nUnitFileState=enabled\nNRestarts=0\nResult=success\n", ""
        if command[0] == "systemctl":
            *dummy, verb, unit = [word for word in command if not word.startswith("--")]
            self.did.append(f"{verb} {unit}")
            self.active[unit] = verb in ("restart", "start")
        return 0, "", ""


class Router(module.Router):
    """The state, the weight and the statistics of each server; `sick` ones are down whenever they are ready."""

    def __init__(self) -> None:
        super().__init__("")
        self.state = {"i3000": "UP", "i3001": "MAINT"}
        self.weight = dict.fromkeys(self.state, 1)
        self.counted: dict[str, dict[str, int]] = {name: {} for name in self.state}
        self.sick: set[str] = set()
        self.told: list[str] = []
        self.algorithm = "roundrobin"

    def servers(self, backend: str) -> dict[str, dict[str, str]]:
        rows = {
            name: {
                "status": state,
                "scur": "0",
                "weight": str(self.weight[name]),
                **{key: str(count) for key, count in self.counted[name].items()},
            }
            for name, state in self.state.items()
        }
        return {**rows, "BACKEND": {"algo": self.algorithm}}

    def put(self, backend: str, name: str, state: str) -> bool:
        self.told.append(f"{name} {state}")
        self.state[name] = {"ready": "DOWN" if name in self.sick else "UP", "drain": "DRAIN", "maint": "MAINT"}[state]
        return True

    def weigh(self, backend: str, name: str, weight: int) -> None:
        if self.weight[name] != weight:
            self.told.append(f"{name} weight {weight}")
        self.weight[name] = weight


class Place:
    """A host on which 1 runs."""

    def __init__(self, root: Path) -> None:
        self.root, self.systemd, self.router = root, Systemd(), Router()
        for version in ("1", "2", "3"):
            folder = root / "opt/uptier/apps/shop/releases" / version
            folder.mkdir(parents=True)
            module.write_json(folder / module.MANIFEST, {"version": version, "checksum": version, "unpacked_at": int(version)})
        self.switch("1", commit=True)

    def path(self, *parts: str) -> Path:
        return self.root.joinpath(*(part.lstrip("/") for part in parts))

    def host(self, version: str = "1", **given: Any) -> module.Host:
        options = {"application": "shop", "router_socket": "", "services": [SERVICE], "version": version, "checksum": "", "declared": "x"}
        times = {"drain_timeout": 1, "healthy_timeout": 60, "migrate": "", "keep": 5, "host_header": "shop.test", "run": "first"}
        times |= {"seconds": 900, "holder": {"id": "first", "who": "anna", "controller": "ci", "process": 7}, "dead": ""}
        host = module.Host(self.systemd.run, {**options, **times, **given})
        host.router = self.router
        return host

    def switch(self, version: str, **given: Any) -> module.Host:
        host = self.host(version, **given)
        host.announce()
        host.begin()
        host.apply(host.plan(version), version)
        host.put_back()
        host.finish(version)
        return host


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(module, "Path", lambda *parts: tmp_path.joinpath(*(part.lstrip("/") for part in parts)))
    monkeypatch.setattr(module, "UNITS", tmp_path)
    monkeypatch.setattr(module.Host, "healthy", lambda *dummy: None)
    return Place(tmp_path)


def test_a_release_that_ends_with_the_host_leaves_the_one_before(place: Place) -> None:
    host = place.switch("2", commit=True)
    assert (host.current(), host.linked("previous"), host.origin()) == ("2", "1", None)


def test_until_the_release_of_all_hosts_has_ended_a_host_remembers_what_it_began_with(place: Place) -> None:
    place.switch("2", commit=False)
    host = place.switch("3", commit=False)  # a second run, after one that was killed
    assert (host.current(), host.linked("previous"), host.origin()) == ("3", "", "1")
    host.commit(host.current())
    assert (host.linked("previous"), host.origin()) == ("1", None)


def test_a_process_that_a_killed_controller_left_behind_does_not_undo_what_a_later_run_did(place: Place) -> None:
    left = place.host("2", commit=False)
    left.announce()
    place.switch("3", commit=False, run="second")
    with pytest.raises(module.ReleaseError, match="A later run is at work on shop on this host") as said:
        left.begin()
    assert said.value.reason == "superseded"


def test_the_way_back_is_no_release_before(place: Place) -> None:
    place.switch("2", commit=False)
    host = place.switch("1", commit=False)
    host.commit(host.current())
    assert (host.current(), host.linked("previous"), host.origin()) == ("1", "", None)


@pytest.mark.parametrize(("commit", "kept"), [(True, ["1", "2"]), (False, ["1", "3"])])
def test_the_release_before_is_never_removed(place: Place, commit: bool, kept: list[str]) -> None:
    """Not even where only one is kept: it is what a roll-back needs, and what an unfinished release goes back to."""
    if not commit:
        place.switch("2", commit=False)
        place.switch("3", commit=False, keep=0)
    else:
        place.switch("2", commit=True, keep=0)
    assert sorted(place.host().releases()) == kept


def test_a_release_in_which_a_job_works_is_kept(place: Place) -> None:
    process = place.root / "proc/4711"
    process.mkdir(parents=True)
    (process / "cwd").symlink_to(place.root / "opt/uptier/apps/shop/releases/1/dist")
    place.switch("2", commit=True)
    place.switch("3", commit=True, keep=0)
    assert sorted(place.host().releases()) == ["1", "2", "3"]
    (process / "cwd").unlink()
    place.switch("3", commit=True, keep=0)
    assert sorted(place.host().releases()) == ["2", "3"]


def test_a_job_that_the_application_has_no_more_goes_and_others_stay(place: Place) -> None:
    for unit, application in (("shop-old", "shop"), ("shop-new", "shop"), ("shop-theirs", "another")):
        (place.root / f"{unit}.timer").write_text(f"[Unit]\nX-Application={application}\n", encoding="utf-8")
        (place.root / f"{unit}.service").write_text("", encoding="utf-8")
    assert place.host().former_jobs() == [], "nobody has said which jobs there are"
    place.systemd.did.clear()
    place.switch("1", commit=True, jobs=["shop-new"])
    assert place.systemd.did == ["disable shop-old.timer", "systemctl daemon-reload"]
    assert sorted(path.name for path in place.root.glob("shop-*.*")) == [
        "shop-new.service", "shop-new.timer", "shop-theirs.service", "shop-theirs.timer",
    ]  # fmt: skip


def test_stopping_drains_first_and_keeps_what_an_instance_runs(place: Place) -> None:
    place.systemd.did.clear()
    place.router.told.clear()
    host = place.host(commit=False)
    host.begin()
    host.stop()
    assert (place.router.told, place.systemd.did) == (["i3000 drain"], ["stop shop-web@3000.service"])
    assert host.seen()["shop-web"][3000].release == "1"
    assert [str(step) for step in host.plan("1").steps] == ["start shop-web@3000.service"]


def test_a_server_that_a_killed_run_left_draining_gets_requests_again(place: Place) -> None:
    place.router.state["i3000"] = "DRAIN"
    assert [str(step) for step in place.host().undrained()] == ["put back shop-web@3000.service"]
    place.switch("1", commit=True)
    assert place.router.state["i3000"] == "UP"


def test_a_spare_instance_that_serves_is_drained_before_it_is_started_anew(place: Place) -> None:
    """A killed run has left it in the router, and requests are on their way to it."""
    module.link(place.root / "opt/uptier/apps/shop/instances/shop-web@3001", "../releases/2")
    place.systemd.active["shop-web@3001.service"] = True
    place.router.told.clear()
    place.switch("2", commit=True)
    assert place.router.told[0] == "i3001 drain"


def test_a_release_that_stands_is_what_a_run_of_the_tier_finds(place: Place) -> None:
    host = place.switch("2", commit=False)
    module.write_json(host.state / module.DEPLOYED, {"declared": "1", "release": "2"})
    assert place.host("1", declared="").target() == ("2", True)
    assert place.host("3", declared="").target() == ("3", True)
    assert os.readlink(host.base / "current") == "releases/2"


# -- beside the old ones ---------------------------------------------------------------------------------------------


def stand(place: Place, version: str = "2") -> module.Host:
    """Have a release stand by, as the module does."""
    host = place.host(version, commit=False, beside=True)
    host.begin()
    host.apply(host.standing_by(version), version)
    place.router.told.clear()
    return host


def test_a_release_that_stands_by_gets_no_request_and_is_not_started_twice(place: Place) -> None:
    host = stand(place)
    assert place.router.state == {"i3000": "UP", "i3001": "MAINT"}
    assert (place.systemd.active["shop-web@3001.service"], host.current()) == (True, "1")
    assert [str(step) for step in host.standing_by("2").steps] == []
    assert [str(step) for step in host.plan("2").steps] == ["replace shop-web@3000.service", "retire shop-web@3001.service"]


def test_all_requests_go_over_before_the_old_instance_is_drained(place: Place) -> None:
    stand(place).shift("2")
    assert place.router.told == ["i3001 ready", "i3000 drain"]
    assert place.systemd.active["shop-web@3000.service"]


def test_the_way_back_from_there_serves_again_before_the_new_instance_goes(place: Place) -> None:
    stand(place).shift("2")
    place.router.told.clear()
    place.systemd.did.clear()
    back = place.host("1", commit=False)
    planned = back.plan("1")
    back.put_back(planned)
    back.apply(planned, "1")
    assert place.router.told[0] == "i3000 ready"
    assert place.router.state == {"i3000": "UP", "i3001": "MAINT"}
    assert place.systemd.did == ["disable shop-web@3001.service"]  # the old one runs on, and is not started anew


def test_an_instance_that_the_router_finds_sick_ends_the_release_before_an_old_one_is_touched(place: Place) -> None:
    """It answers itself, and its router asks with another name: one instance after the other would have gone."""
    place.router.sick.add("i3001")
    place.systemd.did.clear()
    with pytest.raises(module.ReleaseError, match="healthy, but the router does not find it so within 0 s: its state is DOWN"):
        place.switch("2", commit=True, healthy_timeout=0)
    assert place.router.state["i3000"] == "UP"
    assert [unit for unit in place.systemd.did if "3000" in unit] == []
    assert not place.systemd.active["shop-web@3001.service"]


def test_a_part_of_the_requests_is_a_weight_and_the_end_of_it_leaves_none(place: Place) -> None:
    host = stand(place)
    host.weigh("2", 25)
    assert (place.router.weight, place.router.state["i3001"]) == ({"i3000": 255, "i3001": 85}, "UP")
    assert place.router.told.index("i3001 weight 85") < place.router.told.index("i3001 ready")  # never more than its part
    host.apply(host.plan("2"), "2")
    host.put_back()
    assert place.router.weight == {"i3000": 1, "i3001": 1}


def test_a_router_that_does_not_split_by_weight_is_told(place: Place) -> None:
    place.router.algorithm = "leastconn"
    with pytest.raises(module.ReleaseError, match="balances shop-web by leastconn, which does not split requests by weight"):
        stand(place).weigh("2", 25)


def test_a_worse_release_loses_its_requests_at_the_next_look(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    host = stand(place)
    host.weigh("2", 5)
    looks: list[float] = []

    def look(seconds: float) -> None:
        looks.append(seconds)
        place.router.counted = {"i3000": {"hrsp_2xx": 100 * len(looks)}, "i3001": {"hrsp_2xx": 2, "hrsp_5xx": 3 * len(looks)}}

    monkeypatch.setattr(module.time, "sleep", look)
    with pytest.raises(module.ReleaseError, match="With 5 % of the requests for shop-web, 6 of 8 requests failed") as said:
        host.compare("2", 5, module.Limits(), 30, 600)
    assert (said.value.reason, place.router.weight["i3001"], len(looks)) == ("canary", 0, 2)


def test_a_comparison_ends_when_there_was_enough_or_when_nothing_came(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    host = stand(place)
    host.weigh("2", 50)
    monkeypatch.setattr(module.time, "sleep", lambda dummy: None)
    old, new = host.compare("2", 50, module.Limits(requests=10), 0, 0)
    assert (old.requests, new.requests) == (0, 0)

    def look(dummy: float) -> None:
        for row in place.router.counted.values():
            row["hrsp_2xx"] = row.get("hrsp_2xx", 0) + 4

    monkeypatch.setattr(module.time, "sleep", look)
    old, new = host.compare("2", 50, module.Limits(requests=10), 0, 600)
    assert (old.requests, new.requests) == (12, 12)


def test_a_watch_that_a_killed_controller_left_behind_ends_when_the_next_run_comes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the host's lock, and would keep it until enough requests have come."""
    host = stand(place)
    host.weigh("2", 5)
    monkeypatch.setattr(module.time, "sleep", lambda dummy: place.host("3", commit=False, run="second").announce())
    with pytest.raises(module.ReleaseError, match="this one has left 5 % of the requests to 2") as said:
        host.compare("2", 5, module.Limits(), 30, 600)
    assert said.value.reason == "superseded"


def test_a_run_of_the_tier_leaves_a_host_alone_while_it_is_released_by_name(place: Place) -> None:
    """It would bring back what the inventory says, host by host, while the release goes on."""
    place.switch("2", commit=False)
    with pytest.raises(
        module.ReleaseError, match=r"shop is being released by name by anna on ci \(process 7\), and this host takes part"
    ) as said:
        place.host("1", commit=True).keep_out()
    assert (said.value.reason, said.value.holder and said.value.holder["id"]) == ("under_way", "first")
    place.host("1", commit=True, dead="first").keep_out()
    place.host("2", commit=False).keep_out()
    place.switch("2", commit=False, seconds=-1)  # long ago
    place.host("1", commit=True).keep_out()
    place.host("2", commit=False).commit("2")
    place.host("1", commit=True).keep_out()


def test_a_canary_after_a_killed_run_that_had_shifted_all_requests_shares_them(place: Place) -> None:
    stand(place).shift("2")
    assert place.router.state["i3000"] == "DRAIN"
    place.host("2", commit=False).weigh("2", 25)
    assert place.router.state == {"i3000": "UP", "i3001": "UP"}


def test_a_migration_gets_variables_of_the_application_and_none_of_this_process(place: Place) -> None:
    told: list[tuple[list[str], dict[str, Any]]] = []
    host = place.host("2", migrate="bin/migrate $HOME a$b", migrate_timeout=60)
    host.run = lambda command, **given: told.append((command, given)) or place.systemd.run(command)
    host.migrate("2")
    command, given = next(one for one in told if one[0][0] == "systemd-run")
    assert command[-3:] == [str(place.path("/opt/uptier/apps/shop/releases/2/bin/migrate")), "$HOME", "a$$b"]
    assert given == {"expand_user_and_vars": False}
