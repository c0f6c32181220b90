# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is found wrong with a repository: each fault has its own reason, and what is no fault has none."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import backup_check as check
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_info import Backup
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.wal import parse_history
from hypothesis import given
from hypothesis import strategies as st

SHA = "e12bdd2aa04f7d7ee527300437856df138e42c4d"
MB16 = 16 << 20


def backup(label: str = "A-F", timeline: int = 1, segment: int = 2, stopped: int = 1000, **more: Any) -> Backup:
    name = f"{timeline:08X}00000000{segment:08X}"
    given = {
        "label": label,
        "type": "full",
        "repository": 1,
        "archive_id": "15-1",
        "started": stopped - 10,
        "stopped": stopped,
        "size_bytes": 1000,
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


def listing() -> dict[str, dict[str, Any]]:
    """Return an archive of three timelines: 1 is left in segment 5, 2 in segment 8, 3 goes up to segment 9."""
    found: dict[str, dict[str, Any]] = {".": {"type": "path"}, "15-1/0000000100000000": {"type": "path"}, "archive.info": {"type": "file"}}
    for timeline, first, last in ((1, 1, 4), (2, 5, 7), (3, 8, 9)):
        for number in range(first, last + 1):
            name = f"15-1/{timeline:08X}00000000/{timeline:08X}00000000{number:08X}-{SHA}.zst"
            found[name] = {"type": "file", "time": 100 * number}
    found[f"15-1/0000000100000000/000000010000000000000005.partial-{SHA}.zst"] = {"type": "file", "time": 5000}
    found["15-1/0000000100000000/000000010000000000000002.00000028.backup"] = {"type": "file", "time": 5000}
    found["15-1/00000002.history"] = found["15-1/00000003.history"] = {"type": "file", "time": 5000}
    found[f"14-1/0000000100000000/000000010000000000000001-{SHA}.zst"] = {"type": "file", "time": 1}
    return found


def wal(entries: dict[str, dict[str, Any]] | None = None) -> check.Wal:
    found = check.wal_of(entries or listing(), "15-1")
    found.histories[3] = parse_history("1\t0/50000A0\tno recovery target specified\n\n2\t0/80000A0\tno recovery target specified\n")
    return found


def without(part: str) -> dict[str, dict[str, Any]]:
    entries = listing()
    (path,) = [path for path in entries if part in path]
    del entries[path]
    return entries


def test_the_way_follows_the_timelines_and_ends_with_the_newest_segment() -> None:
    assert check.way(wal(), backup()) == [(1, 2, 4), (2, 5, 7), (3, 8, 9)]
    assert check.way(wal(), backup(timeline=3, segment=9)) == [(3, 9, 9)]
    assert check.check_wal(wal(), [backup()]).ok


def test_segments_are_numbered_across_files_of_4_gigabytes_and_by_their_size() -> None:
    found = check.Wal("15-1")
    assert found.number("0000000100000001000000FF") == 511
    assert found.name(1, 512) == "000000010000000200000000"
    assert check.Wal("15-1", 64 << 20).name(2, 64) == "000000020000000100000000"


def test_a_timeline_without_a_segment_yet_is_no_gap() -> None:
    entries = {path: entry for path, entry in listing().items() if "/000000030000" not in path}
    assert check.check_wal(wal(entries), [backup()]).ok


@pytest.mark.parametrize(
    ("part", "reason", "words"),
    [
        ("000000010000000000000003-", "wal_missing", "000000010000000000000003. A-F cannot"),
        ("000000020000000000000006-", "wal_missing", "000000020000000000000006"),
        ("000000010000000000000004-", "wal_missing_at_switch", "000000010000000000000004"),
        ("000000020000000000000005-", "wal_missing_at_switch", "000000020000000000000005"),
        ("000000030000000000000008-", "wal_missing_at_switch", "000000030000000000000008"),
        ("000000010000000000000002-", "wal_missing", "000000010000000000000002"),
    ],
)
def test_one_missing_segment_is_named(part: str, reason: str, words: str) -> None:
    found = check.check_wal(wal(without(part)), [backup(), backup("B-F", 3, 9)])
    assert (found.ok, found.reason) == (False, reason)
    assert words in found.seen
    assert "B-F" not in found.seen


def test_wal_before_the_oldest_backup_is_not_needed() -> None:
    entries = {
        path: entry for path, entry in listing().items() if not path.endswith(f"15-1/0000000100000000/000000010000000000000001-{SHA}.zst")
    }
    assert check.check_wal(wal(entries), [backup(segment=3)]).ok


def test_a_backup_on_a_branch_that_was_left_is_followed_on_its_own_timeline() -> None:
    # It ended behind the place at which timeline 1 was left: after a recovery to a point before it.
    aside = backup(segment=6)
    entries = listing()
    entries[f"15-1/0000000100000000/000000010000000000000006-{SHA}.zst"] = {"type": "file", "time": 1}
    entries[f"15-1/0000000100000000/000000010000000000000007-{SHA}.zst"] = {"type": "file", "time": 1}
    assert check.way(wal(entries), aside) == [(1, 6, 7)]
    assert check.check_wal(wal(entries), [aside]).ok


@given(
    lengths=st.lists(st.integers(2, 6), min_size=2, max_size=5),
    strays=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=6),
    gone=st.integers(2, 5),
    unread=st.booleans(),
)
def test_what_dead_leaders_archived_beyond_their_timeline_is_missed_by_nobody(
    lengths: list[int], strays: list[tuple[int, int]], gone: int, unread: bool
) -> None:
    """Whichever history is lost or cannot be read: every segment that a backup needs is there, and so none is called missing."""
    found, first, line = check.Wal("15-1"), 1, []
    ends: dict[int, int] = {}
    for timeline, length in enumerate(lengths, start=1):
        found.histories[timeline] = list(line)
        found.segments[timeline] = dict.fromkeys(range(first, first + length), 1.0)
        first = ends[timeline] = first + length
        line.append((timeline, first * MB16 + 160))
    del found.histories[1]
    found.files = set(found.histories)
    for timeline, beyond in strays:
        if timeline + 1 < len(lengths):
            found.segments[timeline + 1][ends[timeline + 1] + beyond] = 1.0
    found.histories.pop(gone, None)
    if not unread:
        found.files.discard(gone)
    backups = [backup(f"{timeline}-F", timeline, min(found.segments[timeline])) for timeline in found.segments]
    assert check.check_wal(found, backups).ok
    # A segment that a backup surely needs is missed all the same.
    del found.segments[1][1]
    assert check.check_wal(found, backups).reason.startswith("wal_missing")


@pytest.mark.parametrize("lost", ["00000002.history", "00000003.history"])
def test_a_lost_history_is_named(lost: str) -> None:
    found = check.check_histories(wal(without(lost)), [backup()], {})
    assert (found.ok, found.reason) == (False, "history_missing")
    assert lost in found.seen


def test_histories_that_no_backup_needs_may_be_gone() -> None:
    assert check.check_histories(wal(without("00000002.history")), [backup(timeline=2, segment=6)], {}).ok
    assert check.check_histories(wal(), [backup()], {}).ok


def test_a_history_that_cannot_be_read_is_a_fault_of_its_own() -> None:
    assert check.check_histories(wal(), [backup()], {2: "it is empty"}).reason == "history_damaged"
    with pytest.raises(ValueError, match="empty"):
        parse_history("\n")
    with pytest.raises(ValueError, match="no position"):
        parse_history("1\n")


def test_an_archive_that_has_stopped_is_seen_by_its_newest_segment() -> None:
    # The partial segment and the histories are younger, and say nothing.
    assert check.check_archive_age(wal(), 900 + 300, 300).ok
    assert check.check_archive_age(wal(), 900 + 301, 300).reason == "archive_stale"
    assert check.check_archive_age(check.Wal("15-1"), 0, 300).reason == "archive_empty"


def test_age_and_size() -> None:
    assert check.check_age([backup()], 1000 + 60, 60).ok
    assert check.check_age([backup()], 1000 + 61, 60).reason == "backup_too_old"
    assert check.check_age([backup(damaged=True)], 1000, 60).reason == "no_backup"
    assert check.check_size([backup()], 1000).ok
    assert check.check_size([backup()], 1001).reason == "backup_too_small"
    assert check.check_size([backup(), backup(size_bytes=499)], 0).reason == "backup_shrank"
    assert check.check_size([], 0).reason == "no_backup"
    assert check.check_pages([backup(), backup(damaged=True)]).reason == "damaged_pages"
    assert check.check_pages([backup(damaged=True), backup()]).ok


FILES = ["backup.info", "backup.info.copy", "A-F", "A-F/backup.manifest", "A-F/backup.manifest.copy", "latest"]
ARCHIVE = ["archive.info", "archive.info.copy"]


@pytest.mark.parametrize(
    ("lost", "reason"),
    [
        (["backup.info"], "info_missing"),
        (["backup.info.copy"], "info_missing"),
        (["archive.info"], "info_missing"),
        (["A-F/backup.manifest"], "manifest_missing"),
        (["A-F", "A-F/backup.manifest", "A-F/backup.manifest.copy"], "backup_missing"),
    ],
)
def test_files_that_are_gone(lost: list[str], reason: str) -> None:
    files = [name for name in FILES if name not in lost]
    found = check.check_files([backup()], files, [name for name in ARCHIVE if name not in lost])
    assert (found.ok, found.reason) == (False, reason)
    assert lost[0] in found.seen
    assert check.check_files([backup()], FILES, ARCHIVE).ok


def test_a_backup_without_what_it_builds_on() -> None:
    found = check.check_files([dataclasses.replace(backup(), references=("X-F",), prior="X-F")], FILES, ARCHIVE)
    assert (found.reason, "A-F needs X-F" in found.seen) == ("reference_missing", True)


GOOD = """stanza: main
status: ok
  archiveId: 15-1, total WAL checked: 13, total valid WAL: 13
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
  backup: A-F, status: valid, total files checked: 971, total valid files: 971
    missing: 0, checksum invalid: 0, size invalid: 0, other: 0
"""
# What pgBackRest 2.45 said of a byte that was turned over; 2.55 names the bundle.
FLIPPED = """2026-11-26 17:14:50.247 P02   INFO: invalid checksum 'A-F/pg_data/base/4/2659.zst'
2026-11-26 17:14:50.564 P00   INFO: stanza: main
                                    status: error
                                      backup: A-F, status: invalid, total files checked: 971, total valid files: 970
stanza: main
status: error
  archiveId: 15-1, total WAL checked: 13, total valid WAL: 13
  backup: A-F, status: invalid, total files checked: 971, total valid files: 970
    missing: 0, checksum invalid: 1, size invalid: 0, other: 0
"""
FLIPPED_WAL = f"""2026-11-26 17:14:47.873 P01   INFO: invalid checksum '15-1/0000000100000000/000000010000000000000004-{SHA}.zst'
  archiveId: 15-1, total WAL checked: 13, total valid WAL: 12
    missing: 0, checksum invalid: 1, size invalid: 0, other: 0
  backup: A-F, status: valid, total files checked: 971, total valid files: 971
"""


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        (GOOD, "", "971 files of 1 backup and 13 segments"),
        (FLIPPED, "file_damaged", "A-F has 1 of 971: invalid checksum of A-F/pg_data/base/4/2659.zst"),
        (FLIPPED.replace("invalid checksum '", "file missing '"), "file_missing", "file missing of A-F"),
        (FLIPPED_WAL, "wal_damaged", "000000010000000000000004"),
        (FLIPPED_WAL.partition("\n")[2], "wal_damaged", "15-1"),
        ("status: error\n  No usable backup.info file\n", "info_missing", "No usable backup.info file"),
        # Two manifests that are gone: it passes the backup over in silence.
        ("", "not_verified", "says nothing about A-F"),
    ],
)
def test_verify_is_judged_by_its_text(text: str, reason: str, words: str) -> None:
    found = check.check_verify(check.parse_verify(text), ["A-F"])
    assert (found.ok, found.reason) == (not reason, reason)
    assert words in found.seen


def test_what_expired_meanwhile_is_no_failure() -> None:
    text = FLIPPED_WAL + "  backup: Z-F, status: invalid, total files checked: 9, total valid files: 1\n"
    assert check.check_verify(check.parse_verify(text), ["A-F"], there=[]).ok


def test_times_are_said_as_a_person_says_them() -> None:
    assert [check.span(seconds) for seconds in (5, 119, 600, 7200, 864000)] == ["5 s", "119 s", "10.0 minutes", "2.0 hours", "10.0 days"]
