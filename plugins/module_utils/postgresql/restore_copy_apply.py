# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Makes a copy of the database from its backups on a host, and removes it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_apply import PgBackRest
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_sandbox import PORT, missing_tablespace, own_config
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.deadline import Deadline
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.errors import OperationError, Refusal
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.pgbackrest import PROGRAM, read_config
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_apply import LOOK, Run, acting_as, choose_from
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_copy import (
    COPY,
    MARKER,
    SERVER,
    limits,
    refuse_small,
    server_settings,
)
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.restore_plan import Choice, Request, digest

LOOK_SECONDS = 0.5


class Copy:
    """A copy in a directory of this host."""

    def __init__(self, run: Run, directory: str, stanza: str, user: str, memory_mb: int, timeout: int) -> None:
        """Say where.

        Args:
            run: runs a command as root, and returns its status and output.
            directory: for it alone.
            stanza: name of the backups.
            user: whom it belongs to.
            memory_mb: that it may use.
            timeout: seconds that copying and recovery may take, each.
        """
        self.run, self.directory, self.stanza, self.user = run, Path(directory), stanza, user
        self.memory_mb, self.timeout = memory_mb, timeout
        self.backups = PgBackRest(stanza, user)
        self.config = self.directory / "pgbackrest.conf"

    @property
    def socket(self) -> str:
        return str(self.directory / "socket")

    def choose(self, request: Request) -> Choice:
        """Return what is copied.

        Raises:
            PostgresqlError: nothing serves the request.
        """
        return choose_from(self.backups, request)

    def made_of(self) -> str:
        """Return what is here already: the choice as one word; nothing where there is none, or half of one."""
        return _text(self.directory / MARKER)

    def serves(self) -> bool:
        return self._sql(LOOK)[1].startswith("f|")

    def make(self, choice: Choice) -> dict[str, float]:
        """Copy the files and recover; return the seconds of both.

        Raises:
            PostgresqlError: it did not come about; what there is of it stays for the next run, or for state absent.
        """
        wanted, seconds = digest(choice), {}
        if self.directory.exists() and any(self.directory.iterdir()) and not self.config.exists():
            raise Refusal("not_ours", f"{self.directory} holds something else. Name a directory that is empty or not there.")
        if self.made_of() != wanted:
            self._stop()
            refuse_small(choice, shutil.disk_usage(_existing(self.directory)).free, str(self.directory))
            began = time.monotonic()
            self._copy(choice, wanted)
            seconds["copy"] = round(time.monotonic() - began, 1)
        began = time.monotonic()
        self._serve(choice)
        seconds["recover"] = round(time.monotonic() - began, 1)
        return seconds

    def remove(self) -> bool:
        """Stop it and remove its directory; return whether there was anything.

        Raises:
            Refusal: the directory is not one of a copy.
        """
        self._stop()
        if not self.directory.exists():
            return False
        if any(self.directory.iterdir()) and not self.config.exists():
            raise Refusal("not_ours", f"{self.directory} holds no copy that this module has made, and is left alone.")
        shutil.rmtree(self.directory)
        return True

    def _copy(self, choice: Choice, wanted: str) -> None:
        for part in ("", "data", "socket", "tablespaces", "spool", "lock"):
            (self.directory / part).mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.chown(self.directory / part, self.user, self.user)
        # Never a `pgN-host`: the restore would go to production.
        self._write(self.config, own_config(read_config(), self.stanza, str(self.directory), 2))
        (self.directory / MARKER).unlink(missing_ok=True)
        command = [
            PROGRAM,
            f"--config={self.config}",
            f"--stanza={self.stanza}",
            f"--repo={choice.repository}",
            "--delta",
            "--archive-mode=off",
        ]
        command += [f"--tablespace-map-all={self.directory}/tablespaces", *choice.arguments, "restore"]
        self._start(COPY, ["--wait"], command)
        control = self.backups.once([self._program("pg_controldata"), str(self.directory / "data")], 60.0)[1]
        self._write(self.directory / "postgresql.conf", server_settings(str(self.directory), control, self.memory_mb))
        self._write(self.directory / "pg_hba.conf", f"local all {self.user} peer\n")
        self._write(self.directory / "pg_ident.conf", "")
        self._write(self.directory / MARKER, wanted)

    def _serve(self, choice: Choice) -> None:
        if self._state(SERVER) not in ("active", "activating"):
            more = ["--property=Type=exec", "--property=KillSignal=SIGINT", "--property=KillMode=mixed"]
            self._start(SERVER, more, [self._program("postgres"), f"--config-file={self.directory}/postgresql.conf"])
        deadline = Deadline(self.timeout)
        while not self.serves():
            if self._state(SERVER) not in ("active", "activating"):
                said = self._journal(SERVER)
                place = missing_tablespace(said)
                if place:
                    raise OperationError(
                        "tablespace",
                        f"A tablespace at {place} is younger than the backup {choice.label}. A copy does not make it, since the one of production "
                        "may be there. Copy a point before it, or from a backup after it (playbooks/backup_postgresql.yml takes one).",
                    )
                raise OperationError("recovery_failed", f"The copy of {choice.label} could not be recovered: {said}")
            if deadline.passed:
                raise OperationError("slow", f"Recovery has not ended after {self.timeout} s. It goes on; run this again to wait for it.")
            time.sleep(LOOK_SECONDS)

    def _start(self, name: str, more: list[str], command: list[str]) -> None:
        self.run(["systemctl", "reset-failed", name])
        groups = self.run(["id", "-Gn", self.user])[1].strip()
        options = [f"--unit={name}", "--quiet", f"--uid={self.user}", f"--gid={self.user}", f"--property=SupplementaryGroups={groups}"]
        code, out, err = self.run(["systemd-run", *options, *limits(str(self.directory), self.memory_mb), *more, "--", *command])
        if code:
            raise OperationError("copy_failed", f"{name} ended with {code}: {(err or out).strip()} {self._journal(name)}")

    def _stop(self) -> None:
        for name in (SERVER, COPY):
            if self._state(name) not in ("", "inactive", "failed"):
                self.run(["systemctl", "stop", name])

    def _state(self, name: str) -> str:
        return self.run(["systemctl", "show", name, "--property=ActiveState", "--value"])[1].strip()

    def _journal(self, name: str) -> str:
        out = self.run(["journalctl", "-u", name, "-n", "20", "-o", "cat", "--no-pager"])[1]
        lines = [line for line in out.splitlines() if line.strip()]
        telling = [line for line in lines if "ERROR" in line or "FATAL" in line or "HINT" in line]
        return "\n".join((telling or lines)[-5:])

    def _program(self, name: str) -> str:
        """Return a program of the release of the data, or the newest before there is any."""
        release = _text(self.directory / "data" / "PG_VERSION").strip()
        found = f"/usr/lib/postgresql/{release}/bin/{name}"
        if release and not os.path.exists(found):
            raise OperationError(
                "no_server", f"The data is PostgreSQL's {release}, and there is no {found} here. Install postgresql-{release}."
            )
        return found

    def _sql(self, statement: str) -> tuple[int, str, str]:
        if not (self.directory / "data" / "PG_VERSION").exists():
            return 1, "", ""
        words = ["-X", "-A", "-t", "-q", "-h", self.socket, "-p", str(PORT), "-d", "postgres", "-c", statement]
        return self.backups.once([self._program("psql"), *words], 30.0)

    def _write(self, path: Path, text: str) -> None:
        with acting_as(self.user):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
