# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Moves slots with their keys from one master to another while clients read and write.

Where the servers can do it by themselves, they do (`migrate_atomic`). Elsewhere keys go in small commands.

A slot is marked at both ends, its keys go over in small commands, and then it belongs to the destination. MIGRATE stops both
masters for as long as it lasts, so it gets as many keys as take a few milliseconds. Killed anywhere, the marks stay: the next run
goes on with the same slot (`cluster.plan`), and a key is only ever removed at its source after the destination has it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.redis.cluster import Interruption, Node
from ansible_collections.uptier.platform.plugins.module_utils.redis.migrate_atomic import AtomicLane, dialect_of
from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import RespError, Unreachable
from ansible_collections.uptier.platform.plugins.module_utils.redis.slots import Range, members

# Slots that are marked at once: each round trip then serves as many.
WINDOW = 64
# How long one command may stop a master, in seconds; what a command may carry.
PAUSE, MOST_KEYS, MOST_BYTES = 0.005, 500, 1 << 20
# A key of this size stops both masters for so long that the others could take them for dead: such keys go last, and patiently.
BIG = 32 << 20
# What one byte of a big key may take: slow disks and busy hosts included.
SECONDS_PER_BYTE = 1 / (4 << 20)
REPORT_SECONDS = 5.0

Dial = Callable[[str, int], Any]


@dataclass(frozen=True)
class Move:
    """Slots that go from one master to another."""

    source: Node
    target: Node
    slots: tuple[Range, ...]


@dataclass(frozen=True)
class Key:
    """A key, its slot, and what it takes of the memory, in bytes."""

    name: str
    slot: int
    size: int = 0


@dataclass
class Progress:
    """What was moved so far; `slowest` is the longest time that a command stopped a master for, in seconds."""

    total: int
    slots: int = 0
    keys: int = 0
    bytes: int = 0
    slowest: float = 0.0
    seconds: float = 0.0
    big: list[str] = field(default_factory=list)
    mechanism: str = "key by key"

    def __str__(self) -> str:
        rate = self.keys / self.seconds if self.seconds else 0.0
        left = self.seconds / self.slots * (self.total - self.slots) if self.slots else 0.0
        return f"{self.slots} of {self.total} slots, {self.keys} keys, {rate:.0f} keys a second, about {left:.0f} s left"


class Mover:
    """Carries out moves. One thread for each source: two commands at once would only queue up there."""

    def __init__(
        self,
        dial: Dial,
        login: Sequence[str] = (),
        timeout: float = 60,
        max_rate: int = 0,
        report: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take what opens a connection, and user and password with which one node logs in at the other.

        Args:
            timeout: seconds for one command.
            max_rate: keys a second, all sources together; 0 for as many as go.
            report: gets a line every five seconds.
        """
        self.dial, self.login, self.timeout, self.max_rate = dial, tuple(login), timeout, max_rate
        self.report, self.clock, self.sleep = report, clock, sleep
        self.progress = Progress(0)
        self.started = self.reported = 0.0
        self.one_job = threading.Lock()  # servers that move slots by themselves do one move at a time

    def run(self, moves: Iterable[Move], everyone: Iterable[Node]) -> Progress:
        """Move all slots; raise Interruption where that stops, with what was reached kept.

        Args:
            moves: what goes where.
            everyone: all nodes of the cluster: while a big key moves, they have to wait longer before they call a node dead.
        """
        todo = list(moves)
        self.progress = Progress(sum(len(members(move.slots)) for move in todo))
        self.started = self.reported = self.clock()
        by_source: dict[str, list[Move]] = {}
        for move in todo:
            by_source.setdefault(move.source.label, []).append(move)
        with ThreadPoolExecutor(max_workers=len(by_source) or 1) as pool:
            late = [found for part in list(pool.map(self._all_of, by_source.values())) for found in part]
        if late:
            largest = max(size for dummy, put_off in late for size in put_off.values())
            with Patience(self.dial, list(everyone), 2 * largest * SECONDS_PER_BYTE + self.timeout):
                for move, put_off in late:
                    self._one(move, sorted(put_off), patient=True)
        self._tell(always=True)
        return self.progress

    def _all_of(self, moves: list[Move]) -> list[tuple[Move, dict[int, int]]]:
        found = [(move, self._one(move, sorted(members(move.slots)))) for move in moves]
        return [(move, put_off) for move, put_off in found if put_off]

    def _one(self, move: Move, slots: list[int], patient: bool = False) -> dict[int, int]:
        """Move slots from one node to another; return those that were put off, with the size of the big key in each."""
        try:
            with self.dial(move.source.address, move.source.port) as source, self.dial(move.target.address, move.target.port) as target:
                dialect = None if patient else dialect_of(source, target)
                if dialect:
                    self.progress.mechanism = dialect.text
                    with self.one_job:
                        AtomicLane(dialect, source, target, owned, self.timeout, self.clock, self.sleep).move(slots, self.served)
                    return {}
                lane = Lane(self, move, source, target, patient)
                for start in range(0, len(slots), WINDOW):
                    lane.window(slots[start : start + WINDOW])
                return lane.put_off
        except (RespError, Unreachable, TimeoutError) as error:
            raise Interruption(
                f"Moving slots from {move.source.label} to {move.target.label} stopped: {error}. Both ends still serve what they have.",
                move.source.label,
                error,
            ) from error

    def moved(self, keys: int, size: int, seconds: float) -> None:
        """Count what one command has moved, and hold the rate."""
        self.progress.keys += keys
        self.progress.bytes += size
        self.progress.slowest = max(self.progress.slowest, seconds)
        self._tell()
        if self.max_rate:
            early = self.progress.keys / self.max_rate - (self.clock() - self.started)
            if early > 0:
                self.sleep(early)

    def served(self, slots: int) -> None:
        """Count slots that have their new owner."""
        self.progress.slots += slots
        self._tell()

    def _tell(self, always: bool = False) -> None:
        now = self.clock()
        self.progress.seconds = now - self.started
        if always or now - self.reported >= REPORT_SECONDS:
            self.reported = now
            self.report(str(self.progress))


def owned(connection: Any, node: str) -> set[int]:
    """Return the slots that a node holds by the view of whom is asked: a run that was killed may have handed over some of them already."""
    return members((first, last) for first, last, leader, *dummy in connection.call("CLUSTER", "SLOTS") if leader[2] == node)


class Lane:
    """One source, one destination, and a connection to each."""

    def __init__(self, mover: Mover, move: Move, source: Any, target: Any, patient: bool) -> None:
        """Ask both who they are; see whether the source has a replica that must follow."""
        self.mover, self.move, self.source, self.target, self.patient = mover, move, source, target, patient
        self.source_id, self.target_id = source.call("CLUSTER", "MYID"), target.call("CLUSTER", "MYID")
        self.followed = "connected_slaves:0" not in source.call("INFO", "replication")
        self.batch = 16
        self.put_off: dict[int, int] = {}

    def window(self, slots: list[int]) -> None:
        """Move some slots: mark them, empty them, hand them over."""
        there = owned(self.target, self.target_id)
        mark = [slot for slot in slots if slot not in there]
        # A node does not hear of a failover for slots that it is importing: it would go on asking the leader of then.
        known = owned(self.target, self.source_id)
        self._each(self.target, [("CLUSTER", "SETSLOT", slot, "NODE", self.source_id) for slot in mark if slot not in known])
        self._each(self.target, [("CLUSTER", "SETSLOT", slot, "IMPORTING", self.source_id) for slot in mark])
        self._each(self.source, [("CLUSTER", "SETSLOT", slot, "MIGRATING", self.target_id) for slot in mark])
        self._empty(mark)
        done = [slot for slot in slots if slot not in self.put_off]
        # The destination first: until the source knows too, it sends clients there.
        self._each(self.target, [("CLUSTER", "SETSLOT", slot, "NODE", self.target_id) for slot in done])
        self._each(self.source, [("CLUSTER", "SETSLOT", slot, "NODE", self.target_id) for slot in done])
        self.mover.served(len(done))

    def _empty(self, slots: list[int]) -> None:
        """Move the keys of marked slots; new ones cannot come, since the source sends clients that ask for what it lacks away."""
        while slots:
            found = self._each(self.source, [("CLUSTER", "GETKEYSINSLOT", slot, MOST_KEYS) for slot in slots])
            keys = [Key(name, slot) for slot, names in zip(slots, found, strict=True) for name in names]
            sizes = self._each(self.source, [("MEMORY", "USAGE", key.name) for key in keys])
            keys = [Key(key.name, key.slot, size or 0) for key, size in zip(keys, sizes, strict=True)]
            for key in keys:
                if key.size >= BIG and not self.patient:
                    # Its slot stays as it is, with its marks: clients are served from both ends until its turn comes.
                    self.mover.progress.big.append(f"{key.name} ({key.size >> 20} MiB, slot {key.slot})")
                    self.put_off[key.slot] = max(key.size, self.put_off.get(key.slot, 0))
            keys = [key for key in keys if key.slot not in self.put_off]
            while keys:
                keys = keys[self._send(keys) :]
            slots = [slot for slot, names in zip(slots, found, strict=True) if names and slot not in self.put_off]

    def _send(self, keys: list[Key]) -> int:
        """Send the first keys, as many as are to go at once; return how many."""
        count, size = 1, keys[0].size
        while count < min(len(keys), self.batch) and size + keys[count].size <= MOST_BYTES:
            size += keys[count].size
            count += 1
        by_slot: dict[int, list[str]] = {}
        for key in keys[:count]:
            by_slot.setdefault(key.slot, []).append(key.name)
        limit = self.mover.timeout + 2 * size * SECONDS_PER_BYTE
        login = ["AUTH2", *self.mover.login] if self.mover.login else []
        node = self.move.target
        # With REPLACE: where both have a key, an earlier command was cut short, and clients were served by the source since.
        start = ("MIGRATE", node.address, node.port, "", 0, int(limit * 1000), "REPLACE", *login, "KEYS")
        commands: list[tuple[Any, ...]] = [(*start, *names) for names in by_slot.values()]
        self.source.patience(limit + 5)
        began = self.mover.clock()
        self._each(self.source, commands)
        seconds = self.mover.clock() - began
        if self.followed:
            # A replica that takes over now must know that the keys are gone, or it would serve what is stale.
            self.source.call("WAIT", 1, 1000)
        self.mover.moved(count, size, seconds)
        self.batch = max(1, min(MOST_KEYS, self.batch * 2, round(count * PAUSE / max(seconds, PAUSE / 4))))
        return count

    @staticmethod
    def _each(connection: Any, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send commands at once and return their answers; the first error is raised."""
        answers = connection.pipeline(commands)
        for answer in answers:
            if isinstance(answer, RespError):
                raise answer
        return answers


class Patience:
    """For a while, all nodes wait longer before they take another one for dead."""

    def __init__(self, dial: Dial, nodes: list[Node], seconds: float) -> None:
        """Take who shall wait and how long."""
        self.dial, self.nodes, self.milliseconds = dial, nodes, int(seconds * 1000)
        self.before: dict[str, str] = {}

    def __enter__(self) -> Patience:
        for node in self.nodes:
            with contextlib.suppress(RespError, Unreachable), self.dial(node.address, node.port) as connection:
                self.before[node.label] = connection.call("CONFIG", "GET", "cluster-node-timeout")[1]
                connection.call("CONFIG", "SET", "cluster-node-timeout", max(self.milliseconds, int(self.before[node.label])))
        return self

    def __exit__(self, *dummy: object) -> None:
        for node in self.nodes:
            if node.label in self.before:
                with contextlib.suppress(RespError, Unreachable), self.dial(node.address, node.port) as connection:
                    connection.call("CONFIG", "SET", "cluster-node-timeout", self.before[node.label])
