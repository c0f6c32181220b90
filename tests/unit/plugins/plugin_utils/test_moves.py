# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a run would move, as it is printed before; and which moves are refused."""

from __future__ import annotations

import pytest
from ansible_collections.uptier.platform.plugins.plugin_utils import moves

EVERYTHING = ("etcd", "postgresql", "redis", "repository", "metrics")
GROUPS = ("postgresql", "etcd", "redis", "monitoring", "backup")
STARTUP = {group: ["one"] for group in GROUPS}
LARGER = {
    "postgresql": ["one", "two"],
    "etcd": ["one", "two", "three"],
    "redis": ["one", "two", "three"],
    "monitoring": ["three"],
    "backup": ["three"],
}
BEFORE = {"one": EVERYTHING, "two": (), "three": ()}


def test_a_bare_inventory_and_one_that_has_arrived_say_nothing() -> None:
    after = {"one": ("etcd", "postgresql", "redis", "metrics"), "two": ("etcd", "postgresql", "redis")}
    after["three"] = ("etcd", "redis", "repository", "metrics")
    for groups, keeps in ((LARGER, {}), (LARGER, dict.fromkeys(BEFORE, ())), (STARTUP, {"one": EVERYTHING}), (LARGER, after)):
        assert moves.problems(groups, keeps) == []
        assert moves.notices(groups, keeps) == []


def test_a_move_up_is_told_in_its_order() -> None:
    assert moves.problems(LARGER, BEFORE) == []
    told = moves.notices(LARGER, BEFORE)
    assert [line.partition(":")[0].partition(" and begins")[0].partition(",")[0] for line in told] == [
        "etcd of one gains two",
        "Backups move from one to three",
        "PostgreSQL of one gains two",
        "Redis of one gains two",
        "Monitoring moves from one to three",
    ]
    assert told[2] == "PostgreSQL of one gains two: it copies the data while clients write; the leader stays where it is."


@pytest.mark.parametrize(
    ("group", "words"),
    [
        (
            "etcd",
            "has no host on which etcd lives (two, three), and it lives on one: they would form a cluster that knows nothing of PostgreSQL",
        ),
        (
            "postgresql",
            "has no host on which PostgreSQL lives (two, three), and it lives on one: nobody in the group could lead, and the firewall would "
            "close the way to who does",
        ),
        ("redis", "has no host on which Redis lives (two, three), and it lives on one: they would form an empty cluster"),
    ],
)
def test_a_store_that_would_begin_anew_beside_its_data_is_refused(group: str, words: str) -> None:
    problem = moves.problems({**LARGER, group: ["two", "three"]}, BEFORE)[0]
    assert (problem.where, problem.seen) == (f"group {group}", words)
    assert problem.fix.startswith("Leave one in the group until the others have joined")


def test_backups_on_a_host_that_cannot_be_asked_are_refused() -> None:
    keeps = {**BEFORE, "one": ("postgresql",), "old": ("repository",)}
    (problem,) = moves.problems(LARGER, keeps)
    assert problem.where == "group backup"
    assert (
        problem.seen == "begins with three, which has no backups, and they are on old, which is no database host, so they cannot be fetched"
    )


def test_a_group_without_hosts_moves_nothing() -> None:
    assert moves.problems({group: [] for group in GROUPS}, BEFORE) == []
    assert moves.notices({group: [] for group in GROUPS}, BEFORE) == []


def test_nothing_is_said_of_hosts_that_were_not_asked() -> None:
    """As in a run with --limit on a host where something was left."""
    elsewhere = {group: ["two", "three"] for group in GROUPS}
    for keeps in ({"one": EVERYTHING}, {"one": EVERYTHING, "three": ()}):
        assert moves.problems(elsewhere, keeps) == []
        assert moves.notices(elsewhere, keeps) == []
