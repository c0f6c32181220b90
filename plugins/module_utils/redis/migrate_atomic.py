# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Slots that the servers move by themselves, where they can: Redis 8.4 on the destination's request, Valkey 9 on the source's.

Both copy the slots as a replica does and hand them over at one moment. Neither is in Debian, so no test has met a real one: the
dialects below follow the servers' documentation and sources, and whoever uses them is told `not verified here`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import RespError
from ansible_collections.uptier.platform.plugins.module_utils.redis.slots import Range, members, show_ranges, to_ranges

# Slots of one job: each holds the writes to its slots for a moment at its end, and can be counted when it is done.
CHUNK = 1024
INTERVAL_SECONDS = 0.25


@dataclass(frozen=True)
class Job:
    """What a server says of one of its moves."""

    name: str
    state: str
    ranges: str
    message: str


@dataclass(frozen=True)
class Dialect:
    """How one family of servers is asked to move slots."""

    command: str  # as COMMAND INFO knows it
    asks: str  # which end is asked: source or target
    done: str  # the state of a job that has reached its end
    over: tuple[str, ...]  # states of jobs that will do nothing more

    @property
    def text(self) -> str:
        return self.command.replace("|", " ").upper()

    def start(self, ranges: Sequence[Range], target: str) -> tuple[Any, ...]:
        """Return the command that begins a move to the node with the id `target`."""
        edges = [edge for part in ranges for edge in part]
        if self is REDIS:
            return ("CLUSTER", "MIGRATION", "IMPORT", *edges)
        return ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *edges, "NODE", target)

    def jobs(self, connection: Any) -> list[Job]:
        """Ask a node for its moves, those that are over too."""
        words = ("CLUSTER", "MIGRATION", "STATUS", "ALL") if self is REDIS else ("CLUSTER", "GETSLOTMIGRATIONS")
        found = []
        for entry in connection.call(*words):
            facts = dict(zip(entry[::2], entry[1::2], strict=True))
            name, ranges, message = (facts.get(one, facts.get(other, "")) for one, other in NAMES)
            found.append(Job(str(name), str(facts.get("state", "")), str(ranges), str(message)))
        return found

    def cancel(self, connection: Any, name: str) -> None:
        """End a move that does not get anywhere; nothing was handed over, so its slots are still the source's."""
        words = ("CLUSTER", "MIGRATION", "CANCEL", "ID", name) if self is REDIS else ("CLUSTER", "CANCELSLOTMIGRATIONS")
        with contextlib.suppress(RespError):  # it may have ended in the meantime
            connection.call(*words)


# Redis tries a failed job again by itself, until it is cancelled.
REDIS = Dialect("cluster|migration", "target", "completed", ("completed", "canceled"))
VALKEY = Dialect("cluster|migrateslots", "source", "success", ("success", "failed", "cancelled"))
# The same fact in Redis' and in Valkey's words.
NAMES = (("id", "name"), ("slots_range", "slot_ranges"), ("last_error", "message"))


def dialect_of(source: Any, target: Any) -> Dialect | None:
    """Return how both ends can move slots by themselves, or None where they cannot or may not."""
    for dialect in (REDIS, VALKEY):
        if all(_knows(connection, dialect.command) for connection in (source, target)):
            asked, other = (target, source) if dialect.asks == "target" else (source, target)
            marked = any("[" in line for end in (source, target) for line in end.call("CLUSTER", "NODES").splitlines() if "myself" in line)
            # A move that was begun key by key is ended key by key: the servers refuse to mix.
            return None if marked or not _may_log_in(asked, other) else dialect
    return None


def _knows(connection: Any, command: str) -> bool:
    try:
        return bool((connection.call("COMMAND", "INFO", command) or [None])[0])
    except RespError:
        return False


def _may_log_in(asked: Any, other: Any) -> bool:
    """Say whether the node that is asked may fetch or bring slots as the user as whom it follows a master."""
    try:
        user = dict(zip(*[iter(asked.call("CONFIG", "GET", "masteruser"))] * 2, strict=True)).get("masteruser", "")
        answer = other.call("ACL", "DRYRUN", user or "default", "CLUSTER", "SYNCSLOTS", "SYNC", "0", "0") if user else "OK"
    except RespError as error:
        answer = str(error)
    return "permission" not in str(answer).lower() and "not found" not in str(answer).lower()


class AtomicLane:
    """One source, one destination, and the servers that move slots between them."""

    def __init__(
        self,
        dialect: Dialect,
        source: Any,
        target: Any,
        owned: Callable[[Any, str], set[int]],
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take both ends and what tells the slots of a node by another one's view; `timeout` in seconds without any progress."""
        self.dialect, self.source, self.target, self.owned = dialect, source, target, owned
        self.asked = target if dialect.asks == "target" else source
        self.timeout, self.clock, self.sleep = timeout, clock, sleep
        self.source_id, self.target_id = source.call("CLUSTER", "MYID"), target.call("CLUSTER", "MYID")

    def move(self, slots: Sequence[int], served: Callable[[int], None]) -> None:
        """Move slots, job by job; raise RespError with the server's own words where one fails.

        A run that was killed left its job to the servers: it is waited for, and what it has moved is not asked for again.
        """
        self._until(lambda: [job for job in self.dialect.jobs(self.asked) if job.state not in (*self.dialect.over, "failed")] == [], "")
        left = sorted(set(slots) & self.owned(self.source, self.source_id))
        served(len(slots) - len(left))
        for start in range(0, len(left), CHUNK):
            part = left[start : start + CHUNK]
            self._job(to_ranges(part))
            served(len(part))

    def _job(self, ranges: tuple[Range, ...]) -> None:
        known = {job.name for job in self.dialect.jobs(self.asked)}
        self.asked.call(*self.dialect.start(ranges, self.target_id))
        last = Job("", "", "", "")

        def done() -> bool:
            nonlocal last
            last = next((job for job in self.dialect.jobs(self.asked) if job.name not in known), last)
            if last.state in self.dialect.over and last.state != self.dialect.done:
                raise RespError(f"{self.dialect.text} of {show_ranges(ranges)} ended as {last.state}: {last.message}")
            moved = members(ranges)
            return last.state == self.dialect.done and all(moved <= self.owned(end, self.target_id) for end in (self.source, self.target))

        try:
            self._until(done, f"{self.dialect.text} of {show_ranges(ranges)}")
        except TimeoutError as error:
            self.dialect.cancel(self.asked, last.name)
            raise RespError(f"{error} within {self.timeout:g} s; it was {last.state or 'not begun'}: {last.message}") from error

    def _until(self, ready: Callable[[], bool], what: str) -> None:
        end = self.clock() + self.timeout
        while not ready():
            if self.clock() >= end:
                raise TimeoutError(f"{what or 'a move that was under way'} did not end")
            self.sleep(INTERVAL_SECONDS)
