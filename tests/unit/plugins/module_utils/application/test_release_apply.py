# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a release leaves on a host: a directory of the test, a systemd and a router that remember what they were told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.application import release_apply as module

SERVICE = {"unit": "shop-web", "instances": [3000], "kind": "web", "spare": 3001, "port": 3000, "health": "/up", "backend": "shop-web"}


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
    """The state of each server."""

    def __init__(self) -> None:
        super().__init__("")
        self.servers = {"i3000": "UP", "i3001": "MAINT"}
        self.told: list[str] = []

    def server(self, backend: str, name: str) -> dict[str, str] | None:
        return {"status": self.servers[name], "scur": "0"}

    def put(self, backend: str, name: str, state: str) -> bool:
        self.told.append(f"{name} {state}")
        self.servers[name] = {"ready": "UP", "drain": "DRAIN", "maint": "MAINT"}[state]
        return True


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
    place.router.servers["i3000"] = "DRAIN"
    assert [str(step) for step in place.host().undrained()] == ["put back shop-web@3000.service"]
    place.switch("1", commit=True)
    assert place.router.servers["i3000"] == "UP"


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
