# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which of several hosts runs a job. They agree in the application's own Redis. Standard library only.

All hosts have the timer. A run is known by the time at which the schedule comes next: it is the same on every host, however much their
clocks differ, and also where a timer makes up for what an outage has missed. The first host that takes it runs the job. A second field
is held while it runs, so that none begins meanwhile; it ends with the job, or counts no more when no job of that length can be running.
All of it is one hash without an expiry: a cache that is full evicts keys that have one, and a job would run twice.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import Connection, RespError, Unreachable

# systemd-analyze calendar shows the next time in the host's own zone and, where that has another offset or ever had one, in UTC.
NEXT = re.compile(r"(?:Next elapse|\(in UTC\)): *(?:[A-Za-z]{3} )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.\d+)? (?:UTC|GMT)")
WRITTEN = "%Y-%m-%dT%H:%M:%SZ"
TIME = re.compile(r"\d{4}-\d\d-\d\dT")
# How long a run is remembered after the time that it is known by.
KEPT = timedelta(hours=1)
RUNNING = "running"
# What a failover of Redis, or its start, answers meanwhile.
PASSING = ("CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "TRYAGAIN")
HOPS = 5
Dial = Callable[[str, int], Connection]


class JobError(Exception):
    """Nobody can say whether the job may run. The message names what was seen."""


@dataclass(frozen=True)
class Outcome:
    """Whether this host runs the job, and why not."""

    runs: bool
    why: str = ""


def coming(shown: str, schedule: str) -> str:
    """Return what a run is known by, from what `systemd-analyze calendar` shows of a schedule.

    The schedule is part of it: another one may come at the same time next, and its runs before that are not those of this one.

    Raises:
        JobError: it shows neither a time nor that there is none.
    """
    found = NEXT.findall(shown)
    if not found:
        if re.search(r"Next elapse: *never", shown):
            return f"never {schedule}"
        raise JobError(f"systemd-analyze calendar names no time: {shown.strip()[:300]!r}")
    at = datetime.strptime(found[-1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return f"{at.strftime(WRITTEN)} {schedule}"


class Claims:
    """Keys of one application in its Redis, a cluster or a single server."""

    def __init__(self, nodes: list[tuple[str, int]], dial: Dial, patience: float = 0) -> None:
        self.nodes, self.dial = nodes, dial
        self.deadline = time.monotonic() + patience

    def ask(self, *command: str | int) -> Any:
        """Ask the node that has the key, whichever it is; while a failover may be going on, again.

        Raises:
            JobError: none of them can be asked, or the one that has the key refuses.
        """
        while True:
            said, passing = [], False
            for node in self.nodes:
                try:
                    return self._follow(node, *command)
                except (Unreachable, RespError) as error:
                    said.append(str(error))
                    passing |= isinstance(error, Unreachable) or error.code in PASSING
            if not passing or time.monotonic() + 1 > self.deadline:
                break
            time.sleep(1)
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

    def claim(self, key: str, run: str, lasts: int, holder: str, now: datetime) -> Outcome:
        """Take a run for a holder and keep others from beginning while it lasts, `lasts` seconds at most."""
        if not self._take(key, run, holder):
            return Outcome(False, f"the run before {run.partition(' ')[0]} is that of {self._holder(key, run)}")
        until = f"{int(now.timestamp()) + lasts} {holder}"
        if self._take(key, RUNNING, until):
            return Outcome(True)
        other = str(self.ask("HGET", key, RUNNING) or "0 another host")
        if int(other.partition(" ")[0]) > now.timestamp():
            return Outcome(False, f"the one before still runs on {other.split()[1]}")
        # Whoever held it has died. Only the host that has taken a run comes here.
        self.ask("HSET", key, RUNNING, until)
        return Outcome(True)

    def release(self, key: str, holder: str, now: datetime) -> None:
        """Let others begin, where this holder is the one that runs, and forget runs that nobody asks for any more."""
        if str(self.ask("HGET", key, RUNNING)).partition(" ")[2] != holder:
            return
        self.ask("HDEL", key, RUNNING)
        past = [run for run in self.ask("HKEYS", key) if TIME.match(run) and run < (now - KEPT).strftime(WRITTEN)]
        if past:
            self.ask("HDEL", key, *past)

    def _take(self, key: str, field: str, value: str) -> bool:
        # Where an answer was lost and the question repeated, it is this holder's own already.
        return bool(self.ask("HSETNX", key, field, value)) or self.ask("HGET", key, field) == value

    def _holder(self, key: str, run: str) -> str:
        return str(self.ask("HGET", key, run) or "another host").partition(" ")[0]
