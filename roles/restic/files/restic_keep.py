# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Look after the repositories of all hosts, on the host that keeps them.

restic_keep.py CONFIG keep       remove what is older than it has to be kept; hosts cannot, the server only lets them add
restic_keep.py CONFIG verify     check every repository, restore a sample of files, load the snapshots of Redis and open copies of SQLite databases

Ends with 0 where all is well, with 1 where something of one host is not; the others are done all the same.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.host import sqlite_copy
from ansible_collections.uptier.platform.plugins.module_utils.host.files import replace_file
from ansible_collections.uptier.platform.plugins.module_utils.host.restic import (
    TAG,
    Repository,
    ResticError,
    checksum,
    metrics,
    read_metric,
)
from ansible_collections.uptier.platform.plugins.module_utils.redis import snapshot

TAKEN = "file_backup_newest_timestamp_seconds"
PROOF = "file_backup_verify_success"
PROVED = "file_backup_verify_timestamp_seconds"
HELP = {
    TAKEN: "When the newest backup of a host's files was made.",
    "file_backup_snapshots": "Backups of a host's files.",
    PROOF: "Whether the last proof of a host's backup was good.",
    PROVED: "When the newest backup of a host was proven last.",
}


def say(text: str) -> None:
    print(text, flush=True)


def repositories(config: Mapping[str, Any]) -> Iterator[tuple[str, Repository]]:
    """Give the repositories of the hosts that have made one. Who left the inventory keeps what there is."""
    base, shared = config["base"], {"cache": config["cache"], "environment": config["environment"]}
    if base.startswith("/"):
        for path in sorted(Path(base).iterdir()):
            if path.name not in config["hosts"] and (path / "config").is_file():
                say(f"{path.name}: not in the inventory any more; its backups in {path} are left as they are.")
    for name, password in sorted(config["hosts"].items()):
        repository = Repository({"location": f"{base}/{name}", "password": password, **shared})
        if repository.exists():
            yield name, repository
        else:
            say(f"{name}: has made no backup yet.")


def keep(repository: Repository, name: str, config: Mapping[str, Any]) -> None:
    rules = [f"--keep-{period}={number}" for period, number in config["keep"].items() if number]
    repository.run("forget", f"--tag={TAG}", f"--host={name}", "--group-by=host", *rules, "--prune")


@contextmanager
def scratch_of(config: Mapping[str, Any]) -> Iterator[Path]:
    """Give an empty directory, and remove it. What a killed run left is removed first."""
    path = Path(config["scratch"]) / "restore"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700, parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def verify(repository: Repository, name: str, config: Mapping[str, Any], newest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Prove the newest backup of a host; return the snapshots of Redis in it, which were loaded."""
    repository.run("check", f"--read-data-subset={config['read_percent']}%")
    staging = config["staging"]
    with scratch_of(config) as scratch:
        repository.restore(newest["id"], scratch, [f"{staging}/manifest.json"])
        manifest = json.loads((scratch / staging.lstrip("/") / "manifest.json").read_text(encoding="utf-8"))
        files, saved, copies = manifest["files"], manifest["redis"], manifest.get("sqlite", [])
        wanted = [*files, *(entry["file"] for entry in [*saved, *copies])]
        if wanted:
            repository.restore(newest["id"], scratch, wanted)
        other = [path for path, seen in files.items() if not same(scratch / path.lstrip("/"), seen)]
        if other:
            raise ResticError(
                "other_content", f"{len(other)} of {len(files)} files of {name} are not what was backed up: {', '.join(other[:3])}."
            )
        for entry in saved:
            load(scratch / entry["file"].lstrip("/"), entry, scratch, f"{name}, port {entry['port']}")
        for entry in copies:
            count = sqlite_copy.tables(scratch / entry["file"].lstrip("/"))
            if count != entry["tables"]:
                raise ResticError(
                    "other_content", f"{entry['path']} of {name}: {entry['tables']} tables were saved, {count} are in the copy."
                )
    say(
        f"{name}: backup {newest['short_id']} is good, {len(files)} files, {len(saved)} snapshots of Redis and {len(copies)} SQLite databases "
        "were restored."
    )
    return list(saved)


def same(file: Path, seen: Mapping[str, Any]) -> bool:
    """Tell whether a restored file is the one that was seen before; one that was changed before restic came to it proves nothing."""
    try:
        now = file.stat()
        if now.st_mtime_ns != seen["mtime_ns"]:
            return True
        return now.st_size == seen["size"] and checksum(file) == seen["sha256"]
    except OSError:
        return False


def load(rdb: Path, entry: Mapping[str, Any], scratch: Path, where: str) -> None:
    """Have a server read a snapshot. It answers on a socket in the scratch directory, and ends with this."""
    if checksum(rdb) != entry["sha256"]:
        raise snapshot.SnapshotError("other_content", f"{where}: the snapshot is not what was backed up.")
    try:
        counted = snapshot.count(rdb)
    except snapshot.SnapshotError as error:
        if error.reason != "newer_version":
            raise
        say(f"{where}: not verified here: {error} Its bytes are those that were backed up, and its own host could read it.")
        return
    if counted.keys != entry["keys"]:
        raise snapshot.SnapshotError("other_keys", f"{where}: {entry['keys']} keys were saved, {counted.keys} are in the snapshot.")
    directory = scratch / ".redis"
    directory.mkdir(mode=0o700)
    rdb.rename(directory / "dump.rdb")
    socket = directory / "socket"
    server = subprocess.Popen(snapshot.server_words(directory, socket), executable=snapshot.CHECKER, stdout=subprocess.DEVNULL)
    try:
        with snapshot.answers(socket, lambda: server.poll() is None) as connection:
            snapshot.check_loaded(connection.call("DBSIZE"), counted, where)
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(directory)


def run(config: Mapping[str, Any], what: str) -> int:
    prom = Path(config["metrics"])
    samples: dict[str, dict[str, float]] = {name: {} for name in HELP}
    failed: list[str] = []
    loaded: list[dict[str, Any]] = []
    for name, repository in repositories(config):
        label = f'{{host="{name}"}}'
        # What this run does not say stays as the last one said it.
        for figure in (PROOF, PROVED):
            samples[figure].update({key: value for key, value in read_metric(prom, figure).items() if key == label})
        found: list[dict[str, Any]] = []
        try:
            if what == "keep":
                keep(repository, name, config)
            else:
                samples[PROOF][label] = 0.0
            found = repository.snapshots(name)
            if what == "verify":
                if not found:
                    raise ResticError(
                        "no_snapshot", f"There is a repository of {name} without a backup. Look at restic-backup.service on it."
                    )
                loaded += [entry for entry in verify(repository, name, config, found[-1]) if name in config["redis_hosts"]]
                samples[PROOF][label], samples[PROVED][label] = 1.0, time.time()
        except (ResticError, snapshot.SnapshotError, sqlite_copy.SqliteError) as error:
            failed.append(name)
            print(f"{name}: {error.reason}: {error}", file=sys.stderr, flush=True)
        except (OSError, ValueError, KeyError) as error:  # what was restored is not what a backup of this program holds
            failed.append(name)
            print(
                f"{name}: other_content: its newest backup cannot be looked at ({error!r}). Take another one.", file=sys.stderr, flush=True
            )
        if found:
            samples["file_backup_snapshots"][label] = float(len(found))
            samples[TAKEN][label] = datetime.fromisoformat(found[-1]["time"]).timestamp()
    if what == "verify" and config["redis_hosts"] and not failed and (lacking := snapshot.coverage(loaded)):
        failed.append("Redis")
        text = f"slots_missing: {lacking} slots are in no snapshot of {', '.join(config['redis_hosts'])}. Take backups of all of them at one time."
        print(text, file=sys.stderr, flush=True)
        for name in config["redis_hosts"]:
            samples[PROOF][f'{{host="{name}"}}'] = 0.0
    replace_file(prom, metrics({name: (HELP[name], values) for name, values in samples.items()}), 0o644)
    return 1 if failed else 0


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[1] not in ("keep", "verify"):
        print(__doc__)
        return 2
    return run(json.loads(Path(arguments[0]).read_text(encoding="utf-8")), arguments[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
