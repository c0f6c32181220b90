# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a proof restores, how it is kept apart from everything else, and how what it finds is judged."""

from __future__ import annotations

import random
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import backup_sandbox as sandbox
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_info import Backup, TargetError

SCRATCH = "/var/lib/uptier/backup-verify/proof-1"


def backup(label: str, segment: int, **more: Any) -> Backup:
    name = f"00000001{0:08X}{segment:08X}"
    given = {
        "label": label,
        "type": "full",
        "repository": 2,
        "archive_id": "15-1",
        "started": segment * 100 - 10,
        "stopped": segment * 100,
        "size_bytes": 100 << 20,
        "stored_bytes": 10,
        "lsn_start": f"0/{segment:X}000028",
        "lsn_stop": f"0/{segment:X}000138",
        "wal_start": name,
        "wal_stop": name,
        "prior": "",
        "references": (),
        "damaged": False,
    }
    return Backup(**{**given, **more})


BACKUPS = (backup("A-F", 2), backup("B-F", 4), backup("C-F", 6), backup("D-F", 8, damaged=True))
LATEST = sandbox.Point(BACKUPS[2], "latest")


def chosen(backup: str = "newest", target: str = "latest", value: str = "", seed: int = 1) -> sandbox.Point:
    return sandbox.choose(BACKUPS, backup, target, value, 1000.0, random.Random(seed))


@pytest.mark.parametrize(
    ("given", "label", "kind", "value"),
    [
        ({}, "C-F", "latest", ""),
        ({"backup": "oldest"}, "A-F", "latest", ""),
        ({"backup": "B-F", "target": "immediate"}, "B-F", "immediate", ""),
        ({"target": "label", "value": "D-F"}, "D-F", "immediate", ""),
        ({"target": "time", "value": "450.5"}, "B-F", "time", "1970-01-01 00:07:30.500000+00"),
        ({"target": "time", "value": "450", "backup": "A-F"}, "A-F", "time", "1970-01-01 00:07:30.000000+00"),
        ({"target": "lsn", "value": "0/4000138"}, "B-F", "lsn", "0/4000138"),
    ],
)
def test_a_point_has_its_backup(given: dict[str, str], label: str, kind: str, value: str) -> None:
    found = chosen(**given)
    assert (found.backup.label, found.kind, found.value) == (label, kind, value)


def test_a_random_moment_lies_between_the_oldest_backup_and_what_is_archived() -> None:
    points = [chosen(target="random", seed=seed) for seed in range(50)]
    assert all(201 <= (point.moment or 0) <= 940 and point.backup.stopped <= (point.moment or 0) for point in points)
    assert {point.backup.label for point in points} == {"A-F", "B-F", "C-F"}
    assert {chosen(backup="random", seed=seed).backup.label for seed in range(50)} == {"A-F", "B-F", "C-F"}


def test_what_cannot_be_restored_is_refused() -> None:
    with pytest.raises(TargetError) as caught:
        chosen(target="time", value="100")
    assert caught.value.reason == "no_such_point"
    with pytest.raises(TargetError) as caught:
        sandbox.choose(BACKUPS[3:], "newest", "latest", "", 0.0, random.Random(1))
    assert caught.value.reason == "no_backup"


def test_nothing_begins_without_room() -> None:
    needed = 110 + 512
    assert sandbox.check_space(LATEST, needed << 20, "/scratch").ok
    found = sandbox.check_space(LATEST, (needed << 20) - 1, "/scratch")
    assert (found.ok, found.reason) == (False, "scratch_too_small")
    assert "needs 622 MB" in found.seen


HOSTS_CONFIG = """
[global]
log-path=/var/log/pgbackrest
lock-path=/var/spool/pgbackrest/lock
tls-server-address=10.0.0.1
repo1-path=/var/lib/pgbackrest
repo1-cipher-pass=secret
[global:archive-push]
archive-async=y
[main]
pg1-host=db1.internal
pg1-path=/var/lib/postgresql/15/main
repo2-type=s3
[other]
repo3-path=/x
"""


def test_the_restore_knows_the_repositories_and_no_live_server() -> None:
    text = sandbox.own_config(HOSTS_CONFIG, "main", SCRATCH, 3)
    for kept in (
        "repo1-path=/var/lib/pgbackrest",
        "repo1-cipher-pass=secret",
        "repo2-type=s3",
        "process-max=3",
        f"pg1-path={SCRATCH}/data",
    ):
        assert kept in text.splitlines()
    for gone in ("pg1-host", "/var/lib/postgresql", "tls-server", "archive-async", "/var/spool", "repo3"):
        assert gone not in text


def test_the_restored_server_keeps_to_itself() -> None:
    text = sandbox.server_config(SCRATCH, f"{SCRATCH}/pgbackrest.conf", "main", LATEST, {"max_prepared_transactions": "7"}, 512)
    settings = dict(line.split(" = ", 1) for line in text.splitlines())
    assert settings["listen_addresses"] == "''"
    assert settings["archive_mode"] == "'off'"
    assert settings["shared_preload_libraries"] == "''"
    assert settings["max_prepared_transactions"] == "'7'"
    assert settings["shared_buffers"] == "'128MB'"
    assert settings["recovery_target_timeline"] == "'latest'"
    assert "--repo=2 archive-get %f" in settings["restore_command"]
    assert not [name for name in settings if name in ("recovery_target", "recovery_target_time", "recovery_target_lsn")]


@pytest.mark.parametrize(
    ("point", "setting"),
    [
        (sandbox.Point(BACKUPS[0], "immediate"), "recovery_target = 'immediate'"),
        (sandbox.Point(BACKUPS[0], "time", "1970-01-01 00:07:30+00", 450.0), "recovery_target_time = '1970-01-01 00:07:30+00'"),
        (sandbox.Point(BACKUPS[0], "lsn", "0/4000138"), "recovery_target_lsn = '0/4000138'"),
    ],
)
def test_recovery_ends_where_it_should(point: sandbox.Point, setting: str) -> None:
    assert setting in sandbox.server_config(SCRATCH, "c", "main", point, {}, 0).splitlines()


def test_pg_controldata_says_which_settings_must_not_be_smaller() -> None:
    text = (
        "pg_control version number:            1300\nmax_prepared_xacts setting:           7\nmax_locks_per_xact setting:           128\n"
    )
    assert sandbox.control_settings(text) == {"max_prepared_transactions": "7", "max_locks_per_transaction": "128"}


def test_a_unit_may_write_its_scratch_and_nothing_else() -> None:
    words = sandbox.sandboxed(
        "my app", "server", ["postgres"], SCRATCH, sandbox.Limits(512, 50, 60.0), "postgres", True, ["/run/postgresql"]
    )
    assert words[0] == "systemd-run"
    assert "--unit=uptier-backup-verify-my_app-server.service" in words
    for wanted in (
        *("ProtectSystem=strict", f"ReadWritePaths={SCRATCH}", "PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX", "PrivateIPC=yes"),
        *("MemoryMax=512M", "CPUQuota=50%", "IOWeight=20", "RuntimeMaxSec=60", "User=postgres", "CapabilityBoundingSet="),
        "TemporaryFileSystem=/run/postgresql:ro",
    ):
        assert f"--property={wanted}" in words
    assert words[-2:] == ["--", "postgres"]
    assert "--wait" not in words
    assert "--wait" in sandbox.sandboxed("main", "restore", ["x"], SCRATCH, sandbox.Limits(), "postgres")


def test_a_repository_elsewhere_is_reached_and_limits_may_be_lifted() -> None:
    words = sandbox.sandboxed("main", "restore", ["x"], SCRATCH, sandbox.Limits(0, 0, 60.0, True), "postgres")
    assert not [word for word in words if "PrivateNetwork" in word or "MemoryMax" in word or "CPUQuota" in word]
    assert "--property=RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6" in words


def test_a_tablespace_of_the_wal_gets_a_place_in_the_scratch() -> None:
    readonly = 'x FATAL:  could not set permissions on directory "/data/ts 1": Read-only file system'
    absent = (
        'x FATAL:  directory "/data/ts2" does not exist\nx HINT:  Create this directory for the tablespace before restarting the server.'
    )
    assert sandbox.missing_tablespace(readonly) == "/data/ts 1"
    assert sandbox.missing_tablespace(f"{readonly}\n{absent}") == "/data/ts2"
    assert sandbox.missing_tablespace("FATAL:  no pg_hba.conf entry") == ""
    words = sandbox.sandboxed(
        "main", "server", ["x"], SCRATCH, sandbox.Limits(), "postgres", True, [], {"/data/ts": f"{SCRATCH}/tablespace-0"}
    )
    assert f"--property=BindPaths={SCRATCH}/tablespace-0:/data/ts" in words


def test_recovery_that_ended_before_the_newest_segment_is_seen() -> None:
    size = 16 << 20
    assert sandbox.check_reached(LATEST, "0/100000D8", 15, size).ok
    found = sandbox.check_reached(LATEST, "0/C0000D8", 15, size)
    assert (found.reason, "0/10000000" in found.seen) == ("recovery_short", True)
    assert sandbox.check_reached(sandbox.Point(BACKUPS[0], "immediate"), "0/2000138", 15, size).ok


def test_the_heartbeat_says_what_would_be_lost() -> None:
    assert sandbox.check_heartbeat(LATEST, 1000.0, 1300.0, 300.0).ok
    assert sandbox.check_heartbeat(LATEST, 1000.0, 1301.0, 300.0).reason == "rpo_exceeded"
    assert sandbox.check_heartbeat(LATEST, None, 1301.0, 300.0).ok
    earlier = sandbox.Point(BACKUPS[0], "time", "x", 900.0)
    assert sandbox.check_heartbeat(earlier, 890.0, 99999.0, 300.0).ok
    assert sandbox.check_heartbeat(earlier, 961.0, 99999.0, 300.0).reason == "beyond_target"


def test_amcheck_is_judged_by_its_status_and_its_words() -> None:
    index = 'btree index "postgres.public.i":\n    ERROR:  heap tuple (0,1) from table "t" lacks matching index tuple within index "i"\n'
    assert sandbox.check_amcheck(0, "").ok
    assert sandbox.check_amcheck(2, index).reason == "index_damaged"
    assert sandbox.check_amcheck(2, 'heap table "postgres.public.t", block 1:\n    xmin 7 is in the future\n').reason == "table_damaged"
    assert sandbox.check_amcheck(1, "pg_amcheck: error: connection failed").reason == "amcheck_failed"


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("P00 ERROR: [055]: raised from local-1 protocol: unable to open missing file 'x' for read", "file_missing"),
        ("P00 ERROR: [029]: raised from local-1 protocol: zst error: [-20] Data corruption detected", "file_damaged"),
        ("P00 ERROR: [095]: unable to flush", "wrong_key"),
        ("P00 ERROR: [075]: no backup set found to restore", "restore_failed"),
    ],
)
def test_a_restore_that_failed_has_its_reason(log: str, reason: str) -> None:
    found = sandbox.failed_restore(LATEST, log)
    assert (found.ok, found.reason) == (False, reason)
    assert "C-F" in found.seen


@pytest.mark.parametrize(
    ("probe", "seen", "problem", "reason"),
    [
        ({"expected": "5"}, "5", "", ""),
        ({"expected": "5"}, "6", "", "probe_differs"),
        ({"expected": "5"}, None, "", "probe_differs"),
        ({"at_least": 5}, "5.0", "", ""),
        ({"at_least": 5}, "4", "", "probe_differs"),
        ({"at_least": 5}, "many", "", "probe_differs"),
        ({"at_least": 0}, None, "", "probe_differs"),
        ({}, "anything", "", ""),
        ({"expected": "5"}, None, "it is gone", "probe_failed"),
    ],
)
def test_an_answer_is_held_against_what_is_expected(probe: dict[str, Any], seen: str | None, problem: str, reason: str) -> None:
    found = sandbox.judge_probe(3, {"database": "bank", **probe}, seen, problem)
    assert (found.name, found.ok, found.reason) == ("probe 3", not reason, reason)


def test_why_a_server_did_not_start_is_in_its_last_lines_without_our_own_questions() -> None:
    log = "LOG: x\nFATAL:  recovery ended\nFATAL:  the database system is not accepting connections\nFATAL:  the database system is starting up\n"
    assert sandbox.explain_server(log) == "FATAL: recovery ended"
    assert sandbox.explain_server("") == "it said nothing"


@pytest.mark.parametrize(
    ("proof", "targets", "reasons"),
    [
        ({"rto_seconds": 60.0, "rpo_seconds": 30.0}, (60.0, 30.0), ["", ""]),
        ({"rto_seconds": 60.1, "rpo_seconds": 30.1}, (60.0, 30.0), ["rto_missed", "rpo_missed"]),
        ({"rto_seconds": 1.0}, (60.0, 30.0), ["", "rpo_unknown"]),
        ({"rto_seconds": 1e6, "rpo_seconds": 1e6}, (0.0, 0.0), []),
    ],
)
def test_targets_are_held(proof: dict[str, float], targets: tuple[float, float], reasons: list[str]) -> None:
    found = sandbox.check_targets(proof, *targets)
    assert [item.reason for item in found] == reasons
    if "rto_missed" in reasons:
        assert found[0].seen.startswith("The restored server served after 60 s; the target is 60 s")
