# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""PostgreSQL through psql, which is libpq: for servers of which we do not choose how they are logged in to, for several addresses of
which one takes writes, and for a client like those of applications. `session` speaks the protocol itself; why there are two:
docs/decisions/0014-managed-postgresql.md.
"""

from __future__ import annotations

import glob
import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

CONNECT_SECONDS = 2  # until an address counts as dead
CONNECTING_SECONDS = 4  # of a question that connecting may take, whatever is tried
ANSWER_SECONDS = 6.0


class Psql:
    """psql, with a connection of its own for each question."""

    def __init__(
        self,
        hosts: Sequence[tuple[str, int]],
        given: Mapping[str, Any],
        attributes: str = "any",
        name: str = "pg_failover",
        connect_seconds: int = CONNECT_SECONDS,
    ) -> None:
        """Say whom to ask, and how.

        Args:
            hosts: addresses and ports, tried in order.
            given: user, password and database; psql, ca, cert and key may be empty.
            attributes: libpq's target_session_attrs.
            name: application_name.
            connect_seconds: until an address counts as dead.
        """
        program = [given.get("psql") or newest_psql(), "-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse"]
        settings = {
            "host": ",".join(host for host, dummy in hosts),
            "port": ",".join(str(port) for dummy, port in hosts),
            "dbname": given["database"],
            "user": given["user"],
            "target_session_attrs": attributes,
            "connect_timeout": str(connect_seconds),
            "application_name": name,
            "sslmode": "verify-full" if given.get("ca") else "prefer",
            "sslrootcert": given.get("ca") or "",
            "sslcert": given.get("cert") or "",
            "sslkey": given.get("key") or "",
        }
        self.command = [*program, "-d", " ".join(f"{word}='{_escaped(value)}'" for word, value in settings.items() if value)]
        # The client's own words are judged, so they are English.
        self.environment = {**os.environ, "PGPASSWORD": given["password"] or "", "LC_ALL": "C"}

    def ask(self, statement: str, patience: float = ANSWER_SECONDS) -> tuple[str, str]:
        """Return the answer to a statement, and what went wrong."""
        options = f"-c statement_timeout={int((patience - CONNECTING_SECONDS) * 1000)}"
        try:
            # Runs in a thread of its own, for which AnsibleModule.run_command is not made.
            done = subprocess.run(  # pylint: disable=ansible-bad-function
                [*self.command, "-c", statement],
                env={**self.environment, "PGOPTIONS": options},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=patience,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "", f"no answer within {patience:g} s"
        except OSError as error:
            return "", f"{self.command[0]} cannot be run: {error}"
        # A commit that gave up its wait for the standby says so in a warning, and is not acknowledged.
        problem = done.stderr.strip()
        return done.stdout.strip(), problem or ("" if done.returncode == 0 else f"psql ended with {done.returncode}")


class OpenPsql:
    """One session of psql, which stays open until it is closed or this process ends."""

    def __init__(self, client: Psql) -> None:
        # AnsibleModule.run_command waits for the end of what it starts.
        self._process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            client.command, env=client.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def ask(self, statement: str, patience: float = ANSWER_SECONDS) -> str:
        """Return the first line that is said to a statement, be it an answer or an error; empty where none comes in time."""
        if self._process.stdin is None or self._process.stdout is None:
            return ""
        try:
            self._process.stdin.write(f"{statement};\n".encode())
            self._process.stdin.flush()
            ready, dummy, dummy = select.select([self._process.stdout], [], [], patience)
            return self._process.stdout.readline().decode(errors="replace").strip() if ready else ""
        except OSError as error:
            return str(error)

    @property
    def open(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def newest_psql() -> str:
    """Return Debian's newest client itself; the wrapper in /usr/bin takes longer than the question."""
    found = sorted(
        glob.glob("/usr/lib/postgresql/*/bin/psql"), key=lambda path: int(path.split("/")[4]) if path.split("/")[4].isdigit() else 0
    )
    return found[-1] if found else "psql"
