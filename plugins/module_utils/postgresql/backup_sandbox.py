# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a backup is restored and started beside everything else, without touching anything: settings, commands, judgements. Pure.

All of it lies in one scratch directory, runs in transient units of systemd that may write there and nowhere else, and speaks to nobody:
no network, no archive, no live server's socket or data.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_check import Check, bad, good, listed, span
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_info import (
    Backup,
    TargetError,
    backup_for,
    moment,
    sql_moment,
)
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.pgbackrest import PROGRAM, sections
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.wal import lsn, lsn_text

MARKER = ".uptier-backup-verify"
PREFIX = "proof-"
UNITS = "uptier-backup-verify-"
PORT = 5432  # of a socket in a directory of its own
RESERVE_BYTES = 512 << 20  # beside the data: WAL while it is replayed, files of the server
GROWTH = 1.1  # of the data while WAL is replayed
CLOCK_SECONDS = 60.0  # by which clocks of hosts may differ
HEARTBEAT = "uptier.heartbeat"
# Of production, where it has a server on the same host: what is restored must not even see them.
HIDDEN = ("/var/lib/postgresql", "/run/postgresql")

# What the server of a restored backup needs of its old settings: prepared transactions are taken over at the end of recovery.
_CONTROL = {"max_prepared_xacts setting": "max_prepared_transactions", "max_locks_per_xact setting": "max_locks_per_transaction"}


@dataclass(frozen=True)
class Limits:
    """What the restored server and its restore may use; 0 is no limit."""

    memory_mb: int = 1024
    cpu_percent: int = 100  # 100 is one core
    seconds: float = 6 * 3600.0
    network: bool = False  # a repository that is not on this host is reached over the network


@dataclass(frozen=True)
class Point:
    """What is restored, and up to where."""

    backup: Backup
    kind: str  # latest, immediate, time or lsn
    value: str = ""  # a moment as PostgreSQL reads it, or a position
    moment: float | None = None  # of the kind time

    @property
    def shown(self) -> str:
        return f"{self.backup.label} to {self.kind}{f' {self.value}' if self.value else ''}"


# How a backup is asked for without its label.
ANY = ("newest", "oldest", "random")


def choose(backups: Sequence[Backup], backup: str, target: str, value: str, until: float, chance: random.Random) -> Point:
    """Return what to restore.

    Args:
        backups: oldest first.
        backup: newest, oldest, random or a label; the point decides itself where it is a time or a position, unless a label is given.
        target: latest, immediate, label, time, lsn or random (a moment between the oldest backup and `until`).
        value: moment, position or label.
        until: when the newest segment arrived, in seconds since the epoch.
        chance: for what is random.

    Raises:
        TargetError: no_backup or no_such_point.
    """
    sound = [item for item in backups if not item.damaged]
    if not sound:
        raise TargetError("no_backup", "There is no backup without damaged pages.")
    if target == "random":
        # The newest segment holds commits up to about its arrival; recovery to a moment needs one behind it.
        first, last = sound[0].stopped + 1.0, until - CLOCK_SECONDS
        target, value = "time", f"{first + chance.random() * max(last - first, 0.0):.0f}"
    if target == "label":
        return Point(backup_for(backups, "label", value), "immediate")
    if target in ("time", "lsn"):
        chosen = backup_for(backups, target, value) if backup in ANY else backup_for(backups, "label", backup)
        if target == "lsn":
            return Point(chosen, "lsn", lsn_text(lsn(value)))
        when = moment(value)
        return Point(chosen, "time", sql_moment(when), when)
    named = {"newest": sound[-1], "oldest": sound[0], "random": chance.choice(sound)}
    chosen = named[backup] if backup in named else backup_for(backups, "label", backup)
    return Point(chosen, target)


def needed_bytes(point: Point) -> int:
    return int(point.backup.size_bytes * GROWTH) + RESERVE_BYTES


def check_space(point: Point, free_bytes: int, directory: str) -> Check:
    """Tell whether the scratch disk has room; nothing is begun where it has not."""
    wanted = needed_bytes(point)
    seen = f"{directory} has {free_bytes >> 20} MB free; {point.backup.label} needs {wanted >> 20} MB"
    if free_bytes < wanted:
        return bad("scratch", "scratch_too_small", f"{seen}. Free some, or name another directory.")
    return good("scratch", f"{seen}.")


def own_config(text: str, stanza: str, scratch: str, processes: int) -> str:
    """Return pgBackRest's settings for the scratch, from those of the host: where the repositories are, and nothing else.

    A `pgN-host` of the host's own settings would have the restore go to the live server.
    """
    known = sections(text)
    kept = {
        section: [
            f"{name}={value}"
            for name, value in known.get(section, [])
            if re.match(r"(repo\d*-|cipher|io-timeout|protocol-timeout|cmd-ssh|sck-|tcp-)", name)
        ]
        for section in ("global", stanza)
    }
    own = [
        f"log-path={scratch}",
        "log-level-file=off",
        "log-level-console=warn",
        f"lock-path={scratch}/lock",
        f"spool-path={scratch}/spool",
        f"process-max={processes}",
    ]
    return "\n".join(["[global]", *own, *kept["global"], f"[{stanza}]", *kept[stanza], f"pg1-path={scratch}/data", ""])


def restore_command(config: str, stanza: str, scratch: str, point: Point) -> list[str]:
    return [
        PROGRAM,
        f"--config={config}",
        f"--stanza={stanza}",
        f"--repo={point.backup.repository}",
        f"--set={point.backup.label}",
        "--type=default",
        "--archive-mode=off",
        f"--tablespace-map-all={scratch}/tablespaces",
        "restore",
    ]


def control_settings(text: str) -> dict[str, str]:
    """Return the settings that pg_controldata of the restored data asks to be kept."""
    seen = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {setting: seen[name].strip() for name, setting in _CONTROL.items() if name in seen}


def quoted(value: str) -> str:
    """Return a value as postgresql.conf has it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def private_server(directory: str, memory_mb: int) -> dict[str, str]:
    """Return the settings of a server that is there to be looked at: all of it in one directory, a socket for its user, no archive.

    With hot_standby off nobody asks for as many connections as the source has, and the server answers when recovery is complete.

    Args:
        directory: with data, socket and the files of settings.
        memory_mb: that the server may use; 0 is no limit.
    """
    return {
        "data_directory": f"{directory}/data",
        "hba_file": f"{directory}/pg_hba.conf",
        "ident_file": f"{directory}/pg_ident.conf",
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": f"{directory}/socket",
        "unix_socket_permissions": "0700",
        "archive_mode": "off",
        "hot_standby": "off",
        "shared_buffers": f"{max(min(memory_mb // 4, 1024), 16)}MB" if memory_mb else "256MB",
        "max_connections": "30",
        "max_wal_senders": "0",
        "max_logical_replication_workers": "0",
        "huge_pages": "off",
        "jit": "off",
        "ssl": "off",
        "logging_collector": "off",
        "log_destination": "stderr",
        "timezone": "UTC",
    }


def settings_file(settings: Mapping[str, str]) -> str:
    """Return settings as postgresql.conf has them."""
    return "".join(f"{name} = {quoted(value)}\n" for name, value in settings.items())


def server_config(scratch: str, config: str, stanza: str, point: Point, control: Mapping[str, str], memory_mb: int) -> str:
    """Return postgresql.conf of the scratch server; the one of the backup is never read."""
    settings = {
        **private_server(scratch, memory_mb),
        "restore_command": f'{PROGRAM} --config={config} --stanza={stanza} --repo={point.backup.repository} archive-get %f "%p"',
        "recovery_target_action": "promote",
        "recovery_target_timeline": "current" if point.kind == "immediate" else "latest",
        "shared_preload_libraries": "",
        # Left to the end of the run in memory that no other server shares: nothing survives the unit.
        "dynamic_shared_memory_type": "mmap",
        "autovacuum": "off",
        "fsync": "off",
        "full_page_writes": "off",
        "max_wal_size": "256MB",
        "log_timezone": "UTC",
        **control,
    }
    if point.kind == "immediate":
        settings["recovery_target"] = "immediate"
    elif point.kind in ("time", "lsn"):
        settings[f"recovery_target_{point.kind}"] = point.value
    return settings_file(settings)


def apart(directory: str, memory_mb: int) -> dict[str, str]:
    """Return what keeps a unit that looks at restored data from everything else: it writes in its directory alone, and yields to all others.

    Args:
        directory: the only place that may be written.
        memory_mb: that it may use; 0 is no limit.
    """
    return {
        "ProtectSystem": "strict",
        "ReadWritePaths": directory,
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "PrivateIPC": "yes",
        "NoNewPrivileges": "yes",
        "UMask": "0077",
        "MemoryMax": f"{memory_mb}M" if memory_mb else "",
        "CPUWeight": "20",
        "IOWeight": "20",
        "Nice": "10",
        "OOMScoreAdjust": "500",
    }


def as_properties(settings: Mapping[str, str]) -> list[str]:
    """Return settings of a unit as systemd-run takes them; empty ones are left out."""
    return [f"--property={name}={value.strip()}" for name, value in settings.items() if value]


def unit_name(stanza: str, phase: str) -> str:
    """Return the name of a transient unit."""
    return f"{UNITS}{re.sub(r'[^A-Za-z0-9_.]', '_', stanza)}-{phase}.service"


def sandboxed(
    stanza: str,
    phase: str,
    command: Sequence[str],
    scratch: str,
    limits: Limits,
    user: str,
    serves: bool = False,
    hidden: Sequence[str] = (),
    tablespaces: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the command that runs another one in a transient unit.

    Args:
        stanza: whose backup it is.
        phase: restore, server or amcheck.
        command: what to run.
        scratch: the only place that may be written.
        limits: what it may use.
        user: as whom.
        serves: it goes on until it is stopped.
        hidden: directories that it must not even see, such as a live server's; they exist.
        tablespaces: places at which WAL makes tablespaces, each with the directory of the scratch that is there instead.
    """
    kept = {
        "User": user,
        "WorkingDirectory": "/",
        **apart(scratch, limits.memory_mb),
        # An empty file system each: a tablespace below may need its place there.
        "TemporaryFileSystem": " ".join(f"{path}:ro" for path in hidden),
        "BindPaths": " ".join(f"{own}:{place}" for place, own in (tablespaces or {}).items()),
        "PrivateDevices": "yes",
        "PrivateNetwork": "" if limits.network else "yes",
        "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6" if limits.network else "AF_UNIX",
        "ProtectControlGroups": "yes",
        "ProtectKernelModules": "yes",
        "ProtectKernelTunables": "yes",
        "ProtectKernelLogs": "yes",
        "CapabilityBoundingSet": " ",
        "RestrictSUIDSGID": "yes",
        "LockPersonality": "yes",
        "CPUQuota": f"{limits.cpu_percent}%" if limits.cpu_percent else "",
        "RuntimeMaxSec": f"{limits.seconds:.0f}",
        "StandardOutput": f"truncate:{scratch}/{phase}.log",
        "StandardError": f"truncate:{scratch}/{phase}.log",
        **({"Type": "exec", "KillSignal": "SIGQUIT", "TimeoutStopSec": "20"} if serves else {}),
    }
    return [
        "systemd-run",
        "--quiet",
        "--collect",
        f"--unit={unit_name(stanza, phase)}",
        *([] if serves else ["--wait"]),
        *as_properties(kept),
        "--",
        *command,
    ]


# --- what is found in it -----------------------------------------------------------------------------------------------


def failed_restore(point: Point, log: str) -> Check:
    """Say why pgBackRest could not restore a backup, by its messages."""
    said = explain_server(log)
    reason = "restore_failed"
    if "[055]" in said or "missing file" in said:
        reason = "file_missing"
    elif "[029]" in said or "hecksum" in said or "corrupt" in said:
        reason = "file_damaged"
    elif "[095]" in said or "CryptoError" in said:
        reason = "wrong_key"
    return bad("restore", reason, f"pgbackrest restore of {point.backup.label} failed: {said}")


def check_reached(point: Point, position: str, newest_segment: int, segment_bytes: int) -> Check:
    """Tell whether recovery to the newest point went through all WAL that was in the archive when it began.

    PostgreSQL ends recovery in peace where a segment is missing, and where it finds no history of the next timeline.
    """
    if point.kind != "latest":
        return good("recovery", f"Recovered {point.shown}; the server serves from {position}.")
    reached = lsn(position)
    if reached < (newest_segment + 1) * segment_bytes:
        seen = (
            f"Recovery of {point.backup.label} ended before the newest segment: at {position}, and the archive reaches to "
            f"{lsn_text((newest_segment + 1) * segment_bytes)}. "
            "A segment or a history is missing or damaged."
        )
        return bad("recovery", "recovery_short", seen)
    return good("recovery", f"Recovered {point.shown}, through all WAL of the archive, to {position}.")


def check_heartbeat(point: Point, beat: float | None, now: float, limit_seconds: float) -> Check:
    """Tell by the row that the leader writes every fifteen seconds how much a disaster at this moment would have cost."""
    if beat is None:
        return good("rpo", f"The restored data has no row in {HEARTBEAT}: it is older than the heartbeat. Nothing is said about its age.")
    if point.kind == "time" and point.moment is not None:
        if beat > point.moment + CLOCK_SECONDS:
            seen = f"The restored data has a heartbeat of {sql_moment(beat)}, and was recovered to {point.value}."
            return bad("rpo", "beyond_target", f"{seen} Do the clocks of the database hosts agree?")
        return good("rpo", f"The last heartbeat is of {span(max(point.moment - beat, 0.0))} before the wanted moment.")
    age = max(now - beat, 0.0)
    seen = f"The last heartbeat in the restored data is {span(age)} old"
    if point.kind != "latest":
        return good("rpo", f"{seen}.")
    if age > limit_seconds:
        return bad(
            "rpo",
            "rpo_exceeded",
            f"{seen}; at most {span(limit_seconds)} are wanted. Does the archive get WAL, and the leader its heartbeat?",
        )
    return good("rpo", f"{seen}; at most {span(limit_seconds)} are wanted.")


def check_targets(proof: Mapping[str, Any], rto_seconds: float, rpo_seconds: float) -> list[Check]:
    """Hold what a restore took, and what a disaster would have cost, against what is promised.

    Args:
        proof: with rto_seconds, and rpo_seconds where the restored data says it.
        rto_seconds: until the restored server serves; 0 is no target.
        rpo_seconds: of what was written last; 0 is no target.
    """
    found = []
    if rto_seconds:
        took = proof["rto_seconds"]
        seen = f"The restored server served after {span(took)}; the target is {span(rto_seconds)}"
        advice = "Take full or differential backups more often, or give the backup host a faster disk and more processors."
        found.append(good("rto_target", f"{seen}.") if took <= rto_seconds else bad("rto_target", "rto_missed", f"{seen}. {advice}"))
    if rpo_seconds:
        lost = proof.get("rpo_seconds")
        if lost is None:
            seen = (
                f"The restored data has no row in {HEARTBEAT}, so nothing says how much would be lost; the target is {span(rpo_seconds)}."
            )
            found.append(bad("rpo_target", "rpo_unknown", seen))
        else:
            seen = f"{span(lost)} would have been lost; the target is {span(rpo_seconds)}"
            advice = "See pg_stat_archiver on the leader: a segment has to arrive each minute."
            found.append(good("rpo_target", f"{seen}.") if lost <= rpo_seconds else bad("rpo_target", "rpo_missed", f"{seen}. {advice}"))
    return found


def check_amcheck(code: int, output: str) -> Check:
    """Judge what pg_amcheck printed."""
    lines = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
    if code == 0:
        return good("amcheck", "Every table and every index agrees with the other.")
    found = [line for line in lines if not line.startswith(("NOTICE", "DETAIL", "LOCATION"))]
    if code == 2:
        kind = "index_damaged" if any("index" in line for line in found) else "table_damaged"
        seen = f"The restored database is damaged, and so was the live one when the backup was taken: {listed(found) or 'no message'}."
        return bad("amcheck", kind, f"{seen} Look at the live database with `pg_amcheck --heapallindexed`; REINDEX repairs an index.")
    return bad("amcheck", "amcheck_failed", f"pg_amcheck ended with {code}: {listed(found[-3:]) or 'no message'}.")


def judge_probe(number: int, probe: Mapping[str, Any], seen: str | None, problem: str = "") -> Check:
    """Hold the answer of the user's own question against what he expects.

    Args:
        number: of the probe, from 1.
        probe: name, database, sql, and expected (equal as text) or at_least (a number).
        seen: the first value of the first row.
        problem: why there is none.
    """
    name = f"probe {probe.get('name') or number}"
    if problem:
        return bad(name, "probe_failed", f"In {probe['database']}: {problem}")
    shown = "NULL" if seen is None else seen[:200]
    if probe.get("at_least") is not None:
        least = float(probe["at_least"])
        try:
            enough = seen is not None and float(seen) >= least
        except ValueError:
            enough = False
        if not enough:
            return bad(name, "probe_differs", f"In {probe['database']}: {shown}, and at least {least:g} is expected.")
        return good(name, f"{shown}, at least {least:g}.")
    if probe.get("expected") is not None and seen != str(probe["expected"]):
        return bad(name, "probe_differs", f"In {probe['database']}: {shown}, and {probe['expected']} is expected.")
    return good(name, shown)


def missing_tablespace(log: str) -> str:
    """Return the place at which replayed WAL wanted to make a tablespace and could not; empty where that is not so."""
    found = re.findall(r'FATAL:\s+(?:could not set permissions on directory "(/[^"]+)"|directory "(/[^"]+)" does not exist)', log)
    return "".join(found[-1]) if found else ""


def explain_server(log: str) -> str:
    """Return the last fatal line of a server's log that says why it did not start. Our own questions meanwhile are none."""
    said = [line for line in log.splitlines() if not re.search(r"the database system is (not (yet )?accepting|starting)", line)]
    lines = [line for line in said if re.search(r"\b(FATAL|PANIC|ERROR|HINT):", line)]
    return " ".join(" ".join(lines[-3:]).split())[:600] or " ".join(log.split())[-300:] or "it said nothing"
