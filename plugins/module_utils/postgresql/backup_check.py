# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with a repository, by what it lists and what pgBackRest's `verify` prints. Pure functions.

`pgbackrest verify` ends with 0 whatever it finds, does not see a backup whose directory is gone, and takes a gap in the WAL for the
beginning of another range. So its text is read, files are held against backup.info, and the way from each backup to the newest
segment is gone here, segment by segment, from one timeline to the next where their histories say that it goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_info import Backup
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.wal import SEGMENT_BYTES, lsn

SHOWN = 5  # of many that are alike

_SEGMENT = re.compile(r"^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})-[0-9a-f]{40}")
_HISTORY = re.compile(r"^([0-9A-F]{8})\.history$")
_FOUND = re.compile(r" INFO: ([a-z][a-z ]+?) '([^']+)'$")
_ARCHIVE = re.compile(r"^archiveId: (\S+?), total WAL checked: (\d+), total valid WAL: (\d+)$")
_BACKUP = re.compile(r"^backup: (\S+?), status: ([a-z ]+?), total files checked: (\d+), total valid files: (\d+)$")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `reason` is for programs, and empty where all is well."""

    name: str
    ok: bool
    seen: str
    reason: str = ""
    seconds: float = 0.0

    def as_data(self) -> dict[str, Any]:
        return {"name": self.name, "ok": self.ok, "seen": self.seen, "reason": self.reason, "seconds": round(self.seconds, 3)}


def good(name: str, seen: str) -> Check:
    return Check(name, True, seen)


def bad(name: str, reason: str, seen: str) -> Check:
    return Check(name, False, seen, reason)


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them, each once, the first few of many."""
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def span(seconds: float) -> str:
    """Return how long something is, as a person says it."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


# --- age and size ----------------------------------------------------------------------------------------------------


def check_age(backups: Sequence[Backup], now: float, limit_seconds: float) -> Check:
    """Tell whether the newest sound backup is young enough."""
    sound = [backup for backup in backups if not backup.damaged]
    if not sound:
        return bad("age", "no_backup", "There is no backup without damaged pages. Start pgbackrest-backup@full.service on the backup host.")
    newest, age = sound[-1], now - sound[-1].stopped
    seen = f"The newest backup, {newest.label}, ended {span(age)} ago; at most {span(limit_seconds)} are wanted"
    if age > limit_seconds:
        return bad("age", "backup_too_old", f"{seen}. Do its timers run? `systemctl list-timers 'pgbackrest*'` on the backup host.")
    return good("age", f"{seen}.")


def check_size(backups: Sequence[Backup], least_bytes: int, least_share: float = 0.5) -> Check:
    """Tell whether the newest backup is as large as is wanted, and not much smaller than the one before it."""
    if not backups:
        return bad("size", "no_backup", "There is no backup.")
    newest = backups[-1]
    if newest.size_bytes < least_bytes:
        seen = f"{newest.label} holds a database of {newest.size_bytes} bytes; at least {least_bytes} are wanted."
        return bad("size", "backup_too_small", seen)
    if len(backups) > 1 and newest.size_bytes < least_share * backups[-2].size_bytes:
        before = backups[-2]
        seen = f"{newest.label} holds {newest.size_bytes} bytes, {before.label} before it {before.size_bytes}. Was a database dropped?"
        return bad("size", "backup_shrank", seen)
    return good("size", f"{newest.label} holds a database of {newest.size_bytes} bytes.")


def check_pages(backups: Sequence[Backup]) -> Check:
    """Tell whether pgBackRest met pages with a wrong checksum in the newest backup."""
    if backups and backups[-1].damaged:
        seen = f"{backups[-1].label} holds pages with a wrong checksum: the database itself is damaged. Its log names the files."
        return bad("pages", "damaged_pages", seen)
    return good("pages", "The newest backup holds no page with a wrong checksum.")


# --- files -----------------------------------------------------------------------------------------------------------


def check_files(backups: Sequence[Backup], backup_listing: Iterable[str], archive_listing: Iterable[str]) -> Check:
    """Tell whether what backup.info names is there: the catalogues and their copies, each backup's manifests, and what it builds on.

    Args:
        backups: of this repository.
        backup_listing: paths below the stanza's backups, as `repo-ls --recurse` has them.
        archive_listing: paths below its archive.
    """
    there, archive = set(backup_listing), set(archive_listing)
    lost = [name for name in ("backup.info", "backup.info.copy") if name not in there]
    lost += [name for name in ("archive.info", "archive.info.copy") if name not in archive]
    if lost:
        seen = (
            f"{listed(lost)} is not in the repository. pgBackRest goes on with the other copy, as long as there is one: copy that over it."
        )
        return bad("files", "info_missing", seen)
    folders = {path.partition("/")[0] for path in there}
    gone = [backup.label for backup in backups if backup.label not in folders]
    if gone:
        seen = f"The directory of {listed(gone)} is gone. `pgbackrest expire --set=LABEL` forgets it; take a full backup."
        return bad("files", "backup_missing", seen)
    manifests = [f"{backup.label}/backup.manifest{end}" for backup in backups for end in ("", ".copy")]
    lost = [name for name in manifests if name not in there]
    if lost:
        return bad(
            "files", "manifest_missing", f"{listed(lost)} is gone: without its manifest a backup cannot be restored. Take a full backup."
        )
    labels = {backup.label for backup in backups}
    lost = [
        f"{backup.label} needs {name}" for backup in backups for name in (*backup.references, backup.prior) if name and name not in labels
    ]
    if lost:
        return bad("files", "reference_missing", f"{listed(sorted(set(lost)))}, which is not in the repository. Take a full backup.")
    return good("files", f"Catalogues and the manifests of {counted(len(backups), 'backup', 'backups')} are there.")


# --- the archive -----------------------------------------------------------------------------------------------------


class Stretch(NamedTuple):
    """Segments of one timeline that are needed, first and last included."""

    timeline: int
    first: int
    last: int


@dataclass
class Wal:
    """What an archive has. Segments are numbered from the beginning of the cluster, on each timeline."""

    archive_id: str
    segment_bytes: int = SEGMENT_BYTES
    segments: dict[int, dict[int, float]] = field(default_factory=dict)  # by timeline and number: when it arrived
    files: set[int] = field(default_factory=set)  # timelines whose history is there
    histories: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # by timeline: (timeline before, position of the switch)

    @property
    def newest_timeline(self) -> int:
        return max([*self.segments, *self.files], default=0)

    @property
    def newest_arrival(self) -> float | None:
        return max((moment for numbers in self.segments.values() for moment in numbers.values()), default=None)

    def number(self, name: str) -> int:
        """Return the number of a segment by the name of its file."""
        return int(name[8:16], 16) * ((1 << 32) // self.segment_bytes) + int(name[16:24], 16)

    def name(self, timeline: int, number: int) -> str:
        high, low = divmod(number, (1 << 32) // self.segment_bytes)
        return f"{timeline:08X}{high:08X}{low:08X}"

    def at(self, position: int) -> int:
        return position // self.segment_bytes


def wal_of(listing: Mapping[str, Mapping[str, Any]], archive_id: str, segment_bytes: int = SEGMENT_BYTES) -> Wal:
    """Return what `repo-ls --recurse --output=json` of a stanza's archive says about one version of its cluster."""
    found = Wal(archive_id, segment_bytes)
    for path, entry in listing.items():
        folder, dummy, name = path.rpartition("/")
        if entry.get("type") != "file" or folder.partition("/")[0] != archive_id:
            continue
        segment, history = _SEGMENT.match(name), _HISTORY.match(name)
        if segment:
            found.segments.setdefault(int(segment[1], 16), {})[found.number(name)] = float(entry.get("time", 0))
        elif history:
            found.files.add(int(history[1], 16))
    return found


def wanted_histories(wal: Wal, backups: Sequence[Backup]) -> list[int]:
    """Return the timelines whose histories recovery asks for: it tries one after another, and ends with the first that is lacking."""
    oldest = min((backup.timeline for backup in backups if backup.archive_id == wal.archive_id), default=wal.newest_timeline)
    return list(range(max(oldest, 1) + 1, wal.newest_timeline + 1))


def check_histories(wal: Wal, backups: Sequence[Backup], unreadable: Mapping[int, str]) -> Check:
    """Tell whether all histories of timelines are there that a recovery of the oldest backup asks for."""
    wanted = wanted_histories(wal, backups)
    lost = [f"{timeline:08X}.history" for timeline in wanted if timeline not in wal.files]
    if lost:
        seen = (
            f"{listed(lost)} is not in the archive {wal.archive_id}, which has WAL of timeline {wal.newest_timeline}. Recovery to the "
            "newest point would end on an older timeline. A member may have it in its pg_wal: push it with `pgbackrest archive-push`. "
            "Otherwise take a full backup, which needs no older history."
        )
        return bad("histories", "history_missing", seen)
    broken = [f"{timeline:08X}.history ({unreadable[timeline]})" for timeline in wanted if timeline in unreadable]
    if broken:
        return bad("histories", "history_damaged", f"{listed(broken)} in the archive {wal.archive_id} cannot be read. Take a full backup.")
    return good("histories", f"Timelines up to {wal.newest_timeline}; {len(wanted)} histories are there.")


def way(wal: Wal, backup: Backup) -> list[Stretch]:
    """Return the segments that a recovery of a backup needs up to the newest one.

    The way follows the history of the newest timeline. A backup that lies on another branch, as after a recovery to a point before it,
    or whose way nobody knows because the newest history is lost, is followed to the end of its own timeline.
    """
    start = wal.number(backup.wal_start)
    newest = wal.newest_timeline
    line = [*wal.histories.get(newest, []), (newest, -1)]
    known = [timeline for timeline, dummy in line]
    aside = [Stretch(backup.timeline, start, own_end(wal, backup))]
    if backup.timeline not in known:
        return aside
    found, first = [], start
    for timeline, left in line[known.index(backup.timeline) :]:
        last = max(wal.segments.get(timeline, {}), default=first - 1) if left < 0 else wal.at(left) - 1
        if timeline == backup.timeline and left >= 0 and backup.lsn_stop and lsn(backup.lsn_stop) > left:
            return aside
        if last >= first:
            found.append(Stretch(timeline, first, last))
        first = wal.at(left)
    return found


def own_end(wal: Wal, backup: Backup) -> int:
    """Return the last segment of a backup's own timeline that can be wanted.

    A leader that died may have archived segments beyond the place where its successor left the timeline, and not all of them. Nothing
    ever reads those: the timeline ends where one that follows it says, or begins, where its history is lost.
    """
    needed = wal.number(backup.wal_stop or backup.wal_start)
    stop = lsn(backup.lsn_stop) if backup.lsn_stop else needed * wal.segment_bytes
    left = [at for line in wal.histories.values() for timeline, at in line if timeline == backup.timeline and at >= stop]
    ends = [wal.at(max(left)) - 1] if left else []
    if not left:
        unknown = [numbers for timeline, numbers in wal.segments.items() if timeline > backup.timeline and timeline not in wal.histories]
        ends = [min(numbers) - 1 for numbers in unknown if min(numbers) > needed]
    return max(needed, min([max(wal.segments.get(backup.timeline, {}), default=needed), *ends]))


def check_wal(wal: Wal, backups: Sequence[Backup]) -> Check:
    """Tell whether every segment is there from each backup's start to the newest one."""
    lost: dict[tuple[int, int], list[str]] = {}  # by timeline and number: backups that need it
    edges: set[tuple[int, int]] = set()  # where a timeline is left or begins
    total = 0
    for backup in backups:
        if backup.archive_id != wal.archive_id or not backup.wal_start:
            continue
        stretches = way(wal, backup)
        for number, stretch in enumerate(stretches):
            edges |= {(stretch.timeline, stretch.first)} if number else set()
            edges |= {(stretch.timeline, stretch.last)} if number < len(stretches) - 1 else set()
            there = wal.segments.get(stretch.timeline, {})
            for segment in range(stretch.first, stretch.last + 1):
                if segment not in there:
                    lost.setdefault((stretch.timeline, segment), []).append(backup.label)
        total = max(total, sum(stretch.last - stretch.first + 1 for stretch in stretches))
    if not lost:
        return good("wal", f"{total} segments from the oldest backup to the newest segment on timeline {wal.newest_timeline}, no gap.")
    at_switch = any(place in edges for place in lost)
    names = [wal.name(timeline, segment) for timeline, segment in sorted(lost)]
    hit = sorted({label for labels in lost.values() for label in labels})
    where = "where one timeline follows another" if at_switch else "in the middle"
    count = counted(len(names), "segment of WAL is", "segments of WAL are")
    seen = (
        f"{count} missing {where} in the archive {wal.archive_id}: {listed(names)}. {listed(hit)} cannot be recovered beyond it. "
        "If a member still has it in pg_wal, push it with `pgbackrest archive-push`; otherwise take a full backup."
    )
    return bad("wal", "wal_missing_at_switch" if at_switch else "wal_missing", seen)


def check_archive_age(wal: Wal, now: float, limit_seconds: float) -> Check:
    """Tell whether WAL still arrives. An idle platform writes its heartbeat, so that a segment comes every minute."""
    arrived = wal.newest_arrival
    if arrived is None:
        return bad(
            "archive_age", "archive_empty", f"The archive {wal.archive_id} has no segment of WAL. See pg_stat_archiver on the leader."
        )
    age = max(now - arrived, 0.0)
    seen = f"The newest segment arrived {span(age)} ago; at most {span(limit_seconds)} are wanted"
    if age > limit_seconds:
        return bad("archive_age", "archive_stale", f"{seen}. See pg_stat_archiver and PostgreSQL's log on the leader.")
    return good("archive_age", f"{seen}.")


# --- pgbackrest verify -----------------------------------------------------------------------------------------------


@dataclass
class Verified:
    """What `pgbackrest verify --output=text --verbose` printed."""

    files: list[tuple[str, str]] = field(default_factory=list)  # what is wrong, and the file; backups' and WAL's
    backups: dict[str, tuple[str, int, int]] = field(default_factory=dict)  # by label: status, files, sound ones
    archives: dict[str, tuple[int, int]] = field(default_factory=dict)  # by archive: segments, sound ones
    problems: list[str] = field(default_factory=list)  # sentences, such as "No usable backup.info file"


def parse_verify(text: str) -> Verified:
    """Read its text, and its messages of the level info, which name files."""
    found = Verified()
    for line in text.splitlines():
        named = _FOUND.search(line)
        if named:
            found.files.append((named[1], named[2]))
        line = line.strip()
        archive, backup = _ARCHIVE.match(line), _BACKUP.match(line)
        if archive:
            found.archives[archive[1]] = (int(archive[2]), int(archive[3]))
        elif backup:
            found.backups[backup[1]] = (backup[2], int(backup[3]), int(backup[4]))
        elif line.startswith("No usable ") and line not in found.problems:
            found.problems.append(line)
    return found


def check_verify(found: Verified, labels: Sequence[str], there: Iterable[str] | None = None) -> Check:
    """Tell whether every file of every backup, and every segment, has the checksum that it was stored with.

    Args:
        found: what verify printed.
        labels: of the backups that there were before and after, so that an expiry meanwhile is no failure.
        there: paths below the archive afterwards, for the same purpose.
    """
    if found.problems:
        return bad("checksums", "info_missing", f"pgbackrest verify: {'; '.join(found.problems)}.")
    unread = [label for label in labels if label not in found.backups]
    if unread:
        return bad("checksums", "not_verified", f"pgbackrest verify says nothing about {listed(unread)}.")
    known = set(there) if there is not None else None
    wal = [(what, path) for what, path in found.files if "/" in path and path.partition("/")[0] in found.archives]
    wal = [(what, path) for what, path in wal if known is None or path in known]
    files = [(what, path) for what, path in found.files if path.partition("/")[0] in labels]
    wrong = {label: found.backups[label] for label in labels if found.backups[label][0] != "valid"}
    if wrong:
        counts = listed([f"{label} has {total - sound} of {total}" for label, (dummy, total, sound) in wrong.items()])
        names = listed([f"{what} of {path}" for what, path in files]) or "see verify's log"
        missing = any("missing" in what for what, dummy in files) or not files
        seen = f"Files that are not as they were stored: {counts}: {names}. Keep what is whole and take a full backup."
        return bad("checksums", "file_missing" if missing else "file_damaged", seen)
    if wal:
        names = listed([f"{what} of {path}" for what, path in wal])
        return bad("checksums", "wal_damaged", f"Segments of WAL that are not as they were stored: {names}. Take a full backup.")
    unnamed = [
        name
        for name, (total, sound) in found.archives.items()
        if total > sound and not any(path.startswith(f"{name}/") for dummy, path in found.files)
    ]
    if unnamed:
        return bad("checksums", "wal_damaged", f"pgbackrest verify found segments of {listed(unnamed)} that are not as they were stored.")
    files_read = sum(total for dummy, total, sound in (found.backups[label] for label in labels))
    segments_read = sum(total for total, dummy in found.archives.values())
    return good(
        "checksums",
        f"{files_read} files of {counted(len(labels), 'backup', 'backups')} and {segments_read} segments are as they were stored.",
    )
