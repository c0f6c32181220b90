# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The running half of redis_restore: a server for one snapshot, in a unit that ends with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.uptier.platform.plugins.module_utils.redis import snapshot
from ansible_collections.uptier.platform.plugins.module_utils.redis.resp import Connection
from ansible_collections.uptier.platform.plugins.module_utils.redis.snapshot import Counted, Restored, SnapshotError, Target

SCRATCH = Path("/var/lib/uptier/redis-restore")
# A snapshot is compressed; in memory it takes about so many times its size.
MEMORY_FACTOR = 4
MEMORY_LEAST_MB = 64
LONGEST_SECONDS = 6 * 3600


def available_mb(meminfo: str) -> int:
    """Return the memory that is left, in MiB, from the text of /proc/meminfo."""
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def needed_mb(size: int) -> int:
    return max(MEMORY_LEAST_MB, size * MEMORY_FACTOR >> 20)


@contextmanager
def server(path: Path) -> Iterator[Connection]:
    """Give a connection to a server that has read a snapshot. What a killed run left is removed first."""
    name = f"{zlib.crc32(str(path).encode()):08x}"
    unit, directory = f"uptier-redis-restore-{name}", SCRATCH / name
    _stop(unit, directory)
    directory.mkdir(mode=0o700, parents=True)
    try:
        try:
            os.link(path, directory / "dump.rdb")
        except OSError:  # another file system
            shutil.copyfile(path, directory / "dump.rdb")
        socket = directory / "socket"
        properties = {
            "RuntimeMaxSec": LONGEST_SECONDS, "MemoryMax": f"{2 * needed_mb(path.stat().st_size)}M", "PrivateNetwork": "yes", "ProtectSystem": "strict",
            "ReadWritePaths": directory, "NoNewPrivileges": "yes", "CapabilityBoundingSet": "CAP_DAC_OVERRIDE", "PrivateTmp": "yes", "Nice": 10,
        }  # fmt: skip
        # The server is redis-check-rdb by another name, and systemd-run takes no other name for a program.
        link = directory / "redis-server"
        link.symlink_to(snapshot.CHECKER)
        words = [str(link), *snapshot.server_words(directory, socket)[1:]]
        begun = [
            "systemd-run",
            f"--unit={unit}",
            "--collect",
            "--quiet",
            *(f"--property={key}={value}" for key, value in properties.items()),
            *words,
        ]
        done = subprocess.run(begun, capture_output=True, check=False, text=True, errors="replace")
        if done.returncode:
            raise SnapshotError("not_read", f"No server could be started for {path}: {done.stderr.strip()}.")
        with snapshot.answers(socket, lambda: _alive(unit)) as connection:
            yield connection
    finally:
        _stop(unit, directory)


def _alive(unit: str) -> bool:
    return subprocess.run(["systemctl", "is-active", "--quiet", unit], check=False).returncode == 0


def _stop(unit: str, directory: Path) -> None:
    subprocess.run(["systemctl", "kill", "--signal=KILL", unit], check=False, capture_output=True)
    subprocess.run(["systemctl", "stop", unit], check=False, capture_output=True)
    subprocess.run(["systemctl", "reset-failed", unit], check=False, capture_output=True)
    if directory.exists():
        shutil.rmtree(directory)


def restore(
    path: str, nodes: Sequence[tuple[str, int]], dial: Callable[[str, int], Any], replace: bool, check_mode: bool
) -> tuple[Counted, Restored]:
    """Put the keys of a snapshot into a cluster; return what it holds and what was done."""
    file = Path(path)
    if not file.is_file():
        raise SnapshotError("damaged", f"{path} is not there. Restore it from a backup first.")
    counted = snapshot.count(file)
    if check_mode:
        return counted, Restored()
    needed, free = needed_mb(file.stat().st_size), available_mb(Path("/proc/meminfo").read_text(encoding="ascii"))
    if free < needed:
        raise SnapshotError(
            "no_memory", f"{free} MiB of memory are left on this host; a second server for {path} may need {needed}. Use another host."
        )
    target = Target(nodes, dial)
    try:
        target.learn()
        with server(file) as source:
            snapshot.check_loaded(source.call("DBSIZE"), counted, path)
            return counted, snapshot.put_back(source, target, replace)
    finally:
        target.close()
