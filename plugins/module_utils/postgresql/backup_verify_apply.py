# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verifies backups: asks the repository, restores into a scratch directory, starts it, looks at it, and removes everything.

The same code is a module of Ansible and a timer's program. Whatever ends it, the next one stops the units and removes the directories
that it has left, which it knows by their names and by a marker of ours. Nothing is written outside the scratch directory, the reports
and the file for node_exporter.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.host.files import locked, replace_file
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import backup_check as check
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import backup_report as report
from ansible_collections.uptier.platform.plugins.module_utils.postgresql import backup_sandbox as sandbox
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_apply import PgBackRest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_info import Repository, refuse_unusable
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import PostgresqlError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.pgbackrest import RepositoryError, local_path, read_config
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.session import Session, SessionError, SqlError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.wal import SEGMENT_BYTES, parse_history

NAME = "uptier backup verification"
KEPT_REPORTS = 60
MOST_TABLESPACES = 32

DEFAULTS: dict[str, Any] = {
    "level": "repository",
    "user": "postgres",
    "repository": 1,
    "max_age_seconds": 30 * 3600.0,
    "min_size_bytes": 0,
    "max_archive_age_seconds": 300.0,
    "max_rpo_seconds": 300.0,
    "rto_target_seconds": 0.0,
    "rpo_target_seconds": 0.0,
    "targets_required": False,
    "checksums": None,
    "backup": "newest",
    "target": "latest",
    "target_value": "",
    "scratch": "/var/lib/uptier/backup-verify",
    "memory_mb": 1024,
    "cpu_percent": 100,
    "timeout": 6 * 3600,
    "network": False,
    "processes": 1,
    "amcheck": True,
    "probes": [],
    "metrics": "",
    "reports": "",
    "cert": "",
    "key": "",
    "segment_bytes": SEGMENT_BYTES,
    "settle_seconds": 15.0,  # in which a segment that overtook another, or an expiry, comes to its end
}


class Interrupted(PostgresqlError):
    """Somebody has asked this process to end."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn a request to end into an exception, so that what was begun is removed."""

    def end(number: int, dummy: object) -> None:
        raise Interrupted(
            "interrupted", f"The verification was ended by {signal.Signals(number).name}. Everything was removed; start it again."
        )

    old = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class Verification:
    """One verification of one stanza; `run` gives its result."""

    def __init__(self, stanza: str, options: Mapping[str, Any], plan_only: bool = False) -> None:
        """Say what to verify.

        Args:
            stanza: whose backups.
            options: as DEFAULTS has them; what is lacking is taken from there.
            plan_only: read the repository and say what would be restored, but read no checksums and restore nothing.
        """
        unknown = sorted(set(options) - set(DEFAULTS))
        if unknown:
            raise RepositoryError("unknown_option", f"Unknown options: {', '.join(unknown)}. Known are {', '.join(sorted(DEFAULTS))}.")
        self.stanza, self.plan_only = stanza, plan_only
        self.given = {**DEFAULTS, **options}
        self.restores = self.given["level"] == "restore"
        wanted = self.given["checksums"]
        self.reads_all = (not self.restores if wanted is None else bool(wanted)) and not plan_only
        self.tool = PgBackRest(stanza, self.given["user"])
        self.checks: list[check.Check] = []
        self.proof: dict[str, Any] = {"phases": {}}
        self.begun = self.served = time.time()

    # --- the whole ---------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Verify, write metrics and reports, and return the result.

        Raises:
            PostgresqlError: not_root, busy, interrupted, or the report cannot be written or signed.
        """
        if os.geteuid() != 0:
            raise RepositoryError("not_root", "Only root can start the transient units of a verification. Use become.")
        base = Path(self.given["scratch"])
        base.mkdir(mode=0o711, parents=True, exist_ok=True)
        with self._alone(base), interruptible():
            clear(base)
            found, wal = self._repository()
            if found is not None and wal is not None:
                if self.restores:
                    self._restore(base, found, wal)
                elif self._named:
                    self._point(found, wal)
        self.proof["targets"] = {
            name: self.given[f"{name}_target_seconds"] for name in ("rto", "rpo") if self.given[f"{name}_target_seconds"]
        }
        result = report.result(
            self.stanza,
            self.given["repository"],
            self.given["level"],
            socket.gethostname(),
            self.begun,
            time.time(),
            self.checks,
            self.proof,
        )
        # That somebody has mistaken a label or a moment says nothing about the backups: no alert and no report comes of it.
        mistaken = self._named and any(item.reason == "no_such_point" for item in self.checks)
        return result if self.plan_only or mistaken else self._publish(result)

    @contextlib.contextmanager
    def _alone(self, base: Path) -> Iterator[None]:
        """Hold the scratch directory; the kernel lets go of it with the process."""
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(base / ".lock", 0))
            except BlockingIOError:
                raise RepositoryError(
                    "busy", f"Another verification uses {base}. Wait for its end: `systemctl status pgbackrest-verify` on this host."
                ) from None
            yield

    def _look(self, looks: Callable[[], check.Check]) -> check.Check:
        """Take the time of a check, and keep it."""
        begin = time.monotonic()
        found = looks()
        found = replace(found, seconds=time.monotonic() - begin)
        self.checks.append(found)
        return found

    # --- the repository ------------------------------------------------------------------------------------------------

    def _repository(self) -> tuple[Repository | None, check.Wal | None]:
        begin = time.monotonic()
        try:
            self._reachable()
            found = self.tool.info(self.given["repository"])
            number = self.given["repository"]
            refuse_unusable(found, number)
            found = replace(found, backups=tuple(backup for backup in found.backups if backup.repository == number))
            listings = self._listings()
        except PostgresqlError as error:
            self.checks.append(replace(check.bad("repository", error.reason, str(error)), seconds=time.monotonic() - begin))
            return None, None
        self.checks.append(
            replace(
                check.good("repository", f"{check.counted(len(found.backups), 'backup', 'backups')}; it can be read and written."),
                seconds=time.monotonic() - begin,
            )
        )
        given, now = self.given, time.time()
        self._look(lambda: check.check_age(found.backups, now, given["max_age_seconds"]))
        self._look(lambda: check.check_size(found.backups, given["min_size_bytes"]))
        self._look(lambda: check.check_pages(found.backups))
        reading = self._read(found, listings)
        if any(not item.ok for item in reading):
            # A backup, an expiry or the archive may be in the middle of something. What is wrong stays wrong.
            time.sleep(given["settle_seconds"])
            again = self.tool.info(self.given["repository"])
            labels = {backup.label for backup in again.backups}
            found = replace(found, backups=tuple(backup for backup in found.backups if backup.label in labels))
            listings = self._listings()
            reading = self._read(found, listings, [item for item in reading if item.name == "checksums" and item.ok])
        self.checks += reading
        wal = self._wal(listings[1], found)
        self._look(lambda: check.check_archive_age(wal, time.time(), given["max_archive_age_seconds"]))
        return found, wal

    def _reachable(self) -> None:
        """Look at the directory of a repository on this host: pgBackRest takes one that is not mounted for an empty one."""
        path = local_path(read_config(), self.stanza, self.given["repository"])
        if not path:
            return
        for option, reason, text in (
            ("-d", "unreachable", f"There is no directory {path}. Is its file system mounted?"),
            (
                "-w",
                "repository_read_only",
                f"{path} cannot be written by {self.given['user']}: no backup and no WAL arrives. See `findmnt -T {path}`.",
            ),
        ):
            target = path if option == "-d" else f"{path}/archive/{self.stanza}"
            if option == "-w" and self._as_user(["/usr/bin/test", "-e", target])[0]:
                continue
            if self._as_user(["/usr/bin/test", option, target])[0]:
                raise RepositoryError(reason, text)

    def _as_user(self, command: Sequence[str]) -> tuple[int, str]:
        code, out, err = self.tool.once(command, 120.0)
        return code, f"{out}{err}"

    def _listings(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what lies below the stanza's backups, the WAL's files, by path."""
        repo = f"--repo={self.given['repository']}"
        options = (repo, "--recurse", "--output=json", "--log-level-console=off", "--log-level-file=off")
        listings = [json.loads(self.tool.run("repo-ls", *options, f"{part}/{self.stanza}") or "{}") for part in ("backup", "archive")]
        return listings[0], listings[1]

    def _wal(self, archive: Mapping[str, Any], found: Repository) -> check.Wal:
        newest = found.backups[-1].archive_id if found.backups else (found.archives[-1].archive_id if found.archives else "")
        return check.wal_of(archive, newest, self.given["segment_bytes"])

    def _read(
        self, found: Repository, listings: tuple[dict[str, Any], dict[str, Any]], keep: Sequence[check.Check] = ()
    ) -> list[check.Check]:
        """Hold files, histories, WAL and checksums against what the catalogue says."""
        before, self.checks = self.checks, []
        wal = self._wal(listings[1], found)
        unreadable: dict[int, str] = {}
        for timeline in check.wanted_histories(wal, found.backups):
            if timeline in wal.files:
                try:
                    wal.histories[timeline] = parse_history(self.tool.history(wal.archive_id, timeline, self.given["repository"]))
                except (ValueError, PostgresqlError) as error:
                    unreadable[timeline] = " ".join(str(error).split())[:200]
        self._look(lambda: check.check_files(found.backups, listings[0], listings[1]))
        self._look(lambda: check.check_histories(wal, found.backups, unreadable))
        self._look(lambda: check.check_wal(wal, found.backups))
        if self.reads_all:
            if keep:
                self.checks += keep
            else:
                self._look(lambda: self._checksums(found))
        done, self.checks = self.checks, before
        return done

    def _checksums(self, found: Repository) -> check.Check:
        options = ("--output=text", "--verbose", "--log-level-console=info", "--log-level-file=off", "--log-level-stderr=off")
        try:
            text = self.tool.run("verify", f"--repo={self.given['repository']}", *options, seconds=float(self.given["timeout"]))
        except PostgresqlError as error:
            return check.bad("checksums", error.reason, str(error))
        there = {backup.label for backup in self.tool.info(self.given["repository"]).backups}
        labels = [backup.label for backup in found.backups if backup.label in there]
        return check.check_verify(check.parse_verify(text), labels, self._listings()[1])

    # --- the restore -----------------------------------------------------------------------------------------------------

    @property
    def _named(self) -> bool:
        """Tell whether a certain backup or point is asked for: it has to be there, also where nothing is restored."""
        return self.given["backup"] not in sandbox.ANY or bool(self.given["target_value"])

    def _point(self, found: Repository, wal: check.Wal) -> sandbox.Point | None:
        """Return what is to be proven; None, with the reason among the checks, where it cannot be had."""
        given = self.given
        try:
            return sandbox.choose(
                found.backups,
                given["backup"],
                given["target"],
                given["target_value"],
                wal.newest_arrival or time.time(),
                random.SystemRandom(),
            )
        except PostgresqlError as error:
            self.checks.append(check.bad("point", error.reason, str(error)))
            return None

    def _restore(self, base: Path, found: Repository, wal: check.Wal, again: bool = False) -> None:
        point = self._point(found, wal)
        if point is None:
            return
        self.proof.update(backup=point.backup.label, point=point.shown)
        free = os.statvfs(base)
        if not self._look(lambda: sandbox.check_space(point, free.f_bavail * free.f_frsize, str(base))).ok:
            return
        programs = f"/usr/lib/postgresql/{point.backup.archive_id.partition('-')[0]}/bin"
        if not os.path.exists(f"{programs}/postgres"):
            seen = f"There is no {programs}/postgres on this host. The backup host needs the Debian release of the database hosts; name another host."
            self.checks.append(check.bad("server", "no_server", seen))
            return
        if self.plan_only:
            return
        done = len(self.checks)
        scratch = tempfile.mkdtemp(prefix=sandbox.PREFIX, dir=base)
        try:
            Path(scratch, sandbox.MARKER).write_text(f"{self.stanza}\n", encoding="utf-8")
            self._in_scratch(scratch, programs, point, max(wal.segments.get(wal.newest_timeline, {}), default=0))
        finally:
            stop_units()
            remove(Path(scratch))
        if not all(item.ok for item in self.checks[done:]) and not again:
            left = self.tool.info(self.given["repository"])
            if point.backup.label not in {backup.label for backup in left.backups}:
                # It expired meanwhile, which is no failure: another one is proven.
                del self.checks[done - 1 :]
                kept = tuple(backup for backup in found.backups if backup.label in {other.label for other in left.backups})
                self._restore(base, replace(found, backups=kept), wal, again=True)

    def _in_scratch(self, scratch: str, programs: str, point: sandbox.Point, newest_segment: int) -> None:
        given = self.given
        limits = sandbox.Limits(given["memory_mb"], given["cpu_percent"], float(given["timeout"]), given["network"])
        config = f"{scratch}/pgbackrest.conf"
        files = {
            "pgbackrest.conf": sandbox.own_config(read_config(), self.stanza, scratch, given["processes"]),
            "pg_hba.conf": "local all all trust\n",
            "pg_ident.conf": "",
        }
        for name in ("data", "socket", "lock", "spool", "tablespaces"):
            os.mkdir(f"{scratch}/{name}", 0o700)
        for name, text in files.items():
            self._write(f"{scratch}/{name}", text)
        self._own(scratch)
        begin = time.monotonic()
        done = self._unit("restore", sandbox.restore_command(config, self.stanza, scratch, point), scratch, limits)
        self.proof["phases"]["restore"] = round(time.monotonic() - begin, 3)
        if done:
            failure = sandbox.failed_restore(point, self._log(scratch, "restore"))
            self.checks.append(replace(failure, seconds=time.monotonic() - begin))
            return
        self.checks.append(
            replace(
                check.good("restore", f"{point.backup.label} was restored, with the checksum of every file."),
                seconds=time.monotonic() - begin,
            )
        )
        self.proof["restored_bytes"] = point.backup.size_bytes
        middle = time.monotonic()
        control = sandbox.control_settings(self._as_user([f"{programs}/pg_controldata", "-D", f"{scratch}/data"])[1])
        self._write(f"{scratch}/postgresql.conf", sandbox.server_config(scratch, config, self.stanza, point, control, given["memory_mb"]))
        # What ALTER SYSTEM and the restore have set; everything is in our own file.
        self._write(f"{scratch}/data/postgresql.auto.conf", "")
        for name in ("postgresql.conf", "data/postgresql.auto.conf"):
            self._own(f"{scratch}/{name}")
        command = [f"{programs}/postgres", "-D", f"{scratch}/data", "-c", f"config_file={scratch}/postgresql.conf"]
        failed = self._start(command, scratch, limits)
        recovery = time.monotonic() - middle
        self.proof["phases"]["recovery"] = round(recovery, 3)
        log = self._log(scratch, "server")
        if failed:
            reached = "recovery ended before configured recovery target was reached" in log
            seen = f"The restored server did not start ({point.shown}): {sandbox.explain_server(log)}"
            self.checks.append(
                replace(check.bad("recovery", "target_not_reached" if reached else "recovery_failed", seen), seconds=recovery)
            )
            return
        self.proof["rto_seconds"] = round(time.monotonic() - begin, 3)
        # WAL that arrived while the server recovered is in it, so what is lost counts from now.
        self.served = time.time()
        self._examine(scratch, programs, point, newest_segment, limits, recovery)

    def _start(self, command: Sequence[str], scratch: str, limits: sandbox.Limits) -> bool:
        """Start the server; return whether it failed.

        A tablespace that was made after the backup is made again by its WAL, at its old place, which may be that of a live one. So
        its place in the unit is a directory of the scratch, and the server starts anew.
        """
        places: dict[str, str] = {}
        while self._unit("server", command, scratch, limits, True, places) or not self._serves(scratch):
            place = sandbox.missing_tablespace(self._log(scratch, "server"))
            if not place or place in places or len(places) >= MOST_TABLESPACES:
                return True
            places[place] = f"{scratch}/tablespace-{len(places)}"
            os.mkdir(places[place], 0o700)
            self._own(places[place])
            # systemd makes the place where it mounts; what was not there before is removed with the scratch.
            with Path(scratch, sandbox.MARKER).open("a", encoding="utf-8") as marker:
                marker.writelines(f"{path}\n" for path in [place, *map(str, Path(place).parents)] if not os.path.lexists(path))
        return False

    def _serves(self, scratch: str) -> bool:
        """Wait until recovery is complete and the server takes sessions; without one, until its unit has ended.

        Its readiness towards systemd means nothing here: without hot_standby it says so when recovery begins.
        """
        pause, unit = 0.05, sandbox.unit_name(self.stanza, "server")
        while True:
            try:
                with self._session(scratch, "postgres"):
                    return True
            except (SessionError, SqlError):
                if _call(["systemctl", "is-active", "--quiet", unit]).returncode:
                    return False
            time.sleep(pause)
            pause = min(pause * 1.5, 2.0)

    def _examine(
        self, scratch: str, programs: str, point: sandbox.Point, newest_segment: int, limits: sandbox.Limits, recovery: float
    ) -> None:
        """Look at the restored data."""
        try:
            with self._session(scratch, "postgres") as session:
                position = session.value("SELECT pg_current_wal_lsn()") or "0/0"
                there = session.value(f"SELECT to_regclass('{sandbox.HEARTBEAT}')")
                text = session.execute(f"SELECT extract(epoch FROM max(at)) FROM {sandbox.HEARTBEAT}")[0][0] if there else None
        except PostgresqlError as error:
            seen = f"The restored server does not answer: {error} Its log: {sandbox.explain_server(self._log(scratch, 'server'))}"
            self.checks.append(check.bad("recovery", "no_answer", seen))
            return
        beat = float(text) if text else None
        reached = sandbox.check_reached(point, position, newest_segment, self.given["segment_bytes"])
        self.checks.append(replace(reached, seconds=recovery))
        self.checks.append(sandbox.check_heartbeat(point, beat, self.served, self.given["max_rpo_seconds"]))
        if beat is not None and point.kind == "latest":
            self.proof["rpo_seconds"] = round(max(self.served - beat, 0.0), 3)
        self.proof["unproven_since"] = point.moment if point.kind == "time" else beat if beat is not None else float(point.backup.stopped)
        if self.given["targets_required"]:
            self.checks += sandbox.check_targets(
                self.proof, self.given["rto_target_seconds"], self.given["rpo_target_seconds"] if point.kind == "latest" else 0.0
            )
        if self.given["amcheck"]:
            self._look(lambda: self._amcheck(scratch, programs, limits))
        for number, probe in enumerate(self.given["probes"], 1):
            self._look(lambda number=number, probe=probe: self._probe(scratch, number, probe))

    def _amcheck(self, scratch: str, programs: str, limits: sandbox.Limits) -> check.Check:
        command = [
            f"{programs}/pg_amcheck",
            *("-h", f"{scratch}/socket", "-p", str(sandbox.PORT), "-U", self.given["user"], "-j", str(self.given["processes"])),
            *("--all", "--heapallindexed", "--install-missing=pg_catalog"),
        ]
        code = self._unit("amcheck", command, scratch, limits)
        return sandbox.check_amcheck(code, self._log(scratch, "amcheck"))

    def _probe(self, scratch: str, number: int, probe: Mapping[str, Any]) -> check.Check:
        try:
            with self._session(scratch, probe["database"]) as session:
                session.execute("SET default_transaction_read_only = on")
                session.execute(f"SET statement_timeout = {int(probe.get('timeout') or 60) * 1000}")
                rows = session.execute(probe["sql"])
        except (SessionError, SqlError) as error:
            return sandbox.judge_probe(number, probe, None, str(error))
        if not rows or not rows[0]:
            return sandbox.judge_probe(number, probe, None, "The statement gives no row.")
        return sandbox.judge_probe(number, probe, rows[0][0])

    def _session(self, scratch: str, database: str) -> Session:
        return Session(database, f"{scratch}/socket", sandbox.PORT, self.given["user"], NAME)

    def _unit(
        self,
        phase: str,
        command: Sequence[str],
        scratch: str,
        limits: sandbox.Limits,
        serves: bool = False,
        tablespaces: Mapping[str, str] | None = None,
    ) -> int:
        """Run a command in a transient unit; return its status, or whether its server could not be started."""
        hidden = [path for path in sandbox.HIDDEN if os.path.isdir(path)]
        argv = sandbox.sandboxed(self.stanza, phase, command, scratch, limits, self.given["user"], serves, hidden, tablespaces)
        return _call(argv).returncode

    def _log(self, scratch: str, phase: str) -> str:
        try:
            return Path(scratch, f"{phase}.log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _own(self, path: str) -> None:
        """Give a file, or all below a directory, to the user."""
        entry = pwd.getpwnam(self.given["user"])
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
        if os.path.isdir(path):
            for name in os.listdir(path):
                os.chown(os.path.join(path, name), entry.pw_uid, entry.pw_gid, follow_symlinks=False)

    @staticmethod
    def _write(path: str, text: str) -> None:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w", encoding="utf-8") as stream:
            stream.write(text)

    # --- what remains --------------------------------------------------------------------------------------------------

    def _publish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Write what was asked for: a signed report, and the file for node_exporter."""
        given = self.given
        before = earlier(given["reports"], self.stanza) if given["reports"] else []
        if given["reports"]:
            result["report"] = write_report(given, result)
        if given["metrics"] and os.path.isdir(os.path.dirname(given["metrics"])):
            replace_file(given["metrics"], report.as_metrics(result, before), 0o644)
        return result


# --- helpers -------------------------------------------------------------------------------------------------------------


def _call(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    # The same code runs on hosts without Ansible.
    return subprocess.run(  # pylint: disable=ansible-bad-function
        argv, capture_output=True, text=True, errors="replace", check=False, stdin=subprocess.DEVNULL
    )


def stop_units() -> None:
    """Stop all transient units of verifications, at once: nothing of them is kept."""
    units = f"{sandbox.UNITS}*.service"
    _call(["systemctl", "kill", "--signal=SIGKILL", units])
    _call(["systemctl", "stop", units])
    _call(["systemctl", "reset-failed", units])


def remove(scratch: Path) -> None:
    """Remove a scratch directory, and the empty places for tablespaces that its marker names, the deepest first."""
    made = (scratch / sandbox.MARKER).read_text(encoding="utf-8").splitlines()[1:] if (scratch / sandbox.MARKER).exists() else []
    for place in made:
        if os.path.isdir(place) and not os.path.islink(place):
            with contextlib.suppress(OSError):  # it is somebody's now
                os.rmdir(place)
    shutil.rmtree(scratch)


def clear(base: Path) -> None:
    """Remove what a verification that was killed has left: its units first, then its directories."""
    left = [Path(name) for name in glob.glob(str(base / f"{sandbox.PREFIX}*"))]
    stop_units()
    for directory in left:
        if directory.is_symlink() or not directory.is_dir():
            continue
        if (directory / sandbox.MARKER).exists():
            remove(directory)
        elif not any(directory.iterdir()):
            directory.rmdir()


def earlier(directory: str, stanza: str) -> list[dict[str, Any]]:
    """Return earlier results, oldest first; what cannot be read is passed over."""
    found = []
    for path in sorted(glob.glob(f"{glob.escape(directory)}/{glob.escape(stanza)}-*.json")):
        try:
            found.append(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            continue
    return found


def write_report(given: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Write JSON and HTML with a signature each, forget the oldest ones, and return the path of the JSON."""
    directory = given["reports"]
    os.makedirs(directory, mode=0o750, exist_ok=True)
    stem = f"{directory}/{result['stanza']}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(result['begun']))}"
    for suffix, text in (("json", report.as_json(result)), ("html", report.as_html(result))):
        replace_file(f"{stem}.{suffix}", text, 0o640)
        if given["key"]:
            sign(f"{stem}.{suffix}", given["cert"], given["key"])
    stems = sorted(path[: -len(".json")] for path in glob.glob(f"{glob.escape(directory)}/{glob.escape(result['stanza'])}-*.json"))
    for old in stems[:-KEPT_REPORTS]:
        for path in glob.glob(f"{glob.escape(old)}.*"):
            os.unlink(path)
    return f"{stem}.json"


def sign(path: str, cert: str, key: str) -> None:
    """Sign a file with the host's certificate, which the platform's authority has issued; the signature lies beside it.

    Raises:
        RepositoryError: unsigned.
    """
    done = _call(
        ["openssl", "cms", "-sign", "-binary", "-in", path, "-signer", cert, "-inkey", key, "-outform", "PEM", "-out", f"{path}.p7s"]
    )
    if done.returncode:
        raise RepositoryError("unsigned", f"{path} could not be signed with {key}: {' '.join(done.stderr.split())[-300:]}")


def check_report(path: str, ca: str) -> None:
    """Hold a report against its signature.

    Raises:
        RepositoryError: changed.
    """
    done = _call(
        [
            *("openssl", "cms", "-verify", "-binary", "-inform", "PEM", "-in", f"{path}.p7s", "-content", path),
            # A report outlives the certificate with which it was signed.
            *("-CAfile", ca, "-purpose", "any", "-no_check_time", "-out", "/dev/null"),
        ]
    )
    if done.returncode:
        seen = " ".join(done.stderr.split())[-300:]
        raise RepositoryError("changed", f"{path} is not what this platform has signed: {seen}. Do not rely on it; verify again.")
