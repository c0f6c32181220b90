# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From which backup along which history a cluster is restored, when it is refused, and what each member does next, killed or not."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_info import TargetError, read
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import Refusal
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_plan import (
    ASIDE,
    GOALS,
    READY,
    SERVING,
    STOPPED,
    Choice,
    Record,
    Request,
    Seen,
    after,
    agree,
    archive_of,
    choose,
    digest,
    leader_of,
    needed_bytes,
    next_step,
    path_to,
    refuse_other_members,
    refuse_unconfirmed,
    refuse_unfit,
    segment_end,
    steps_to,
)
from hypothesis import given
from hypothesis import strategies as st

NOON = 1_795_694_400  # 2026-11-26 12:00:00 UTC
HOUR = 3600
MIB = 2**20


def entry(label: str, timeline: int, stopped: int, stop: str, damaged: bool = False, archive: int = 1) -> dict[str, Any]:
    segment = f"{timeline:08X}00000000{int(stop.split('/')[1], 16) >> 24:08X}"
    return {
        "label": label,
        "type": "full",
        "error": damaged,
        "archive": {"start": segment, "stop": segment},
        "lsn": {"start": stop, "stop": stop},
        "timestamp": {"start": stopped - 60, "stop": stopped},
        "database": {"id": archive, "repo-key": 1},
        "info": {"size": 1000 * MIB, "repository": {"delta": 1}},
        "prior": None,
        "reference": None,
    }


# Timeline 2 was left at 0/5000000 by a failover, 3 at 0/9000000 by a restore to an earlier time; F4 is of the history that it left.
BACKUPS = [
    entry("F1", 2, NOON - 30 * HOUR, "0/3000100"),
    entry("F2", 3, NOON - 20 * HOUR, "0/6000100"),
    entry("F3", 3, NOON - 10 * HOUR, "0/8000100"),
    entry("F4", 3, NOON - 5 * HOUR, "0/9500100"),
    entry("F5", 4, NOON - HOUR, "0/A000100"),
]
HISTORIES = {
    2: "1\t0/2000000\tno recovery target specified\n",
    3: "1\t0/2000000\tno recovery target specified\n\n2\t0/5000000\tno recovery target specified\n",
    4: "1\t0/2000000\tx\n2\t0/5000000\tx\n3\t0/9000000\tbefore 2026-11-26 03:00:00+00\n",
}


def repository(backups: list[dict[str, Any]] | None = None, newest: str = "00000004000000000000000B", code: int = 0) -> Any:
    archive = [{"id": "15-1", "database": {"id": 1, "repo-key": 1}, "min": "000000010000000000000001", "max": newest}]
    status = {"code": code, "message": "ok" if code == 0 else "no valid backups"}
    said = {"name": "main", "status": status, "repo": [{"key": 1, "cipher": "none", "status": status}], "archive": archive}
    return read([{**said, "backup": BACKUPS if backups is None else backups}], "main")


def at(hours: float) -> str:
    return str(NOON + hours * HOUR)


def pick(request: Request, **changed: Any) -> Choice:
    return choose(changed.pop("found", repository()), request, changed.pop("histories", HISTORIES), NOON)


# From where ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "label", "timeline"),
    [
        (Request(), "F5", 4),
        (Request("time", at(-0.5)), "F5", 4),
        # Not F4, which is newer but of the history that was left.
        (Request("time", at(-2)), "F3", 4),
        (Request("time", at(-15)), "F2", 4),
        (Request("time", at(-29)), "F1", 4),
        (Request("time", at(-2), timeline=3), "F4", 3),
        (Request(timeline=3), "F4", 3),
        (Request(timeline=2), "F1", 2),
        (Request("lsn", "0/A000100"), "F5", 4),
        (Request("lsn", "0/9800000"), "F3", 4),
        (Request("lsn", "0/9800000", timeline=3), "F4", 3),
        (Request("lsn", "0/6000100"), "F2", 4),
        (Request("label", "F4"), "F4", 3),
    ],
)
def test_the_newest_backup_on_the_way(request_: Request, label: str, timeline: int) -> None:
    found = pick(request_)
    assert (found.label, found.timeline) == (label, timeline)
    assert f"--set={label}" in found.arguments


@pytest.mark.parametrize(
    ("request_", "arguments"),
    [
        (Request(), ["--set=F5", "--target-timeline=4", "--type=default"]),
        (
            Request("time", "2026-11-26 11:30:00.25+01:00"),
            ["--set=F3", "--target-timeline=4", "--type=time", "--target=2026-11-26 10:30:00.250000+00", "--target-action=promote"],
        ),
        (Request("lsn", "0/B000000"), ["--set=F5", "--target-timeline=4", "--type=lsn", "--target=0/B000000", "--target-action=promote"]),
        (Request("label", "F4"), ["--set=F4", "--type=immediate", "--target-action=promote", "--target-timeline=current"]),
    ],
)
def test_what_pgbackrest_is_told(request_: Request, arguments: list[str]) -> None:
    assert list(pick(request_).arguments) == arguments


def test_it_is_said_in_a_sentence() -> None:
    assert pick(Request("time", at(-2))).message == (
        "2026-11-26 10:00:00 UTC, from the backup F3 of 2026-11-26 02:00:00 UTC, along timeline 4"
    )
    assert pick(Request(timeline=3)).message.startswith("the end of the archive on timeline 3, from the backup F4")
    assert pick(Request("label", "F4")).message == "the end of the backup F4, 2026-11-26 07:00:00 UTC"
    assert pick(Request("label", "F1"), found=repository([{**BACKUPS[0], "error": True}])).message.endswith("WHICH HOLDS DAMAGED PAGES")


OLDEST = (
    "The oldest point is 2026-11-25 06:00:00 UTC (0/3000100), the end of the backup F1; the newest is the end of the archive, segment "
    "00000004000000000000000B (up to 0/C000000)."
)


@pytest.mark.parametrize(
    ("request_", "reason", "message"),
    [
        (Request("time", at(-31)), "no_such_point", f"2026-11-25 05:00:00 UTC cannot be restored. {OLDEST}"),
        (Request("lsn", "0/3000000"), "no_such_point", f"the position 0/3000000 cannot be restored. {OLDEST}"),
        (Request("lsn", "0/C000001"), "not_archived", f"0/C000001 is not in the repository yet. {OLDEST}"),
        (
            Request("time", at(1)),
            "in_the_future",
            "2026-11-26 13:00:00 UTC has not been yet: it is 2026-11-26 12:00:00 UTC. For the newest state give no time at all.",
        ),
        (
            Request("time", "2026-11-26 11:00:00"),
            "bad_target",
            "2026-11-26 11:00:00 is no moment. Give seconds since the epoch, or a time with its zone, such as 2026-11-20 23:00:00+00:00.",
        ),
        (Request("lsn", "5"), "bad_target", "5 is no position of PostgreSQL, such as 0/3000028."),
        (Request("label", "F9"), "no_such_point", "There is no backup F9. There are: F1, F2, F3, F4, F5."),
        (
            Request(timeline=7),
            "no_history",
            "The repository has no history of timeline 7 (00000007.history), so nothing says which backup leads to it. Timelines with a "
            "history: 2, 3, 4. Restore a backup by its label instead.",
        ),
    ],
)
def test_refused_with_what_can_be_restored(request_: Request, reason: str, message: str) -> None:
    with pytest.raises(Refusal) as caught:
        pick(request_)
    assert (caught.value.reason, str(caught.value)) == (reason, message)


def test_backups_of_another_cluster_or_with_damage_do_not_count() -> None:
    old = entry("F0", 4, NOON - 40 * HOUR, "0/1000000", archive=9)
    damaged = entry("F6", 4, NOON - HOUR // 2, "0/A800000", damaged=True)
    assert pick(Request(), found=repository([*BACKUPS, damaged])).label == "F5"
    with pytest.raises(Refusal, match="The oldest point is 2026-11-25 06:00:00 UTC"):
        pick(Request("time", at(-35)), found=repository([old, *BACKUPS]))
    with pytest.raises(Refusal, match="No backup leads to timeline 4. No backup without damaged pages lies on this history."):
        pick(Request(), found=repository([entry("F4", 3, NOON, "0/9500100")]))


def test_a_repository_that_cannot_be_used() -> None:
    with pytest.raises(TargetError, match="has no backup"):
        archive_of(repository([], code=2))
    with pytest.raises(Refusal, match="The stanza main has no backup"):
        archive_of(repository([]))
    assert archive_of(repository()) == ("15-1", 4)


def test_a_history_without_segments_yet_is_the_newest_too() -> None:
    assert pick(Request(), histories={**HISTORIES, 5: HISTORIES[4] + "4\t0/B000000\tx\n"}).timeline == 5


def test_a_damaged_history_is_named() -> None:
    with pytest.raises(Refusal) as caught:
        pick(Request(), histories={**HISTORIES, 4: "\0\0\0 nothing"})
    assert caught.value.reason == "history_damaged"
    assert str(caught.value).startswith("The history of timeline 4 in the repository (00000004.history) cannot be read: ")


def test_one_of_two_repositories() -> None:
    both = repository()
    second = replace(both.backups[-1], repository=2, label="F9")
    both = replace(both, backups=(*both.backups, second), status={1: (99, "[HostConnectError] no"), 2: (0, "ok")})
    with pytest.raises(TargetError, match="does not answer"):
        archive_of(both.only(1))
    assert [backup.label for backup in both.only(2).backups] == ["F9"]
    with pytest.raises(TargetError, match="There is no repository 3 of main. This host knows 1 and 2"):
        both.only(3)


def test_the_first_timeline_has_no_history() -> None:
    assert path_to(1, {}) == [(1, None)]
    assert segment_end("0000000100000002000000FF") == 3 << 32


# Before anything is touched -----------------------------------------------------------------------------------------------

CHOICE = Choice("F5", 1, 4, 1000 * MIB, ("--set=F5",), "the end")
WANTED = digest(CHOICE)


def member(name: str = "db1", free: int = 2000 * MIB, **more: Any) -> dict[str, Any]:
    seen = asdict(more.pop("seen", Seen(patroni=True, server=True)))
    return {"name": name, "free_bytes": free, "problems": [], "waiting": 0, "seen": seen, "timeline": 3, "led": False, **more}


@pytest.mark.parametrize(
    ("members", "request_", "reason", "message"),
    [
        (
            [member("db1", free=needed_bytes(CHOICE) - 1), member("db2", problems=["/data is a mount point of its own."])],
            Request(),
            "no_space",
            "db1 has 1561 MiB free where its data is, and 1562 MiB are needed, since the old data is kept. Make room or a larger file system. "
            "db2: /data is a mount point of its own.",
        ),
        (
            [member(waiting=4)],
            Request(),
            "not_archived",
            "db1 has 4 segments that are not in the repository, so its newest state could not be restored. Repair the archive first (see "
            "PostgreSQL's log there), or accept that loss with -e pg_restore_unarchived=true.",
        ),
        (
            [member(seen=Seen(aside=True, patroni=True, copied="F4 --set=F4"))],
            Request(),
            "other_target",
            "db1 serves what an earlier run has restored (F4 --set=F4). Finish that run first, with the same target; then restore anew.",
        ),
    ],
)
def test_what_would_end_badly(members: list[dict[str, Any]], request_: Request, reason: str, message: str) -> None:
    with pytest.raises(Refusal) as caught:
        refuse_unfit(CHOICE, request_, members, "db1")
    assert (caught.value.reason, str(caught.value)) == (reason, message)


@pytest.mark.parametrize(
    ("members", "request_", "force"),
    [
        ([member(free=needed_bytes(CHOICE))], Request(), False),
        # What was copied already needs no room again.
        ([member(free=0, seen=Seen(blocked=True, aside=True, copied=WANTED))], Request(), False),
        ([member(free=0, seen=Seen(aside=True, patroni=True, copied=WANTED))], Request(), False),
        ([member(waiting=3)], Request(), False),
        ([member(waiting=9)], Request(), True),
        ([member(waiting=9)], Request("time", at(-1)), False),
    ],
)
def test_what_is_fit(members: list[dict[str, Any]], request_: Request, force: bool) -> None:
    refuse_unfit(CHOICE, request_, members, "db1", force)


def test_who_is_restored() -> None:
    pair = [member("db1", timeline=4), member("db2", timeline=4, led=True), member("db3", timeline=3, led=True)]
    assert leader_of(pair, None, None) == "db2"
    assert leader_of(pair, "db3", None) == "db3"
    assert leader_of([member("db1", timeline=0), member("db2", timeline=0)], None, None) == "db1"
    assert leader_of(pair, "db3", Record("x", "db1", Request(), CHOICE, "")) == "db1"
    with pytest.raises(Refusal, match="db9 is none of the database hosts, which are db1, db2, db3."):
        leader_of(pair, "db9", None)


def test_a_member_that_nobody_reaches() -> None:
    refuse_other_members(["db1"], ["db1", "db2"])
    with pytest.raises(Refusal, match="etcd knows db3 as a member that runs, and the inventory does not."):
        refuse_other_members(["db1", "db3"], ["db1", "db2"])


def test_it_asks_for_the_name() -> None:
    refuse_unconfirmed("main", "main", CHOICE, "db1")
    for given_ in ("", "yes", "MAIN"):
        with pytest.raises(Refusal, match="replaces all data of the cluster main by the end. .* To go on: -e pg_confirm=main."):
            refuse_unconfirmed(given_, "main", CHOICE, "db1")


# Records ------------------------------------------------------------------------------------------------------------------


def test_a_run_that_was_begun_goes_on() -> None:
    first = agree(None, Request("label", "F5"), CHOICE, "db1", NOON)
    assert (first.name, first.since) == ("20261126T120000Z", "2026-11-26 12:00:00 UTC")
    assert Record.read(first.as_text()) == first
    later = replace(CHOICE, label="F6")
    # The same target keeps its way, whatever was backed up since; another one takes what was kept aside along.
    assert agree(first, Request("label", "F5"), later, "db2", NOON + 9) == first
    other = agree(first, Request("time", at(-1)), later, "db2", NOON + 9)
    assert (other.name, other.leader, other.choice) == (first.name, "db1", later)


# Steps --------------------------------------------------------------------------------------------------------------------

BEFORE = Seen(patroni=True, server=True)


def test_all_steps_of_a_leader_and_of_the_others() -> None:
    assert steps_to(BEFORE, SERVING, True, WANTED) == ["block", "stop_patroni", "set_aside", "copy", "recover", "hand_over"]
    assert steps_to(BEFORE, SERVING, False, WANTED) == ["block", "stop_patroni", "set_aside", "hand_over"]
    assert steps_to(BEFORE, STOPPED, True, WANTED) == ["block", "stop_patroni"]
    assert steps_to(BEFORE, ASIDE, True, WANTED) == ["block", "stop_patroni", "set_aside"]
    assert steps_to(Seen(), READY, False, WANTED) == ["block", "set_aside"]


@pytest.mark.parametrize(
    ("seen", "steps"),
    [
        (Seen(blocked=True, aside=True, copying=WANTED), ["await_copy", "recover"]),
        (Seen(blocked=True, aside=True, copying="other"), ["stop_copy", "copy", "recover"]),
        (Seen(blocked=True, aside=True, copied="other", clean=True), ["copy", "recover"]),
        (Seen(blocked=True, aside=True, copied="other", recovering=True), ["stop_recovery", "copy", "recover"]),
        (Seen(blocked=True, aside=True, copied=WANTED, signal=True, recovering=True), ["recover"]),
        # It had begun its own history when its host lost power.
        (Seen(blocked=True, aside=True, copied=WANTED), ["recover"]),
        (Seen(blocked=True, aside=True, copied=WANTED, clean=True), []),
        (Seen(aside=True, copied=WANTED, patroni=True), []),
    ],
)
def test_a_leader_goes_on_where_it_was(seen: Seen, steps: list[str]) -> None:
    assert steps_to(seen, READY, True, WANTED) == steps


SEEN = st.builds(
    Seen,
    blocked=st.booleans(),
    patroni=st.booleans(),
    server=st.booleans(),
    aside=st.booleans(),
    copying=st.sampled_from(["", WANTED, "other"]),
    copied=st.sampled_from(["", WANTED, "other"]),
    recovering=st.booleans(),
    signal=st.booleans(),
    clean=st.booleans(),
).filter(lambda seen: seen.aside or not (seen.copying or seen.copied or seen.recovering))


@given(SEEN, st.sampled_from(GOALS), st.booleans())
def test_whatever_is_there_every_goal_is_reached(seen: Seen, goal: str, leads: bool) -> None:
    steps = steps_to(seen, goal, leads, WANTED)
    assert len(steps) == len(set(steps)) <= 9
    for step in steps:
        seen = after(seen, step, WANTED)
    assert next_step(seen, goal, leads, WANTED) is None
    if goal == SERVING:
        assert (seen.blocked, seen.patroni) == (False, True)


@given(SEEN, st.booleans(), st.lists(st.integers(0, 9), max_size=6))
def test_killed_anywhere_and_run_again(seen: Seen, leads: bool, cuts: list[int]) -> None:
    """A run takes some steps towards each goal and dies; the last one completes. Nothing forbidden is done on the way."""
    handed_over = seen.handed_over
    for cut in [*cuts, 99]:
        for goal in GOALS:
            while cut and (step := next_step(seen, goal, leads, WANTED)) is not None:
                cut -= 1
                assert not handed_over or step == "start_patroni", "what Patroni has is left alone"
                if step in ("set_aside", "copy", "recover"):
                    assert seen.blocked, "Patroni could be started in the middle"
                    assert (seen.patroni, seen.server) == (False, False), "somebody works on the data"
                if step in ("copy", "recover"):
                    assert seen.aside, "the old data would be overwritten"
                    assert not seen.copying, "two would copy"
                if step == "copy":
                    assert not seen.recovering, "a server runs on what is replaced"
                if step == "recover":
                    assert seen.copied == WANTED, "another point would be recovered"
                if step == "hand_over" and leads:
                    assert (seen.copied, seen.signal, seen.recovering) == (WANTED, False, False)
                    assert seen.clean
                seen = after(seen, step, WANTED)
                handed_over = handed_over or step == "hand_over"
    assert (seen.handed_over, seen.patroni) == (True, True)
