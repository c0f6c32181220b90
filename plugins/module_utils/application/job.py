# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which of several hosts runs a job. They agree in the application's own Redis. Standard library only.

All hosts have the timer. A run is known by the time at which the schedule comes next: it is the same on every host, however much their
clocks differ, and also where a timer makes up for what an outage has missed. The first host that takes it runs the job. A second key
is held while it runs, so that none begins meanwhile; it ends with the job, or expires when no job of that length can be running.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import Connection, RespError, Unreachable

# systemd-analyze calendar shows the next time in the host's own zone and, where that is another one, in UTC.
NEXT = re.compile(r"(?:Next elapse|\(in UTC\)): *(?:[A-Za-z]{3} )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.\d+)? UTC")
# A host whose timer is late comes after the next time too; what it then asks for is another run.
KEPT = timedelta(hours=1)
NEVER = "never"
HOPS = 5
Dial = Callable[[str, int], Connection]


class JobError(Exception):
    """Nobody can say whether the job may run. The message names what was seen."""


@dataclass(frozen=True)
class Outcome:
    """Whether this host runs the job, and why not."""

    runs: bool
    why: str = ""


def coming(shown: str, now: datetime) -> tuple[str, int]:
    """Return what a run is known by, and for how many seconds, from what `systemd-analyze calendar` shows at a time.

    Raises:
        JobError: it shows neither a time nor that there is none.
    """
    found = NEXT.findall(shown)
    if not found:
        if re.search(r"Next elapse: *never", shown):
            return NEVER, int(timedelta(days=1).total_seconds())
        raise JobError(f"systemd-analyze calendar names no time: {shown.strip()[:300]!r}")
    at = datetime.strptime(found[-1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ"), int((max(at - now, timedelta()) + KEPT).total_seconds())


class Claims:
    """Keys of one application in its Redis, a cluster or a single server."""

    def __init__(self, nodes: list[tuple[str, int]], dial: Dial) -> None:
        self.nodes, self.dial = nodes, dial

    def ask(self, *command: str | int) -> Any:
        """Ask the node that has the key, whichever it is.

        Raises:
            JobError: none of them can be asked, or the one that has the key refuses.
        """
        said = []
        for node in self.nodes:
            try:
                return self._follow(node, *command)
            except (Unreachable, RespError) as error:
                said.append(str(error))
        raise JobError(f"Redis cannot be asked: {'; '.join(dict.fromkeys(said)) or 'no node is given'}")

    def _follow(self, node: tuple[str, int], *command: str | int) -> Any:
        asking = False
        for dummy in range(HOPS):
            with self.dial(*node) as connection:
                try:
                    if asking:  # the slot is on its way to this node
                        connection.call("ASKING")
                    return connection.call(*command)
                except RespError as error:
                    if error.code not in ("MOVED", "ASK"):
                        raise
                    asking = error.code == "ASK"
                    host, dummy, port = str(error).split()[2].rpartition(":")
                    node = (host or node[0], int(port))
        raise RespError(f"MOVED {HOPS} times, at last to {node[0]}:{node[1]}")

    def claim(self, prefix: str, run: str, kept: int, lasts: int, holder: str) -> Outcome:
        """Take a run for a holder and keep others from beginning while it lasts, `lasts` seconds at most."""
        if self.ask("SET", f"{prefix}:{run}", holder, "NX", "EX", kept) is None:
            return Outcome(False, f"the run before {run} is that of {self._holder(f'{prefix}:{run}')}")
        if self.ask("SET", f"{prefix}:running", holder, "NX", "EX", lasts) is None:
            return Outcome(False, f"the one before still runs on {self._holder(f'{prefix}:running')}")
        return Outcome(True)

    def release(self, prefix: str, holder: str) -> None:
        """Let others begin, where this holder is the one that runs."""
        if self.ask("GET", f"{prefix}:running") == holder:
            self.ask("DEL", f"{prefix}:running")

    def _holder(self, key: str) -> str:
        return str(self.ask("GET", key) or "another host").partition(" ")[0]
