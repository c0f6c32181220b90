# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Carries out a restore on one member: looks at it and takes the steps that `restore_plan` names.

What takes long runs as a unit of systemd with a name of its own: it goes on when the controller is lost, it cannot run twice, and the
next run waits for it. Deletes nothing that was there before: the old data directory is renamed.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_apply import PgBackRest, become
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.deadline import Deadline
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import OperationError
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.pgbackrest import (
    CONFIG,
    PROGRAM,
    RETRIES,
    SECOND,
    read_config,
    sections,
)
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_plan import (
    Choice,
    Record,
    Request,
    Seen,
    archive_of,
    choose,
    digest,
    next_step,
)
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_store import RestoreStore

BLOCK = Path("/etc/systemd/system/patroni.service.d/restore.conf")
BLOCK_TEXT = f"""# A restore of the cluster is under way: playbooks/restore_postgresql.yml, which removes this file at its end. Run it again with the
# same target to finish it. Patroni, if it were started now, would take half of a restore for the cluster.
[Unit]
AssertPathExists=!{BLOCK}
"""
COPY, RECOVERY = "uptier-restore-copy.service", "uptier-restore-recovery.service"
SOCKET = "uptier-restore"  # below /run
PORT = 5432  # of the private socket, whatever the cluster's is
LOOK_SECONDS = 0.5
STOP_SECONDS = 120
PUSH_SECONDS = 60.0
SEGMENT = re.compile(r"[0-9A-F]{24}|[0-9A-F]{8}\.history")
# How Patroni's programs that make a standby look in the list of processes.
MAKING = re.compile(r"postgresql-restore-member\.py|^\S*pgbackrest .*\brestore\b|^\S*pg_basebackup |^\S*pg_rewind ")
# What pgBackRest writes for the recovery. A member that follows another one later must not find it.
RECOVERY_SETTINGS = (
    *("restore_command", "recovery_target", "recovery_target_time", "recovery_target_lsn", "recovery_target_name", "recovery_target_xid"),
    *("recovery_target_action", "recovery_target_inclusive", "recovery_target_timeline"),
)
LOOK = "SELECT pg_is_in_recovery(), ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int"

Run = Callable[..., tuple[int, str, str]]  # AnsibleModule.run_command


@contextlib.contextmanager
def acting_as(user: str) -> Iterator[None]:
    """Look at files as their owner: root without all its capabilities, as in many containers, could not."""
    found = become(user)
    me = os.geteuid()
    if found:
        os.seteuid(found["user"])
    try:
        yield
    finally:
        os.seteuid(me)


def own_server(stanza: str, config: str = CONFIG) -> dict[str, str]:
    """Return what pgBackRest knows of this host's server: path (of the data), port and socket-path.

    Raises:
        RepositoryError: its configuration cannot be read.
        OperationError: it names no server on this host.
    """
    own = sections(read_config(config)).get(stanza, [])
    found = {name.removeprefix("pg1-"): value for name, value in own if name.startswith("pg1-")}
    if "path" not in found or "host" in found:
        raise OperationError("not_configured", f"{config} names no data directory on this host for the stanza {stanza}.")
    return {"port": "5432", "socket-path": "/run/postgresql", **found}


def histories_of(backups: PgBackRest, archive_id: str, newest: int, number: int) -> dict[int, str]:
    """Return the history files of the repository, by timeline.

    Args:
        backups: whose repository.
        archive_id: directory of the cluster's WAL in it.
        newest: timeline of the newest segment; the next one may have a history already.
        number: of the repository.

    Raises:
        RepositoryError: the repository does not answer.
    """
    texts = {timeline: backups.history(archive_id, timeline, number) for timeline in range(2, newest + 2)}
    return {timeline: text for timeline, text in texts.items() if text.strip()}


def choose_from(backups: PgBackRest, request: Request) -> Choice:
    """Return from where a request is served, by what its repository holds at this moment.

    Raises:
        PostgresqlError: nothing serves it.
    """
    found = backups.info(request.repository).only(request.repository)
    return choose(found, request, histories_of(backups, *archive_of(found), request.repository), time.time())


class Member:
    """One database host."""

    def __init__(self, run: Run, stanza: str, user: str, store: RestoreStore, timeout: int, unarchived: bool = False) -> None:
        """Say whose data it is.

        Args:
            run: runs a command as root, and returns its status and output.
            stanza: name of the backups.
            user: whom the data belongs to.
            store: what etcd knows of the cluster.
            timeout: seconds that copying and recovery may take, each.
            unarchived: go on although the end of the log cannot be brought to the repository.
        """
        self.run, self.stanza, self.user, self.store, self.timeout, self.unarchived = run, stanza, user, store, timeout, unarchived
        self.server = own_server(stanza)
        self.data = Path(self.server["path"])
        self.backups = PgBackRest(stanza, user)
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []

    # Looking ----------------------------------------------------------------------------------------------------------

    def aside(self, record: Record, path: Path | None = None) -> Path:
        """Return where the old data is kept."""
        path = path or self.data
        return path.with_name(f"restored-aside-{record.name}" if path == self.data else f"{path.name}-restored-aside-{record.name}")

    def mark(self, record: Record) -> Path:
        """Return the file that says what was copied to this host."""
        return self.data.with_name(f"restored-aside-{record.name}.copied")

    def look(self, record: Record | None) -> Seen:
        """Return what is there."""
        copying = self._unit(COPY)
        recovering = self._unit(RECOVERY)["ActiveState"] in ("active", "activating", "deactivating")
        with acting_as(self.user):
            aside = record is not None and self.aside(record).exists()
            return Seen(
                blocked=BLOCK.exists(),
                patroni=self._unit("patroni.service")["ActiveState"] not in ("inactive", "failed") or bool(self._left_over()),
                server=self._runs() and not recovering,
                aside=aside,
                copying=copying["Description"] if copying["ActiveState"] in ("active", "activating", "deactivating") else "",
                copied=_text(self.mark(record)) if record and aside else "",
                recovering=recovering,
                signal=(self.data / "recovery.signal").exists(),
                clean=(self.data / "global" / "pg_control").exists() and self._control("Database cluster state") == "shut down",
            )

    def problems(self) -> list[str]:
        """Return why the data could not be set aside here."""
        found = []
        for path in [self.data, *self._tablespaces()]:
            if path.is_symlink() or os.path.ismount(path):
                what = "a symbolic link" if path.is_symlink() else "a mount point of its own"
                found.append(f"{path} is {what}, which cannot be renamed to keep the old data. Let the mount point be its parent.")
        return found

    def history(self) -> tuple[int, bool]:
        """Return the timeline of the data, and whether it is a leader's; 0 and False where there is none."""
        with acting_as(self.user):
            if not (self.data / "global" / "pg_control").exists():
                return 0, False
        leads = self._control("Database cluster state") not in ("in archive recovery", "shut down in recovery")
        return int(self._control("Latest checkpoint's TimeLineID") or 0), leads

    def free_bytes(self) -> int:
        place = self.data
        while not place.exists() and place != place.parent:
            place = place.parent
        return shutil.disk_usage(place).free

    def waiting(self) -> list[str]:
        """Return the files of the log that are complete and not in the repository yet, oldest first; histories come first."""
        with acting_as(self.user):
            found = [path.stem for path in (self.data / "pg_wal" / "archive_status").glob("*.ready")]
        return sorted((name for name in found if SEGMENT.fullmatch(name)), key=lambda name: ("." not in name, name))

    def choose(self, request: Request) -> Choice:
        """Return from where a request is served.

        Raises:
            PostgresqlError: nothing serves it.
        """
        return choose_from(self.backups, request)

    def _unit(self, name: str) -> dict[str, str]:
        wanted = ["ActiveState", "Result", "Description"]
        out = self.run(["systemctl", "show", name, *(f"--property={key}" for key in wanted)])[1]
        return dict.fromkeys(wanted, "") | dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def _runs(self) -> bool:
        """Tell whether PostgreSQL runs in the data directory."""
        try:
            number = int(_text(self.data / "postmaster.pid").split("\n", 1)[0])
            return Path(f"/proc/{number}/comm").read_text(encoding="utf-8").strip() == "postgres"
        except (OSError, ValueError):
            return False

    def _left_over(self) -> list[int]:
        """Return the processes with which Patroni makes a standby's data: they outlive it, and would write between what is restored."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                words = _text(entry / "cmdline").replace("\0", " ")
                if MAKING.search(words) and COPY not in _text(entry / "cgroup"):
                    found.append(int(entry.name))
        return found

    def _control(self, what: str) -> str:
        out = self._as_owner([self._program("pg_controldata"), str(self.data)])[1]
        return dict((part.strip() for part in line.split(":", 1)) for line in out.splitlines() if ":" in line).get(what, "")

    def _tablespaces(self) -> list[Path]:
        """Return the directories of tablespaces, where their links say they are."""
        with acting_as(self.user):
            links = self.data / "pg_tblspc"
            return [Path(os.readlink(link)) for link in links.iterdir() if link.is_symlink()] if links.is_dir() else []

    def _program(self, name: str) -> str:
        """Return a program of the release to which the data belongs: the directory's, as Debian names it, or the newest."""
        own = f"/usr/lib/postgresql/{self.data.parent.name}/bin/{name}"
        found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
        return own if os.path.exists(own) or not found else found[-1]

    def _as_owner(self, argv: Sequence[str]) -> tuple[int, str, str]:
        return self.backups.once(argv, 60.0)

    # Acting -----------------------------------------------------------------------------------------------------------

    def reach(self, goal: str, record: Record, leads: bool) -> list[str]:
        """Take steps until this member is where the goal wants it; return them.

        Raises:
            PostgresqlError: a step failed.
        """
        wanted = digest(record.choice)
        steps: list[str] = []
        while (step := next_step(self.look(record), goal, leads, wanted)) is not None:
            if steps[-2:] == [step, step]:
                raise OperationError("no_progress", f"{step} was done twice and is still to be done. Seen: {self.look(record)}.")
            steps.append(step)
            began = time.monotonic()
            getattr(self, f"_{step}")(record, wanted, leads)
            self.seconds[step] = round(self.seconds.get(step, 0.0) + time.monotonic() - began, 1)
        return steps

    def _block(self, *dummy: Any) -> None:
        BLOCK.parent.mkdir(mode=0o755, exist_ok=True)
        BLOCK.write_text(BLOCK_TEXT, encoding="utf-8")
        self._systemctl("daemon-reload")

    def _stop_patroni(self, *dummy: Any) -> None:
        self._systemctl("stop", "postgresql-heartbeat.timer", "postgresql-watch.service", "patroni.service")
        for number in self._left_over():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def _stop_server(self, *dummy: Any) -> None:
        """Stop what Patroni has left behind."""
        for mode in ("fast", "immediate"):
            code, out, err = self.backups.once(
                [self._program("pg_ctl"), "stop", "-D", str(self.data), "-m", mode, "-t", str(STOP_SECONDS)], STOP_SECONDS + 30.0
            )
            if code == 0:
                return
        raise OperationError("not_stopped", f"PostgreSQL in {self.data} does not stop: {(err or out).strip()}")

    def _set_aside(self, record: Record, dummy: str, leads: bool) -> None:
        """Rename what is there. The data directory comes last: where it has its new name, all have."""
        if leads:
            self._push(record)
        for path in self._tablespaces():
            kept = self.aside(record, path)
            if path.exists() and not kept.exists():
                path.rename(kept)
                path.mkdir(mode=0o700)
                shutil.chown(path, self.user, self.user)
        with acting_as(self.user):
            kept = self.aside(record)
            if self.data.exists():
                self.data.rename(kept)
            else:
                kept.mkdir(mode=0o700, parents=True)
                self.notes.append(f"there was no {self.data}")

    def _push(self, record: Record) -> None:
        """Bring to the repository what the last leader did not: it may be what is to be restored."""
        failed = []
        for name in self.waiting():
            path = str(self.data / "pg_wal" / name)
            # Into the one that is restored: the other one may be lost, and pgBackRest fails where it cannot push into both.
            alone = CONFIG if record.choice.repository == 1 else SECOND
            argv = [PROGRAM, f"--config={alone}", f"--stanza={self.stanza}", "--no-archive-async", "archive-push", path]
            code, out, err = self.backups.once(argv, PUSH_SECONDS)
            if code:
                failed.append(f"{name}: {' '.join(RETRIES.sub('', err or out).split())[:300]}")
                break
        if failed:
            self.notes.append(f"not in the repository, but in what is kept aside: {'; '.join(failed)} and what follows")
            if record.request.kind == "latest" and not self.unarchived:
                raise OperationError(
                    "not_archived",
                    f"The end of the log is not in the repository, and cannot be brought there: {'; '.join(failed)}. Nothing was set aside "
                    "yet; Patroni is stopped on all members. Repair the repository and run this again, or accept the loss of what "
                    f"follows with -e pg_restore_unarchived=true. To go back: remove {BLOCK}, `systemctl daemon-reload`, and start patroni.",
                )

    def _copy(self, record: Record, wanted: str, dummy: bool) -> None:
        """Have pgBackRest copy the files; what is there already and equal stays (a run before was cut off)."""
        mark = self.mark(record)
        with acting_as(self.user):
            mark.unlink(missing_ok=True)
            self.data.mkdir(mode=0o700, exist_ok=True)
        command = [PROGRAM, f"--stanza={self.stanza}", f"--repo={record.choice.repository}", "--delta", "--log-level-console=warn"]
        command += [*record.choice.arguments, "restore"]
        # Only the unit knows how it ends when this process does not live to see it.
        script = 'mark=$1; text=$2; shift 2; "$@" && printf %s "$text" > "$mark.new" && mv "$mark.new" "$mark"'
        self._start_unit(COPY, wanted, ["/bin/sh", "-c", script, "copy", str(mark), wanted, *command])
        self._await_copy(record, wanted, dummy)

    def _await_copy(self, record: Record, wanted: str, dummy: bool) -> None:
        deadline = Deadline(self.timeout)
        while self._unit(COPY)["ActiveState"] in ("active", "activating", "deactivating"):
            if deadline.passed:
                raise OperationError("slow", f"Copying has not ended after {self.timeout} s. It goes on; run this again to wait for it.")
            time.sleep(LOOK_SECONDS)
        with acting_as(self.user):
            copied = _text(self.mark(record))
        if copied != wanted:
            raise OperationError("copy_failed", f"pgBackRest could not restore {record.choice.label}: {self._journal(COPY)}")

    def _stop_copy(self, *dummy: Any) -> None:
        self._systemctl("stop", COPY)

    def _stop_recovery(self, *dummy: Any) -> None:
        self._systemctl("stop", RECOVERY)

    def _recover(self, record: Record, dummy: str, leads: bool) -> None:
        """Run the server for itself until it has reached the target and begun its own history; then stop it in good order.

        Nobody but us can connect. Its WAL is archived: the new history has to be in the repository before anybody follows it.
        """
        if self._unit(RECOVERY)["ActiveState"] not in ("active", "activating"):
            settings = {
                "listen_addresses": "",
                "port": str(PORT),
                "unix_socket_directories": f"/run/{SOCKET}",
                "unix_socket_permissions": "0700",
                "hba_file": f"/run/{SOCKET}/pg_hba.conf",
                # Without queries in recovery it does not matter that the source had more connections or workers.
                "hot_standby": "off",
                "synchronous_standby_names": "",
                "primary_conninfo": "",
                "cluster_name": "restore",
                "logging_collector": "off",
                "log_destination": "stderr",
            }
            options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
            script = f'echo "local all {self.user} peer" > /run/{SOCKET}/pg_hba.conf && exec "$@"'
            command = ["/bin/sh", "-c", script, "server", self._program("postgres"), "-D", str(self.data), *options]
            more = [f"--property=RuntimeDirectory={SOCKET}", "--property=RuntimeDirectoryMode=0700", "--property=KillSignal=SIGINT"]
            self._start_unit(RECOVERY, f"PostgreSQL of {record.choice.label}", command, *more, "--property=KillMode=mixed")
        deadline = Deadline(self.timeout)
        while True:
            code, out, dummy_err = self._sql(LOOK)
            if code == 0 and out.startswith("f|"):
                break
            if self._unit(RECOVERY)["ActiveState"] not in ("active", "activating"):
                raise self._not_recovered(record)
            if deadline.passed:
                raise OperationError("slow", f"Recovery has not ended after {self.timeout} s. It goes on; run this again to wait for it.")
            time.sleep(LOOK_SECONDS)
        self.notes.append(f"timeline {out.strip().partition('|')[2]}")
        for name in RECOVERY_SETTINGS:
            self._sql_or_fail(f"ALTER SYSTEM RESET {name}")
        self._sql_or_fail("CHECKPOINT")
        self._systemctl("stop", RECOVERY)

    def _not_recovered(self, record: Record) -> OperationError:
        said = self._journal(RECOVERY)
        if "recovery ended before configured recovery target was reached" in said:
            last = re.findall(r"last completed transaction was at log time ([^\n]+)", said)
            known = f" The last transaction there is of {last[-1]}." if last else ""
            return OperationError(
                "target_not_reached",
                f"The archive ends before {record.request.words()}.{known} Nothing serves yet, and the old data is kept: run this again with "
                "an earlier target, or with none for the end of the archive.",
            )
        return OperationError("recovery_failed", f"PostgreSQL could not recover {record.choice.label}: {said}")

    def _hand_over(self, record: Record, dummy: str, leads: bool) -> None:
        """Let Patroni have it. The one that leads is the cluster from now on, whatever etcd knew of it."""
        if leads:
            self.store.forget(self._control("Database system identifier"))
        BLOCK.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # somebody has a file of his own there
            BLOCK.parent.rmdir()
        self._systemctl("daemon-reload")
        self._start_patroni()

    def _start_patroni(self, *dummy: Any) -> None:
        self.run(["systemctl", "reset-failed", "patroni.service"])
        self._systemctl("start", "patroni.service")

    def announce(self) -> None:
        """Have the repository receive WAL of the new history now, and not when the segment is full or old enough."""
        argv = [self._program("psql"), "-X", "-q", "-h", self.server["socket-path"], "-p", self.server["port"], "-d", "postgres"]
        code, out, err = self._as_owner([*argv, "-A", "-t", "-c", "SELECT pg_switch_wal() WHERE NOT pg_is_in_recovery()"])
        if code:
            raise OperationError("sql", f"The restored leader does not answer on its socket: {(err or out).strip()}")

    # Units ------------------------------------------------------------------------------------------------------------

    def _start_unit(self, name: str, description: str, command: Sequence[str], *more: str) -> None:
        self.run(["systemctl", "reset-failed", name])
        options = [f"--unit={name}", f"--description={description}", "--quiet", f"--uid={self.user}", f"--gid={self.user}", *more]
        options += ["--property=SupplementaryGroups=" + " ".join(self._groups()), "--property=Restart=no", "--setenv=LANG=C.UTF-8"]
        code, out, err = self.run(["systemd-run", *options, "--property=OOMScoreAdjust=-500", "--", *command])
        if code:
            raise OperationError("not_started", f"{name} could not be started: {(err or out).strip()}")

    def _groups(self) -> list[str]:
        out = self.run(["id", "-Gn", self.user])[1]
        return out.split()

    def _systemctl(self, *words: str) -> None:
        code, out, err = self.run(["systemctl", *words])
        if code:
            raise OperationError("systemctl", f"systemctl {' '.join(words)} ended with {code}: {(err or out).strip()}")

    def _journal(self, name: str) -> str:
        """Return the last words of a unit."""
        out = self.run(["journalctl", "-u", name, "-n", "40", "-o", "cat", "--no-pager"])[1]
        lines = [line for line in out.splitlines() if line.strip()]
        telling = [line for line in lines if re.search(r"ERROR|FATAL|PANIC|HINT|last completed transaction", line)]
        return "\n".join((telling or lines)[-8:]) or f"see `journalctl -u {name}`"

    def _sql(self, statement: str) -> tuple[int, str, str]:
        argv = [self._program("psql"), "-X", "-A", "-t", "-q", "-h", f"/run/{SOCKET}", "-p", str(PORT), "-d", "postgres", "-c", statement]
        return self._as_owner(argv)

    def _sql_or_fail(self, statement: str) -> None:
        code, out, err = self._sql(statement)
        if code:
            raise OperationError("sql", f"{statement}: {(err or out).strip()}")


def _text(path: Path) -> str:
    """Return what is in a file; nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
