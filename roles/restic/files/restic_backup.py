# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Back up files of this host, copies of its SQLite databases, and a snapshot of each Redis master that runs on it.

restic_backup.py CONFIG           make the repository where there is none, and a backup
restic_backup.py CONFIG list      show what there is, newest last

Ends with 0 where a whole backup was made, with 1 where none was or something could not be read; the journal has the reason.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.host import sqlite_copy
from ansible_collections.uptier.platform.plugins.module_utils.host.files import replace_file
from ansible_collections.uptier.platform.plugins.module_utils.host.restic import (
    TAG,
    Repository,
    ResticError,
    checksum,
    messages,
    metrics,
    read_metric,
)
from ansible_collections.uptier.platform.plugins.module_utils.redis import snapshot
from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import Connection, RespError, Tls, Unreachable

# A lock of whoever removes old backups is waited for.
LOCKED_TRIES = 30
LOCKED_SECONDS = 60.0
SAMPLE = 20
SAMPLE_BYTES = 1 << 20
WALK = 50000
ENABLED = Path("/etc/systemd/system/multi-user.target.wants")
NODE = "redis-node@"


def say(text: str) -> None:
    print(text, flush=True)


def files_below(paths: Sequence[str]) -> Iterator[Path]:
    """Give regular files below some paths, a bounded number of them."""
    left = WALK
    for path in map(Path, paths):
        if path.is_file() and not path.is_symlink():
            yield path
        for directory, dummy, names in os.walk(path):
            for name in names:
                left -= 1
                if left < 0:
                    return
                file = Path(directory) / name
                if file.is_file() and not file.is_symlink():
                    yield file


def sample_of(paths: Sequence[str], size: int = SAMPLE) -> list[Path]:
    """Return some files, chosen by chance, each with the same probability."""
    chosen: list[Path] = []
    for number, file in enumerate(files_below(paths)):
        if len(chosen) < size:
            chosen.append(file)
        elif (place := random.randrange(number + 1)) < size:
            chosen[place] = file
    return chosen


def fingerprints(paths: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return checksum, size and time of change of some files, by which a restored one is told to be the same."""
    found = {}
    for file in sample_of(paths):
        try:
            before = file.stat()
            if before.st_size > SAMPLE_BYTES:
                continue
            seen = checksum(file)
        except OSError:  # gone meanwhile, or not readable: restic says which
            continue
        found[str(file)] = {"sha256": seen, "size": before.st_size, "mtime_ns": before.st_mtime_ns}
    return found


def changed_since(path: str, seen: Mapping[str, Any]) -> bool:
    try:
        now = os.stat(path)
    except OSError:
        return True
    return (now.st_size, now.st_mtime_ns) != (seen["size"], seen["mtime_ns"])


def redis_ports(wants: Path = ENABLED) -> list[int]:
    """Return the ports of the nodes that start with this host. One of them that is down fails the backup: its snapshot would be missing."""
    return sorted(int(unit.name[len(NODE) : -len(".service")]) for unit in wants.glob(f"{NODE}*.service"))


def save_redis(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Take a snapshot of each master on this host; return what each holds. One of before that has no master now is removed."""
    context = Tls(config["ca"], config["cert"], config["key"]).context()
    saved = []
    # Beside what the nodes write, so that a snapshot is a second name of their file and takes no room.
    staging = Path(config["data"]) / "snapshots"
    staging.mkdir(mode=0o700, exist_ok=True)
    ports = redis_ports()
    for port in ports:
        target = staging / f"{port}.rdb"
        with Connection(config["address"], port, context, "admin", config["password"], timeout=30.0) as connection:
            connection.patience(60.0)
            if connection.call("ROLE")[0] != "master":
                target.unlink(missing_ok=True)
                continue
            me = next(line.split() for line in connection.call("CLUSTER", "NODES").splitlines() if "myself" in line)
            slots = [word.split("-") for word in me[8:] if not word.startswith("[")]
            snapshot.take(connection, Path(config["data"]) / str(port) / "dump.rdb", target)
        counted = snapshot.count(target)
        entry = {"port": port, "file": str(target), "node": me[0], "slots": [[int(part[0]), int(part[-1])] for part in slots], "keys": counted.keys,
                 "bytes": target.stat().st_size, "sha256": checksum(target), "time": time.time()}  # fmt: skip
        say(f"Redis on port {port}: {counted.keys} keys, {entry['bytes']} bytes.")
        saved.append(entry)
    for left in staging.glob("*.rdb"):
        if int(left.stem) not in ports:
            left.unlink()
    return saved


def save_sqlite(staging: Path, paths: Sequence[str]) -> list[dict[str, Any]]:
    """Copy each database that is there; return what each copy holds. Copies of before are removed."""
    shutil.rmtree(sqlite_copy.folder(staging), ignore_errors=True)
    saved = []
    for path in paths:
        if os.path.exists(path):
            target = sqlite_copy.place(staging, path)
            count = sqlite_copy.copy(Path(path), target)
            say(f"{path}: {count} tables, {target.stat().st_size} bytes.")
            saved.append({"path": path, "file": str(target), "tables": count})
    return saved


def back_up(repository: Repository, config: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """Make a backup; wait while old ones are removed. Return restic's summary."""
    words = ["backup", "--json", f"--tag={TAG}", f"--host={config['name']}", *(f"--exclude={entry}" for entry in config["exclude"])]
    if config.get("upload_kib"):
        words.insert(0, f"--limit-upload={config['upload_kib']}")
    for attempt in range(LOCKED_TRIES):
        try:
            done = repository.run(*words, *paths, accepted=(0, 3))
            break
        except ResticError as error:
            if error.reason != "locked" or attempt == LOCKED_TRIES - 1:
                raise
            say("Old backups are being removed from the repository: it is tried again in a minute.")
            time.sleep(LOCKED_SECONDS)
    unread = [entry.get("item", "") for entry in messages(done.stderr, "error") + messages(done.stdout, "error")]
    there = sorted({item for item in unread if item and os.path.lexists(item)})
    if there or (done.returncode and not unread):
        shown = ", ".join(there[:5]) or done.stderr.strip()[-300:]
        raise ResticError(
            "unreadable", f"The backup lacks what could not be read: {shown}. Look at these files, or put them into restic_exclude."
        )
    return messages(done.stdout, "summary")[-1]


def run(config: Mapping[str, Any]) -> None:
    staging, prom = Path(config["staging"]), Path(config["metrics"])
    begun = time.time()
    values: dict[str, tuple[str, dict[str, float]]] = {
        "file_backup_success": ("Whether the last backup of this host's files is whole.", {"": 0.0}),
        "file_backup_last_success_timestamp_seconds": ("When the last whole one ended.",
                                                       read_metric(prom, "file_backup_last_success_timestamp_seconds")),
    }  # fmt: skip
    try:
        repository = Repository(config)
        if repository.make():
            say(f"The repository {config['location']} was made.")
        saved = save_redis(config["redis"]) if config.get("redis") else []
        databases = list(config.get("sqlite", ()))
        copies = save_sqlite(staging, databases)
        config = {**config, "exclude": [*config["exclude"], *sqlite_copy.without(databases)]}
        present = [path for path in config["paths"] if os.path.lexists(path)]
        marks = {path: seen for path, seen in fingerprints(present).items() if path not in sqlite_copy.without(databases)}
        replace_file(staging / "manifest.json", json.dumps({"files": marks, "redis": saved, "sqlite": copies}), 0o600)
        summary = back_up(repository, config, [*present, str(staging), *(entry["file"] for entry in saved)])
        # What was written to meanwhile cannot be held against its backup.
        moving = [path for path, seen in marks.items() if changed_since(path, seen)]
        if moving:
            say(f"{len(moving)} files of the sample changed meanwhile.")
        (staging / f"made-{hashlib.sha256(config['location'].encode()).hexdigest()}").touch()
        values["file_backup_success"][1][""] = 1.0
        values["file_backup_last_success_timestamp_seconds"] = ("When the last whole one ended.", {"": time.time()})
        values["file_backup_duration_seconds"] = ("How long it took.", {"": time.time() - begun})
        values["file_backup_size_bytes"] = ("What it holds.", {"": float(summary["total_bytes_processed"])})
        values["file_backup_added_bytes"] = ("What it added to the repository.", {"": float(summary["data_added"])})
        values["file_backup_files"] = ("Files in it.", {"": float(summary["total_files_processed"])})
        values["redis_snapshot_keys"] = (
            "Keys in the last snapshot of a master.",
            {f'{{port="{one["port"]}"}}': float(one["keys"]) for one in saved},
        )
        say(
            f"Backup {summary['snapshot_id'][:8]} of {config['name']}: {summary['total_files_processed']} files, "
            f"{summary['total_bytes_processed']} bytes, {summary['data_added']} of them new, {time.time() - begun:.1f} s."
        )
    finally:
        prom.parent.mkdir(parents=True, exist_ok=True)
        replace_file(prom, metrics(values), 0o644)


def show(config: Mapping[str, Any]) -> None:
    for entry in Repository(config).snapshots(config["name"]):
        say(f"{entry['short_id']}  {entry['time'][:19]}  {' '.join(entry['paths'])}")


def main(arguments: list[str]) -> int:
    if not arguments or arguments[1:] not in ([], ["list"]):
        print(__doc__)
        return 2
    config = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    try:
        (show if arguments[1:] else run)(config)
    except (ResticError, snapshot.SnapshotError, sqlite_copy.SqliteError) as error:
        print(f"{error.reason}: {error}", file=sys.stderr)
        return 1
    except (Unreachable, RespError) as error:
        print(f"redis: A master on this host could not be asked ({error}). Look at redis-node@ on this host.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
