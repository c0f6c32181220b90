# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole cluster is brought back from its backups: to a moment, with the run killed in the middle, and after all its data is gone."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator

import pytest
from harness.platform import Platform, Run, wait
from harness.web import User

RESTORED_SECONDS = 180
RESULT = re.compile(
    r"leads on timeline (\d+), \d follow, and (\S+) is the new backup. It took ([\d.]+) s in all: nobody could write for ([\d.]+) s"
)


@pytest.fixture(autouse=True)
def healthy(platform: Platform) -> Iterator[None]:
    """Every test starts and ends with a leader, standbys that stream, and an application that serves."""
    wait("a healthy database", platform.database_healthy, 120)
    yield
    wait("a healthy database", platform.database_healthy, 120)


def leader(platform: Platform) -> str:
    return wait("a leader", platform.leader, 60) or ""


def note(platform: Platform, word: str) -> None:
    statement = f"create table if not exists restored (word text); insert into restored values ('{word}')"
    platform.sql(leader(platform), statement)


def archived(platform: Platform, word: str) -> None:
    """Bring what has been written to the repository."""
    segment = platform.sql(leader(platform), "select pg_walfile_name(pg_switch_wal())")
    repository = platform.group("backup")[0]
    wait(
        f"{word} in the archive", lambda: segment in platform.output(repository, f"find /var/lib/pgbackrest/archive -name '{segment}*'"), 60
    )


def notes(platform: Platform, host: str) -> list[str]:
    return platform.sql(host, "select word from restored order by word").split()


def now(platform: Platform) -> str:
    """The leader's time, with a second before and after it in which nothing is written."""
    time.sleep(1.5)
    moment = platform.sql(leader(platform), "select clock_timestamp()")
    time.sleep(1.5)
    return moment


def restore(platform: Platform, *options: str) -> Run:
    return platform.playbook("restore_postgresql", "-e", "pg_confirm=main", *options)


def said(run: Run) -> str:
    return " ".join(run.output.split())


def judge(platform: Platform, user: User, run: Run, what: str) -> int:
    """See that a restore has ended well; print what it took and return the timeline."""
    assert run.status == 0, run.output[-4000:]
    found = RESULT.search(said(run))
    assert found, run.output[-4000:]
    timeline, label, whole, unavailable = int(found[1]), found[2], float(found[3]), float(found[4])
    print(f"measured: {what}: nobody could write for {unavailable:.0f} s, {whole:.0f} s with the standby and a new full backup ({label})")
    assert platform.database_healthy()
    assert {member["timeline"] for member in platform.members()} == {timeline}
    answer = wait("the application", lambda: served(user), 60)
    assert answer
    assert whole < RESTORED_SECONDS
    return timeline


def served(user: User) -> bool:
    try:
        return user.get("/api/notes").status == 200
    except OSError:
        return False


def killed_in(platform: Platform, task: str, *options: str) -> None:
    """Begin a restore and kill the controller when this task has its first result."""
    with platform.start_playbook("restore_postgresql", "-e", "pg_confirm=main", *options, own_session=True) as process:
        assert process.stdout
        seen = []
        for line in process.stdout:
            seen.append(line)
            if f"TASK [{task}]" in line:
                break
        os.killpg(process.pid, signal.SIGKILL)
    assert seen, "it said nothing"
    assert f"TASK [{task}]" in seen[-1], "".join(seen)[-3000:]


def test_what_cannot_be_restored_is_refused_and_nothing_is_touched(platform: Platform) -> None:
    before = platform.sql(leader(platform), "select pg_postmaster_start_time()")
    early = restore(platform, "-e", "pg_restore_time='2020-01-01 00:00:00+00:00'")
    assert early.status != 0
    assert re.search(r"2020-01-01 00:00:00 UTC cannot be restored. The oldest point is 20\d\d-\S+ \S+ UTC", said(early)), early.output[
        -3000:
    ]
    unconfirmed = platform.playbook("restore_postgresql")
    assert unconfirmed.status != 0
    assert "This replaces all data of the cluster main by the end of the archive" in said(unconfirmed)
    assert platform.sql(leader(platform), "select pg_postmaster_start_time()") == before


def test_to_a_moment_with_the_controller_killed_on_the_way(platform: Platform, user: User) -> None:
    """A; the moment; B. Afterwards A is there and B is not. What was there before is kept."""
    note(platform, "A")
    moment = now(platform)
    note(platform, "B")
    first = leader(platform)
    # The name of a task is printed with its first result: the old data is kept aside, and the leader is being copied.
    killed_in(platform, "Keep the old data", "-e", f"pg_restore_time='{moment}'")
    assert platform.leader() is None
    # Nobody makes half of a restore the cluster: neither a boot nor a run of the tier starts Patroni now.
    refused = platform.run(first, "systemctl start patroni", check=False)
    assert "Assertion failed" in refused.stderr
    time.sleep(3)
    judge(platform, user, restore(platform, "-e", f"pg_restore_time='{moment}'"), "restored to a moment, killed once on the way")
    for host in platform.group("postgresql"):
        wait("A without B", lambda host=host: notes(platform, host) == ["A"], 30)
        assert "restored-aside-" in platform.output(host, "runuser -u postgres -- ls /var/lib/postgresql/15")
        assert platform.failed_units(host) == []


def test_the_whole_cluster_is_destroyed(platform: Platform, user: User) -> None:
    """From timeline 3 or later, by the restore before: every row that was archived is back."""
    note(platform, "C")
    archived(platform, "C")
    for host in platform.group("postgresql"):
        platform.run(host, "systemctl kill -s KILL patroni; pkill -KILL -u postgres postgres; rm -rf /var/lib/postgresql/15/main")
    timeline = judge(platform, user, restore(platform), "all data destroyed, restored")
    assert timeline >= 3
    for host in platform.group("postgresql"):
        wait("A and C", lambda host=host: notes(platform, host) == ["A", "C"], 30)


def test_a_copy_for_looking_as_of_a_position_touches_nothing(platform: Platform) -> None:
    first, repository = leader(platform), platform.group("backup")[0]
    before = {host: platform.sql(host, "select pg_postmaster_start_time()") for host in platform.group("postgresql")}
    position = platform.sql(first, "select pg_current_wal_insert_lsn()")
    note(platform, "D")
    archived(platform, "D")
    run = platform.playbook("restore_to_new_host", "-e", f"pg_restore_lsn={position}")
    assert run.status == 0, run.output[-3000:]
    ask = "cd / && runuser -u postgres -- psql -X -A -t -h /var/lib/uptier/postgresql-copy/socket -c"
    assert platform.output(repository, f"{ask} 'select word from restored order by word'").split() == ["A", "C"]
    assert platform.output(repository, f"{ask} 'show archive_mode'") == "off"
    assert platform.output(repository, f"{ask} 'create table own (i int)'") == "CREATE TABLE"
    gone = platform.playbook("restore_to_new_host", "-e", "pg_copy_state=absent")
    assert gone.status == 0, gone.output[-3000:]
    assert platform.run(repository, "test -e /var/lib/uptier/postgresql-copy", check=False).returncode == 1
    assert platform.output(repository, "systemctl list-units --all --no-legend 'uptier-copy*'") == ""
    assert {host: platform.sql(host, "select pg_postmaster_start_time()") for host in before} == before
    assert platform.sql(first, "select to_regclass('own')") == ""


def test_a_drill_is_held_against_what_is_promised(platform: Platform) -> None:
    """Restored from the repository alone, with the rows of the user's question in it; production serves on."""
    before = {host: platform.sql(host, "select pg_postmaster_start_time()") for host in platform.group("postgresql")}
    question = {"name": "rows", "database": "postgres", "sql": "select string_agg(word, '' order by word) from restored", "expected": "ACD"}
    run = platform.playbook("test_disaster_recovery", "-e", json.dumps({"pgbackrest_verify_probes": [question]}))
    assert run.status == 0, run.output[-3000:]
    report = re.search(r"Promised are 3600 s until it serves and 300 s that may be lost\. Report: (\S+\.json)", said(run))
    assert report, run.output[-3000:]
    repository = platform.group("backup")[0]
    found = json.loads(platform.output(repository, f"cat {report[1]}"))
    print(f"measured: a drill: served after {found['rto_seconds']:.1f} s, {found['rpo_seconds']:.0f} s would have been lost")
    assert {check["name"]: check["ok"] for check in found["checks"]}["probe rows"]
    assert {host: platform.sql(host, "select pg_postmaster_start_time()") for host in before} == before
    wrong = platform.playbook(
        "verify_backups", "-e", "pgbackrest_verify_level=repository", "-e", "pgbackrest_verify_backup=20200101-000000F"
    )
    assert wrong.status != 0
    assert "20200101-000000F" in said(wrong)


def test_a_backup_now_spares_the_leader(platform: Platform) -> None:
    repository = platform.group("backup")[0]
    run = platform.playbook("backup_postgresql")
    assert run.status == 0, run.output[-3000:]
    assert re.search(r"20\d{6}-\d{6}F_20\d{6}-\d{6}I: incr, \d+ MiB of data", said(run)), run.output[-3000:]
    journal = platform.output(repository, "journalctl -u pgbackrest-backup@incr -o cat --no-pager | tail -40")
    assert "wait for replay on the standby to reach" in journal
    # The tests of the platform that follow do not know these rows.
    platform.sql(leader(platform), "drop table restored")
    for host in platform.group("postgresql"):
        platform.run(host, "runuser -u postgres -- sh -c 'rm -rf /var/lib/postgresql/15/restored-aside-*'")
