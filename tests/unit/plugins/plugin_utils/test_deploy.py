# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of a release is carried out on hosts that are made up, and fails at every step in turn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.filter import application as filters
from ansible_collections.uptier.platform.plugins.module_utils.application.release import Seen, Service
from ansible_collections.uptier.platform.plugins.plugin_utils import application as model
from ansible_collections.uptier.platform.plugins.plugin_utils import deploy as module
from hypothesis import given
from hypothesis import strategies as st

WEB = {"name": "web", "kind": "web", "command": "run", "port": 3000, "instances": 2, "health": "/up"}
WIDE = {**WEB, "spare_instances": 2}
WORKER = {"name": "worker", "kind": "worker", "command": "work", "instances": 2}
SUM = "a" * 64


def applications(**more: Any) -> list[model.Application]:
    return model.completed(
        [
            {"name": "shop", "version": "1", "release": "build/shop-1.tar.gz", "migrate": "migrate", "services": [WEB, WORKER], **more},
            {"name": "db"},
        ]
    )


def instances(release: str, web: int = 2, workers: int = 2) -> dict[str, dict[int, Seen]]:
    def running(first: int, count: int) -> dict[int, Seen]:
        return {number: Seen(True, True, release) for number in range(first, first + count)}

    return {"shop-web": running(3000, web), "shop-worker": running(1, workers)}


def host(name: str, release: str = "1", **more: Any) -> module.Host:
    given = {"versions": {release: release}, "checksums": {release: "1" * 64}, "seen": instances(release), "previous": "", **more}
    return module.Host(name, release, **given)


def fleet(*hosts: module.Host) -> dict[str, module.Host]:
    return {one.name: one for one in hosts}


def ask(hosts: dict[str, module.Host], version: str = "2", checksum: str = SUM, **more: Any) -> module.Plan:
    request = module.Request("shop", version, hosts=tuple(hosts), archive="build/shop-2.tar.gz", checksum=checksum, **more)
    return module.propose(request, applications(services=[WIDE, WORKER]) if request.strategy in WIDE_STRATEGIES else applications(), hosts)


WIDE_STRATEGIES = ("blue_green",)
TWO = fleet(host("app1"), host("app2"))


def test_a_release_in_words() -> None:
    assert [str(step) for step in ask(TWO).steps] == [
        "take the lock",
        "app1: unpack 2",
        "app2: unpack 2",
        "app1: migrate the database to 2",
        *[
            f"{name}: start shop-web@3002 beside the others and wait until it is healthy, "
            "drain shop-web@3000, restart it, wait until it is healthy and put it back, "
            "drain shop-web@3001, restart it, wait until it is healthy and put it back, drain and stop shop-web@3002, "
            "drain shop-worker@1, restart it, wait until it is healthy and put it back, "
            "drain shop-worker@2, restart it, wait until it is healthy and put it back"
            for name in ("app1", "app2")
        ],
        "ask every routed service through each router and gateway",
        "write down the result on every host",
        "give the lock back",
    ]


def test_recreate_stops_every_host_before_the_first_one_is_migrated() -> None:
    actions = [(step.action, step.host) for step in ask(TWO, strategy="recreate").steps]
    assert actions[3:8] == [("stop", "app1"), ("stop", "app2"), ("migrate", "app1"), ("switch", "app1"), ("switch", "app2")]


# -- on hosts that are made up ---------------------------------------------------------------------------------------


class Broken(Exception):
    """The step that was to fail has failed."""


@dataclass
class World:
    """Hosts that do what a step says; `runs` is what each instance runs while it serves."""

    hosts: dict[str, module.Host]
    fails_at: tuple[int, int] | None = None  # number of the step, and of the part within a switch
    lock: bool = False
    migrations: int = 0
    runs: dict[str, dict[tuple[str, int], str]] = field(default_factory=dict)
    aside: dict[str, dict[tuple[str, int], str]] = field(default_factory=dict)  # runs and gets no requests
    least: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, one in self.hosts.items():
            self.runs[name] = {
                (unit, number): seen.release for unit, found in one.seen.items() for number, seen in found.items() if seen.active
            }
        self.look()

    def serving(self, unit: str) -> int:
        return sum(1 for running in self.runs.values() for (name, dummy) in running if name == unit)

    def look(self) -> None:
        for unit in ("shop-web", "shop-worker"):
            self.least[unit] = min(self.least.get(unit, 10**6), self.serving(unit))

    def carry_out(self, proposed: module.Plan) -> int | None:
        """Do it; at the step that fails, do what takes it back. Return the number of that step."""
        for number, step in enumerate(proposed.steps):
            try:
                self.do(step, number)
            except Broken:
                for other in module.undo(proposed, number):
                    self.do(other)
                return number
        return None

    def do(self, step: module.Step, number: int = -1) -> None:
        breaks = self.fails_at[1] if self.fails_at and self.fails_at[0] == number else None
        aside = self.aside.setdefault(step.host, {})
        if step.action == "beside":
            for part in step.parts:  # also an instance that a run which was killed has left: it is drained before
                self.runs[step.host].pop((part.service.unit, part.instance), None)
                self.look()
                aside[part.service.unit, part.instance] = step.release
        if step.action == "share":
            for name, standing in self.aside.items():
                self.runs.get(name, {}).update(standing)
        if step.action == "switch":
            for index, part in enumerate(step.parts):
                self.part(step, part, fails=breaks is not None and index == breaks % len(step.parts))
        if breaks is not None:
            raise Broken
        if step.action == "lock":
            self.lock = True
        elif step.action == "migrate":
            self.migrations += 1
        elif step.action == "shift":
            self.runs[step.host].update(aside)
            old = [
                key for key, release in self.runs[step.host].items() if key[0] == "shop-web" and key[1] < 3002 and release != step.release
            ]
            for key in old:
                self.runs[step.host].pop(key)
            self.look()
        elif step.action == "stop":
            self.runs[step.host] = {}
            self.look()
        elif step.action in ("restore", "halt"):
            wanted = {(service.unit, number) for service in module.services_of(applications()[0]) for number in service.instances}
            self.runs[step.host] = dict.fromkeys(wanted, step.release) if step.action == "restore" else {}
            self.aside[step.host] = {}
        elif step.action == "unlock":
            self.lock = False

    def part(self, step: module.Step, part: Any, fails: bool) -> None:
        running, key = self.runs[step.host], (part.service.unit, part.instance)
        if part.action in ("replace", "retire", "remove", "try"):
            self.aside.get(step.host, {}).pop(key, None)
        if part.action in ("replace", "retire", "remove"):
            running.pop(key, None)
            self.look()
        if fails:
            if part.action == "replace":  # as the module does on its host
                running[key] = part.previous
            raise Broken
        if part.action in ("try", "replace", "start"):
            running[key] = step.release


SHAPES = st.lists(
    st.builds(
        lambda web, workers, spare, first: (web, workers, spare, first),
        st.integers(0, 3),
        st.integers(0, 3),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


def world_of(shapes: list[tuple[int, int, bool, bool]]) -> dict[str, module.Host]:
    found = {}
    for number, (web, workers, spare, first) in enumerate(shapes, 1):
        if first:  # a host that just joined
            found[f"app{number}"] = module.Host(f"app{number}")
            continue
        seen = instances("1", web, workers)
        if spare:  # left over by a run that was killed
            seen["shop-web"][3002] = Seen(True, False, "2")
        found[f"app{number}"] = host(f"app{number}", seen=seen)
    return found


@given(SHAPES, st.sampled_from(sorted(module.STRATEGIES)))
def test_a_release_serves_with_what_it_promises_and_ends_everywhere(shapes: list[tuple[int, int, bool, bool]], strategy: str) -> None:
    hosts = world_of(shapes)
    world = World(hosts)
    wanted = {service.unit: set(service.instances) for service in module.services_of(applications()[0])}
    before = {
        unit: sum(1 for running in world.runs.values() for (name, number) in running if name == unit and number in wanted[unit])
        for unit in wanted
    }
    assert world.carry_out(ask(hosts, strategy=strategy)) is None
    assert {tuple(sorted(running.items())) for running in world.runs.values()} == {
        tuple(sorted({(unit, number): "2" for unit, numbers in wanted.items() for number in numbers}.items()))
    }
    assert world.migrations == 1
    assert not world.lock
    assert not any(world.aside.values())
    if module.STRATEGIES[strategy].keeps_serving:
        extra = 1 if any(len(one.seen.get("shop-worker", {})) > 2 for one in hosts.values()) else 0
        assert world.least["shop-web"] >= before["shop-web"]
        # A worker has no spare instance: one of a host is restarted at a time.
        assert world.least["shop-worker"] >= before["shop-worker"] - 1 - extra


@given(SHAPES, st.sampled_from(sorted(module.STRATEGIES)), st.data())
def test_a_failure_at_any_step_ends_with_what_there_was(
    shapes: list[tuple[int, int, bool, bool]], strategy: str, data: st.DataObject
) -> None:
    hosts = world_of(shapes)
    proposed = ask(hosts, strategy=strategy)
    at = data.draw(st.integers(0, len(proposed.steps) - 3))  # what is left is to record it and to give the lock back
    world = World(hosts, (at, data.draw(st.integers(0, 20))))
    untouched = {name: dict(running) for name, running in world.runs.items()}
    assert world.carry_out(proposed) == at
    touched = {step.host for step in proposed.steps[: at + 1] if step.action in module.TOUCHES}
    for name, running in world.runs.items():
        if name not in touched:
            assert running == untouched[name]
        else:
            assert set(running.values()) <= {hosts[name].base}
            assert bool(running) == bool(hosts[name].base)
    assert world.migrations <= 1
    assert not world.lock
    assert not any(world.aside.values())


@given(SHAPES, st.integers(0, 30))
def test_after_a_run_that_was_killed_the_way_back_leads_to_what_it_began_with(shapes: list[tuple[int, int, bool, bool]], at: int) -> None:
    """Hosts that the run had brought to the new release remember the old one until the release has ended."""
    hosts = world_of(shapes)
    proposed = ask(hosts)
    done = [step.host for step in proposed.steps[: at % len(proposed.steps)] if step.action == "switch"]
    killed = {
        name: replace(
            one,
            current="2",
            origin=one.base,
            versions={**one.versions, "2": "2"},
            checksums={**one.checksums, "2": SUM},
            migrated=frozenset("2"),
        )
        if name in done
        else one
        for name, one in hosts.items()
    }
    again = ask(killed)
    assert dict(again.bases) == dict(proposed.bases)
    assert sum(step.action == "migrate" for step in again.steps) == (0 if done else 1)


def test_a_migration_that_another_host_has_made_is_not_made_again() -> None:
    """The first host of the run may be another one than last time."""
    hosts = fleet(host("app1"), host("app2", migrated=frozenset({"2"})))
    assert [step.action for step in ask(hosts).steps if step.action == "migrate"] == []


def test_the_lock_lasts_longer_than_the_longest_step() -> None:
    proposed = module.propose(
        module.Request("shop", "2", hosts=("app1",), checksum=SUM), applications(), fleet(host("app1")), module.Times(migrate=3000)
    )
    assert proposed.seconds >= 3000
    switch = next(step for step in proposed.steps if step.action == "switch")
    assert switch.seconds >= len(switch.parts) * (60 + 60 + 15 + 30)


# -- refusals --------------------------------------------------------------------------------------------------------


def refusals(**given: Any) -> list[str]:
    hosts = given.pop("seen", TWO)
    request = module.Request(**{"application": "shop", "version": "2", "hosts": ("app1", "app2"), "checksum": SUM, **given})
    return list(module.propose(request, applications(), hosts).refusals)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"application": "shpo"}, "application shpo is in no entry of platform_applications. Did you mean shop? Applications with a release: shop."),
        ({"application": ""}, "No application is named. Applications with a release: shop."),
        ({"application": "db"}, "application db has no `release` in platform_applications: nothing of it runs on hosts."),
        ({"strategy": "roling"}, "strategy roling is none. Did you mean rolling? Use one of rolling, blue_green, canary, recreate."),
        ({"version": ""}, "No version of shop is named. Kept on app1: 1."),
        (
            {"checksum": "", "archive": "build/shop-2.tar.gz"},
            "shop 2 is not kept on app1, app2. There is no archive build/shop-2.tar.gz. Kept on every host: 1.",
        ),
        (
            {"checksum": "", "archive": ""},
            "shop 2 is not kept on app1, app2. There is no archive (its path does not follow from `release`; name it with -e release=). "
            "Kept on every host: 1.",
        ),
        ({"back": True, "version": ""}, "shop has nothing to roll back to: no release came before 1."),
        ({"back": True, "version": "0"}, "shop 0 is not kept on app1, app2. Kept on every host: 1."),
        ({"back": True, "version": "1"}, "shop 1 is what every host has already."),
        (
            {"hosts": ("app1", "app2", "app3")},
            "app3 did not take part. A release is for every application host: remove --limit, or the host from the inventory.",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_reason(given: dict[str, Any], said: str) -> None:
    assert refusals(**given) == [said]


@pytest.mark.parametrize(
    ("given", "services", "said"),
    [
        (
            {"strategy": "blue_green"},
            [WEB, WORKER],
            "strategy blue_green starts as many instances of shop as serve, and has room for fewer (web 1 of 2): set `spare_instances` to "
            "`instances`, and run the application layer once.",
        ),
        ({"strategy": "canary"}, [WORKER], "strategy canary is for requests, and shop has no web service: use rolling."),
        (
            {"strategy": "canary", "shares": (25, 60)},
            [WEB],
            "The shares of a canary are 25, 60: use whole percentages from 1 to 50, each above the one before.",
        ),
        (
            {"strategy": "canary", "shares": ()},
            [WEB],
            "The shares of a canary are none: use whole percentages from 1 to 50, each above the one before.",
        ),
    ],
)
def test_a_strategy_that_does_not_fit_an_application_is_refused(given: dict[str, Any], services: list[Any], said: str) -> None:
    request = module.Request("shop", "2", hosts=("app1", "app2"), checksum=SUM, **given)
    assert list(module.propose(request, applications(services=services), TWO).refusals) == [said]


def test_blue_green_and_canary_in_words() -> None:
    steps = [str(step) for step in ask(fleet(host("app1", seen={"shop-web": instances("1")["shop-web"]})), strategy="blue_green").steps]
    assert steps[3:6] == [
        "app1: start shop-web@3002 beside the others, without a request, and wait until it is healthy, "
        "start shop-web@3003 beside the others, without a request, and wait until it is healthy",
        "app1: give all requests to the instances that stand by, and drain the others",
        "ask every routed service through each router and gateway while the instances of before still run",
    ]
    assert "app1: drain shop-web@3000, restart it, wait until it is healthy and put it back" in steps[6]
    shares = [str(step) for step in ask(TWO, strategy="canary").steps if step.action == "share"]
    assert shares == [f"give {share} % of the requests to 2 on every host, and compare" for share in (5, 25, 50)]
    assert ask(TWO, strategy="canary").sharers == 2
    assert ask(fleet(host("app1"), module.Host("app2")), strategy="canary").sharers == 1


def test_what_has_nothing_beside_it_gets_no_part_of_the_requests_and_is_not_asked_before_it_serves() -> None:
    """A first release, and one that every host has already."""
    first = fleet(module.Host("app1"))
    for strategy in ("canary", "blue_green"):
        assert not {"share", "shift", "check"} & {step.action for step in ask(first, strategy=strategy).steps}
    joined = fleet(host("app1"), module.Host("app2"))
    assert [step.action for step in ask(joined, strategy="blue_green").steps if step.action in ("shift", "check")] == ["shift"]


def test_the_sum_over_all_hosts_decides_whether_a_canary_goes_on() -> None:
    def one(requests: int, errors: int) -> dict[str, Any]:
        return {
            "compared": {
                "old": {"requests": 500, "errors": 1, "ms": 10, "blur": 1},
                "new": {"requests": requests, "errors": errors, "ms": 12, "blur": 1},
            }
        }

    limits = module.Limits(requests=200)
    text, why = module.compared({"app1": one(120, 0), "app2": one(90, 0)}, 5, limits)
    assert (text, why) == ("5 % for the new release: 210 requests, 0 errors, 12 ms; the old release: 1000 requests, 2 errors, 10 ms", "")
    assert module.compared({"app1": one(120, 3), "app2": one(90, 4)}, 5, limits)[1] == (
        "With 5 % of the requests, 7 of 210 requests failed, with the old release 2 of 1000."
    )
    assert "at least 200 are needed" in module.compared({"app1": one(120, 0), "app2": {}}, 5, limits)[1]


def test_all_reasons_are_said_at_once() -> None:
    assert len(refusals(application="shpo", strategy="x", hosts=("app1", "app9"))) == 3


def test_hosts_that_had_different_releases_before_are_asked_for_a_version() -> None:
    kept = {"versions": {"0": "0.9", "1": "1", "b": "0.8"}, "checksums": {}}
    hosts = fleet(host("app1", previous="0", **kept), host("app2", previous="b", **kept))
    assert refusals(seen=hosts, back=True, version="") == [
        "The release of shop before this one is not the same everywhere (app1 0.9, app2 0.8). Name one with -e version=."
    ]


def test_a_roll_back_goes_to_the_release_before_and_migrates_nothing() -> None:
    kept = {"versions": {"0": "0.9", "1": "1"}, "checksums": {"0": "", "1": ""}, "previous": "0"}
    proposed = ask(fleet(host("app1", **kept), host("app2", **kept)), version="", checksum="", back=True)
    assert proposed.version == "0.9"
    assert dict(proposed.targets) == {"app1": "0", "app2": "0"}
    assert {step.action for step in proposed.steps} == {"lock", "switch", "verify", "record", "unlock"}


def test_a_version_that_comes_again_with_other_contents_gets_the_directory_that_the_host_will_give_it() -> None:
    hosts = fleet(host("app1"))
    assert dict(ask(hosts, version="1").targets) == {"app1": "1+aaaaaaaa"}
    assert dict(ask(hosts, version="1", checksum="").targets) == {"app1": "1"}


@pytest.mark.parametrize(
    ("release", "version", "expected"),
    [
        ("build/shop-1.4.0.tar.gz", "1.5.0", "build/shop-1.5.0.tar.gz"),
        ("build/1.4.0/shop.tar.gz", "1.5.0", ""),
        ("shop-1.4.0.tar.gz", "1.4.0", "shop-1.4.0.tar.gz"),
        ("shop.tar.gz", "", "shop.tar.gz"),
    ],
)
def test_the_archive_of_another_version_is_beside_the_one_that_is_known(release: str, version: str, expected: str) -> None:
    assert module.archive_of(applications(release=release, version="1.4.0")[0], version) == expected


# -- what is said at the end -----------------------------------------------------------------------------------------


def fail(said: str, reason: str = "unhealthy") -> dict[str, Any]:
    return {"failure": {"reason": reason, "said": said}}


def test_the_first_failure_is_the_one_that_is_told() -> None:
    proposed = ask(TWO)
    reports = [
        ("verify", "gw1", fail("late")),
        ("switch", "app2", fail("second")),
        ("switch", "app1", fail("first")),
        ("fetch", "app1", {"changed": True}),
    ]
    failure = module.first_failure(proposed, reports)
    assert failure == module.Failure("switch", "app1", "unhealthy", "first")
    assert module.verdict(proposed, failure, {"app1": {}, "app2": {}}) == "shop 2 failed on app1. Every host is back on 1.\nfirst"
    assert module.first_failure(proposed, reports[3:]) is None
    assert module.verdict(proposed, None, {}) == ""


def test_a_host_that_is_not_back_is_named() -> None:
    proposed = ask(TWO)
    failure = module.first_failure(proposed, [("switch", "app2", fail("gone", "unreachable"))])
    said = module.verdict(proposed, failure, {"app1": {}, "app2": fail("no route")})
    assert said.startswith("shop 2 failed on app2. NOT every host is back: app2 is not back on 1: no route Mend that")


def test_a_release_whose_end_could_not_be_written_down_runs_and_failed() -> None:
    proposed = ask(TWO)
    failure = module.first_failure(proposed, [("record", "app2", fail("No space left on device.", "host_error"))])
    said = module.verdict(proposed, failure, {})
    assert said.startswith("shop 2 runs on every host, but its end could not be written down on app2: No space left on device. Mend that")
    earlier = [("record", "app2", fail("full")), ("switch", "app2", fail("bad"))]
    assert module.first_failure(proposed, earlier) == module.Failure("switch", "app2", "unhealthy", "bad")


def test_a_first_release_has_nothing_to_go_back_to() -> None:
    hosts = fleet(module.Host("app1"))
    proposed = ask(hosts)
    failure = module.first_failure(proposed, [("switch", "app1", fail("bad"))])
    assert "There was no release before; what was started is stopped." in module.verdict(proposed, failure, {"app1": {}})
    assert [step.action for step in module.undo(proposed, 3)] == ["halt", "verify", "record", "unlock"]


def test_what_a_host_tells_is_read() -> None:
    told = {
        "current": "1", "previous": "", "origin": None, "releases": [{"name": "1", "version": "1", "checksum": "c"}], "migrated": ["1"],
        "instances": {"shop-web": {"3000": {"active": True, "enabled": True, "release": "1"}}},
    }  # fmt: skip
    found = module.host_of("app1", told)
    assert found.seen == {"shop-web": {3000: Seen(True, True, "1")}}
    assert (found.base, found.release_of("1"), found.checksums) == ("1", "1", {"1": "c"})
    assert module.services_of(applications()[0])[0] == Service("shop-web", (3000, 3001), "web", 3002, 3000, "/up", "shop-web")


def test_a_run_whose_lock_was_taken_over_leaves_the_hosts_to_the_other_one() -> None:
    proposed = ask(TWO)
    failure = module.first_failure(proposed, [("renew", "app2", fail("The lock was taken over by ben.", "lost"))])
    assert module.verdict(proposed, failure, {}) == "shop 2 was stopped before app2. The lock was taken over by ben."


# -- what runs where -------------------------------------------------------------------------------------------------


def told(current: str, **more: Any) -> dict[str, Any]:
    releases = [{"name": name, "version": name, "checksum": ""} for name in ("1", "2")]
    running = {"shop-web": {"3000": {"active": True, "enabled": True, "release": current}}}
    nothing = {"origin": None, "deployed": {}, "lock": None, "history": [], "migrated": [], "instances": running, "releases": releases}
    return {"current": current, "previous": "1", **nothing, **more}


def test_what_runs_where_is_told_host_by_host() -> None:
    entry = {
        "id": "a",
        "ended": 1_000_000_000,
        "who": "anna",
        "controller": "ci",
        "result": "failed",
        "said": "shop 2 failed on app2.\nlog",
        "what": "",
    }
    history = [
        {**entry, "before": "1", "version": "2", "strategy": "rolling"},
        {**entry, "id": "b", "ended": 1, "result": "interrupted", "what": "shop 3"},
    ]
    lock = {"holder": {"id": "c", "who": "ben", "controller": "ci", "process": 7}, "since": 0, "until": 60, "what": "shop 3, rolling"}
    down = {"shop-web": {"3000": {"active": False, "enabled": True, "release": "1"}}}
    lines = module.report(
        "shop",
        {
            "app1": told("2", history=history, lock=lock, deployed={"declared": "1", "release": "2"}),
            "app2": told("1", previous="", origin="1", instances=down, history=history),
        },
        "1",
    )
    assert lines == [
        "shop: 2, 1",
        "app1: 2, before 1, kept 1",
        "app2: 1, before none, kept 2; shop-web@3000 is stopped with 1; a release has not ended here, which began with 1: run it again",
        "NOT the same everywhere: 2 on app1; 1 on app2.",
        "The inventory says 1; 2 was released by name since and stays until the inventory changes.",
        "Locked: shop is being released by ben on ci (process 7) since 1970-01-01 00:00:00 UTC: shop 3, rolling. Wait until that has ended. "
        "Should that run be dead, the lock ends at 1970-01-01 00:01:00 UTC, and at once for a run on ci.",
        "2001-09-09 01:46:40 UTC, anna on ci: 1 to 2 (rolling) failed: shop 2 failed on app2.",
        "1970-01-01 00:00:01 UTC, anna on ci: interrupted: shop 3",
    ]
    assert module.report("shop", {"app1": told("2")}, "2") == ["shop: 2", "app1: 2, before 1, kept 1"]


# -- as the role asks ------------------------------------------------------------------------------------------------

TIMES = {"healthy": "60", "drain": "15", "stop": "30", "migrate": "600", "verify": "60"}


def test_the_role_is_told_all_that_its_tasks_need(tmp_path: Path) -> None:
    (tmp_path / "shop-2.tar.gz").write_text("archive", encoding="utf-8")
    given = applications(release=f"{tmp_path}/shop-1.tar.gz")
    hostvars = {
        name: {"__app_seen": {"applications": {"shop": told("1", releases=[{"name": "1", "version": "1", "checksum": "1"}])}}}
        for name in ("app1", "app2")
    }
    request = {"application": "shop", "version": "2", "release": "", "strategy": "rolling", "back": False}
    plan = filters.deploy_plan(given, request, hostvars, ["app1", "app2"], TIMES)
    assert plan["refusals"] == []
    assert plan["archive"] == f"{tmp_path}/shop-2.tar.gz"
    assert (plan["targets"], plan["bases"], plan["declared"]) == ({"app1": "2", "app2": "2"}, {"app1": "1", "app2": "1"}, "1")
    assert (plan["migrates"], plan["stops_first"]) == (True, False)
    assert filters.deploy_failure(plan, hostvars, []) == {}
    hostvars["app2"]["__app_switched"] = {"failure": {"reason": "unhealthy", "said": "log"}}
    assert filters.deploy_failure(plan, hostvars, []) == {
        "action": "switch",
        "host": "app2",
        "reason": "unhealthy",
        "said": "shop 2 failed on app2. Every host is back on 1.\nlog",
    }


def test_what_the_role_may_not_do_has_no_steps_and_a_host_that_was_not_asked_is_named() -> None:
    hostvars: dict[str, dict[str, Any]] = {"app1": {"__app_seen": {"applications": {"shop": told("1")}}}, "app2": {}}
    request = {"application": "shop", "version": "", "release": "", "strategy": "rolling", "back": True}
    plan = filters.deploy_plan(applications(), request, hostvars, ["app1", "app2"], TIMES)
    assert (plan["steps"], plan["targets"]) == ([], {})
    assert plan["refusals"] == [
        "app2 did not take part. A release is for every application host: remove --limit, or the host from the inventory."
    ]
    assert filters.release_report(applications()[:1], hostvars, ["app1", "app2"])[0] == "shop: 1"
