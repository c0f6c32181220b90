# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.application import release as module
from ansible_collections.uptier.platform.plugins.module_utils.application.release import Seen, Service

WEB = Service("sample-web", (3000, 3001), "web", 3002, 3000, "/up", "sample-web")
WORKER = Service("sample-worker", (1,), "worker")
WANTED = {"sample-web": "new", "sample-worker": "new"}


def steps(seen: dict[str, dict[int, Seen]], services: tuple[Service, ...] = (WEB, WORKER)) -> list[str]:
    return [str(step).removesuffix(".service") for step in module.plan(services, "2", WANTED, seen).steps]


def running(release: str = "2", mark: str = "new") -> Seen:
    return Seen(active=True, enabled=True, release=release, fingerprint=mark)


def test_a_first_release_starts_everything_and_tries_nothing() -> None:
    assert steps({}) == ["start sample-web@3000", "start sample-web@3001", "start sample-worker@1"]


def test_nothing_to_do_is_nothing() -> None:
    assert steps({"sample-web": {3000: running(), 3001: running()}, "sample-worker": {1: running()}}) == []


def test_a_new_release_proves_itself_before_an_old_instance_is_touched() -> None:
    old = {"sample-web": {3000: running("1"), 3001: running("1")}, "sample-worker": {1: running("1")}}
    assert steps(old) == [
        "try sample-web@3002",
        "replace sample-web@3000",
        "replace sample-web@3001",
        "retire sample-web@3002",
        "replace sample-worker@1",
    ]


def test_a_changed_environment_replaces_too() -> None:
    assert "replace sample-web@3000" in steps({"sample-web": {3000: running("2", "old")}})


def test_a_run_that_was_cut_short_is_finished() -> None:
    half = {"sample-web": {3000: running(), 3001: running("1"), 3002: running()}, "sample-worker": {1: running("1")}}
    assert steps(half) == ["try sample-web@3002", "replace sample-web@3001", "retire sample-web@3002", "replace sample-worker@1"]


def test_a_spare_instance_that_was_left_over_is_retired() -> None:
    left = {"sample-web": {3000: running(), 3001: running(), 3002: running()}, "sample-worker": {1: running()}}
    assert steps(left) == ["retire sample-web@3002"]


def test_an_instance_that_is_down_is_started() -> None:
    assert steps(
        {"sample-web": {3000: running(), 3001: Seen(enabled=True, release="2", fingerprint="new")}, "sample-worker": {1: running()}}
    ) == ["start sample-web@3001"]


def test_fewer_instances_and_dropped_services_are_removed() -> None:
    more = {
        "sample-web": {3000: running(), 3001: running(), 3005: running()},
        "sample-worker": {1: running(), 2: running()},
        "sample-old": {1: running()},
    }
    assert steps(more) == ["remove sample-web@3005", "remove sample-worker@2", "remove sample-old@1"]


def test_a_step_remembers_what_ran_before() -> None:
    plan = module.plan((WEB,), "2", WANTED, {"sample-web": {3000: running("1")}})
    assert [step.previous for step in plan.steps if step.action == "replace"] == ["1"]


def test_a_fingerprint_depends_on_every_part() -> None:
    base = module.fingerprint("1", ["a", "b"])
    assert base == module.fingerprint("1", ["a", "b"])
    assert len({base, module.fingerprint("2", ["a", "b"]), module.fingerprint("1", ["ab", ""]), module.fingerprint("1", ["a", "c"])}) == 4


@pytest.mark.parametrize(
    ("checksum", "present", "expected"),
    [
        ("aaaaaaaaaa", {}, ("1.0", False)),
        ("aaaaaaaaaa", {"1.0": "aaaaaaaaaa"}, ("1.0", True)),
        ("bbbbbbbbbb", {"1.0": "aaaaaaaaaa"}, ("1.0+bbbbbbbb", False)),
        ("bbbbbbbbbb", {"1.0": "aaaaaaaaaa", "1.0+bbbbbbbb": "bbbbbbbbbb"}, ("1.0+bbbbbbbb", True)),
        ("", {"1.0": "aaaaaaaaaa"}, ("1.0", True)),
        ("", {}, ("1.0", False)),
    ],
)
def test_a_version_with_other_contents_gets_its_own_directory(checksum: str, present: dict[str, str], expected: tuple[str, bool]) -> None:
    assert module.release_name("1.0", checksum, present) == expected


@pytest.mark.parametrize(
    ("version", "declared", "deployed", "expected"),
    [
        ("1.4", "", {}, ""),
        ("1.4", "", {"declared": "1.4", "release": "1.5"}, "1.5"),
        ("1.6", "", {"declared": "1.4", "release": "1.5"}, ""),  # the inventory was changed since: it said the last word
        ("1.4", "1.4", {"declared": "1.4", "release": "1.5"}, ""),  # named on purpose
    ],
)
def test_a_release_by_name_stays_until_the_inventory_changes(version: str, declared: str, deployed: dict[str, str], expected: str) -> None:
    assert module.standing(version, declared, deployed) == expected


def test_the_newest_and_those_in_use_stay() -> None:
    releases = [("1", 1.0), ("2", 2.0), ("3", 3.0), ("4", 4.0)]
    assert module.prunable(releases, 2, ["1"]) == ["2"]
    assert module.prunable(releases, 5, []) == []


def test_hints_name_the_usual_causes() -> None:
    assert "exempt the health path" in module.healthy_hint(301, "")
    assert module.healthy_hint(None, "refused") == "no answer (refused)"
    assert module.healthy_hint(503, '{"status":"starting"}\n').endswith('not ready (it answers: {"status":"starting"})')
    assert "an error of the application" in module.healthy_hint(500, "")
