# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Backups and archive of a pgBackRest repository as data, and which backup serves a point in time. Pure functions.

Moments are seconds since the epoch, as pgBackRest counts them; positions are PostgreSQL's LSN as text ("0/3000028"). Read from the
JSON of pgBackRest 2.45 and newer.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.pgbackrest import NO_BACKUP, OK, REMEDIES, elsewhere, stanza_of
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.wal import lsn

TYPES = ("latest", "label", "time", "lsn", "immediate")


class TargetError(PostgresqlError):
    """No backup serves the wanted point; the message says which there are."""


@dataclass(frozen=True)
class Backup:
    """One backup of one repository."""

    label: str
    type: str  # full, diff or incr
    repository: int
    archive_id: str  # "17-1": the directory of its WAL; another one after PostgreSQL was upgraded or made anew
    started: int
    stopped: int
    size_bytes: int  # of the database
    stored_bytes: int  # that this backup added to the repository
    lsn_start: str
    lsn_stop: str
    wal_start: str
    wal_stop: str
    prior: str  # label that it builds on; empty for a full one
    references: tuple[str, ...]  # labels whose files it needs
    damaged: bool  # it holds pages with a wrong checksum

    @property
    def timeline(self) -> int:
        return int(self.wal_start[:8] or "0", 16)

    def as_data(self) -> dict[str, Any]:
        return {**asdict(self), "references": list(self.references), "timeline": self.timeline, "seconds": self.stopped - self.started}


@dataclass(frozen=True)
class Archive:
    """Oldest and newest segment of one version of the cluster in one repository; empty where there is none."""

    archive_id: str
    repository: int
    oldest: str
    newest: str

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Repository:
    """What a stanza has, backups oldest first."""

    stanza: str
    code: int  # pgBackRest's status of the stanza
    message: str
    status: dict[int, tuple[int, str]] = field(default_factory=dict)  # code and message by number of repository
    ciphers: dict[int, str] = field(default_factory=dict)  # by number of repository: none or aes-256-cbc
    backups: tuple[Backup, ...] = ()
    archives: tuple[Archive, ...] = ()
    locked: bool = False  # a backup or expiry runs

    def only(self, number: int) -> Repository:
        """Return what one of several repositories has.

        Raises:
            TargetError: no_repository.
        """
        if self.status and number not in self.status:
            known = " and ".join(map(str, sorted(self.status)))
            raise TargetError("no_repository", f"There is no repository {number} of {self.stanza}. This host knows {known}.")
        return replace(
            self,
            status={key: value for key, value in self.status.items() if key == number},
            ciphers={key: value for key, value in self.ciphers.items() if key == number},
            backups=tuple(backup for backup in self.backups if backup.repository == number),
            archives=tuple(archive for archive in self.archives if archive.repository == number),
        )

    def as_data(self) -> dict[str, Any]:
        usable = [backup for backup in self.backups if not backup.damaged]
        return {
            "stanza": self.stanza,
            "status": {"code": self.code, "message": self.message},
            "repositories": [
                {"number": number, "code": code, "message": message, "cipher": self.ciphers.get(number, "none")}
                for number, (code, message) in sorted(self.status.items())
            ],
            "backups": [backup.as_data() for backup in self.backups],
            "archives": [archive.as_data() for archive in self.archives],
            "newest": usable[-1].label if usable else None,
            "earliest": min((backup.stopped for backup in usable), default=None),
            "locked": self.locked,
        }


def moment(text: str | float) -> float:
    """Return seconds since the epoch for such a number, or for a date and time with its distance from UTC (ISO 8601).

    Raises:
        ValueError: it is neither. A time without a zone is refused: hosts and people differ in theirs.
    """
    try:
        return float(text)
    except ValueError:
        pass
    hint = f"{text} is no moment. Give seconds since the epoch, or a time with its zone, such as 2026-11-20 23:00:00+00:00"
    try:
        found = datetime.datetime.fromisoformat(str(text).strip())
    except ValueError:
        raise ValueError(hint) from None
    if found.tzinfo is None:
        raise ValueError(hint)
    return found.timestamp()


def sql_moment(when: float) -> str:
    """Return a moment as PostgreSQL reads it."""
    return datetime.datetime.fromtimestamp(when, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")


def readable(text: str) -> str:
    """Return what pgBackRest said without what it decrypted with a wrong key, which is no text."""
    return " ".join(re.sub(r"[^ -~]+", " ", text).split())[:300]


def _backup(entry: Mapping[str, Any], histories: Mapping[tuple[int, int], str]) -> Backup:
    key = int(entry["database"].get("repo-key", 1))
    stored = entry["info"]["repository"]
    positions, segments = entry.get("lsn") or {}, entry.get("archive") or {}
    return Backup(
        label=entry["label"],
        type=entry["type"],
        repository=key,
        archive_id=histories.get((key, int(entry["database"]["id"])), ""),
        started=int(entry["timestamp"]["start"]),
        stopped=int(entry["timestamp"]["stop"]),
        size_bytes=int(entry["info"]["size"]),
        stored_bytes=int(stored.get("delta") or 0),
        lsn_start=positions.get("start") or "",
        lsn_stop=positions.get("stop") or "",
        wal_start=segments.get("start") or "",
        wal_stop=segments.get("stop") or "",
        prior=entry.get("prior") or "",
        references=tuple(entry.get("reference") or ()),
        damaged=bool(entry.get("error")),
    )


def read(info: Sequence[Mapping[str, Any]], stanza: str) -> Repository:
    """Return what `info --output=json` says about a stanza; one that is unknown has the status "missing stanza path"."""
    entry = stanza_of(info, stanza)
    archives = [
        Archive(item["id"], int(item["database"].get("repo-key", 1)), item.get("min") or "", item.get("max") or "")
        for item in entry.get("archive") or []
    ]
    histories = {(int(item["database"].get("repo-key", 1)), int(item["database"]["id"])): item["id"] for item in entry.get("archive") or []}
    backups = sorted((_backup(item, histories) for item in entry.get("backup") or []), key=lambda found: (found.stopped, found.label))
    locks = (entry["status"].get("lock") or {}).get("backup") or {}
    return Repository(
        stanza=stanza,
        code=int(entry["status"]["code"]),
        message=readable(entry["status"]["message"]),
        status={int(repo["key"]): (int(repo["status"]["code"]), readable(repo["status"]["message"])) for repo in entry.get("repo") or []},
        ciphers={int(repo["key"]): repo.get("cipher", "none") for repo in entry.get("repo") or []},
        backups=tuple(backups),
        archives=tuple(archives),
        locked=bool(locks.get("held")),
    )


def refuse_unusable(found: Repository, number: int = 0) -> None:
    """Raise an error with its reason where pgBackRest cannot read the repository of that number (0: any of them).

    Raises:
        TargetError: wrong_key, missing_key, unreachable, no_bucket, bucket_denied, no_stanza, no_backup or repository.
    """
    seen = {key: value for key, value in found.status.items() if number in (0, key)}
    broken, code, message = (
        next(((key, *told) for key, told in seen.items() if told[0]), (0, OK, "")) if seen else (0, found.code, found.message)
    )
    if code == OK:
        return
    if "CryptoError" in message or "FormatError" in message:
        # The rest is what was decrypted with the wrong key, or has not been decrypted.
        what = message.partition("FormatError: key/value")[0].rstrip(" :")
        if "none" in {found.ciphers.get(key, "none") for key in seen}:
            raise TargetError(
                "missing_key",
                f"The repository of {found.stanza} cannot be read: {what}. It is no text, and no key is configured: is repo1-cipher-pass "
                "missing in /etc/pgbackrest/pgbackrest.conf? The role pgbackrest writes it from vault_pgbackrest_cipher_pass.",
            )
        raise TargetError("wrong_key", f"The repository of {found.stanza} cannot be read: {what}. {REMEDIES[95][1]}")
    if broken > 1 and code not in (1, NO_BACKUP, 3):
        reason, remedy = elsewhere(message)
        raise TargetError(reason, f"Repository {broken} of {found.stanza} cannot be used: {message.partition(': ***')[0]}. {remedy}")
    if "ConnectError" in message or "HostInvalid" in message:
        raise TargetError("unreachable", f"The repository of {found.stanza} does not answer: {message}. {REMEDIES[49][1]}")
    if code == NO_BACKUP:
        raise TargetError("no_backup", f"The stanza {found.stanza} has no backup. Start pgbackrest-backup@full.service on the backup host.")
    if code in (1, 3):
        raise TargetError(
            "no_stanza",
            f"The repository has no usable stanza {found.stanza} ({message}): its directory, backup.info or archive.info is not there. "
            "Is its file system mounted? Restore these files from a copy, or run the platform's playbook and take a full backup.",
        )
    raise TargetError("repository", f"The repository of {found.stanza} reports: {message}. {REMEDIES[103][1]}")


def timelines_of(backups: Sequence[Backup]) -> list[int]:
    return sorted({backup.timeline for backup in backups})


def backup_for(backups: Sequence[Backup], kind: str, target: str | float = "") -> Backup:
    """Return the backup from which a point is reached soonest: the newest one that ended before it.

    Args:
        backups: oldest first, as `read` gives them; damaged ones are passed over unless named by their label.
        kind: latest, label, immediate (the end of a backup itself, the newest or the one of that label), time or lsn.
        target: the label, moment (see `moment`) or position.

    Raises:
        TargetError: no_backup or no_such_point, with the points that there are.
    """
    if kind not in TYPES:
        raise TargetError("no_such_point", f"A point is one of {', '.join(TYPES)}, not {kind}.")
    sound = [backup for backup in backups if not backup.damaged]
    if kind == "label" or (kind == "immediate" and target):
        named = [backup for backup in backups if backup.label == target]
        if not named:
            known = ", ".join(backup.label for backup in backups) or "none"
            raise TargetError("no_such_point", f"There is no backup {target}. There are: {known}.")
        return named[-1]
    if not sound:
        raise TargetError("no_backup", "There is no backup without damaged pages.")
    if kind in ("latest", "immediate"):
        return sound[-1]
    try:
        wanted, position = (moment(target), 0) if kind == "time" else (0.0, lsn(str(target)))
    except ValueError as error:
        raise TargetError("no_such_point", f"{error}.") from None
    if kind == "time":
        earlier = [backup for backup in sound if backup.stopped <= wanted]
        if not earlier:
            raise TargetError(
                "no_such_point",
                f"No backup ended before {wanted:.0f} (seconds since the epoch). The oldest, {sound[0].label}, ended at {sound[0].stopped}.",
            )
        return earlier[-1]
    earlier = [backup for backup in sound if backup.lsn_stop and lsn(backup.lsn_stop) <= position]
    if not earlier:
        raise TargetError(
            "no_such_point",
            f"No backup ended before {target}. The oldest, {sound[0].label}, ended at {sound[0].lsn_stop or 'an unknown place'}.",
        )
    return earlier[-1]
