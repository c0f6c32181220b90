# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs pgBackRest on a host, as the user whom the repository belongs to."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.backup_info import Repository, read
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.deadline import Deadline
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.pgbackrest import (
    CONFIG,
    LOCKED,
    PROGRAM,
    RepositoryError,
    explain,
    info_options,
    merged,
    parse,
    read_config,
    repositories,
    unreadable,
)

LOOK_SECONDS = 5.0


def become(user: str) -> dict[str, Any]:
    """Return what subprocess needs to run something as a user, with his groups; nothing where we are he already.

    Raises:
        RepositoryError: there is no such user.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise RepositoryError("no_user", f"This host has no user {user}. Run this on the backup host or on a database host.") from None
    if os.geteuid() == entry.pw_uid:
        return {}
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": os.getgrouplist(user, entry.pw_gid)}


class PgBackRest:
    """pgBackRest for one stanza."""

    def __init__(self, stanza: str, user: str = "postgres", patience: float = 120.0, config: str = "") -> None:
        """Say whose backups.

        Args:
            stanza: its name.
            user: who runs pgBackRest.
            patience: seconds to wait for another command of pgBackRest that holds the lock.
            config: another configuration file than pgBackRest's own.
        """
        self.stanza, self.user, self.patience = stanza, user, patience
        self._config, self._options = config, [f"--config={config}"] if config else []

    def _settings(self) -> str:
        try:
            return read_config(self._config or CONFIG)
        except RepositoryError:
            return ""  # pgBackRest says it better

    def run(self, command: str, *arguments: str, seconds: float = 0.0) -> str:
        """Run a command and return its output.

        Args:
            command: pgBackRest's name of it.
            arguments: options first, then paths.
            seconds: until it is ended; 0 for no limit.

        Raises:
            RepositoryError: it failed, with the reason.
        """
        deadline = Deadline(self.patience)
        options = [word for word in arguments if word.startswith("--")]
        words = [word for word in arguments if not word.startswith("--")]
        argv = [PROGRAM, *self._options, f"--stanza={self.stanza}", *options, command, *words]
        while True:
            code, out, err = self.once(argv, seconds)
            if code == 0:
                return out
            if code != LOCKED or deadline.passed:
                raise explain(command, code, f"{out}\n{err}")
            time.sleep(LOOK_SECONDS)

    def once(self, argv: Sequence[str], seconds: float = 0.0) -> tuple[int, str, str]:
        """Run it once, whatever comes of it; return status, output and messages. Bytes that are no text come as question marks."""
        try:
            # The same code runs on hosts without Ansible.
            done = subprocess.run(  # pylint: disable=ansible-bad-function
                argv,
                capture_output=True,
                check=False,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                timeout=seconds or None,
                **become(self.user),
            )
        except FileNotFoundError:
            raise RepositoryError("no_pgbackrest", f"There is no {PROGRAM} on this host. The role pgbackrest installs it.") from None
        except subprocess.TimeoutExpired:
            raise RepositoryError("slow", f"{' '.join(argv)} has not ended within {seconds:g} s.") from None
        return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")

    def history(self, archive_id: str, timeline: int, number: int) -> str:
        """Return the text of a timeline's history in a repository; empty where it is not there.

        Args:
            archive_id: directory of the cluster's WAL.
            timeline: whose history.
            number: of the repository.

        Raises:
            RepositoryError: the repository does not answer, or the file cannot be read.
        """
        path = f"archive/{self.stanza}/{archive_id}/{timeline:08X}.history"
        options = [f"--stanza={self.stanza}", f"--repo={number}", "--ignore-missing", "--log-level-console=error", "--log-level-file=off"]
        code, out, err = self.once([PROGRAM, *self._options, *options, "repo-get", path], 60.0)
        if code not in (0, 1):  # 1: there is no such file
            raise explain("repo-get", code, f"{out}\n{err}")
        return "" if code else out

    def info(self, number: int = 0) -> Repository:
        """Return what the repositories say about the stanza; one beside the first that does not answer has the status 99.

        Args:
            number: of the repository that is asked alone; 0 for all.

        Raises:
            RepositoryError: pgBackRest does not answer, or not in JSON.
        """
        known = sorted(repositories(self._settings(), self.stanza))
        asked = [number] if number in known else known if len(known) > 1 else [0]
        parts = []
        for one in asked:
            try:
                options = info_options(one) if one else []
                parts.append(self.run("info", *options, "--output=json", "--log-level-console=off", seconds=300.0 if one < 2 else 90.0))
            except RepositoryError as error:
                if one < 2 or one == number:
                    raise
                parts.append(json.dumps(unreadable(self.stanza, one, str(error))))
        out = parts[0]
        try:
            return read(merged([parse(out := part) for part in parts]), self.stanza)
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise RepositoryError("unreadable", f"`pgbackrest info` gave something unknown ({error!r}): {out[:200]}") from error
