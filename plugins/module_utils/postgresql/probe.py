# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A client that keeps writing, to see for how long nobody could."""

from __future__ import annotations

import glob
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

# Writes a record to the log and commits it, with the cluster's own durability and without a table.
WRITE = "SELECT pg_logical_emit_message(true, 'uptier', 'probe')"
PAUSE = 0.05
CONNECTING = 4  # seconds of a question that connecting may take


class Client:
    """psql, with a connection of its own for each question."""

    def __init__(
        self, hosts: Sequence[tuple[str, int]], given: Mapping[str, Any], attributes: str = "any", name: str = "pg_failover"
    ) -> None:
        self.command = [given["psql"] or newest_psql(), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse"]
        settings = {
            "host": ",".join(host for host, dummy in hosts),
            "port": ",".join(str(port) for dummy, port in hosts),
            "dbname": given["database"],
            "user": given["user"],
            "target_session_attrs": attributes,
            "connect_timeout": "2",
            "application_name": name,
            "sslmode": "verify-full" if given["ca"] else "prefer",
            "sslrootcert": given["ca"] or "",
            "sslcert": given["cert"] or "",
            "sslkey": given["key"] or "",
        }
        self.conninfo = " ".join(f"{word}='{_escaped(value)}'" for word, value in settings.items() if value)
        # The client's own words are judged, so they are English.
        self.environment = {**os.environ, "PGPASSWORD": given["password"] or "", "LC_ALL": "C"}

    def ask(self, statement: str, patience: float = 6) -> tuple[str, str]:
        """Return the answer to a statement, and what went wrong."""
        options = f"-c statement_timeout={int((patience - CONNECTING) * 1000)}"
        try:
            # Runs in a thread of its own, for which AnsibleModule.run_command is not made.
            done = subprocess.run(  # pylint: disable=ansible-bad-function
                [*self.command, "-d", self.conninfo, "-c", statement],
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


class Probe(threading.Thread):
    """Writes through whichever member takes writes, one connection a time, and keeps the moments that succeeded."""

    def __init__(self, hosts: Sequence[tuple[str, int]], given: Mapping[str, Any]) -> None:
        super().__init__(daemon=True)
        self.client = Client(hosts, given, "read-write")
        self.moments: list[float] = []
        self.failures = 0
        self.last_error = ""
        self.ended = threading.Event()

    def ask(self, statement: str, patience: float = 6) -> tuple[str, str]:
        """Return the answer of the member that takes writes, and what went wrong."""
        return self.client.ask(statement, patience)

    def write(self) -> str:
        """Write once; return what went wrong, or nothing."""
        return self.ask(WRITE)[1]

    def run(self) -> None:
        while not self.ended.is_set():
            error = self.write()
            if error:
                self.failures += 1
                self.last_error = error.splitlines()[-1][:300]
            else:
                self.moments.append(time.monotonic())
            self.ended.wait(PAUSE)

    def first(self, seconds: float, since: float = 0.0) -> bool:
        """Wait for the first success after `since`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._after(since):
            time.sleep(PAUSE)
        return self._after(since)

    def _after(self, since: float) -> bool:
        return bool(self.moments) and self.moments[-1] > since

    def stop(self) -> None:
        self.ended.set()
        self.join(10)

    def outage(self, since: float) -> float | None:
        """Return the longest time without a success after `since`, in seconds; None where nothing succeeded afterwards."""
        return longest_gap(self.moments, since)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def newest_psql() -> str:
    """Return Debian's newest client itself; the wrapper in /usr/bin takes longer than the question."""
    found = sorted(
        glob.glob("/usr/lib/postgresql/*/bin/psql"), key=lambda path: int(path.split("/")[4]) if path.split("/")[4].isdigit() else 0
    )
    return found[-1] if found else "psql"


def longest_gap(moments: Sequence[float], since: float) -> float | None:
    """Return the longest gap between successes, from the last one before `since` (or `since`) on; None where none came after it."""
    after = [moment for moment in moments if moment > since]
    if not after:
        return None
    before = [moment for moment in moments if moment <= since]
    line = [before[-1] if before else since, *after]
    return max(later - earlier for earlier, later in zip(line, line[1:], strict=False))
