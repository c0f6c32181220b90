# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A client that keeps writing, to see for how long nobody could."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.postgresql.deadline import Deadline
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.probe import longest_gap
from ansible_collections.uptier.platform.plugins.module_utils.postgresql.psql import ANSWER_SECONDS, Psql

# Writes a record to the log and commits it, with the cluster's own durability and without a table.
WRITE = "SELECT pg_logical_emit_message(true, 'uptier', 'probe')"
PAUSE_SECONDS = 0.05


class Probe(threading.Thread):
    """Writes through whichever member takes writes, one connection a time, and keeps the moments that succeeded."""

    def __init__(self, hosts: Sequence[tuple[str, int]], given: Mapping[str, Any]) -> None:
        super().__init__(daemon=True)
        self.client = Psql(hosts, given, "read-write")
        self.moments: list[float] = []
        self.failures = 0
        self.last_error = ""
        self.ended = threading.Event()

    def ask(self, statement: str, patience: float = ANSWER_SECONDS) -> tuple[str, str]:
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
            self.ended.wait(PAUSE_SECONDS)

    def first(self, seconds: float, since: float = 0.0) -> bool:
        """Wait for the first success after `since`."""
        deadline = Deadline(seconds)
        while not deadline.passed and not self._after(since):
            time.sleep(PAUSE_SECONDS)
        return self._after(since)

    def _after(self, since: float) -> bool:
        return bool(self.moments) and self.moments[-1] > since

    def stop(self) -> None:
        self.ended.set()
        self.join(10)

    def outage(self, since: float) -> float | None:
        """Return the longest time without a success after `since`, in seconds; None where nothing succeeded afterwards."""
        return longest_gap(self.moments, since)
