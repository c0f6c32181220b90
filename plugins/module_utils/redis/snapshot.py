# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Snapshots of Redis masters: taken, read by a server that nobody reaches, and put back into a cluster of any shape."""

from __future__ import annotations

import binascii
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import Connection, RespError, Unreachable, parse_info
from ansible_collections.uptier.platform.plugins.module_utils.redis.slots import SLOTS

# Debian's redis-server is this program by another name, and redis-tools has it.
CHECKER = "/usr/bin/redis-check-rdb"
READ = re.compile(r"\[info\] (\d+) (keys read|expires|already expired)")
TOO_NEW = re.compile(r"Can't handle RDB format version \d+")
BATCH = 200
# A value that is larger than this goes alone, so that neither side holds many of them at once.
BATCH_BYTES = 8 << 20
TRIES = 60


class SnapshotError(Exception):
    """What was seen, where, and what to do; `reason` is for programs."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Counted:
    """What a snapshot holds: keys, how many of them expire, how many of these have expired already."""

    keys: int
    expires: int
    expired: int


def key_slot(key: str) -> int:
    """Return the slot of a key: of its first tag in braces, where it has one that is not empty."""
    begin = key.find("{")
    end = key.find("}", begin + 1) if begin >= 0 else -1
    tag = key[begin + 1 : end] if end > begin + 1 else key
    return binascii.crc_hqx(tag.encode("utf-8", "surrogateescape"), 0) % SLOTS


# Taking -----------------------------------------------------------------------------------------------------------------------


def take(connection: Any, rdb: Path, target: Path, seconds: float = 3600.0, pause: float = 0.5) -> None:
    """Have a node write a snapshot, and keep it as `target`. A snapshot that is being written already is waited for first."""
    deadline = time.monotonic() + seconds
    _idle(connection, deadline, pause)
    # The file of before could be taken for the new one: both are told apart by inode, not by a clock of whole seconds.
    before = _identity(rdb)
    try:
        connection.call("BGSAVE")
    except RespError as error:
        if "in progress" not in str(error).lower():
            raise SnapshotError("not_saved", f"{connection.endpoint} refused BGSAVE: {error}.") from error
    said = _idle(connection, deadline, pause)
    if said.get("rdb_last_bgsave_status") != "ok" or _identity(rdb) == before:
        raise SnapshotError(
            "not_saved",
            f"{connection.endpoint} could not write {rdb} (rdb_last_bgsave_status {said.get('rdb_last_bgsave_status')}). "
            "Look at its journal: the disk may be full, or memory for the fork may be missing.",
        )
    # Redis moves a new file into its place, so this one stays as it is.
    target.unlink(missing_ok=True)
    try:
        os.link(rdb, target)
    except OSError:  # another file system
        shutil.copyfile(rdb, target)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        seen = path.stat()
    except FileNotFoundError:
        return None
    return seen.st_ino, seen.st_mtime_ns


def _idle(connection: Any, deadline: float, pause: float) -> dict[str, str]:
    """Wait until the node writes no snapshot, and return what it says of them."""
    while True:
        said = parse_info(connection.call("INFO", "persistence"))
        if said.get("rdb_bgsave_in_progress") == "0":
            return said
        if time.monotonic() > deadline:
            raise SnapshotError("not_saved", f"{connection.endpoint} still writes a snapshot. Look at its disk, then run it again.")
        time.sleep(pause)


# Reading ----------------------------------------------------------------------------------------------------------------------


def count(path: Path) -> Counted:
    """Read a whole snapshot, checksums included, and return what it holds; raise where it is damaged."""
    done = subprocess.run([CHECKER, str(path)], capture_output=True, check=False, text=True, errors="replace")
    found = {name: int(number) for number, name in READ.findall(done.stdout)}
    if done.returncode or "keys read" not in found or "RDB looks OK" not in done.stdout:
        if newer := TOO_NEW.search(done.stdout):
            raise SnapshotError("newer_version", f"{path} was written by a newer Redis than this host has ({newer[0]}).")
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise SnapshotError("damaged", f"{path} cannot be read as a snapshot: {'; '.join(said[-2:]) or 'it is empty'}.")
    return Counted(found["keys read"], found.get("expires", 0), found.get("already expired", 0))


def server_words(directory: Path, socket: Path, memory_mb: int = 0) -> list[str]:
    """Return the command of a server that reads ``dump.rdb`` in a directory, writes nothing and answers on a socket only.

    To be run with the program CHECKER, which is the server under the name that comes first here.
    """
    return [
        "redis-server", "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600", "--dir", str(directory),
        "--dbfilename", "dump.rdb", "--save", "", "--appendonly", "no", "--daemonize", "no", "--logfile", "", "--maxmemory", f"{memory_mb}mb",
        "--maxmemory-policy", "noeviction",
    ]  # fmt: skip


def answers(socket: Path, alive: Callable[[], bool], seconds: float = 1800.0, pause: float = 0.2) -> Connection:
    """Return a connection to such a server once it has read its snapshot."""
    deadline = time.monotonic() + seconds
    last = "it has not answered yet"
    while time.monotonic() < deadline:
        if not alive():
            raise SnapshotError("not_read", f"The server that was to read {socket.parent} ended. Its own words are in the journal.")
        try:
            connection = Connection(str(socket), 0, timeout=60.0)
            try:
                connection.call("DBSIZE")
            except BaseException:
                connection.close()
                raise
        except (Unreachable, RespError) as error:  # LOADING as well
            last = str(error)
            time.sleep(pause)
        else:
            return connection
    raise SnapshotError("not_read", f"The server that was to read {socket.parent} is not ready after {seconds:.0f} s: {last}.")


def check_loaded(loaded: int, counted: Counted, where: str) -> None:
    """Refuse where a server has other keys than its snapshot holds. Those that expire may be gone by now."""
    if not counted.keys - counted.expires - counted.expired <= loaded <= counted.keys:
        raise SnapshotError(
            "other_keys", f"{where} holds {counted.keys} keys, {counted.expires} of them expire, and a server read {loaded} of them."
        )


# Putting back -----------------------------------------------------------------------------------------------------------------


@dataclass
class Restored:
    """Keys that were put back, those that were there and kept, those that had expired meanwhile, and their bytes."""

    written: int = 0
    kept: int = 0
    expired: int = 0
    bytes: int = 0
    seconds: float = field(default=0.0)


def batches(source: Any) -> Iterator[list[tuple[str, str, int]]]:
    """Give (key, what it holds as DUMP says it, milliseconds it lives or 0) of all keys, some at a time."""
    cursor, found = "0", []
    while True:
        cursor, keys = source.call("SCAN", cursor, "COUNT", BATCH)
        size = 0
        for begin in range(0, len(keys), BATCH):
            part = keys[begin : begin + BATCH]
            sizes = source.pipeline([("MEMORY", "USAGE", key) for key in part])
            for key, needed in zip(part, sizes, strict=True):
                size += needed if isinstance(needed, int) else 0
                found.append(key)
                if size > BATCH_BYTES:
                    yield _dumped(source, found)
                    found, size = [], 0
        if found:
            yield _dumped(source, found)
            found = []
        if cursor == "0":
            return


def _dumped(source: Any, keys: list[str]) -> list[tuple[str, str, int]]:
    replies = source.pipeline([command for key in keys for command in (("DUMP", key), ("PTTL", key))])
    found = []
    for number, key in enumerate(keys):
        held, left = replies[2 * number], replies[2 * number + 1]
        for reply in (held, left):
            if isinstance(reply, RespError):
                raise SnapshotError("not_read", f"The key {key!r} cannot be read from the snapshot: {reply}.")
        found.append((key, held if left != -2 and held is not None else "", max(left, 0)))
    return found


class Target:
    """The cluster that gets the keys."""

    def __init__(self, nodes: Iterable[tuple[str, int]], dial: Callable[[str, int], Any], pause: float = 1.0) -> None:
        self.nodes, self.dial, self.pause = list(nodes), dial, pause
        self.owners: dict[int, tuple[str, int]] = {}
        self.open: dict[tuple[str, int], Any] = {}

    def close(self) -> None:
        for connection in self.open.values():
            connection.close()
        self.open = {}

    def learn(self) -> None:
        """Ask who serves which slot; the first node that answers is believed, and all slots must be served."""
        said: dict[str, str] = {}
        for address, port in self.nodes:
            try:
                entries = self._connection((address, port)).call("CLUSTER", "SLOTS")
            except (Unreachable, RespError) as error:
                said[f"{address}:{port}"] = str(error)
                self._drop((address, port))
                continue
            self.owners = {
                slot: (str(entry[2][0]), int(entry[2][1])) for entry in entries for slot in range(int(entry[0]), int(entry[1]) + 1)
            }
            if len(self.owners) == SLOTS:
                return
            said[f"{address}:{port}"] = f"{SLOTS - len(self.owners)} slots are served by nobody"
        raise SnapshotError(
            "no_cluster",
            f"No cluster takes the keys: {'; '.join(f'{node}: {text}' for node, text in said.items())}. "
            "Let the tier's playbook form or heal it, then run this again.",
        )

    def write(self, entries: Iterable[tuple[str, str, int]], replace: bool, result: Restored) -> None:
        """Write keys; who moved meanwhile, or does not answer for a while, is asked again."""
        left = list(entries)
        for attempt in range(TRIES):
            if not self.owners:
                self.learn()
            left, said = self._once(left, replace, result)
            if not left:
                return
            self.owners = {}
            time.sleep(self.pause if attempt else 0.0)
        raise SnapshotError(
            "not_written", f"{len(left)} keys were not taken, after {TRIES} attempts: {said}. Run it again once the cluster is well."
        )

    def _once(self, entries: list[tuple[str, str, int]], replace: bool, result: Restored) -> tuple[list[tuple[str, str, int]], str]:
        parts: dict[tuple[str, int], list[tuple[str, str, int]]] = {}
        for entry in entries:
            parts.setdefault(self.owners[key_slot(entry[0])], []).append(entry)
        again: list[tuple[str, str, int]] = []
        said = ""
        for node, part in parts.items():
            commands = [("RESTORE", key, left, _raw(held), *(["REPLACE"] if replace else [])) for key, held, left in part]
            try:
                replies = self._connection(node).pipeline(commands)
            except (Unreachable, RespError) as error:
                self._drop(node)
                again, said = again + part, str(error)
                continue
            for entry, reply in zip(part, replies, strict=True):
                if reply == "OK":
                    result.written += 1
                    result.bytes += len(entry[1])
                elif isinstance(reply, RespError) and reply.code == "BUSYKEY":
                    result.kept += 1
                elif isinstance(reply, RespError) and reply.code in (
                    "MOVED",
                    "ASK",
                    "TRYAGAIN",
                    "CLUSTERDOWN",
                    "LOADING",
                    "READONLY",
                    "NOREPLICAS",
                ):
                    again.append(entry)
                    said = str(reply)
                else:
                    raise SnapshotError(
                        "refused", f"{node[0]}:{node[1]} refused the key {entry[0]!r}: {reply}. Nothing that was there was removed."
                    )
        return again, said

    def _connection(self, node: tuple[str, int]) -> Any:
        if node not in self.open:
            self.open[node] = self.dial(*node)
            self.open[node].patience(60.0)
        return self.open[node]

    def _drop(self, node: tuple[str, int]) -> None:
        connection = self.open.pop(node, None)
        if connection is not None:
            connection.close()


def _raw(held: str) -> bytes:
    return held.encode("utf-8", "surrogateescape")


def put_back(source: Any, target: Target, replace: bool) -> Restored:
    """Write all keys of a server into a cluster. Without `replace`, a key that is there is kept as it is; run again, it does the rest."""
    result, begun = Restored(), time.monotonic()
    for batch in batches(source):
        living = [entry for entry in batch if entry[1]]
        result.expired += len(batch) - len(living)
        target.write(living, replace, result)
    result.seconds = time.monotonic() - begun
    return result


def coverage(saved: Iterable[Mapping[str, Any]]) -> int:
    """Return how many slots no snapshot holds. Each says its slots as pairs of first and last."""
    held: set[int] = set()
    for entry in saved:
        for first, last in entry["slots"]:
            held.update(range(first, last + 1))
    return SLOTS - len(held)
